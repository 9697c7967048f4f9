//! The kernel side.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sekisho_abi::{
    encapsulation::Encapsulation,
    prefix::{MAX_PREFIXES, Prefix, Prefixes},
    record::Address,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Prefix lengths that RFC 6052 gives IPv4 addresses a place behind.
const EMBEDDING_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
/// RFC 6052, 2.1.
pub(crate) const WELL_KNOWN_NAT64: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const LARGEST_TABLE: u32 = 1 << 24;
/// What every IPv4 way takes (RFC 791, 3.2).
const LEAST_MTU: u16 = 576;
/// Most bits of the outer source that may differ from flow to flow.
const MOST_FLOW_BITS: u8 = 16;

/// The kernel side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataplaneConfig {
    /// Folder on bpffs for programs and maps, which outlive the daemon. Default:
    /// /sys/fs/bpf/sekisho.
    pub pin_dir: PathBuf,
    /// Room for the ruleset in MiB, 8 to 512; twice as much is in use while a ruleset is replaced.
    /// 1,000,000 IPv4 hosts need about 13. Default: 64.
    pub image_capacity_mib: u32,
    /// Flows that the kernel accounts between two drains, 1024 to 16777216; what is beyond is still
    /// counted by rule. Default: 1048576.
    pub flow_table_entries: u32,
    /// How programs are attached. Default: auto.
    pub attach: Attach,
    /// What is unwrapped to find the addresses that count. Default: everything.
    pub unwrap: Vec<Unwrap>,
    /// IPv6 prefixes in which IPv4 addresses are embedded (RFC 6052): NAT64, 464XLAT, MAP-T. Default:
    /// 64:ff9b::/96.
    pub embedded_ipv4: Vec<Ipv6Net>,
    /// Networks of routers and servers of your own. Where any are named, BGP, LDP, BFD, DHCP and
    /// RADIUS are beyond all lists only for these; else for everybody. Default: none.
    pub infrastructure: Vec<IpNet>,
    /// Where packets go that a list wants in the sinkhole. Default: nowhere, they are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinkhole: Option<SinkholeConfig>,
    /// Room for opted-out port blocks: rows of sixteen ports each, 1 to 16777216. A
    /// larger number takes effect at the next start, a smaller one after `sekisho detach`.
    /// Default: 65536.
    pub opt_out_rows: u32,
}

impl DataplaneConfig {
    /// Room for the ruleset in bytes.
    pub fn image_capacity_bytes(&self) -> usize {
        usize::try_from(self.image_capacity_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20)
    }

    /// What is unwrapped.
    pub fn unwrapped(&self) -> Encapsulation {
        let kinds = self.unwrap.iter().map(|kind| kind.encapsulation());
        kinds.fold(Encapsulation::default(), Encapsulation::with)
    }

    /// The prefixes in which IPv4 addresses are embedded.
    pub fn embedding(&self) -> Prefixes {
        let each: Vec<Prefix> =
            self.embedded_ipv4.iter().map(|net| prefix(&(*net).into())).collect();
        Prefixes::of(&each).unwrap_or(Prefixes::NONE)
    }

    /// The network's own infrastructure.
    pub fn own_infrastructure(&self) -> Prefixes {
        let each: Vec<Prefix> = self.infrastructure.iter().map(prefix).collect();
        Prefixes::of(&each).unwrap_or(Prefixes::NONE)
    }

    /// What single fields can't tell, and where.
    pub(super) fn fault(&self) -> Option<(&'static [&'static str], String)> {
        for (path, count) in [
            (&["dataplane", "embedded_ipv4"], self.embedded_ipv4.len()),
            (&["dataplane", "infrastructure"], self.infrastructure.len()),
        ] {
            if count > MAX_PREFIXES {
                return Some((
                    path,
                    format!("expected at most {MAX_PREFIXES} prefixes, found {count}"),
                ));
            }
        }
        let odd =
            self.embedded_ipv4.iter().find(|net| !EMBEDDING_LENGTHS.contains(&net.prefix_len()));
        if let Some(net) = odd {
            return Some((
                &["dataplane", "embedded_ipv4"],
                format!(
                    "{net}: expected a prefix length of 32, 40, 48, 56, 64 or 96 (RFC 6052, 2.2)"
                ),
            ));
        }
        if !(1..=LARGEST_TABLE).contains(&self.opt_out_rows) {
            return Some((
                &["dataplane", "opt_out_rows"],
                format!("expected 1 to {LARGEST_TABLE} rows, found {}", self.opt_out_rows),
            ));
        }
        self.sinkhole.as_ref()?.fault().map(|message| (&["dataplane", "sinkhole"][..], message))
    }
}

impl Default for DataplaneConfig {
    fn default() -> Self {
        Self {
            pin_dir: PathBuf::from("/sys/fs/bpf/sekisho"),
            image_capacity_mib: 64,
            flow_table_entries: 1_048_576,
            attach: Attach::Auto,
            unwrap: Unwrap::ALL.to_vec(),
            embedded_ipv4: vec![WELL_KNOWN_NAT64],
            infrastructure: Vec::new(),
            sinkhole: None,
            opt_out_rows: 65_536,
        }
    }
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// In the driver; if it can't, in the generic hook, and the log says so.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the generic hook.
    Generic,
}

/// A kind of packet that is unwrapped to find the addresses that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unwrap {
    /// PPPoE sessions.
    #[serde(rename = "pppoe")]
    Pppoe,
    /// MPLS label stacks.
    #[serde(rename = "mpls")]
    Mpls,
    /// DS-Lite, MAP-E, lw4o6.
    #[serde(rename = "ipv4-in-ipv6")]
    Ipv4InIpv6,
    /// 6in4, 6rd.
    #[serde(rename = "ipv6-in-ipv4")]
    Ipv6InIpv4,
    /// IPv4 in IPv4.
    #[serde(rename = "ipip")]
    Ipip,
    /// IPv6 in IPv6.
    #[serde(rename = "ip6ip6")]
    Ip6ip6,
    /// GRE.
    #[serde(rename = "gre")]
    Gre,
}

impl Unwrap {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Pppoe,
        Self::Mpls,
        Self::Ipv4InIpv6,
        Self::Ipv6InIpv4,
        Self::Ipip,
        Self::Ip6ip6,
        Self::Gre,
    ];

    /// The kind as the program knows it.
    pub const fn encapsulation(self) -> Encapsulation {
        match self {
            Self::Pppoe => Encapsulation::PPPOE,
            Self::Mpls => Encapsulation::MPLS,
            Self::Ipv4InIpv6 => Encapsulation::IPV4_IN_IPV6,
            Self::Ipv6InIpv4 => Encapsulation::IPV6_IN_IPV4,
            Self::Ipip => Encapsulation::IPIP,
            Self::Ip6ip6 => Encapsulation::IP6IP6,
            Self::Gre => Encapsulation::GRE,
        }
    }
}

/// Where packets go that a list wants in the sinkhole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkholeConfig {
    /// The interface that leads there.
    pub interface: String,
    /// Ethernet address of the sinkhole, or of the router on the way to it.
    pub next_hop: HardwareAddress,
    /// Longest IP packet that the way takes, outer header included; longer ones are dropped.
    /// Default: 1500.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// What packets are wrapped in. Without it, `next_hop` is the sinkhole and packets reach it as
    /// they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelConfig>,
}

/// The tunnel to a sinkhole: IPIP for IPv4, IP6IP6 for IPv6. A family without addresses is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunnelConfig {
    /// Where IPv4 packets go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_v4: Option<Ipv4Addr>,
    /// What they come from: an address of this network, another for each flow, so that the sinkhole
    /// can spread flows over its cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_v4: Option<Ipv4Net>,
    /// Where IPv6 packets go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_v6: Option<Ipv6Addr>,
    /// What they come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_v6: Option<Ipv6Net>,
}

impl SinkholeConfig {
    fn fault(&self) -> Option<String> {
        let HardwareAddress([first, ..]) = self.next_hop;
        if self.next_hop.0 == [0; 6] || first & 1 != 0 {
            return Some(format!("next_hop {}: expected the address of one host", self.next_hop));
        }
        if self.mtu < LEAST_MTU {
            return Some(format!("mtu {}: expected at least {LEAST_MTU}", self.mtu));
        }
        let tunnel = self.tunnel.as_ref()?;
        let TunnelConfig { destination_v4, source_v4, destination_v6, source_v6 } = tunnel;
        if destination_v4.is_some() != source_v4.is_some()
            || destination_v6.is_some() != source_v6.is_some()
        {
            return Some("expected source and destination of a family, or neither".to_owned());
        }
        let is_nowhere = destination_v4.is_some_and(|address| address.is_unspecified())
            || destination_v6.is_some_and(|address| address.is_unspecified());
        if is_nowhere {
            return Some("expected the sinkhole's address as destination".to_owned());
        }
        (destination_v4.is_none() && destination_v6.is_none())
            .then(|| "expected the destination of at least one family in `tunnel`".to_owned())
    }
}

impl TunnelConfig {
    /// How many low bits of the sources differ from flow to flow.
    pub fn flow_bits(&self) -> u8 {
        let v4 = self.source_v4.map(|net| 32 - net.prefix_len());
        let v6 = self.source_v6.map(|net| 128 - net.prefix_len());
        v4.into_iter().chain(v6).min().unwrap_or(0).min(MOST_FLOW_BITS)
    }
}

/// An Ethernet address, `02:00:5e:10:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareAddress(pub [u8; 6]);

impl FromStr for HardwareAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("'{text}' is no Ethernet address: expected six bytes such as 02:00:5e:10:00:01")
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(expected)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| expected())?;
        }
        parts.next().is_none().then_some(Self(bytes)).ok_or_else(expected)
    }
}

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for HardwareAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HardwareAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn default_mtu() -> u16 {
    1500
}

/// A network as the program knows it.
fn prefix(net: &IpNet) -> Prefix {
    let (high, low) = Address::from(net.network()).halves();
    let bits = match net {
        IpNet::V4(v4) => v4.prefix_len() + 96,
        IpNet::V6(v6) => v6.prefix_len(),
    };
    Prefix::new(high, low, bits)
}

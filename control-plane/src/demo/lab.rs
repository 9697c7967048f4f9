//! The stage: subscribers, an edge that routes, and an Internet of our own, joined by veth pairs.
//!
//! ```text
//! subscribers                     edge                      internet
//!   line      ══════════════  access    uplink  ══════════  core
//!   line.200  (802.1Q)        access.200                    lo: every remote address
//! ```
//!
//! No interface leads outside.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use ipnet::IpNet;

use super::{link, netns::Netns, trunk::Trunk};

/// The subscribers' end of the access link.
pub const LINE: &str = "line";
/// The edge's end of the access link.
pub const ACCESS: &str = "access";
/// The edge's end of the Internet link.
pub const UPLINK: &str = "uplink";
/// The Internet's end of its link.
pub const CORE: &str = "core";
/// The VLAN of the tagged subscribers.
pub const VLAN: u16 = 200;
/// An address of the Internet side that is always there and on no list.
pub const CORE_V4: Ipv4Addr = Ipv4Addr::new(100, 66, 0, 2);
/// The same for IPv6.
pub const CORE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 2);

/// A customer line with both address families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The name in the subscriber file.
    pub name: String,
    /// IPv4 address, from the range that RFC 6598 gives to providers.
    pub v4: Ipv4Addr,
    /// IPv6 address, from the documentation range (RFC 3849).
    pub v6: Ipv6Addr,
    /// The VLAN, for lines that arrive tagged.
    pub vlan: Option<u16>,
}

impl Subscriber {
    /// The address of the family in which a remote is reached.
    pub fn address_towards(&self, remote: IpAddr) -> IpAddr {
        match remote {
            IpAddr::V4(_) => self.v4.into(),
            IpAddr::V6(_) => self.v6.into(),
        }
    }
}

/// The namespaces with everything in them; dropping it removes all of it, the trunks first.
#[derive(Debug)]
pub struct Lab {
    trunks: Vec<Trunk>,
    /// Where the subscribers are.
    pub subscribers: Netns,
    /// Where the daemon runs.
    pub edge: Netns,
    /// Where the remotes are.
    pub internet: Netns,
    /// Who is there: the first half untagged, the second half tagged.
    pub lines: Vec<Subscriber>,
}

impl Lab {
    /// Builds the stage; `purpose` becomes part of the namespaces' names.
    pub fn build(purpose: &str) -> anyhow::Result<Self> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let nth = BUILT.fetch_add(1, Ordering::Relaxed);
        let name = |part: &str| match nth {
            0 => format!("{purpose}-{}-{part}", process::id()),
            _ => format!("{purpose}-{}-{nth}-{part}", process::id()),
        };
        let mut lab = Self {
            subscribers: Netns::create(&name("subscribers"))?,
            edge: Netns::create(&name("edge"))?,
            internet: Netns::create(&name("internet"))?,
            lines: lines(),
            trunks: Vec::new(),
        };
        for namespace in [&lab.subscribers, &lab.edge, &lab.internet] {
            namespace.inside(prepare)?;
        }
        lab.join()?;
        for (namespace, end) in [(&lab.subscribers, LINE), (&lab.edge, ACCESS)] {
            lab.trunks.push(Trunk::start(namespace, end, &format!("{end}.{VLAN}"), VLAN)?);
        }
        lab.subscribers.inside(|| furnish_subscribers(&lab.lines))?;
        lab.edge.inside(furnish_edge)?;
        lab.internet.inside(furnish_internet)?;
        Ok(lab)
    }

    /// Gives the Internet side these addresses.
    pub fn add_remotes(&self, remotes: impl IntoIterator<Item = IpAddr>) -> anyhow::Result<()> {
        let mut commands = String::new();
        for remote in remotes {
            let _ =
                writeln!(commands, "addr replace {} dev lo{}", IpNet::from(remote), nodad(remote));
        }
        self.internet.inside(|| link::ip(&commands))
    }

    /// Lays the two cables.
    fn join(&self) -> anyhow::Result<()> {
        for (near, near_end, far, far_end) in [
            (&self.edge, ACCESS, &self.subscribers, LINE),
            (&self.edge, UPLINK, &self.internet, CORE),
        ] {
            let far_name = far.path().file_name().unwrap_or_default().to_string_lossy();
            near.inside(|| {
                link::ip(&format!(
                    "link add name {near_end} type veth peer name {far_end} netns {far_name}\n"
                ))?;
                link::turn_off_offloads(near_end)
            })?;
            far.inside(|| link::turn_off_offloads(far_end))?;
        }
        Ok(())
    }
}

fn lines() -> Vec<Subscriber> {
    (1..=6u8)
        .map(|n| {
            let (third, vlan) = if n <= 3 { (64, None) } else { (65, Some(VLAN)) };
            Subscriber {
                name: format!("line-{:04}", 1000 + u16::from(n)),
                v4: Ipv4Addr::new(100, third, 0, 10 + n),
                v6: Ipv6Addr::new(0x2001, 0xdb8, third.into(), 0, 0, 0, 0, (16 + n).into()),
                vlan,
            }
        })
        .collect()
}

fn prepare() -> anyhow::Result<()> {
    // Duplicate address detection would keep addresses unusable for a second or two.
    for scope in ["all", "default"] {
        link::set(&format!("ipv6/conf/{scope}/disable_ipv6"), "0")?;
        link::set(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        link::set(&format!("ipv6/conf/{scope}/accept_ra"), "0")?;
        link::set(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    link::ip("link set lo up\n")
}

fn furnish_subscribers(lines: &[Subscriber]) -> anyhow::Result<()> {
    let mut commands = format!(
        "link set {LINE} up\n\
         link set {LINE}.{VLAN} up\n"
    );
    for line in lines {
        let (_, device) = table_and_device(line.vlan);
        let _ = writeln!(commands, "addr add {}/24 dev {device}", line.v4);
        let _ = writeln!(commands, "addr add {}/64 dev {device} nodad", line.v6);
    }
    link::ip(&commands)?;

    // Both kinds of lines have a default route of their own, chosen by the source address.
    let mut commands = String::new();
    for (vlan, third) in [(None, 64), (Some(VLAN), 65)] {
        let (table, device) = table_and_device(vlan);
        let _ =
            writeln!(commands, "route add default via 100.{third}.0.1 dev {device} table {table}");
        let _ = writeln!(commands, "rule add from 100.{third}.0.0/16 lookup {table}");
        let _ = writeln!(
            commands,
            "route add default via 2001:db8:{third:x}::1 dev {device} table {table}"
        );
    }
    link::ip(&commands)?;
    let rules: String = [(None, 64), (Some(VLAN), 65)]
        .map(|(vlan, third)| {
            let (table, _) = table_and_device(vlan);
            format!("rule add from 2001:db8:{third:x}::/48 lookup {table}\n")
        })
        .concat();
    link::ip_v6(&rules)
}

fn table_and_device(vlan: Option<u16>) -> (u16, String) {
    match vlan {
        Some(vlan) => (vlan, format!("{LINE}.{vlan}")),
        None => (100, LINE.to_owned()),
    }
}

fn furnish_edge() -> anyhow::Result<()> {
    link::ip(&format!(
        "link set {ACCESS} up\n\
         link set {ACCESS}.{VLAN} up\n\
         link set {UPLINK} up\n\
         addr add 100.64.0.1/24 dev {ACCESS}\n\
         addr add 2001:db8:40::1/64 dev {ACCESS} nodad\n\
         addr add 100.65.0.1/24 dev {ACCESS}.{VLAN}\n\
         addr add 2001:db8:41::1/64 dev {ACCESS}.{VLAN} nodad\n\
         addr add 100.66.0.1/24 dev {UPLINK}\n\
         addr add 2001:db8:66::1/64 dev {UPLINK} nodad\n\
         route add default via {CORE_V4} dev {UPLINK}\n\
         route add default via {CORE_V6} dev {UPLINK}\n"
    ))?;
    link::set("ipv4/ip_forward", "1")?;
    link::set("ipv6/conf/all/forwarding", "1")
}

fn furnish_internet() -> anyhow::Result<()> {
    link::ip(&format!(
        "link set {CORE} up\n\
         addr add {CORE_V4}/24 dev {CORE}\n\
         addr add {CORE_V6}/64 dev {CORE} nodad\n\
         route add 100.64.0.0/15 via 100.66.0.1 dev {CORE}\n\
         route add 2001:db8:40::/47 via 2001:db8:66::1 dev {CORE}\n"
    ))
}

fn nodad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

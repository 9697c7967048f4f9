//! The small world that all packets here live in: who is listed, who opted out, what is set.

use std::collections::HashMap;

use sekisho::dataplane::{
    OptOuts, PortBlock,
    kernel::{Guarded, SinkholeWay},
};
use sekisho_abi::{
    canary,
    encapsulation::Encapsulation,
    image::{Action, Image, ImageBuilder, List, Port},
    prefix::{Prefix, Prefixes},
    record::{Forwarding, Role, Sinkhole, SinkholeKind},
};
use sekisho_tests::{
    packet::{TCP, UDP},
    site::HostSite,
};

pub(crate) const CAPACITY: usize = 8 << 20;

pub(crate) const SUBSCRIBER: &str = "100.64.7.9";
pub(crate) const SUBSCRIBER_V6: &str = "2001:db8:7::9";
/// The line of a subscriber whose IPv4 is tunnelled, and the other end of that tunnel.
pub(crate) const LINE_V6: &str = "2001:db8:b4::1";
pub(crate) const CONCENTRATOR_V6: &str = "2001:2:0:af::1";
/// The same for what is tunnelled in IPv4.
pub(crate) const LINE: &str = "100.64.8.41";
pub(crate) const CONCENTRATOR: &str = "198.19.0.41";

/// Listed for every packet by a list that drops.
pub(crate) const LISTED: &str = "198.18.0.1";
pub(crate) const LISTED_V6: &str = "2001:2:0:1::1";
/// Listed for TCP port 23 and UDP port 53.
pub(crate) const BY_PORT: &str = "198.18.0.2";
pub(crate) const BY_PORT_V6: &str = "2001:2:0:2::2";
/// Listed by a list that observes.
pub(crate) const OBSERVED: &str = "198.18.0.3";
/// Listed by a list that rejects.
pub(crate) const REJECTED: &str = "198.18.0.4";
pub(crate) const REJECTED_V6: &str = "2001:2:0:4::4";
/// Listed by a list that sinkholes.
pub(crate) const SINKHOLED: &str = "198.18.0.5";
pub(crate) const SINKHOLED_V6: &str = "2001:2:0:5::5";
/// Observed for every packet, dropped for TCP port 23.
pub(crate) const BY_TWO_LISTS: &str = "198.18.0.6";
/// Rejected by one list, sinkholed by another.
pub(crate) const REJECTED_AND_SINKHOLED: &str = "198.18.0.7";
/// Listed for every TCP packet.
pub(crate) const BY_PROTOCOL: &str = "198.18.0.8";
/// Named by the canary's list alone.
pub(crate) const CANARY: &str = "198.18.0.99";
pub(crate) const CANARY_V6: &str = "2001:2:0:99::99";
/// Named by the canary's list and by one that drops.
pub(crate) const CANARY_AND_LISTED: &str = "198.18.0.98";
/// Inside a listed /24, but never blocked.
pub(crate) const ALLOWED: &str = "198.18.9.9";
pub(crate) const ALLOWED_V6: &str = "2001:2:9::9";
/// Inside the same /24 or /48.
pub(crate) const IN_NETWORK: &str = "198.18.9.10";
pub(crate) const IN_NETWORK_V6: &str = "2001:2:9::10";
pub(crate) const CLEAN: &str = "198.19.0.1";
pub(crate) const CLEAN_V6: &str = "2001:2:0:ffff::1";

/// Subscribers who opted out: by address, by prefix, by the prefix of a tunnel's end.
pub(crate) const OPTED_OUT: &str = "100.64.9.1";
pub(crate) const IN_OPTED_OUT: &str = "100.64.10.77";
pub(crate) const OPTED_OUT_V6: &str = "2001:db8:99::9";
pub(crate) const OPTED_OUT_LINE_V6: &str = "2001:db8:9b:4::1";
/// A shared public address: ports 1030 to 1041 and 4096 to 8191 opted out.
pub(crate) const SHARED: &str = "100.65.0.1";

/// Inside the network's own infrastructure.
pub(crate) const ROUTER: &str = "100.64.255.1";
pub(crate) const ROUTER_V6: &str = "2001:db8:ff::1";
pub(crate) const LISTED_ROUTER: &str = "100.64.255.200";
pub(crate) const LISTED_ROUTER_V6: &str = "2001:db8:ff::200";

/// Prefixes in which IPv4 addresses are embedded, with their lengths.
pub(crate) const EMBEDDING: [(&str, u8); 6] = [
    ("3fff:32::", 32),
    ("3fff:40:4000::", 40),
    ("3fff:48:4848::", 48),
    ("3fff:56:5656:5600::", 56),
    ("3fff:64:6464:6464::", 64),
    ("64:ff9b::", 96),
];

pub(crate) const DROPS: u64 = 1;
pub(crate) const OBSERVES: u64 = 1 << 1;
pub(crate) const REJECTS: u64 = 1 << 2;
pub(crate) const SINKHOLES: u64 = 1 << 3;
const PROBED: u64 = 1 << canary::LIST;

/// The ruleset of the world.
pub(crate) fn ruleset(generation: u32) -> Image {
    let list = |name: &str, action| List { name: name.to_owned(), action };
    let mut lists = vec![
        list("drops", Action::Drop),
        list("observes", Action::Observe),
        list("rejects", Action::Reject),
        list("sinkholes", Action::Sinkhole),
    ];
    lists.resize(canary::LIST, list("", Action::Observe));
    lists.push(list("canary", Action::Drop));
    let mut builder = ImageBuilder::new(lists);
    for (address, port, lists) in [
        (LISTED, Port::Any, DROPS),
        (LISTED_ROUTER, Port::Any, DROPS),
        (BY_PORT, Port::One(TCP, 23), DROPS),
        (BY_PORT, Port::One(UDP, 53), DROPS),
        (OBSERVED, Port::Any, OBSERVES),
        (REJECTED, Port::Any, REJECTS),
        (SINKHOLED, Port::Any, SINKHOLES),
        (BY_TWO_LISTS, Port::Any, OBSERVES),
        (BY_TWO_LISTS, Port::One(TCP, 23), DROPS),
        (REJECTED_AND_SINKHOLED, Port::Any, REJECTS | SINKHOLES),
        (BY_PROTOCOL, Port::Protocol(TCP), DROPS),
        (CANARY, Port::Any, PROBED),
        (CANARY_AND_LISTED, Port::Any, PROBED | DROPS),
    ] {
        builder.list_v4(address.parse().expect("an IPv4 address"), 32, port, lists);
    }
    for (address, port, lists) in [
        (LISTED_V6, Port::Any, DROPS),
        (LISTED_ROUTER_V6, Port::Any, DROPS),
        (BY_PORT_V6, Port::One(TCP, 23), DROPS),
        (REJECTED_V6, Port::Any, REJECTS),
        (SINKHOLED_V6, Port::Any, SINKHOLES),
        (CANARY_V6, Port::Any, PROBED),
    ] {
        builder.list_v6(address.parse().expect("an IPv6 address"), 128, port, lists);
    }
    builder.list_v4("198.18.9.0".parse().expect("an address"), 24, Port::Any, DROPS);
    builder.allow_v4(ALLOWED.parse().expect("an address"), 32);
    builder.list_v6("2001:2:9::".parse().expect("an address"), 48, Port::Any, DROPS);
    builder.allow_v6(ALLOWED_V6.parse().expect("an address"), 128);
    builder.build(generation, CAPACITY).expect("a handful fits")
}

/// Who opted out in the world.
pub(crate) fn opt_outs() -> OptOuts {
    let networks = ["100.64.9.1/32", "100.64.10.0/24", "2001:db8:99::9/128", "2001:db8:9b::/48"];
    let block =
        |first, last| PortBlock { address: SHARED.parse().expect("an IPv4 address"), first, last };
    OptOuts {
        networks: networks.map(|text| text.parse().expect("a network")).to_vec(),
        blocks: vec![block(1030, 1041), block(4096, 8191)],
    }
}

/// What an interface, or all of them, are set to.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) ports: Vec<Guarded>,
    pub(crate) unwrapped: Encapsulation,
    pub(crate) embedding: Prefixes,
    pub(crate) infrastructure: Prefixes,
    pub(crate) sinkhole: Option<SinkholeWay>,
    pub(crate) opt_outs: OptOuts,
}

impl Setup {
    /// Everything is on; subscribers are behind `lo`.
    pub(crate) fn everything() -> Self {
        let prefix = |text: &str, length| {
            let bits = match text.parse().expect("an address") {
                std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                std::net::IpAddr::V6(v6) => v6.to_bits(),
            };
            Prefix::new((bits >> 64) as u64, bits as u64, length)
        };
        let infrastructure = [prefix("100.64.255.0", 96 + 24), prefix("2001:db8:ff::", 48)];
        Self {
            ports: vec![Guarded::routed("lo", Role::Subscriber)],
            unwrapped: Encapsulation::ALL,
            embedding: Prefixes::of(&EMBEDDING.map(|(text, length)| prefix(text, length)))
                .expect("six prefixes fit"),
            infrastructure: Prefixes::of(&infrastructure).expect("two prefixes fit"),
            sinkhole: Some(next_hop()),
            opt_outs: opt_outs(),
        }
    }

    /// Everything is on, with an interface of each role: `lo`, `uplink`, `both`.
    pub(crate) fn all_roles() -> Self {
        let mut setup = Self::everything();
        setup.ports.push(Guarded::routed("uplink", Role::Uplink));
        setup.ports.push(Guarded::routed("both", Role::Both));
        setup
    }

    /// Nothing is unwrapped, embedded, known or opted out, and there is no sinkhole.
    pub(crate) fn nothing() -> Self {
        Self {
            unwrapped: Encapsulation::default(),
            embedding: Prefixes::NONE,
            infrastructure: Prefixes::NONE,
            sinkhole: None,
            opt_outs: OptOuts::default(),
            ..Self::everything()
        }
    }

    /// The same interfaces with packets that pass forwarded like this.
    pub(crate) fn forwarded(mut self, forwarding: Forwarding, peer: Option<&str>) -> Self {
        for port in &mut self.ports {
            port.forwarding = forwarding;
            port.peer = peer.map(str::to_owned);
        }
        self
    }

    /// What the host knows of one of the interfaces.
    pub(crate) fn site(&self, port: &Guarded) -> HostSite {
        let opted_out = (!self.opt_outs.is_empty())
            .then(|| self.opt_outs.image(16 << 20).expect("a handful fits"));
        HostSite {
            forwarding: port.forwarding,
            unwrapped: self.unwrapped,
            embedding: self.embedding,
            infrastructure: self.infrastructure,
            sinkhole: self.sinkhole.as_ref().map(|way| way.sinkhole),
            opt_outs: opted_out,
            opted_out_ports: self.opt_outs.rows().into_iter().collect::<HashMap<_, _>>(),
            ..HostSite::new(port.role)
        }
    }
}

/// Destination and source address of what goes to the sinkhole.
pub(crate) const SINKHOLE_LINK: [u8; 12] =
    [0x02, 0x51, 0x9b, 0x01, 0xe0, 0xfe, 0x02, 0x51, 0x9b, 0x01, 0xe0, 0x01];
/// The longest packet that the way to the sinkhole takes.
pub(crate) const SINKHOLE_MTU: u16 = 1500;

fn way(kind: SinkholeKind) -> SinkholeWay {
    let none: Sinkhole = zerocopy::FromZeros::new_zeroed();
    let sinkhole = Sinkhole {
        ethernet: zerocopy::transmute!(SINKHOLE_LINK),
        kind: kind as u8,
        mtu: SINKHOLE_MTU,
        ..none
    };
    SinkholeWay { interface: "lo".to_owned(), sinkhole }
}

/// A sinkhole on the next hop.
pub(crate) fn next_hop() -> SinkholeWay {
    way(SinkholeKind::NextHop)
}

/// A sinkhole behind a tunnel: 10.66.0.0/(32 - `flow_bits`) to 10.77.0.1, and 2001:db8:66::/(128 -
/// `flow_bits`) to 2001:db8:77::1.
pub(crate) fn tunnelled(flow_bits: u8) -> SinkholeWay {
    let SinkholeWay { interface, sinkhole } = way(SinkholeKind::Tunnel);
    let sinkhole = Sinkhole {
        flow_bits,
        source_v4: 0x0a42_0000,
        destination_v4: 0x0a4d_0001,
        source_v6: [0x2001_0db8_0066_0000, 0],
        destination_v6: [0x2001_0db8_0077_0000, 1],
        ..sinkhole
    };
    SinkholeWay { interface, sinkhole }
}

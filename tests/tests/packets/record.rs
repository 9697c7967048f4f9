//! What is kept of a hit.

use sekisho::dataplane::{Dataplane, FlowRow};
use sekisho_abi::{
    encapsulation::Encapsulation,
    reason::Reason,
    record::{Address, Direction, FlagClass, Role},
};
use sekisho_tests::packet::{Carrier, Ipv4, TCP, Tunnel, UDP, flag, ip, is_ipv6, tcp, udp};

use crate::{
    lab::{GENERATION, Lab},
    layers::TAGS,
    tunnels::{OUTER, embed, tunnels},
    world::{BY_PORT, LISTED, LISTED_V6, REJECTED, SINKHOLED, SUBSCRIBER, SUBSCRIBER_V6},
};

/// The row of the only packet since the last drain.
fn row_of(lab: &Lab, role: Role, frame: &[u8]) -> FlowRow {
    lab.judge(role, frame);
    let rows = lab.drained();
    let [row] = rows.as_slice() else { panic!("one row instead of {rows:?}") };
    assert_eq!((row.totals.packets, row.totals.bytes), (1, frame.len() as u64));
    assert_eq!(row.key.decision.generation, GENERATION);
    assert_eq!(row.key.conversation.port as usize, lab.port(role).0);
    assert!(0 < row.totals.first_ns && row.totals.first_ns == row.totals.last_ns);
    *row
}

fn address(text: &str) -> Address {
    Address::from(text.parse::<std::net::IpAddr>().expect("an address"))
}

/// What a record has where there is no address.
fn none() -> Address {
    Address::v6(0, 0)
}

#[test]
fn a_hit_keeps_what_it_was_wrapped_in_and_both_ends_of_it() {
    let lab = Lab::new("record");
    lab.newly_counted();
    links(&lab);
    in_tunnels(&lab);
    embedded(&lab);
    reasons(&lab);
    classes(&lab);
    let events = lab.dataplane.events().expect("the ring can be read");
    assert!(!events.is_empty(), "the first packet of a flow is announced");
}

fn links(lab: &Lab) {
    for tags in TAGS.into_iter().step_by(4) {
        let mpls = Carrier::Mpls { ethertype: 0x8847, labels: 3 };
        for (carrier, bits, session) in [
            (Carrier::Plain, Encapsulation::default(), 0),
            (Carrier::Pppoe(0xabcd), Encapsulation::PPPOE, 0xabcd),
            (Carrier::PppoeCompressed(0xabce), Encapsulation::PPPOE, 0xabce),
            (mpls, Encapsulation::MPLS, 0),
        ] {
            for (subscriber, remote) in [(SUBSCRIBER, LISTED), (SUBSCRIBER_V6, LISTED_V6)] {
                let packet = ip(subscriber, remote, UDP, &udp(40_000, 6667));
                let row = row_of(lab, Role::Subscriber, &carrier.frame(tags, &packet));
                let sentence = format!("{remote} in {carrier:?} {tags:x?}");
                let vlan = |at: usize| tags.get(at).map_or(0, |(_, vlan)| u32::from(*vlan));
                assert_eq!(row.key.link.encapsulation, bits, "{sentence}");
                assert_eq!(row.key.link.pppoe_session, session, "{sentence}");
                assert_eq!(usize::from(row.key.link.vlan_tags), tags.len(), "{sentence}");
                assert_eq!(row.key.link.vlans, vlan(0) << 16 | vlan(1), "{sentence}");
                assert_eq!(row.key.subscriber, address(subscriber), "{sentence}");
                assert_eq!(row.key.remote, address(remote), "{sentence}");
                assert_eq!(row.totals.inner_subscriber, none(), "{sentence}");
                assert_eq!(row.totals.outer_remote, none(), "{sentence}");
                assert_eq!(row.key.conversation.protocol, UDP);
                assert_eq!(row.key.conversation.remote_port, 6667);
                assert_eq!(row.totals.subscriber_port, 40_000);
            }
        }
    }
}

fn kind(tunnel: Tunnel, outer: &[u8], inner: &[u8]) -> Encapsulation {
    match (tunnel, is_ipv6(outer), is_ipv6(inner)) {
        (Tunnel::Gre(_), ..) => Encapsulation::GRE,
        (Tunnel::Ip, false, false) => Encapsulation::IPIP,
        (Tunnel::Ip, false, true) => Encapsulation::IPV6_IN_IPV4,
        (Tunnel::Ip, true, false) => Encapsulation::IPV4_IN_IPV6,
        (Tunnel::Ip, true, true) => Encapsulation::IP6IP6,
    }
}

fn in_tunnels(lab: &Lab) {
    // A drain takes long: a few of the tunnels.
    for tunnel in tunnels().into_iter().step_by(4) {
        for (line, concentrator) in OUTER {
            for (subscriber, remote) in [(SUBSCRIBER, LISTED), (SUBSCRIBER_V6, LISTED_V6)] {
                let out = ip(subscriber, remote, TCP, &tcp(40_000, 6667, flag::SYN));
                let to = tunnel.packet(line, concentrator, &out);
                let back = ip(remote, subscriber, TCP, &tcp(6667, 40_000, flag::SYN | flag::ACK));
                let from = tunnel.packet(concentrator, line, &back);
                for (role, direction, class, packet) in [
                    (Role::Subscriber, Direction::Outbound, FlagClass::Initiated, &to),
                    (Role::Both, Direction::Outbound, FlagClass::Initiated, &to),
                    (Role::Uplink, Direction::Inbound, FlagClass::Response, &from),
                    (Role::Both, Direction::Inbound, FlagClass::Response, &from),
                ] {
                    let frame = Carrier::Pppoe(7).frame(&[(0x88a8, 1), (0x8100, 2)], packet);
                    let row = row_of(lab, role, &frame);
                    let sentence = format!("{remote} in {tunnel:?} of {line}, {role:?}");
                    let bits = Encapsulation::PPPOE.with(kind(tunnel, packet, &out));
                    assert_eq!(row.key.link.encapsulation, bits, "{sentence}");
                    assert_eq!(row.key.subscriber, address(line), "{sentence}");
                    assert_eq!(row.totals.inner_subscriber, address(subscriber), "{sentence}");
                    assert_eq!(row.totals.outer_remote, address(concentrator), "{sentence}");
                    assert_eq!(row.key.remote, address(remote), "{sentence}");
                    assert_eq!(row.key.conversation.direction, direction as u8, "{sentence}");
                    assert_eq!(row.key.conversation.class, class as u8, "{sentence}");
                    assert_eq!(row.key.conversation.remote_port, 6667, "{sentence}");
                    assert_eq!(row.totals.subscriber_port, 40_000);
                    assert_eq!((row.key.link.vlans, row.key.link.vlan_tags), (1 << 16 | 2, 2));
                }
            }
        }
    }
}

fn embedded(lab: &Lab) {
    let remote = embed("3fff:48:4848::", 48, LISTED);
    let out = ip(SUBSCRIBER_V6, &remote, UDP, &udp(40_000, 53));
    let row = row_of(lab, Role::Subscriber, &Carrier::Plain.frame(&[], &out));
    assert_eq!(row.key.link.encapsulation, Encapsulation::EMBEDDED);
    assert_eq!(row.key.subscriber, address(SUBSCRIBER_V6));
    assert_eq!(row.key.remote, address(LISTED), "as it is listed");
    assert_eq!(row.totals.outer_remote, address(&remote), "as it stood in the packet");
    assert_eq!(row.totals.inner_subscriber, none());

    let (line, concentrator) = OUTER[0];
    let frame = Carrier::Plain.frame(&[], &Tunnel::Ip.packet(line, concentrator, &out));
    let row = row_of(lab, Role::Subscriber, &frame);
    let both = Encapsulation::IPV6_IN_IPV4.with(Encapsulation::EMBEDDED);
    assert_eq!(row.key.link.encapsulation, both, "embedded in a tunnel");
    assert_eq!(row.key.remote, address(LISTED));
    assert_eq!(row.totals.outer_remote, address(concentrator));
    assert_eq!(row.totals.inner_subscriber, address(SUBSCRIBER_V6));
}

fn reasons(lab: &Lab) {
    for (remote, protocol, payload, reason) in [
        (LISTED, UDP, udp(40_000, 53), Reason::Dropped),
        (REJECTED, UDP, udp(40_000, 53), Reason::Rejected),
        (REJECTED, TCP, tcp(40_000, 53, flag::RST), Reason::RejectedSilently),
        (SINKHOLED, TCP, tcp(40_000, 53, flag::SYN), Reason::Sinkholed),
    ] {
        let frame = Carrier::Plain.frame(&[], &ip(SUBSCRIBER, remote, protocol, &payload));
        let row = row_of(lab, Role::Subscriber, &frame);
        assert_eq!(Reason::from_u8(row.key.decision.reason), Some(reason));
        assert_eq!(row.key.conversation.protocol, protocol, "of the packet, not of its answer");
        assert_eq!(row.key.remote, address(remote));
        assert_eq!(row.totals.subscriber_port, 40_000);
    }
    let later = Ipv4 { fragment: 4, ..Ipv4::new(SUBSCRIBER, LISTED, UDP) };
    let row = row_of(lab, Role::Subscriber, &later.frame(&[], &[0xff; 32]));
    assert_eq!((row.key.conversation.remote_port, row.totals.subscriber_port), (0, 0));
}

/// A scan's answer is a response, no infection.
fn classes(lab: &Lab) {
    let send = |flags: u8, times: u32| {
        let packet = ip(SUBSCRIBER, BY_PORT, TCP, &tcp(40_000, 23, flags));
        let frame = Carrier::Plain.frame(&[], &packet);
        lab.dataplane.test_run("lo", &frame, times).expect("the program runs");
        frame.len() as u64
    };
    let length = send(flag::SYN, 3);
    send(flag::SYN | flag::ACK, 2);
    send(flag::RST | flag::ACK, 1);
    send(flag::ACK, 5);
    lab.newly_counted();
    let rows = lab.drained();
    let of = |class: FlagClass| {
        let of_class = rows.iter().filter(|row| row.key.conversation.class == class as u8);
        of_class.fold((0, 0), |sum, row| (sum.0 + row.totals.packets, sum.1 + row.totals.bytes))
    };
    assert_eq!(of(FlagClass::Initiated), (3, 3 * length));
    assert_eq!(of(FlagClass::Response), (3, 3 * length));
    assert_eq!(of(FlagClass::Other), (5, 5 * length));
    assert!(lab.drained().is_empty(), "what was drained is gone");
}

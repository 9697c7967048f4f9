//! Traffic that networks cannot live without passes, whatever a list says.

use sekisho_abi::{reason::Reason, record::Role};
use sekisho_tests::packet::{
    Carrier, ICMP, ICMPV6, Ipv4, TCP, Tunnel, UDP, flag, fragment, ip, tcp, udp,
};

use crate::{
    direction::ROLES,
    lab::{Case, Lab},
    world::{
        BY_PORT, CONCENTRATOR_V6, LINE_V6, LISTED, LISTED_ROUTER, LISTED_ROUTER_V6, LISTED_V6,
        ROUTER, ROUTER_V6, SUBSCRIBER, SUBSCRIBER_V6, Setup,
    },
};

/// Services that are known by their port, and ports beside them that are not.
const SERVICES: [(&str, u8, u16, bool); 28] = [
    ("BGP", TCP, 179, true),
    ("LDP", TCP, 646, true),
    ("LDP hello", UDP, 646, true),
    ("DHCP server", UDP, 67, true),
    ("DHCP client", UDP, 68, true),
    ("DHCPv6 client", UDP, 546, true),
    ("DHCPv6 server", UDP, 547, true),
    ("RADIUS authentication", UDP, 1812, true),
    ("RADIUS accounting", UDP, 1813, true),
    ("older RADIUS authentication", UDP, 1645, true),
    ("older RADIUS accounting", UDP, 1646, true),
    ("dynamic authorisation", UDP, 3799, true),
    ("BFD control", UDP, 3784, true),
    ("BFD echo", UDP, 3785, true),
    ("multihop BFD", UDP, 4784, true),
    ("BFD on a LAG", UDP, 6784, true),
    ("seamless BFD", UDP, 7784, true),
    ("UDP on the port of BGP", UDP, 179, false),
    ("TCP on a port of DHCP", TCP, 67, false),
    ("TCP on a port of RADIUS", TCP, 1812, false),
    ("TCP on a port of BFD", TCP, 3784, false),
    ("DNS", UDP, 53, false),
    ("TFTP", UDP, 69, false),
    ("a port beside DHCPv6", UDP, 548, false),
    ("a port beside RADIUS", UDP, 1814, false),
    ("a port beside BFD", UDP, 3786, false),
    ("HTTPS", TCP, 443, false),
    ("a port beside BGP", TCP, 178, false),
];

/// A subscriber, a listed remote, and whether one of them is infrastructure.
const ENDS: [(&str, &str, bool); 6] = [
    (ROUTER, LISTED, true),
    (SUBSCRIBER, LISTED, false),
    (SUBSCRIBER, LISTED_ROUTER, true),
    (ROUTER_V6, LISTED_V6, true),
    (SUBSCRIBER_V6, LISTED_V6, false),
    (SUBSCRIBER_V6, LISTED_ROUTER_V6, true),
];

/// A packet of a service towards its port, or back from it.
fn of_service(protocol: u8, port: u16, is_answer: bool) -> Vec<u8> {
    let (source, destination) = if is_answer { (port, 50_000) } else { (50_000, port) };
    if protocol == TCP { tcp(source, destination, flag::ACK) } else { udp(source, destination) }
}

/// Routing and neighbour discovery, by protocol or by type of ICMP message.
fn control() -> Vec<(String, bool, u8, Vec<u8>, bool)> {
    let mut all = Vec::new();
    let protocols = [("IGMP", 2), ("RSVP", 46), ("OSPF", 89), ("PIM", 103), ("VRRP", 112)];
    for (name, protocol) in protocols {
        for is_ipv6 in [false, true] {
            all.push((name.to_owned(), is_ipv6, protocol, vec![0x11; 16], true));
        }
    }
    for kind in 0..=255 {
        let message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        let is_error = [3, 4, 5, 11, 12].contains(&kind);
        all.push((format!("ICMP type {kind}"), false, ICMP, message.clone(), is_error));
        // Errors, multicast listener discovery, router and neighbour discovery, redirects.
        let is_needed = (1..=4).contains(&kind) || (130..=137).contains(&kind) || kind == 143;
        all.push((format!("ICMPv6 type {kind}"), true, ICMPV6, message, is_needed));
    }
    all
}

pub(crate) fn cases() -> Vec<Case> {
    [network_control(), of_infrastructure(), fragments(), in_tunnels(), by_role()].concat()
}

fn reason(is_protected: bool) -> Reason {
    if is_protected { Reason::Protected } else { Reason::Dropped }
}

/// A packet of the subscriber's to the remote on one interface, and back on another.
fn both_ways(
    sentence: &str,
    (subscriber, remote): (&str, &str),
    protocol: u8,
    [to, from]: [&[u8]; 2],
    reason: Reason,
) -> [Case; 2] {
    let to = Carrier::Plain.frame(&[], &ip(subscriber, remote, protocol, to));
    let from = Carrier::Pppoe(5).frame(&[(0x8100, 9)], &ip(remote, subscriber, protocol, from));
    [
        Case::outbound(format!("{sentence} of {subscriber} to {remote}"), to, reason),
        Case::inbound(format!("{sentence} of {remote} to {subscriber}"), from, reason),
    ]
}

fn network_control() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, is_ipv6, protocol, payload, is_protected) in control() {
        let ends = if is_ipv6 { (SUBSCRIBER_V6, LISTED_V6) } else { (SUBSCRIBER, LISTED) };
        let payloads = [&payload[..], &payload];
        cases.extend(both_ways(&name, ends, protocol, payloads, reason(is_protected)));
    }
    cases
}

/// Once the infrastructure is known, services are protected only from there and to there.
fn of_infrastructure() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, protocol, port, is_service) in SERVICES {
        let (asks, answers) =
            (&of_service(protocol, port, false), &of_service(protocol, port, true));
        for (who, to, from) in [("asked", asks, answers), ("answered", answers, asks)] {
            for (subscriber, remote, is_infrastructure) in ENDS {
                let reason = reason(is_service && is_infrastructure);
                let (sentence, ends) = (format!("{name}, {who}"), (subscriber, remote));
                cases.extend(both_ways(&sentence, ends, protocol, [to, from], reason));
            }
        }
    }
    let other_port = ip(ROUTER, BY_PORT, TCP, &tcp(50_000, 179, flag::SYN));
    let frame = Carrier::Plain.frame(&[], &other_port);
    let sentence = "BGP to an address that is listed for other ports";
    cases.push(Case::outbound(sentence, frame, Reason::PortNotListed));
    cases
}

/// Of a packet that came in fragments only the first shows the port.
fn fragments() -> Vec<Case> {
    let mut cases = Vec::new();
    let of = |end: &str, other: &str, offset, body: &[u8]| {
        if other.contains(':') {
            ip(end, other, 44, &[&fragment(UDP, offset, true), body].concat())
        } else {
            Ipv4 { fragment: offset, more: true, ..Ipv4::new(end, other, UDP) }.bytes(body)
        }
    };
    for (subscriber, remote, is_infrastructure) in ENDS {
        for (sentence, offset, port, is_protected) in [
            ("the first fragment of a RADIUS answer", 0, 1812, is_infrastructure),
            ("the first fragment of what is no service", 0, 53, false),
            ("a later fragment", 185, 53, is_infrastructure),
        ] {
            let body = udp(port, 50_000);
            let to = Carrier::Plain.frame(&[], &of(subscriber, remote, offset, &body));
            let from = Carrier::Plain.frame(&[], &of(remote, subscriber, offset, &body));
            let reason = reason(is_protected);
            let sentence = |way: &str| format!("{sentence} {way} {subscriber} ({remote})");
            cases.push(Case::outbound(sentence("from"), to, reason));
            cases.push(Case::inbound(sentence("to"), from, reason));
        }
    }
    cases
}

/// Inside a tunnel it is the inner packet that counts.
fn in_tunnels() -> Vec<Case> {
    let mut cases = Vec::new();
    let error = [3, 4, 0, 0, 0, 0, 0, 0];
    for (subscriber, protocol, payload, is_protected) in [
        (SUBSCRIBER, ICMP, error.to_vec(), true),
        (SUBSCRIBER, 89, vec![0; 24], true),
        (ROUTER, TCP, of_service(TCP, 179, false), true),
        (SUBSCRIBER, TCP, of_service(TCP, 179, false), false),
    ] {
        let inner = ip(subscriber, LISTED, protocol, &payload);
        for tunnel in [Tunnel::Ip, Tunnel::Gre(0)] {
            let packet = tunnel.packet(LINE_V6, CONCENTRATOR_V6, &inner);
            let sentence = format!("protocol {protocol} of {subscriber} in {tunnel:?}");
            let frame = Carrier::Plain.frame(&[], &packet);
            cases.push(Case::outbound(sentence, frame, reason(is_protected)));
        }
    }
    cases
}

/// An interface protects what it would otherwise stop.
fn by_role() -> Vec<Case> {
    let ospf = |source: &str, destination: &str| {
        Carrier::Plain.frame(&[], &ip(source, destination, 89, &[0; 24]))
    };
    let mut cases = Vec::new();
    for role in ROLES {
        let seen = |is_seen| if is_seen { Reason::Protected } else { Reason::NotListed };
        let outbound = seen(role != Role::Uplink);
        cases.push(Case::new(role, "OSPF to a listed address", ospf(SUBSCRIBER, LISTED), outbound));
        let inbound = seen(role != Role::Subscriber);
        cases.push(Case::new(role, "OSPF from one", ospf(LISTED, SUBSCRIBER), inbound));
    }
    cases
}

#[test]
fn services_of_everybody_are_protected_while_the_infrastructure_is_unknown() {
    let mut everything = Setup::all_roles();
    everything.ports.pop();
    let lab = Lab::of(
        "no-infrastructure",
        &Setup { infrastructure: Setup::nothing().infrastructure, ..everything },
    );
    let mut cases = Vec::new();
    for (name, protocol, port, is_service) in SERVICES {
        for ends in [(SUBSCRIBER, LISTED), (SUBSCRIBER_V6, LISTED_V6)] {
            let (to, from) = (of_service(protocol, port, false), of_service(protocol, port, true));
            cases.extend(both_ways(name, ends, protocol, [&to, &from], reason(is_service)));
        }
    }
    lab.check_all(&cases);
}

//! Ethernet, VLAN tags, PPPoE and MPLS in front of IPv4 and IPv6.

use sekisho_abi::reason::Reason;
use sekisho_tests::packet::{
    Carrier, ICMP, Ipv4, TCP, UDP, ethernet, flag, ip, label_stack, pppoe, tcp, udp,
};

use crate::{
    direction::{ROLES, reason_by_role},
    lab::Case,
    world::{
        ALLOWED, ALLOWED_V6, BY_PORT, BY_PORT_V6, BY_PROTOCOL, BY_TWO_LISTS, CLEAN, CLEAN_V6,
        IN_NETWORK, IN_NETWORK_V6, LISTED, LISTED_V6, OBSERVED, SUBSCRIBER, SUBSCRIBER_V6,
    },
};

/// VLAN tags, TPID and identifier each, outermost first.
type Tags = &'static [(u16, u16)];

pub(crate) const TAGS: [Tags; 12] = [
    &[],
    &[(0x8100, 100)],
    &[(0x88a8, 4094)],
    &[(0x9100, 1)],
    &[(0x88a8, 200), (0x8100, 100)],
    &[(0x8100, 200), (0x8100, 100)],
    &[(0x9100, 200), (0x8100, 100)],
    &[(0x9100, 1), (0x8100, 2), (0x8100, 3)],
    &[(0x88a8, 1), (0x88a8, 2), (0x8100, 3), (0x8100, 4)],
    &[(0x8100, 1), (0x8100, 2), (0x8100, 3), (0x8100, 4)],
    &[(0x88a8, 1), (0x88a8, 2), (0x88a8, 3), (0x88a8, 4)],
    &[(0x9100, 1), (0x9100, 2), (0x9100, 3), (0x9100, 4)],
];

/// Everything that an IP packet may travel in.
pub(crate) fn carriers() -> Vec<Carrier> {
    let stacks = (1..=4)
        .flat_map(|labels| [0x8847, 0x8848].map(|ethertype| Carrier::Mpls { ethertype, labels }));
    let sessions = [Carrier::Pppoe(0x1234), Carrier::PppoeCompressed(0x1234)];
    [Carrier::Plain].into_iter().chain(sessions).chain(stacks).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    [every_carrier(), every_entry(), ports(), contradictions(), behind_labels()].concat()
}

/// Every carrier behind every number of tags, in both families and directions, for each role.
fn every_carrier() -> Vec<Case> {
    let mut cases = Vec::new();
    let ends = [
        (SUBSCRIBER, LISTED, true),
        (SUBSCRIBER, CLEAN, false),
        (SUBSCRIBER_V6, LISTED_V6, true),
        (SUBSCRIBER_V6, CLEAN_V6, false),
    ];
    for tags in TAGS {
        for carrier in carriers() {
            for (subscriber, remote, is_listed) in ends {
                for is_outbound in [true, false] {
                    let (source, destination) =
                        if is_outbound { (subscriber, remote) } else { (remote, subscriber) };
                    let packet = ip(source, destination, UDP, &udp(40_000, 40_001));
                    let frame = carrier.frame(tags, &packet);
                    for role in ROLES {
                        let sentence =
                            format!("{source} to {destination} in {carrier:?} {tags:x?}");
                        let reason = reason_by_role(role, is_outbound, is_listed);
                        cases.push(Case::new(role, sentence, frame.clone(), reason));
                    }
                }
            }
        }
    }
    cases
}

/// What the entries of the ruleset say of every protocol.
fn every_entry() -> Vec<Case> {
    let mut cases = Vec::new();
    for (protocol, payload) in [
        (TCP, tcp(40_000, 443, flag::SYN)),
        (UDP, udp(40_000, 443)),
        (ICMP, vec![8, 0, 0, 0, 0, 1, 0, 1]),
        (50, vec![0; 8]),
        (0x84, vec![0; 12]),
    ] {
        let by_protocol = if protocol == TCP { Reason::Dropped } else { Reason::PortNotListed };
        for (source, remote, reason) in [
            (SUBSCRIBER, LISTED, Reason::Dropped),
            (SUBSCRIBER, CLEAN, Reason::NotListed),
            (SUBSCRIBER, OBSERVED, Reason::ListObserved),
            (SUBSCRIBER, ALLOWED, Reason::NotListed),
            (SUBSCRIBER, IN_NETWORK, Reason::Dropped),
            (SUBSCRIBER, BY_PORT, Reason::PortNotListed),
            (SUBSCRIBER, BY_TWO_LISTS, Reason::ListObserved),
            (SUBSCRIBER, BY_PROTOCOL, by_protocol),
            (SUBSCRIBER_V6, LISTED_V6, Reason::Dropped),
            (SUBSCRIBER_V6, CLEAN_V6, Reason::NotListed),
            (SUBSCRIBER_V6, ALLOWED_V6, Reason::NotListed),
            (SUBSCRIBER_V6, IN_NETWORK_V6, Reason::Dropped),
            (SUBSCRIBER_V6, BY_PORT_V6, Reason::PortNotListed),
        ] {
            let frame = Carrier::Plain.frame(&[], &ip(source, remote, protocol, &payload));
            let sentence = format!("protocol {protocol} to {remote}");
            cases.push(Case::outbound(sentence, frame, reason));
        }
    }
    cases
}

/// A condition on a port blocks that port and no other.
fn ports() -> Vec<Case> {
    let mut cases = Vec::new();
    for (protocol, port, reason) in [
        (TCP, 23, Reason::Dropped),
        (TCP, 53, Reason::PortNotListed),
        (TCP, 22, Reason::PortNotListed),
        (UDP, 53, Reason::Dropped),
        (UDP, 23, Reason::PortNotListed),
    ] {
        let payload = if protocol == TCP { tcp(23, port, flag::ACK) } else { udp(53, port) };
        let sentence = format!("protocol {protocol} port {port}");
        let v4 = Ipv4::new(SUBSCRIBER, BY_PORT, protocol);
        cases.push(Case::outbound(&sentence, v4.frame(&[], &payload), reason));
        let options = Ipv4 { options: &[1; 40], ..v4 };
        let sentence = format!("{sentence} behind IPv4 options");
        cases.push(Case::outbound(sentence, options.frame(&[], &payload), reason));
        if protocol == TCP {
            let v6 = ip(SUBSCRIBER_V6, BY_PORT_V6, TCP, &payload);
            let sentence = format!("IPv6 port {port}");
            cases.push(Case::outbound(sentence, Carrier::Plain.frame(&[], &v6), reason));
        }
    }
    for (port, reason) in [(23, Reason::Dropped), (24, Reason::ListObserved)] {
        let packet = ip(SUBSCRIBER, BY_TWO_LISTS, TCP, &tcp(1, port, flag::SYN));
        let sentence = format!("port {port}, dropped by one list and observed by another");
        cases.push(Case::outbound(sentence, Carrier::Plain.frame(&[], &packet), reason));
    }
    cases
}

/// What is not IP, or contradicts itself, passes.
fn contradictions() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |sentence: &str, frame, reason| {
        cases.push(Case::outbound(sentence, frame, reason));
    };
    for (name, ethertype) in [
        ("ARP", 0x0806),
        ("LACP", 0x8809),
        ("PPPoE discovery", 0x8863),
        ("LLDP", 0x88cc),
        ("IS-IS in 802.3", 60),
        ("MACsec", 0x88e5),
    ] {
        add(name, ethernet(&[], ethertype, &[0; 46]), Reason::NotIp);
        let sentence = format!("{name} behind a tag");
        add(&sentence, ethernet(&[(0x8100, 7)], ethertype, &[0; 46]), Reason::NotIp);
    }
    let packet = ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2));
    for tpid in [0x8100, 0x88a8, 0x9100] {
        let sentence = format!("five tags {tpid:x}");
        add(&sentence, Carrier::Plain.frame(&[(tpid, 1); 5], &packet), Reason::TooManyVlans);
    }
    let changed = |packet: &[u8], at: usize, value: u8| {
        let mut packet = packet.to_vec();
        packet[at] = value;
        packet
    };
    let v4 = |first| ethernet(&[], 0x0800, &changed(&packet, 0, first));
    add("IPv6 in an IPv4 frame", v4(0x65), Reason::MalformedIpv4);
    add("an IPv4 header of 16 bytes", v4(0x44), Reason::MalformedIpv4);
    for (total, reason) in [
        (0, Reason::Dropped),
        (1, Reason::MalformedIpv4),
        (19, Reason::MalformedIpv4),
        (20, Reason::Dropped),
        (0x1300, Reason::Dropped),
    ] {
        let [high, low] = u16::to_be_bytes(total);
        let frame = changed(&changed(&packet, 2, high), 3, low);
        add(&format!("an IPv4 packet of {total} bytes"), ethernet(&[], 0x0800, &frame), reason);
    }
    add("IPv4 in an IPv6 frame", ethernet(&[], 0x86dd, &[0x45; 60]), Reason::MalformedIpv6);

    let session = pppoe(7, &packet);
    let in_session = |at, value| ethernet(&[], 0x8864, &changed(&session, at, value));
    add("PPPoE of version 2", in_session(0, 0x21), Reason::MalformedPppoe);
    add("PPPoE of type 2", in_session(0, 0x12), Reason::MalformedPppoe);
    add("a PPPoE code in a session", in_session(1, 0xa7), Reason::MalformedPppoe);
    for (name, high, low) in [
        ("LCP", 0xc0, 0x21),
        ("PAP", 0xc0, 0x23),
        ("CHAP", 0xc2, 0x23),
        ("IPCP", 0x80, 0x21),
        ("IPv6CP", 0x80, 0x57),
        ("a compressed protocol number of something else", 0x2d, 0x45),
        ("an address that is not left out", 0xff, 0x03),
    ] {
        let frame = changed(&changed(&session, 6, high), 7, low);
        add(name, ethernet(&[], 0x8864, &frame), Reason::PppControl);
    }
    add("IPv6 where PPP says IPv4", in_session(8, 0x60), Reason::MalformedIpv4);

    let stack = Carrier::Mpls { ethertype: 0x8847, labels: 5 };
    add("five labels", stack.frame(&[], &packet), Reason::TooManyLabels);
    cases
}

/// What is behind a label stack is IP if it is whole and right in itself: a pseudowire without
/// control word begins with an Ethernet address, which may be any.
fn behind_labels() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |sentence: &str, payload: &[u8], reason| {
        let payload = [&label_stack(2)[..], payload].concat();
        let sentence = format!("{sentence} behind two labels");
        cases.push(Case::outbound(sentence, ethernet(&[], 0x8847, &payload), reason));
    };
    for (name, first) in [("a control word", 0x00), ("an associated channel", 0x10), ("ARP", 0x20)]
    {
        add(name, &[first; 60], Reason::MplsNotIp);
    }
    let changed = |packet: &[u8], at: usize, value: u8| {
        let mut packet = packet.to_vec();
        packet[at] = value;
        packet
    };
    let datagram = udp(1, 2);
    let v4 = ip(SUBSCRIBER, LISTED, UDP, &datagram);
    let v6 = ip(SUBSCRIBER_V6, LISTED_V6, UDP, &datagram);
    add("IPv4 whose checksum is wrong", &changed(&v4, 10, v4[10] ^ 0x80), Reason::MplsNotIp);
    add("IPv4 whose address was changed", &changed(&v4, 15, v4[15] ^ 1), Reason::MplsNotIp);
    for options in [4, 8, 36, 40] {
        let packet = Ipv4 { options: &vec![1; options], ..Ipv4::new(SUBSCRIBER, LISTED, UDP) };
        let packet = packet.bytes(&datagram);
        add(&format!("IPv4 with {options} bytes of options"), &packet, Reason::Dropped);
        let wrong = changed(&packet, 20 + options - 1, 0);
        add(&format!("{options} bytes of options, one changed"), &wrong, Reason::MplsNotIp);
    }
    for (name, packet) in [("IPv4", &v4), ("IPv6", &v6)] {
        let padded = [packet, &[0xee; 18][..]].concat();
        add(&format!("{name} with padding"), &padded, Reason::Dropped);
        let cut = &packet[..packet.len() - 1];
        add(&format!("{name} that ends a byte early"), cut, Reason::MplsNotIp);
    }
    // What is taken from the length is given to the identification: the checksum stays right.
    let short = changed(&changed(&v4, 3, v4[3] - 16), 5, v4[5] + 16);
    add("IPv4 shorter than its header", &short, Reason::MplsNotIp);
    let header = changed(&changed(&v4, 0, 0x44), 4, v4[4] + 1);
    add("an IPv4 header of 16 bytes", &header, Reason::MplsNotIp);
    for address in ["45:00:00:2a:00:01", "4c:00:00:10:00:01", "60:00:00:00:40:00"] {
        let mut inner = ethernet(&[], 0x0800, &v4);
        for (to, byte) in inner.iter_mut().zip(address.split(':')) {
            *to = u8::from_str_radix(byte, 16).expect("an address");
        }
        add(&format!("Ethernet to {address}"), &inner, Reason::MplsNotIp);
    }
    cases
}

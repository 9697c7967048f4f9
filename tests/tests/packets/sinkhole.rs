//! The way to the sinkhole.

use std::collections::BTreeSet;

use sekisho_abi::{reason::Reason, record::Role};
use sekisho_tests::packet::{
    Carrier, ICMP, Ipv4, TCP, UDP, ethernet, extension, flag, fragment, ip, is_ipv6, tcp, udp,
};

use crate::{
    expected::wrapped,
    lab::{Case, Lab, XDP_REDIRECT},
    layers::{TAGS, carriers},
    tunnels::{OUTER, embed, tunnels},
    world::{
        SINKHOLE_LINK, SINKHOLE_MTU, SINKHOLED, SINKHOLED_V6, SUBSCRIBER, SUBSCRIBER_V6, Setup,
        tunnelled,
    },
};

pub(crate) fn cases() -> Vec<Case> {
    [next_hop(), kinds_of_packets(), unfit()].concat()
}

/// A packet on the way to the sinkhole.
fn diverted(packet: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(&[], if is_ipv6(packet) { 0x86dd } else { 0x0800 }, packet);
    frame[..12].copy_from_slice(&SINKHOLE_LINK);
    frame
}

/// Tags, PPPoE and labels come off.
fn next_hop() -> Vec<Case> {
    let mut cases = Vec::new();
    let embedded = embed("64:ff9b::", 96, SINKHOLED);
    for tags in TAGS {
        for carrier in carriers() {
            for (subscriber, remote) in
                [(SUBSCRIBER, SINKHOLED), (SUBSCRIBER_V6, SINKHOLED_V6), (SUBSCRIBER_V6, &embedded)]
            {
                let packet = ip(subscriber, remote, TCP, &tcp(40_000, 6667, flag::SYN));
                let sentence = format!("to {remote} in {carrier:?} {tags:x?}");
                for role in [Role::Subscriber, Role::Both] {
                    let frame = carrier.frame(tags, &packet);
                    let case = Case::new(role, &sentence, frame, Reason::Sinkholed);
                    cases.push(case.becoming(diverted(&packet)));
                }
            }
        }
    }
    cases
}

fn kinds_of_packets() -> Vec<Case> {
    let v4 = Ipv4::new(SUBSCRIBER, SINKHOLED, UDP);
    let full = usize::from(SINKHOLE_MTU) - 20;
    let packets = [
        ("UDP", v4.bytes(&udp(1, 2))),
        ("a reset on its way", ip(SUBSCRIBER, SINKHOLED, TCP, &tcp(1, 2, flag::RST))),
        ("ICMP", ip(SUBSCRIBER, SINKHOLED, ICMP, &[8, 0, 0, 0, 0, 1, 0, 1])),
        ("IPv4 options", Ipv4 { options: &[1; 12], ..v4 }.bytes(&udp(1, 2))),
        ("a first fragment", Ipv4 { more: true, ..v4 }.bytes(&udp(1, 2))),
        ("a later fragment", Ipv4 { fragment: 185, ..v4 }.bytes(&[0; 64])),
        ("as long as the way takes", v4.bytes(&vec![0; full])),
        (
            "a later fragment, IPv6",
            ip(SUBSCRIBER_V6, SINKHOLED_V6, 44, &[fragment(UDP, 9, true), vec![0; 64]].concat()),
        ),
        (
            "an extension header",
            ip(SUBSCRIBER_V6, SINKHOLED_V6, 60, &[extension(UDP, 0), udp(1, 2)].concat()),
        ),
    ];
    let case = |(sentence, packet): (&str, Vec<u8>)| {
        let frame = Carrier::Plain.frame(&[], &packet);
        Case::outbound(sentence, frame, Reason::Sinkholed).becoming(diverted(&packet))
    };
    packets.into_iter().map(case).collect()
}

/// What is dropped instead: the other direction, tunnels, packets that are too long.
fn unfit() -> Vec<Case> {
    let mut cases = Vec::new();
    for (subscriber, remote) in [(SUBSCRIBER, SINKHOLED), (SUBSCRIBER_V6, SINKHOLED_V6)] {
        let packet = ip(subscriber, remote, UDP, &udp(40_000, 53));
        for tunnel in tunnels() {
            for (line, concentrator) in OUTER {
                let frame = Carrier::Plain.frame(&[], &tunnel.packet(line, concentrator, &packet));
                let sentence = format!("to {remote} in {tunnel:?} of {line}");
                cases.push(Case::outbound(sentence, frame, Reason::SinkholeUnfit));
            }
        }
        let inbound = ip(remote, subscriber, UDP, &udp(53, 40_000));
        let frame = Carrier::Pppoe(2).frame(&[], &inbound);
        for role in [Role::Uplink, Role::Both] {
            let sentence = format!("from {remote}");
            cases.push(Case::new(role, sentence, frame.clone(), Reason::SinkholeUnfit));
        }
        let header = if is_ipv6(&packet) { 40 } else { 20 };
        let long = vec![0; usize::from(SINKHOLE_MTU) - header + 1];
        for (carrier, tags) in
            [(Carrier::Plain, &[][..]), (Carrier::Pppoe(1), &[(0x8100, 2)]), (carriers()[2], &[])]
        {
            let frame = carrier.frame(tags, &ip(subscriber, remote, UDP, &long));
            let sentence = format!("a byte too long, to {remote} in {carrier:?}");
            cases.push(Case::outbound(sentence, frame, Reason::SinkholeUnfit));
        }
    }
    cases
}

/// The last 32 bits of the outer source of a diverted frame.
fn flow_of(frame: &[u8]) -> u32 {
    let at = if frame[12..14] == [0x86, 0xdd] { 14 + 20 } else { 14 + 12 };
    u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
}

/// Sends a packet, checks everything but the source's bits that are the flow's, and gives those.
fn flow_of_wrapped(lab: &Lab, carrier: Carrier, packet: &[u8], bits: u32) -> u32 {
    let frame = carrier.frame(&[(0x88a8, 7), (0x8100, 8)], packet);
    let (action, left, reason) = lab.judge(Role::Subscriber, &frame);
    assert_eq!((action, reason), (XDP_REDIRECT, Reason::Sinkholed));
    let source = flow_of(&left);
    let flow = source & (u64::MAX >> (64 - bits)) as u32;
    let outer = if is_ipv6(packet) {
        assert_eq!(source, flow, "the network's part of the source stays");
        let text = format!("2001:db8:66::{:x}:{:x}", flow >> 16, flow & 0xffff);
        wrapped(&text, "2001:db8:77::1", packet)
    } else {
        let address = std::net::Ipv4Addr::from(0x0a42_0000 | flow);
        wrapped(&address.to_string(), "10.77.0.1", packet)
    };
    assert_eq!(left, diverted(&outer), "an outer header of the same family");
    flow
}

#[test]
fn the_far_sinkhole_gets_each_flow_from_a_source_of_its_own() {
    const BITS: u32 = 8;
    let setup = Setup { sinkhole: Some(tunnelled(BITS as u8)), ..Setup::everything() };
    let lab = Lab::of("far-sinkhole", &setup);
    lab.newly_counted();
    for (subscriber, remote) in [(SUBSCRIBER, SINKHOLED), (SUBSCRIBER_V6, SINKHOLED_V6)] {
        let of = |carrier, port, flags, data: &[u8]| {
            let payload = [tcp(port, 6667, flags), data.to_vec()].concat();
            let packet = ip(subscriber, remote, TCP, &payload);
            flow_of_wrapped(&lab, carrier, &packet, BITS)
        };
        let mut flows = BTreeSet::new();
        for port in 40_000..40_064 {
            let flow = of(Carrier::Plain, port, flag::SYN, b"");
            assert_eq!(of(Carrier::Pppoe(9), port, flag::ACK, b"more"), flow, "port {port}");
            flows.insert(flow);
        }
        // Of 64 flows thrown into 256 sources, some 57 are the only ones there.
        assert!(flows.len() > 40, "{} sources for 64 flows", flows.len());
    }
    let mut cases = unfit();
    cases.retain(|case| case.role == Role::Subscriber);
    for (subscriber, remote, outer, inner) in
        [(SUBSCRIBER, SINKHOLED, 20, 20), (SUBSCRIBER_V6, SINKHOLED_V6, 40, 40)]
    {
        let longest = usize::from(SINKHOLE_MTU) - outer - inner;
        let fits = ip(subscriber, remote, UDP, &vec![0; longest]);
        flow_of_wrapped(&lab, Carrier::Plain, &fits, BITS);
        let frame = Carrier::Plain.frame(&[], &ip(subscriber, remote, UDP, &vec![0; longest + 1]));
        let sentence = format!("a byte too long for the tunnel, to {remote}");
        cases.push(Case::outbound(sentence, frame, Reason::SinkholeUnfit));
    }
    lab.check_all(&cases);
}

#[test]
fn a_far_sinkhole_of_one_family_takes_no_packets_of_the_other_and_may_have_all_flow_bits() {
    let mut way = tunnelled(32);
    way.sinkhole.destination_v4 = 0;
    let lab = Lab::of("sinkhole-v6", &Setup { sinkhole: Some(way), ..Setup::everything() });
    let v4 = Carrier::Plain.frame(&[], &ip(SUBSCRIBER, SINKHOLED, UDP, &udp(1, 2)));
    lab.check_all(&[Case::outbound("IPv4", v4, Reason::SinkholeUnfit)]);
    let flows: BTreeSet<u32> = (40_000..40_064)
        .map(|port| {
            let packet = ip(SUBSCRIBER_V6, SINKHOLED_V6, UDP, &udp(port, 53));
            flow_of_wrapped(&lab, Carrier::Plain, &packet, 32)
        })
        .collect();
    assert_eq!(flows.len(), 64, "each flow has a source of its own");
}

#[test]
fn what_should_be_sinkholed_is_dropped_where_there_is_no_sinkhole() {
    let lab = Lab::of("no-sinkhole", &Setup { sinkhole: None, ..Setup::everything() });
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| case.role == Role::Subscriber)
        .map(|case| Case { reason: Reason::SinkholeUnfit, becomes: None, ..case })
        .collect();
    lab.check_all(&cases);
}

//! Who opted out passes unseen.

use sekisho::dataplane::{Dataplane, OptOuts};
use sekisho_abi::{reason::Reason, record::Role};
use sekisho_tests::packet::{Carrier, ICMP, Ipv4, TCP, UDP, flag, ip, tcp, udp};

use crate::{
    direction::ROLES,
    lab::{Case, Lab, XDP_DROP, XDP_PASS},
    layers::carriers,
    tunnels::{embed, tunnels},
    world::{
        CLEAN, CONCENTRATOR, CONCENTRATOR_V6, IN_OPTED_OUT, LINE, LINE_V6, LISTED, LISTED_V6,
        OPTED_OUT, OPTED_OUT_LINE_V6, OPTED_OUT_V6, REJECTED, SHARED, SINKHOLED, SUBSCRIBER, Setup,
        opt_outs,
    },
};

pub(crate) fn cases() -> Vec<Case> {
    [by_address(), by_port_block(), by_outer_address()].concat()
}

/// Where the subscriber's end is looked for by each role; elsewhere the packet is judged as it is.
fn by_address() -> Vec<Case> {
    let mut cases = Vec::new();
    for (subscriber, remote) in [
        (OPTED_OUT, LISTED),
        (IN_OPTED_OUT, LISTED),
        (OPTED_OUT_V6, LISTED_V6),
        (OPTED_OUT, CLEAN),
        (OPTED_OUT, REJECTED),
        (OPTED_OUT, SINKHOLED),
    ] {
        for carrier in carriers() {
            for is_outbound in [true, false] {
                let (source, destination) =
                    if is_outbound { (subscriber, remote) } else { (remote, subscriber) };
                let packet = ip(source, destination, UDP, &udp(1, 2));
                let frame = carrier.frame(&[(0x8100, 2)], &packet);
                for role in ROLES {
                    let is_seen = match role {
                        Role::Subscriber => is_outbound,
                        Role::Uplink => !is_outbound,
                        Role::Both => true,
                    };
                    let reason = if is_seen { Reason::OptedOut } else { Reason::NotListed };
                    let sentence = format!("{source} to {destination} in {carrier:?}");
                    cases.push(Case::new(role, sentence, frame.clone(), reason));
                }
            }
        }
    }
    let neighbour = ip("100.64.9.2", LISTED, UDP, &udp(1, 2));
    let frame = Carrier::Plain.frame(&[], &neighbour);
    cases.push(Case::outbound("the neighbour of one who opted out", frame, Reason::Dropped));
    let beside = ip("100.64.11.1", LISTED, UDP, &udp(1, 2));
    let frame = Carrier::Plain.frame(&[], &beside);
    cases.push(Case::outbound("beside a prefix that opted out", frame, Reason::Dropped));
    let embedded = ip(OPTED_OUT_V6, &embed("64:ff9b::", 96, LISTED), UDP, &udp(1, 2));
    let frame = Carrier::Plain.frame(&[], &embedded);
    cases.push(Case::outbound("to an embedded address", frame, Reason::OptedOut));
    cases
}

/// Of a shared address only the ports of those who opted out pass.
fn by_port_block() -> Vec<Case> {
    let mut cases = Vec::new();
    for (port, is_in) in [
        (1029, false),
        (1030, true),
        (1039, true),
        (1040, true),
        (1041, true),
        (1042, false),
        (4095, false),
        (4096, true),
        (6000, true),
        (8191, true),
        (8192, false),
        (0, false),
        (65_535, false),
    ] {
        let reason = if is_in { Reason::OptedOut } else { Reason::Dropped };
        for protocol in [TCP, UDP] {
            let payload = |source, destination| match protocol {
                TCP => tcp(source, destination, flag::ACK),
                _ => udp(source, destination),
            };
            // The remote's port is another's; in the block, where the subscriber's is not.
            let outbound = ip(SHARED, LISTED, protocol, &payload(port, 5000));
            let sentence = format!("protocol {protocol} from port {port} of a shared address");
            let frame = Carrier::Plain.frame(&[], &outbound);
            cases.push(Case::outbound(&sentence, frame.clone(), reason));
            cases.push(Case::new(Role::Both, sentence, frame, reason));
            let inbound = ip(LISTED, SHARED, protocol, &payload(5000, port));
            let sentence = format!("protocol {protocol} to port {port} of a shared address");
            let frame = Carrier::Plain.frame(&[], &inbound);
            cases.push(Case::inbound(&sentence, frame.clone(), reason));
            cases.push(Case::new(Role::Both, sentence, frame, reason));
        }
    }
    let mut add = |sentence: &str, packet: &[u8], reason| {
        cases.push(Case::outbound(sentence, Carrier::Plain.frame(&[], packet), reason));
    };
    let from = Ipv4::new(SHARED, LISTED, UDP);
    let later = Ipv4 { fragment: 64, ..from }.bytes(&[0; 16]);
    add("a later fragment of a shared address may be anybody's", &later, Reason::OptedOut);
    let first = Ipv4 { more: true, ..from };
    add("a first fragment in the block", &first.bytes(&udp(1030, 1)), Reason::OptedOut);
    add("a first fragment beside it", &first.bytes(&udp(1029, 1)), Reason::Dropped);
    let echo = ip(SHARED, LISTED, ICMP, &[8, 0, 0, 0, 0, 1, 0, 1]);
    add("ICMP of a shared address may be anybody's", &echo, Reason::OptedOut);
    add("cut in front of its ports", &from.bytes(&[4, 6]), Reason::OptedOut);
    let clean = ip(SHARED, CLEAN, UDP, &udp(1029, 1));
    add("from beside the block to a clean address", &clean, Reason::NotListed);
    cases
}

/// In a tunnel the outer address is asked first, then the inner one.
fn by_outer_address() -> Vec<Case> {
    let mut cases = Vec::new();
    for tunnel in tunnels() {
        let inner = ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2));
        let answer = ip(LISTED, SUBSCRIBER, UDP, &udp(2, 1));
        let mut add = |sentence: &str, role, packet: &[u8], reason| {
            let frame = Carrier::Pppoe(3).frame(&[(0x88a8, 1), (0x8100, 2)], packet);
            cases.push(Case::new(role, format!("{sentence} in {tunnel:?}"), frame, reason));
        };
        let out = tunnel.packet(OPTED_OUT_LINE_V6, CONCENTRATOR_V6, &inner);
        add("the line opted out", Role::Subscriber, &out, Reason::OptedOut);
        add("the line opted out", Role::Both, &out, Reason::OptedOut);
        let back = tunnel.packet(CONCENTRATOR_V6, OPTED_OUT_LINE_V6, &answer);
        add("the line opted out, inbound", Role::Uplink, &back, Reason::OptedOut);
        let v4_line = tunnel.packet(IN_OPTED_OUT, CONCENTRATOR, &inner);
        add("the IPv4 line opted out", Role::Subscriber, &v4_line, Reason::OptedOut);
        let of_inner = ip(OPTED_OUT, LISTED, UDP, &udp(1, 2));
        let packet = tunnel.packet(LINE, CONCENTRATOR, &of_inner);
        add("the inner end opted out", Role::Subscriber, &packet, Reason::OptedOut);
        let of_block = ip(SHARED, LISTED, UDP, &udp(5000, 2));
        let packet = tunnel.packet(LINE_V6, CONCENTRATOR_V6, &of_block);
        add("the inner port opted out", Role::Subscriber, &packet, Reason::OptedOut);
        let beside = ip(SHARED, LISTED, UDP, &udp(1029, 2));
        let packet = tunnel.packet(LINE_V6, CONCENTRATOR_V6, &beside);
        add("the inner port did not", Role::Subscriber, &packet, Reason::Dropped);
        let packet = tunnel.packet(LINE_V6, CONCENTRATOR_V6, &inner);
        add("nobody opted out", Role::Subscriber, &packet, Reason::Dropped);
    }
    cases
}

/// Whether an address is that of a subscriber who opted out.
pub(crate) fn is_opted_out(subscriber: &str) -> bool {
    [OPTED_OUT, IN_OPTED_OUT, OPTED_OUT_V6, OPTED_OUT_LINE_V6].contains(&subscriber)
}

#[test]
fn opt_outs_come_and_go_while_the_ruleset_stays() {
    let lab = Lab::of("opt-out-changes", &Setup::everything());
    lab.newly_counted();
    let of = |subscriber: &str, port| {
        let packet = ip(subscriber, LISTED, UDP, &udp(port, 443));
        let (action, _, reason) = lab.judge(Role::Subscriber, &Carrier::Plain.frame(&[], &packet));
        (action, reason)
    };
    let set = |opt_outs: &OptOuts| {
        lab.dataplane.set_opt_outs(opt_outs).expect("the opt-outs are set");
    };
    let (seen, unseen) = ((XDP_DROP, Reason::Dropped), (XDP_PASS, Reason::OptedOut));
    assert_eq!(of(OPTED_OUT, 1), unseen);
    set(&OptOuts::default());
    assert_eq!(of(OPTED_OUT, 1), seen, "nobody is opted out any more");
    assert_eq!(of(SHARED, 1030), seen);
    let blocks = OptOuts { networks: Vec::new(), ..opt_outs() };
    set(&blocks);
    assert_eq!(of(OPTED_OUT, 1), seen);
    assert_eq!(of(SHARED, 1030), unseen, "port blocks alone");
    let whole = OptOuts {
        networks: vec![format!("{SHARED}/32").parse().expect("a network")],
        ..blocks.clone()
    };
    set(&whole);
    assert_eq!(of(SHARED, 9), unseen, "the whole address, whatever its blocks say");
    let mut smaller = blocks;
    smaller.blocks.truncate(1);
    set(&smaller);
    assert_eq!(of(SHARED, 1030), unseen, "a block that stays");
    assert_eq!(of(SHARED, 4096), seen, "a block that left");
    assert_eq!(
        lab.dataplane.installed().expect("readable").generation,
        Some(crate::lab::GENERATION),
        "the ruleset was not touched"
    );
}

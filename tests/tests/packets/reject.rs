//! Answers to what is rejected: TCP resets and ICMP errors, and what is never answered.

use std::time::{Duration, Instant};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use sekisho_abi::{
    reason::Reason,
    record::{ANSWER_WINDOW_NS, ANSWERS_PER_WINDOW, Role},
};
use sekisho_tests::packet::{
    Carrier, ICMP, ICMPV6, Ipv4, TCP, Tcp, Tunnel, UDP, extension, flag, fragment, ip, tcp, udp,
};

use crate::{
    expected::{prohibited, reset, turned},
    lab::{Case, Lab, XDP_DROP, XDP_TX},
    layers::TAGS,
    tunnels::{OUTER, embed, tunnels},
    world::{REJECTED, REJECTED_AND_SINKHOLED, REJECTED_V6, SUBSCRIBER, SUBSCRIBER_V6, Setup},
};

pub(crate) fn cases() -> Vec<Case> {
    [resets(), reset_numbers(), prohibitions(), silent(), silent_in_tunnels()].concat()
}

/// Links on which an answer finds its way back.
fn links() -> impl Iterator<Item = (Carrier, &'static [(u16, u16)])> {
    let carriers = [Carrier::Plain, Carrier::Pppoe(0xbeef), Carrier::PppoeCompressed(0xbeef)];
    TAGS.into_iter().flat_map(move |tags| carriers.map(|carrier| (carrier, tags)))
}

const SYN: Tcp<'_> = Tcp {
    source: 40_000,
    destination: 443,
    sequence: 1_000,
    acknowledgement: 0,
    flags: flag::SYN,
    options: &[2, 4, 5, 0xb4],
    data: &[],
};

/// A SYN on every link, in each family.
fn resets() -> Vec<Case> {
    let mut cases = Vec::new();
    let embedded = embed("64:ff9b::", 96, REJECTED);
    for (carrier, tags) in links() {
        for (subscriber, remote) in [
            (SUBSCRIBER, REJECTED),
            (SUBSCRIBER, REJECTED_AND_SINKHOLED),
            (SUBSCRIBER_V6, REJECTED_V6),
            (SUBSCRIBER_V6, &embedded),
        ] {
            let frame = carrier.frame(tags, &ip(subscriber, remote, TCP, &SYN.bytes()));
            let answer = reset((remote, 443), (subscriber, 40_000), 0, Some(1_001));
            let answer = turned(carrier, tags, &answer, &frame);
            let sentence = format!("SYN to {remote} on {carrier:?} {tags:x?}");
            for role in [Role::Subscriber, Role::Both] {
                let case = Case::new(role, &sentence, frame.clone(), Reason::Rejected);
                cases.push(case.becoming(answer.clone()));
            }
        }
    }
    cases
}

/// The numbers of RFC 9293, 3.10.7.1: of a segment with ACK its acknowledgement number, of another
/// one 0 and what acknowledges it.
fn reset_numbers() -> Vec<Case> {
    let mut cases = Vec::new();
    let (sequence, acknowledgement) = (0x8000_0001, 0x7fff_fff0);
    let numbered = Tcp { sequence, acknowledgement, options: &[], ..SYN };
    let of = |flags, data: &'static [u8]| Tcp { flags, data, ..numbered };
    let (acked, after) =
        ((acknowledgement, None), |length: u32| (0, Some(sequence.wrapping_add(length))));
    let wraps = Tcp { sequence: u32::MAX, data: b"GET", ..SYN };
    let padded = Tcp { options: &[1; 40], data: b"data", ..numbered };
    for (name, segment, (sequence, acknowledgement)) in [
        ("SYN", numbered, after(1)),
        ("SYN with data", of(flag::SYN, b"fast open"), after(10)),
        ("SYN at the end of sequence space", wraps, (0, Some(3))),
        ("SYN with FIN", of(flag::SYN | flag::FIN, b""), after(2)),
        ("SYN with ECN bits", of(flag::SYN | 0xc0, b""), after(1)),
        ("SYN with 40 bytes of options", padded, after(5)),
        ("FIN without ACK", of(flag::FIN, b""), after(1)),
        ("data without any flag", of(0, b"null scan"), after(9)),
        ("no flag and no data", of(0, b""), after(0)),
        ("ACK", of(flag::ACK, b""), acked),
        ("data", of(flag::ACK | 0x08, b"GET / HTTP/1.1"), acked),
        ("FIN", of(flag::FIN | flag::ACK, b""), acked),
        ("SYN with ACK", of(flag::SYN | flag::ACK, b""), acked),
    ] {
        let bytes = segment.bytes();
        let destination_options = [&extension(TCP, 2)[..], &bytes].concat();
        let with_options = Ipv4 { options: &[1; 8], ..Ipv4::new(SUBSCRIBER, REJECTED, TCP) };
        for (what, remote, subscriber, packet) in [
            ("IPv4", REJECTED, SUBSCRIBER, ip(SUBSCRIBER, REJECTED, TCP, &bytes)),
            ("IPv4 with options", REJECTED, SUBSCRIBER, with_options.bytes(&bytes)),
            ("IPv6", REJECTED_V6, SUBSCRIBER_V6, ip(SUBSCRIBER_V6, REJECTED_V6, TCP, &bytes)),
            (
                "IPv6 with destination options",
                REJECTED_V6,
                SUBSCRIBER_V6,
                ip(SUBSCRIBER_V6, REJECTED_V6, 60, &destination_options),
            ),
        ] {
            for padding in [0, 6] {
                let mut frame = Carrier::Plain.frame(&[], &packet);
                // What fills a short frame up is no data.
                frame.resize(frame.len() + padding, 0xee);
                let answer = reset((remote, 443), (subscriber, 40_000), sequence, acknowledgement);
                let answer = turned(Carrier::Plain, &[], &answer, &frame);
                let sentence = format!("{name} over {what}, {padding} bytes of padding");
                cases.push(Case::outbound(sentence, frame, Reason::Rejected).becoming(answer));
            }
        }
    }
    cases
}

/// Everything else that has an answer gets an ICMP error.
fn prohibitions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (carrier, tags) in links() {
        for (subscriber, remote) in [(SUBSCRIBER, REJECTED), (SUBSCRIBER_V6, REJECTED_V6)] {
            for (name, protocol, payload) in [
                ("UDP", UDP, udp(40_000, 53)),
                ("long UDP", UDP, [udp(40_000, 53), vec![0xab; 1_400]].concat()),
                ("empty UDP", UDP, udp(40_000, 53)[..8].to_vec()),
                ("SCTP", 132, vec![7; 32]),
                ("ESP", 50, vec![9; 64]),
            ] {
                let packet = ip(subscriber, remote, protocol, &payload);
                let frame = carrier.frame(tags, &packet);
                let answer = prohibited(remote, subscriber, &packet);
                let answer = turned(carrier, tags, &answer, &frame);
                let sentence = format!("{name} to {remote} on {carrier:?} {tags:x?}");
                cases.push(Case::outbound(sentence, frame, Reason::Rejected).becoming(answer));
            }
        }
    }
    let packet = Ipv4 { more: true, ..Ipv4::new(SUBSCRIBER, REJECTED, UDP) }.bytes(&udp(1, 2));
    let frame = Carrier::Plain.frame(&[], &packet);
    let answer = prohibited(REJECTED, SUBSCRIBER, &packet);
    let answer = turned(Carrier::Plain, &[], &answer, &frame);
    let sentence = "a first fragment (RFC 1122, 3.2.2 forbids it for later ones alone)";
    cases.push(Case::outbound(sentence, frame, Reason::Rejected).becoming(answer));
    cases
}

/// What is stopped without a word.
fn silent() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |sentence: &str, role, packet: &[u8]| {
        let frame = Carrier::Plain.frame(&[(0x8100, 3)], packet);
        cases.push(Case::new(role, sentence, frame, Reason::RejectedSilently));
    };
    let v4 = |protocol, payload: &[u8]| ip(SUBSCRIBER, REJECTED, protocol, payload);
    let v6 = |protocol, payload: &[u8]| ip(SUBSCRIBER_V6, REJECTED_V6, protocol, payload);
    let subscriber = Role::Subscriber;
    for (name, flags) in [("a reset", flag::RST), ("a reset with ACK", flag::RST | flag::ACK)] {
        add(name, subscriber, &v4(TCP, &tcp(1, 2, flags)));
        add(&format!("{name}, IPv6"), subscriber, &v6(TCP, &tcp(1, 2, flags)));
    }
    let echo = |kind| vec![kind, 0, 0, 0, 0, 1, 0, 1];
    add("an echo request", subscriber, &v4(ICMP, &echo(8)));
    add("an echo reply", subscriber, &v4(ICMP, &echo(0)));
    add("an ICMPv6 echo request", subscriber, &v6(ICMPV6, &echo(128)));
    for protocol in [TCP, UDP] {
        let later = Ipv4 { fragment: 9, ..Ipv4::new(SUBSCRIBER, REJECTED, protocol) };
        let sentence = format!("a later fragment of protocol {protocol}");
        add(&sentence, subscriber, &later.bytes(&[0; 32]));
        let payload = [fragment(protocol, 9, true), vec![0; 32]].concat();
        add(&format!("{sentence}, IPv6"), subscriber, &v6(44, &payload));
    }
    let options = Ipv4 { options: &[1; 4], ..Ipv4::new(SUBSCRIBER, REJECTED, UDP) };
    add("UDP behind IPv4 options", subscriber, &options.bytes(&udp(1, 2)));
    let behind = [extension(UDP, 0), udp(1, 2)].concat();
    add("UDP behind an extension header", subscriber, &v6(60, &behind));
    add("a TCP header of 19 bytes", subscriber, &v4(TCP, &tcp(1, 2, flag::SYN)[..19]));
    add("a UDP header of 7 bytes", subscriber, &v4(UDP, &udp(1, 2)[..7]));

    let from_remote = ip(REJECTED, SUBSCRIBER, TCP, &tcp(443, 40_000, flag::SYN | flag::ACK));
    let from_remote_v6 = ip(REJECTED_V6, SUBSCRIBER_V6, UDP, &udp(443, 40_000));
    for role in [Role::Uplink, Role::Both] {
        add("TCP from the remote", role, &from_remote);
        add("UDP from the remote", role, &from_remote_v6);
    }
    cases
}

/// Tunnels and label stacks lead one way.
fn silent_in_tunnels() -> Vec<Case> {
    let mut cases = Vec::new();
    for (subscriber, remote) in [(SUBSCRIBER, REJECTED), (SUBSCRIBER_V6, REJECTED_V6)] {
        for (protocol, payload) in [(TCP, tcp(1, 2, flag::SYN)), (UDP, udp(1, 2))] {
            let packet = ip(subscriber, remote, protocol, &payload);
            let mut add = |sentence: String, frame| {
                let sentence = format!("protocol {protocol} to {remote} {sentence}");
                cases.push(Case::outbound(sentence, frame, Reason::RejectedSilently));
            };
            for labels in 1..=4 {
                let carrier = Carrier::Mpls { ethertype: 0x8847, labels };
                add(format!("behind {labels} labels"), carrier.frame(&[], &packet));
            }
            for tunnel in tunnels() {
                for (line, concentrator) in OUTER {
                    let outer = tunnel.packet(line, concentrator, &packet);
                    let frame = Carrier::Pppoe(1).frame(&[(0x8100, 2)], &outer);
                    add(format!("in {tunnel:?} of {line}"), frame);
                }
            }
            let to_remote = Tunnel::Ip.packet(subscriber, remote, &packet);
            let answer = prohibited(remote, subscriber, &to_remote);
            let frame = Carrier::Plain.frame(&[], &to_remote);
            let answer = turned(Carrier::Plain, &[], &answer, &frame);
            let sentence = format!("a tunnel of protocol {protocol} that ends at {remote}");
            cases.push(Case::outbound(sentence, frame, Reason::Rejected).becoming(answer));
        }
    }
    cases
}

#[test]
fn a_cpu_answers_so_often_in_a_window_and_drops_the_rest_in_silence() {
    let lab = Lab::of("answer-limit", &Setup::everything());
    let mut this_cpu = CpuSet::new();
    this_cpu.set(0).expect("there is a first CPU");
    sched_setaffinity(Pid::from_raw(0), &this_cpu).expect("this thread may stay on a CPU");
    let frame = Carrier::Plain.frame(&[], &ip(SUBSCRIBER, REJECTED, TCP, &SYN.bytes()));
    let window = Duration::from_nanos(ANSWER_WINDOW_NS);
    let deadline = Instant::now() + Duration::from_secs(60);
    // A machine may be too slow to reach the limit in one window, but not in every one.
    loop {
        lab.newly_counted();
        let (mut answered, mut silent) = (0_u64, 0_u64);
        let began = Instant::now();
        while began.elapsed() < window {
            let (action, left) = lab.dataplane.rewrite("lo", &frame).expect("the program runs");
            match action {
                XDP_TX => answered += 1,
                XDP_DROP => {
                    silent += 1;
                    assert_eq!(left, frame, "what is not answered stays as it was");
                }
                other => panic!("XDP action {other}"),
            }
        }
        // The loop overlaps two windows, or three where the clock's tick falls so.
        assert!(answered <= 3 * ANSWERS_PER_WINDOW, "{answered} answers in {:?}", began.elapsed());
        let counted = lab.newly_counted().remove(0);
        assert_eq!(counted[Reason::Rejected as usize], answered);
        assert_eq!(counted[Reason::RejectedSilently as usize], silent);
        if silent > 0 {
            assert!(answered > 0, "the limit leaves room for answers");
            break;
        }
        assert!(Instant::now() < deadline, "the limit was never reached");
    }
}

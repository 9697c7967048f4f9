//! Forwarding without a network stack: a bump in the wire, and a mirror port.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use sekisho::{
    dataplane::{Dataplane as _, kernel::KernelDataplane},
    preflight::{Outcome, Topic, check, gather},
};
use sekisho_abi::{
    reason::Reason,
    record::{Forwarding, Mode},
};
use sekisho_tests::{
    cable::{MARK_AT, Then},
    capture::Capture,
    packet::{Carrier, TCP, UDP, ethernet, flag, ip, pppoe, tcp, udp},
    span::{
        ACCESS, CLEAN, CLEAN_V6, CORE, LINE, LISTED, LISTED_V6, SUBSCRIBER, SUBSCRIBER_V6, Span,
        UPLINK, all_packets, image, ip as ip_command, packets, wait_until,
    },
};

/// Long enough for a frame on a busy machine.
const SOON: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(600);

/// 802.1ad outside, 802.1Q inside: service and customer of an access network.
const QINQ: [(u16, u16); 2] = [(0x88a8, 30), (0x8100, 1200)];
const PPPOE_DISCOVERY: u16 = 0x8863;
const PPPOE_SESSION: u16 = 0x8864;
const SESSION: u16 = 0x0077;

fn start(span: &Span, forwarding: Forwarding) -> KernelDataplane {
    let dataplane = span.guard(forwarding);
    dataplane.publish(&image(1, 0)).expect("published");
    dataplane.renew_lease(LEASE).expect("renewed");
    dataplane
}

fn marked(mut frame: Vec<u8>, mark: u8) -> Vec<u8> {
    frame[MARK_AT] = mark;
    frame
}

fn in_session(packet: &[u8]) -> Vec<u8> {
    ethernet(&QINQ, PPPOE_SESSION, &pppoe(SESSION, packet))
}

/// A PPPoE session frame that carries another protocol than IP.
fn ppp(protocol: u16, body: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x11, 0];
    payload.extend(SESSION.to_be_bytes());
    payload.extend((body.len() as u16 + 2).to_be_bytes());
    payload.extend(protocol.to_be_bytes());
    payload.extend(body);
    ethernet(&QINQ, PPPOE_SESSION, &payload)
}

/// What a link carries beside subscribers' packets, none of which a list can name.
fn others() -> Vec<(&'static str, Vec<u8>)> {
    let mut lacp = ethernet(&[], 0x8809, &[1; 110]);
    lacp[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x02]);
    let mut arp = ethernet(&QINQ, 0x0806, &[0; 28]);
    arp[..6].fill(0xff);
    let padi = [&[0x11_u8, 0x09, 0, 0, 0, 4][..], &[0x01, 0x01, 0, 0]].concat();
    let mut spanning_tree = ethernet(&[], 0x0026, &[0x42; 38]);
    spanning_tree[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0]);
    vec![
        ("ARP", arp),
        ("LACP", lacp),
        ("PPPoE discovery", ethernet(&QINQ, PPPOE_DISCOVERY, &padi)),
        ("LCP echo request", ppp(0xc021, &[9, 1, 0, 8, 0xde, 0xad, 0xbe, 0xef])),
        ("IPv6CP", ppp(0x8057, &[1, 1, 0, 4])),
        ("an EtherType that nobody assigned", ethernet(&[], 0x9999, &[7; 60])),
        ("802.3 with a length instead of an EtherType", spanning_tree),
        ("five VLAN tags", ethernet(&[(0x8100, 5); 5], 0x0800, &[0x45; 60])),
        ("a packet that ends in its IPv4 header", ethernet(&QINQ, 0x0800, &[0x45; 9])),
        ("half a PPPoE header", ethernet(&QINQ, PPPOE_SESSION, &[0x11, 0, 0])),
        ("a full frame of what is no IP", ethernet(&[], 0x88cc, &[0x33; 1500])),
    ]
}

fn clean() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("clean UDP", in_session(&ip(SUBSCRIBER, CLEAN, UDP, &udp(4000, 53)))),
        (
            "a clean SYN over IPv6",
            in_session(&ip(SUBSCRIBER_V6, CLEAN_V6, TCP, &tcp(1, 2, flag::SYN))),
        ),
        ("clean without PPPoE", ethernet(&QINQ, 0x0800, &ip(SUBSCRIBER, CLEAN, UDP, &udp(1, 2)))),
        ("a listed source on its way out", in_session(&ip(LISTED, CLEAN, UDP, &udp(1, 2)))),
    ]
}

fn listed() -> Vec<Vec<u8>> {
    vec![
        in_session(&ip(SUBSCRIBER, LISTED, UDP, &udp(4000, 53))),
        in_session(&ip(SUBSCRIBER_V6, LISTED_V6, TCP, &tcp(1, 2, flag::SYN))),
        ethernet(&QINQ, 0x0800, &ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2))),
        ethernet(&[], 0x0800, &ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2))),
    ]
}

/// The same packet from the remote to the subscriber.
fn turned(subscriber: &str, remote: &str) -> Vec<u8> {
    in_session(&ip(remote, subscriber, UDP, &udp(53, 4000)))
}

#[test]
fn a_wire_carries_every_frame_both_ways_untouched_and_no_listed_packet() {
    let span = Span::lay("wire", Then::Pass);
    let dataplane = start(&span, Forwarding::Wire);
    let (at_core, at_line) =
        (Capture::start(CORE).expect("root"), Capture::start(LINE).expect("root"));
    let mut sent = 0;
    for (what, frame) in others().into_iter().chain(clean()) {
        sent += 1;
        let frame = marked(frame, sent);
        let same = |seen: &[u8]| seen.get(MARK_AT) == frame.get(MARK_AT);
        span.from_line.send(&frame, 1).expect("sent");
        let arrived = at_core.next(SOON, same).expect("a capture");
        assert_eq!(arrived.as_ref(), Some(&frame), "{what}, from the subscriber");
        if what == "a listed source on its way out" {
            continue;
        }
        span.from_core.send(&frame, 1).expect("sent");
        let arrived = at_line.next(SOON, same).expect("a capture");
        assert_eq!(arrived.as_ref(), Some(&frame), "{what}, to the subscriber");
    }
    for frame in listed() {
        span.from_line.send(&marked(frame, 0xd0), 1).expect("sent");
    }
    for (subscriber, remote) in [(SUBSCRIBER, LISTED), (SUBSCRIBER_V6, LISTED_V6)] {
        span.from_core.send(&marked(turned(subscriber, remote), 0xd1), 1).expect("sent");
    }
    wait_until("the listed packets to be dropped", || {
        packets(&dataplane, 0, Reason::Dropped) == 4 && packets(&dataplane, 1, Reason::Dropped) == 2
    });
    assert_eq!(span.core.counted(0xd0).expect("a count"), 0, "nothing listed leaves");
    assert_eq!(span.line.counted(0xd1).expect("a count"), 0, "nothing listed comes in");
    assert_eq!(all_packets(&dataplane, 0), u64::from(sent) + 4, "every frame is counted");
    assert_eq!(all_packets(&dataplane, 1), u64::from(sent) - 1 + 2, "every frame is counted");
    let rows = dataplane.drain().expect("drained").rows;
    assert_eq!(rows.iter().map(|row| row.totals.packets).sum::<u64>(), 6);
    let in_session = rows.iter().filter(|row| row.key.link.pppoe_session == SESSION);
    assert_eq!(in_session.count(), 4, "the hit tells the session");
    assert!(
        rows.iter()
            .filter(|row| row.key.link.vlan_tags == 2)
            .all(|row| row.key.link.vlans == 30 << 16 | 1200)
    );
}

/// The longest packets that an access link carries, in what they travel there. With room for one tag
/// the first one fits; the others don't.
fn longest() -> Vec<(&'static str, Vec<u8>)> {
    let long = |source, remote, bytes: usize| {
        let mut datagram = udp(4000, 53);
        let headers = ip(source, remote, UDP, &datagram).len();
        datagram.resize(datagram.len() + bytes - headers, 0x5a);
        ip(source, remote, UDP, &datagram)
    };
    let full = long(SUBSCRIBER, CLEAN, 1500);
    let four = [(0x88a8, 30), (0x88a8, 31), (0x8100, 1200), (0x8100, 1201)];
    let labels = Carrier::Mpls { ethertype: 0x8847, labels: 4 };
    vec![
        ("1500 bytes in a tag", ethernet(&QINQ[1..], 0x0800, &full)),
        ("1500 bytes in QinQ", ethernet(&QINQ, 0x0800, &full)),
        ("1500 bytes of IPv6 in QinQ", {
            ethernet(&QINQ, 0x86dd, &long(SUBSCRIBER_V6, CLEAN_V6, 1500))
        }),
        ("1492 bytes in PPPoE in QinQ", in_session(&long(SUBSCRIBER, CLEAN, 1492))),
        ("1500 bytes in four tags", ethernet(&four, 0x0800, &full)),
        ("1500 bytes behind four labels", labels.frame(&[], &full)),
        ("1500 bytes behind four labels in four tags", labels.frame(&four, &full)),
    ]
}

#[test]
fn full_packets_cross_a_wire_in_all_their_tags_and_labels_once_it_has_the_room_that_preflight_names()
 {
    let span = Span::lay("wire-room", Then::Pass);
    // What is long is lost between the wire's ends only.
    for outer in [LINE, CORE] {
        ip_command(&format!("link set dev {outer} mtu 2000"));
    }
    let dataplane = start(&span, Forwarding::Wire);
    let room = || {
        let wire = [(ACCESS.to_owned(), UPLINK.to_owned())];
        let rows = check(&gather(&[], &wire, None, false).expect("netlink answers"));
        let about = format!("{ACCESS}={UPLINK}");
        let row = rows.into_iter().find(|row| row.about == about && row.check == Topic::Mtu);
        row.expect("a row about the MTU")
    };
    let before = room();
    assert_eq!(before.outcome, Outcome::Warn, "{}", before.text);
    // Most NICs receive more than their MTU says; a veth does not.
    ip_command(&format!("link set dev {ACCESS} mtu 2000"));
    for (what, frame) in &longest()[1..] {
        span.from_line.send(&marked(frame.clone(), 0xe0), 1).expect("sent");
        // What was sent behind it has arrived.
        let sent = marked(clean()[0].1.clone(), 0xe1);
        let arrived = || span.core.counted(0xe1).expect("a count");
        let wanted = arrived() + 1;
        span.from_line.send(&sent, 1).expect("sent");
        wait_until("a small frame", || arrived() == wanted);
        assert_eq!(span.core.counted(0xe0).expect("a count"), 0, "{what}, with an MTU of 1500");
    }
    for command in before.command.expect("the way out").split(" && ") {
        ip_command(command.strip_prefix("ip ").expect("a command of iproute2"));
    }
    assert_eq!(room().outcome, Outcome::Pass);
    let (at_core, at_line) =
        (Capture::start(CORE).expect("root"), Capture::start(LINE).expect("root"));
    for (mark, (what, frame)) in (1_u8..).zip(longest()) {
        let frame = marked(frame, mark);
        let same = |seen: &[u8]| seen.get(MARK_AT) == Some(&mark);
        for (from, at) in [(&span.from_line, &at_core), (&span.from_core, &at_line)] {
            from.send(&frame, 1).expect("sent");
            let arrived = at.next(SOON, same).expect("a capture");
            assert_eq!(arrived.as_ref(), Some(&frame), "{what}");
        }
    }
    let judged = packets(&dataplane, 0, Reason::NotListed);
    assert_eq!(judged, 2 * (longest().len() as u64 - 1) + longest().len() as u64);
}

#[test]
fn a_wire_goes_on_carrying_when_it_may_block_nothing() {
    let span = Span::lay("wire-open", Then::Drop);
    let dataplane = start(&span, Forwarding::Wire);
    let frame = marked(in_session(&ip(SUBSCRIBER, LISTED, UDP, &udp(1, 2))), 1);
    let arrived = || span.core.counted(1).expect("a count");
    let mut expected = 0;
    for mode in [Mode::Observe, Mode::Bypass] {
        dataplane.change_modes(&mut |modes| modes.global = mode as u8).expect("switched");
        span.from_line.send(&frame, 64).expect("sent");
        expected += 64;
        wait_until("a listed packet at the far end", || arrived() == expected);
    }
    dataplane.change_modes(&mut |modes| modes.global = Mode::Enforce as u8).expect("switched");
    dataplane.renew_lease(Duration::ZERO).expect("ended");
    span.from_line.send(&frame, 64).expect("sent");
    wait_until("a listed packet after the lists' lifetime", || arrived() == expected + 64);
    assert_eq!(packets(&dataplane, 0, Reason::LifetimeOver), 64);
    drop(dataplane);
    span.from_line.send(&frame, 64).expect("sent");
    wait_until("a packet with nobody in charge", || arrived() == expected + 128);
}

#[test]
fn a_tap_forwards_nothing_and_counts_every_hit() {
    let span = Span::lay("tap", Then::Drop);
    // The stack would see them here: what is forwarded by a tap shows.
    let stack = Capture::start(ACCESS).expect("root");
    let dataplane = start(&span, Forwarding::Tap);
    for frame in [ethernet(&[], 0x0806, &[0; 28]), clean()[0].1.clone(), listed()[0].clone()] {
        span.from_line.send(&marked(frame, 1), 100).expect("sent");
    }
    wait_until("all frames to be counted", || all_packets(&dataplane, 0) == 300);
    assert_eq!(packets(&dataplane, 0, Reason::NotIp), 100);
    assert_eq!(packets(&dataplane, 0, Reason::NotListed), 100);
    assert_eq!(packets(&dataplane, 0, Reason::Dropped), 100);
    let hits: u64 =
        dataplane.drain().expect("drained").rows.iter().map(|row| row.totals.packets).sum();
    assert_eq!(hits, 100);
    let any = |_: &[u8]| true;
    assert_eq!(stack.next(Duration::from_millis(200), any).expect("a capture"), None);
    let out = [span.core.counted(1), span.line.counted(1)].map(|count| count.expect("a count"));
    assert_eq!(out, [0, 0], "no copy leaves");
}

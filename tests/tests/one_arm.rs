//! A router on a stick: subscribers and the Internet behind one interface, which packets cross twice.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{fs, time::Duration};

use sekisho::dataplane::{
    Dataplane as _,
    kernel::{Guarded, KernelDataplane},
};
use sekisho_abi::{
    reason::Reason,
    record::{Direction, Role},
};
use sekisho_tests::{
    cable::Then,
    capture::Capture,
    packet::{UDP, ethernet, ip as packet, udp},
    span::{ACCESS, CLEAN, LINE, LISTED, SUBSCRIBER, Span, image, ip, packets, wait_until},
};

/// Long enough for a frame on a busy machine.
const SOON: Duration = Duration::from_secs(5);
/// To whom [`ethernet`] addresses frames.
const ROUTER_MAC: &str = "02:00:00:00:00:0a";
const NEIGHBOUR_MAC: &str = "02:00:00:00:00:0b";

/// Makes the guarded end a router between the networks of both.
fn route() {
    for (setting, value) in [
        ("ip_forward", "1"),
        ("conf/all/rp_filter", "0"),
        ("conf/access/rp_filter", "0"),
        // Else it tells its neighbours of the shorter way.
        ("conf/all/send_redirects", "0"),
        ("conf/access/send_redirects", "0"),
    ] {
        let path = format!("/proc/sys/net/ipv4/{setting}");
        fs::write(&path, value).expect("root writes");
    }
    ip(&format!("link set {ACCESS} down"));
    ip(&format!("link set {ACCESS} address {ROUTER_MAC}"));
    ip(&format!("link set {ACCESS} up"));
    ip(&format!("addr add 100.64.7.1/24 dev {ACCESS}"));
    ip(&format!("addr add 198.18.255.1/15 dev {ACCESS}"));
    for neighbour in [SUBSCRIBER, CLEAN, LISTED] {
        ip(&format!("neigh add {neighbour} lladdr {NEIGHBOUR_MAC} dev {ACCESS} nud permanent"));
    }
}

fn frame(source: &str, destination: &str) -> Vec<u8> {
    ethernet(&[], 0x0800, &packet(source, destination, UDP, &udp(4000, 53)))
}

#[test]
fn what_one_interface_routes_back_is_judged_in_both_directions() {
    let span = Span::lay("one-arm", Then::Pass);
    route();
    let guarded = [Guarded::routed(ACCESS, Role::Both)];
    let dataplane = KernelDataplane::start(&span.settings, &guarded).expect("it starts");
    dataplane.publish(&image(1, 0)).expect("published");
    dataplane.renew_lease(Duration::from_secs(600)).expect("renewed");
    let at_line = Capture::start(LINE).expect("root");
    let comes_back = |sent: &[u8]| {
        let same = |seen: &[u8]| seen.get(26..34) == sent.get(26..34);
        at_line.next(SOON, same).expect("a capture")
    };
    for (source, destination) in [(SUBSCRIBER, CLEAN), (CLEAN, SUBSCRIBER)] {
        let sent = frame(source, destination);
        span.from_line.send(&sent, 1).expect("sent");
        let routed = comes_back(&sent).expect("it is routed back");
        assert_eq!(routed[22], sent[22] - 1, "by a router, which lowers the time to live");
    }
    for (source, destination) in [(SUBSCRIBER, LISTED), (LISTED, SUBSCRIBER)] {
        span.from_line.send(&frame(source, destination), 7).expect("sent");
    }
    wait_until("the listed packets to be dropped", || {
        packets(&dataplane, 0, Reason::Dropped) == 14
    });
    assert_eq!(packets(&dataplane, 0, Reason::NotListed), 2);
    let mut ways: Vec<_> = dataplane.drain().expect("drained").rows;
    ways.sort_by_key(|row| row.key.conversation.direction);
    let told = |row: &sekisho::dataplane::FlowRow| {
        let ends = [row.key.subscriber.ip().to_string(), row.key.remote.ip().to_string()];
        (row.key.conversation.direction, ends, row.totals.packets)
    };
    let ends = || [SUBSCRIBER.to_owned(), LISTED.to_owned()];
    assert_eq!(
        ways.iter().map(told).collect::<Vec<_>>(),
        [(Direction::Outbound as u8, ends(), 7), (Direction::Inbound as u8, ends(), 7)]
    );
    let last = frame(SUBSCRIBER, CLEAN);
    span.from_line.send(&last, 1).expect("sent");
    let next = at_line.next(SOON, |seen| seen.get(12..14) == Some(&[0x08, 0x00]));
    let next = next.expect("a capture").expect("the next packet that is routed back");
    assert_eq!(next.get(26..34), last.get(26..34), "nothing listed came before it");
}

//! Interfaces that are not there when the daemon starts: the others are guarded, and these as soon as
//! they come.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use sekisho::dataplane::{
    Dataplane as _, DataplaneError,
    evidence::{Depth, Drift, PortState},
    kernel::{Attach, Guarded, KernelDataplane, SinkholeWay},
};
use sekisho_abi::{
    reason::Reason,
    record::{Forwarding, Mode, Role, Sinkhole, SinkholeKind},
};
use sekisho_tests::{
    cable::{MARK_AT, Source, Tally, Then},
    link::Link,
    packet::{UDP, ethernet, ip as ip_packet, udp},
    post::Daemon,
    program,
    span::{ACCESS, CLEAN, LISTED, SUBSCRIBER, Span, UPLINK, ip, packets, wait_until},
};
use serde_json::{Value, json};

fn frame(remote: &str, mark: u8) -> Vec<u8> {
    let mut frame = ethernet(&[], 0x0800, &ip_packet(SUBSCRIBER, remote, UDP, &udp(4000, 443)));
    frame[MARK_AT] = mark;
    frame
}

/// A wire beside the span's, whose nearer end can be pulled out and put back.
struct SecondWire {
    far: Tally,
}

impl SecondWire {
    fn lay() -> Self {
        ip("link add second-up type veth peer name second-core");
        ip("link set second-up up");
        ip("link set second-core up");
        Self { far: Tally::attach("second-core", Then::Drop).expect("a program that counts") }
    }

    fn plug_in() -> (Tally, Source) {
        ip("link add second type veth peer name second-line");
        ip("link set second up");
        ip("link set second-line up");
        ip("link add berth type veth peer name berth-too");
        let tally = Tally::attach("second-line", Then::Drop).expect("a program that counts");
        (tally, Source::new("second-line", "berth").expect("a program that sends"))
    }

    fn pull_out() {
        ip("link del second");
        ip("link del berth");
    }

    fn carries(&self, source: &Source) {
        let [carried, behind] = [7, 9].map(|mark| self.counted(mark));
        source.send(&frame(CLEAN, 7), 64).expect("sent");
        wait_until("frames at the far end", || self.counted(7) == carried + 64);
        source.send(&frame(LISTED, 8), 64).expect("sent");
        source.send(&frame(CLEAN, 9), 1).expect("sent");
        wait_until("the frame behind them", || self.counted(9) == behind + 1);
        assert_eq!(self.counted(8), 0, "nothing listed leaves");
    }

    fn counted(&self, mark: u8) -> u64 {
        self.far.counted(mark).expect("a count")
    }
}

/// Has the daemon guard a second wire as well.
fn guard_second(link: &Link) {
    let file = link.post.file("sekisho.yaml");
    let text = fs::read_to_string(&file).expect("it was written");
    let rows = "  - {name: second, role: subscriber, forwarding: wire, peer: second-up}\n  \
                - {name: second-up, role: uplink, forwarding: wire, peer: second}\nfeeds:";
    fs::write(&file, text.replacen("feeds:", rows, 1)).expect("written");
}

fn attachment<'a>(status: &'a Value, interface: &str) -> Option<&'a Value> {
    let interfaces = status["interfaces"].as_array()?;
    let found = interfaces.iter().find(|it| it["name"] == interface)?;
    Some(&found["attachment"])
}

fn wait_for_ruleset_without_second(daemon: &mut Daemon) {
    daemon.wait("a ruleset", |status| status["ruleset"]["entries_v4"] == 1);
    daemon.wait("word of what is missing", |status| {
        status["health"]["reasons"] == json!(["interface 'second' is gone"])
    });
    let status = daemon.status();
    assert_eq!(attachment(&status, "second"), Some(&Value::Null), "{status}");
    for interface in [ACCESS, UPLINK, "second-up"] {
        assert_eq!(attachment(&status, interface), Some(&json!("native")), "{status}");
    }
}

fn first_wire_works(link: &Link) {
    assert!(!link.passes(SUBSCRIBER), "the first wire blocks");
    assert!(link.passes_to(SUBSCRIBER, CLEAN), "the first wire carries");
}

#[test]
fn a_daemon_starts_without_an_interface_and_guards_it_when_it_comes() {
    let link = Link::new(program!(), "absent");
    let second = SecondWire::lay();
    guard_second(&link);
    let mut daemon = link.post.launch();
    wait_for_ruleset_without_second(&mut daemon);
    first_wire_works(&link);
    let log = fs::read_to_string(link.post.file("log")).expect("a log");
    let told = log.lines().find(|line| line.contains("there is no interface 'second'"));
    let told = told.expect("a line about it");
    assert!(told.contains("ERROR") && told.contains("ip -brief link"), "{told}");
    let shown = link.post.run(&["status"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("interface 'second' is gone"), "{shown}");
    assert!(shown.contains("second: enforce, gone"), "{shown}");

    for _ in 0..2 {
        let (near, source) = SecondWire::plug_in();
        daemon.wait("all is well", |status| status["health"]["ok"] == true);
        assert_eq!(attachment(&daemon.status(), "second"), Some(&json!("native")));
        second.carries(&source);
        first_wire_works(&link);
        drop(near);
        // A restart while it is away works as the first start did.
        SecondWire::pull_out();
        daemon.wait("word that it is gone", |status| status["health"]["ok"] == false);
        assert!(daemon.stop().success());
        daemon = link.post.launch();
        wait_for_ruleset_without_second(&mut daemon);
        first_wire_works(&link);
    }
}

fn wire(interface: &str, peer: &str, role: Role) -> Guarded {
    let (forwarding, peer) = (Forwarding::Wire, Some(peer.to_owned()));
    Guarded { forwarding, peer, ..Guarded::routed(interface, role) }
}

#[test]
fn a_wire_whose_other_end_is_missing_leaves_frames_to_the_kernel_and_keeps_its_slots() {
    let span = Span::lay("absent-end", Then::Drop);
    let guarded =
        [wire(ACCESS, "missing", Role::Subscriber), wire("missing", ACCESS, Role::Uplink)];
    let dataplane = KernelDataplane::start(&span.settings, &guarded).expect("starts");
    span.from_line.send(&frame(CLEAN, 1), 64).expect("sent");
    wait_until("frames to be counted", || packets(&dataplane, 0, Reason::NoRuleset) == 64);
    let ports = dataplane.installed().expect("readable").ports;
    let ports: Vec<_> =
        ports.iter().map(|port| (port.interface.as_str(), port.attachment.is_some())).collect();
    assert_eq!(ports, [(ACCESS, true), ("missing", false)]);
    dataplane.change_modes(&mut |modes| modes.ports[1] = Mode::Observe as u8).expect("switched");
    let state = || dataplane.evidence(Depth::Shallow).expect("readable").ports[1].state;
    assert_eq!(state(), PortState::Absent);
    ip(&format!("link set {UPLINK} down"));
    ip(&format!("link set {UPLINK} name missing"));
    ip("link set missing up");
    assert_eq!(state(), PortState::Returned);
    dataplane.repair(&Drift::Interface { interface: "missing".to_owned() }).expect("guarded");
    assert_eq!(state(), PortState::Guarded);
    span.from_line.send(&frame(CLEAN, 2), 64).expect("sent");
    wait_until("frames at the far end", || span.core.counted(2).expect("a count") == 64);
    assert_eq!(span.core.counted(1).expect("a count"), 0);
    assert_eq!(dataplane.modes().expect("readable").ports[1], Mode::Observe as u8);
}

#[test]
fn an_end_of_a_wire_that_comes_and_takes_programs_in_another_way_gets_none() {
    let mut span = Span::lay("absent-other-way", Then::Drop);
    span.settings.attach = Attach::Auto;
    let guarded =
        [wire(ACCESS, "missing", Role::Subscriber), wire("missing", ACCESS, Role::Uplink)];
    let dataplane = KernelDataplane::start(&span.settings, &guarded).expect("starts");
    let evidence = || dataplane.evidence(Depth::Shallow).expect("readable");
    // Its driver takes no programs.
    ip("link add missing type bridge");
    let repair = || dataplane.repair(&Drift::Interface { interface: "missing".to_owned() });
    for _ in 0..2 {
        let error = repair().expect_err("one end is native, the other one would be generic");
        assert!(error.to_string().contains("the wire's other end"), "{error}");
        assert_eq!(evidence().ports[1].state, PortState::Returned);
    }
    ip("link del missing");
    ip(&format!("link set {UPLINK} down"));
    ip(&format!("link set {UPLINK} name missing"));
    ip("link set missing up");
    repair().expect("both are native");
    assert_eq!(evidence().ports[1].state, PortState::Guarded);
    span.from_line.send(&frame(CLEAN, 2), 64).expect("sent");
    wait_until("frames at the far end", || span.core.counted(2).expect("a count") == 64);
}

#[test]
fn a_start_without_any_of_its_interfaces_is_refused() {
    let span = Span::lay("absent-all", Then::Drop);
    let guarded = [Guarded::routed("eth9", Role::Both), Guarded::routed("eth8", Role::Both)];
    let error = KernelDataplane::start(&span.settings, &guarded).err().expect("refused");
    assert!(matches!(error, DataplaneError::NoInterface { .. }), "{error}");
    assert!(error.to_string().contains("ip -brief link"), "{error}");
    assert!(!span.settings.pin_dir.exists(), "nothing is left");
}

#[test]
fn the_way_to_the_sinkhole_may_come_later() {
    let mut span = Span::lay("absent-sinkhole", Then::Drop);
    let none: Sinkhole = zerocopy::FromZeros::new_zeroed();
    let sinkhole = Sinkhole { kind: SinkholeKind::NextHop as u8, mtu: 1500, ..none };
    span.settings.sinkhole = Some(SinkholeWay { interface: "sink".to_owned(), sinkhole });
    let guarded = [Guarded::routed(ACCESS, Role::Subscriber)];
    let dataplane = KernelDataplane::start(&span.settings, &guarded).expect("starts");
    let evidence = || dataplane.evidence(Depth::Shallow).expect("readable");
    assert!(evidence().lost_devices.is_empty() && evidence().sinkhole_holds);
    ip("link add sink type veth peer name sink-far");
    assert_eq!(evidence().lost_devices, ["sink"]);
    for drift in [Drift::Device { interface: "sink".to_owned() }, Drift::Sinkhole] {
        dataplane.repair(&drift).expect("put right");
    }
    assert!(evidence().lost_devices.is_empty() && evidence().sinkhole_holds);
}

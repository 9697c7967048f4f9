use std::sync::Arc;

use sekisho_abi::record::Mode;

use super::*;
use crate::{
    dataplane::{
        Dataplane as _,
        canary::{ADDRESSES, Answer},
        evidence::{ImageFacts, PortEvidence},
        fake::FakeDataplane,
    },
    store::Store,
    testing,
};

fn label(generation: u32) -> ImageLabel {
    ImageLabel { generation, entries_v4: 5, entries_v6: 2, checksum: 0xfeed }
}

fn image(map: u32, generation: u32) -> Option<ImageFacts> {
    Some(ImageFacts { map, label: Some(label(generation)) })
}

/// Everything is as it was put.
fn sound() -> Evidence {
    Evidence {
        expected: image(70, 7),
        found: image(70, 7),
        intact: true,
        ports: vec![port(PortState::Guarded)],
        lost_pins: Vec::new(),
        lost_devices: Vec::new(),
        switch_holds: true,
        opt_outs_hold: true,
        sinkhole_holds: true,
        canaries: vec![canary(Answer::Dropped), canary(Answer::Passed), canary(Answer::NotAsked)],
    }
}

/// A probe that was answered as it should be.
fn canary(answer: Answer) -> CanaryEvidence {
    let (interface, address) = ("eth0".to_owned(), ADDRESSES[0]);
    CanaryEvidence { interface, address, expected: answer, answer }
}

fn port(state: PortState) -> PortEvidence {
    PortEvidence { interface: "eth0".to_owned(), state }
}

fn kinds(compiled: Option<ImageLabel>, evidence: &Evidence) -> Vec<&'static str> {
    compare(compiled, evidence).iter().map(|drift| drift.kind().as_str()).collect()
}

#[test]
fn what_is_as_it_was_put_differs_in_nothing() {
    assert_eq!(kinds(Some(label(7)), &sound()), [""; 0]);
    assert_eq!(kinds(None, &sound()), [""; 0], "one that was adopted");
    let empty = Evidence { expected: None, found: None, intact: false, ..sound() };
    assert_eq!(kinds(None, &empty), [""; 0], "before the first ruleset");
    let gone = Evidence { ports: vec![port(PortState::Absent)], ..sound() };
    assert_eq!(kinds(None, &gone), [""; 0], "an interface that is gone");
}

#[test]
fn each_difference_has_its_kind() {
    let cases = [
        (Evidence { lost_pins: vec!["/p".to_owned()], ..sound() }, "pin"),
        (Evidence { ports: vec![port(PortState::Returned)], ..sound() }, "interface"),
        (Evidence { ports: vec![port(PortState::Detached)], ..sound() }, "link"),
        (
            Evidence {
                ports: vec![port(PortState::Replaced { expected: 1, found: 2 })],
                ..sound()
            },
            "program",
        ),
        (Evidence { lost_devices: vec!["eth0".to_owned()], ..sound() }, "device"),
        (
            Evidence {
                lost_devices: vec!["eth0".to_owned()],
                ports: vec![port(PortState::Returned)],
                ..sound()
            },
            "interface",
        ),
        (Evidence { found: None, ..sound() }, "image"),
        (Evidence { found: image(71, 7), ..sound() }, "image"),
        (Evidence { found: image(70, 8), ..sound() }, "image"),
        (Evidence { found: Some(ImageFacts { map: 70, label: None }), ..sound() }, "image"),
        (Evidence { intact: false, ..sound() }, "checksum"),
        (Evidence { switch_holds: false, ..sound() }, "switch"),
        (Evidence { opt_outs_hold: false, ..sound() }, "opt_outs"),
        (Evidence { sinkhole_holds: false, ..sound() }, "sinkhole"),
        (
            Evidence {
                canaries: vec![CanaryEvidence {
                    answer: Answer::Passed,
                    ..canary(Answer::Dropped)
                }],
                ..sound()
            },
            "canary",
        ),
    ];
    for (evidence, kind) in cases {
        assert_eq!(kinds(Some(label(7)), &evidence), [kind], "{evidence:?}");
    }
    let fewer = ImageLabel { entries_v4: 4, ..label(7) };
    assert_eq!(kinds(Some(fewer), &sound()), ["ruleset"]);
    assert_eq!(kinds(Some(label(8)), &sound()), ["ruleset"]);
}

#[test]
fn pins_come_before_what_hangs_on_them() {
    let evidence = Evidence {
        lost_pins: vec!["/p".to_owned()],
        ports: vec![port(PortState::Detached)],
        found: None,
        ..sound()
    };
    assert_eq!(kinds(None, &evidence), ["pin", "link", "image"]);
}

/// A service on a fake kernel that holds a ruleset, and a proof of it.
struct Bench {
    kernel: Arc<FakeDataplane>,
    service: Service,
    proof: Proof,
    start: Instant,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kernel = Arc::new(FakeDataplane::new(8 << 20));
        kernel.publish(&testing::image(7, &[("198.18.0.1/32", "one", None, None)])).unwrap();
        kernel.renew_lease(Duration::from_secs(60)).unwrap();
        let store = Store::open(folder.path()).unwrap();
        let service = Service::new(kernel.clone(), store, Timestamp::now());
        let proof = Proof::default();
        Self { kernel, service, proof, start: Instant::now(), _folder: folder }
    }

    fn run(&mut self, second: u64) -> Remedy {
        self.proof.run(&self.service, self.start + Duration::from_secs(second))
    }

    fn counted(&self, kind: DriftKind) -> String {
        let metrics = self.service.metrics(Timestamp::now()).unwrap();
        let name = format!("sekisho_drift_total{{kind=\"{}\"}} ", kind.as_str());
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("each kind has its series").to_owned()
    }
}

#[test]
fn what_differs_is_put_right_at_once_counted_and_told_for_a_while() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(0), Remedy::None);
    assert!(bench.service.check_health().ok);
    assert_eq!(bench.kernel.repairs(), []);
    bench.kernel.lose_pin("/sys/fs/bpf/x/MODES");
    bench.kernel.set_port(PortState::Detached);
    bench.kernel.swap_image(None);
    bench.kernel.spoil_switch();
    assert_eq!(bench.run(1), Remedy::None);
    let kinds: Vec<_> = bench.kernel.repairs().iter().map(Drift::kind).collect();
    assert_eq!(kinds, [DriftKind::Pin, DriftKind::Link, DriftKind::Image, DriftKind::Switch]);
    let health = bench.service.check_health();
    assert!(health.ok, "{health:?}");
    let told = health.degraded.iter().filter(|told| told.starts_with("put right at "));
    assert_eq!(told.count(), 4, "{health:?}");
    for kind in DriftKind::ALL {
        assert_eq!(bench.counted(kind), if kinds.contains(&kind) { "1" } else { "0" }, "{kind:?}");
    }
    assert_eq!(bench.run(2), Remedy::None);
    assert_eq!(bench.kernel.repairs().len(), 4, "nothing is repaired twice");
}

#[test]
fn what_can_not_be_put_right_is_an_alarm_counted_once_and_tried_again() {
    let mut bench = Bench::new();
    bench.kernel.refuse_repairs(true);
    bench.kernel.set_port(PortState::Returned);
    for second in 0..5 {
        bench.run(second);
    }
    assert_eq!(bench.kernel.repairs().len(), 1);
    bench.run(5);
    assert_eq!(bench.kernel.repairs().len(), 2);
    assert_eq!(bench.counted(DriftKind::Interface), "1");
    let health = bench.service.check_health();
    assert_eq!(health.reasons, ["interface 'fake0' is back, without the program"]);
    bench.kernel.refuse_repairs(false);
    bench.run(10);
    assert!(bench.service.check_health().ok);
}

#[test]
fn what_was_put_right_by_somebody_else_is_an_alarm_no_more() {
    let mut bench = Bench::new();
    bench.kernel.refuse_repairs(true);
    bench.kernel.set_port(PortState::Detached);
    bench.run(0);
    assert!(!bench.service.check_health().ok);
    bench.kernel.set_port(PortState::Guarded);
    bench.run(1);
    let health = bench.service.check_health();
    assert!(health.ok);
    assert_eq!(health.degraded.len(), 1, "{health:?}");
}

#[test]
fn a_ruleset_whose_bytes_changed_is_built_anew() {
    let mut bench = Bench::new();
    bench.kernel.set_intact(false);
    assert_eq!(bench.run(0), Remedy::Rebuild);
    assert_eq!(bench.run(1), Remedy::None, "not at every look");
    assert_eq!(bench.run(5), Remedy::Rebuild);
    let reasons = bench.service.check_health().reasons;
    assert_eq!(reasons, ["the ruleset in the kernel does not match its checksum"]);
}

#[test]
fn every_byte_is_read_once_a_minute() {
    let mut proof = Proof::default();
    let bench = Bench::new();
    let at = |second| bench.start + Duration::from_secs(second);
    proof.run(&bench.service, at(0));
    assert_eq!(proof.read_deeply, Some(at(0)));
    proof.run(&bench.service, at(59));
    assert_eq!(proof.read_deeply, Some(at(0)));
    proof.run(&bench.service, at(60));
    assert_eq!(proof.read_deeply, Some(at(60)));
}

#[test]
fn a_program_that_misses_the_canary_is_an_alarm_until_a_new_ruleset_mends_it() {
    let mut bench = Bench::new();
    bench.kernel.refuse_repairs(true);
    bench.kernel.blind();
    assert_eq!(bench.run(0), Remedy::Rebuild);
    assert_eq!(bench.counted(DriftKind::Canary), "2");
    let reasons = bench.service.check_health().reasons;
    let [v4, _v6] = ADDRESSES;
    let told = format!(
        "the program on interface 'fake0' does not find the canary {v4}, where a sound one drops it"
    );
    assert_eq!((reasons.len(), &reasons[0]), (2, &told));
    bench.kernel.refuse_repairs(false);
    assert_eq!(bench.run(5), Remedy::None);
    assert!(bench.service.check_health().ok);
    assert_eq!(bench.counted(DriftKind::Canary), "2", "each is counted once");
}

#[test]
fn the_canary_is_to_be_passed_where_nothing_is_dropped() {
    let mut bench = Bench::new();
    for mode in [Mode::Observe, Mode::Bypass] {
        bench.kernel.change_modes(&mut |modes| modes.global = mode as u8).unwrap();
        assert_eq!(bench.run(0), Remedy::None);
    }
    bench.kernel.blind();
    assert_eq!(bench.run(1), Remedy::None, "nothing is looked up in bypass");
    bench.kernel.change_modes(&mut |modes| modes.global = Mode::Observe as u8).unwrap();
    bench.run(2);
    assert_eq!(bench.counted(DriftKind::Canary), "2");
}

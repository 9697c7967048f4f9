//! The ruleset, and the canary in it.

use std::time::Duration;

use sekisho::dataplane::{
    Dataplane as _,
    canary::Answer,
    evidence::{Depth, Drift},
};
use sekisho_abi::{reason::Reason, record::Mode};
use sekisho_tests::tamper;

use crate::stage::{CAPACITY, Stage, image, missed, without_canary};

#[test]
fn a_ruleset_that_is_swapped_or_emptied_is_put_back() {
    let stage = Stage::new("image");
    let before = stage.evidence().found;
    let drift = |found| Drift::Image { expected: before.clone(), found };
    tamper::remove_first(&stage.slot_pin()).unwrap();
    assert!(!stage.drops());
    assert_eq!(stage.drifts(), ["image"]);
    stage.repair(&drift(None));
    tamper::swap_image(&stage.slot_pin(), CAPACITY, &image(1)).unwrap();
    let found = stage.evidence().found;
    assert_eq!(stage.drifts(), ["image"], "of the same generation and content: {found:?}");
    stage.repair(&drift(found));
    assert_eq!(stage.evidence().found, before);
}

#[test]
fn a_ruleset_without_the_canary_is_found_out_by_asking_the_live_program() {
    let stage = Stage::new("no-canary");
    let (drifts, told) = missed();
    tamper::swap_image(&stage.slot_pin(), CAPACITY, &without_canary(2)).unwrap();
    assert!(stage.drops(), "it lists what the other one did");
    let [swapped, wrong @ ..] = &stage.drifts()[..] else { panic!() };
    assert_eq!((&**swapped, wrong), ("image", &told[..]));
    let [v4, _v6] = drifts;
    stage.repair(&v4);
    stage.dataplane().publish(&without_canary(3)).expect("published");
    assert_eq!(stage.drifts(), told, "of a ruleset that was put there, it is the only sign");
    stage.dataplane().publish(&image(4)).expect("published");
    assert_eq!(stage.drifts(), [""; 0]);
}

#[test]
fn the_canary_is_dropped_passed_or_left_alone_as_the_switch_and_the_lease_say() {
    let stage = Stage::new("expected");
    let dataplane = stage.dataplane();
    let answers = || -> Vec<Answer> {
        assert_eq!(stage.drifts(), [""; 0]);
        stage.evidence().canaries.iter().map(|canary| canary.answer).collect()
    };
    let probes = || {
        let counts = dataplane.counts().expect("readable")[0].by_reason;
        counts.map(|count| count.packets)
    };
    assert_eq!(answers(), [Answer::Dropped; 2]);
    stage.switch(Mode::Observe);
    assert_eq!(answers(), [Answer::Passed; 2]);
    stage.switch(Mode::Bypass);
    let before = probes();
    assert_eq!(answers(), [Answer::NotAsked; 2]);
    assert_eq!(probes(), before, "nobody asked");
    stage.switch(Mode::Enforce);
    dataplane.renew_lease(Duration::ZERO).expect("renewed");
    assert_eq!(answers(), [Answer::Passed; 2]);
    dataplane.renew_lease(Duration::from_secs(60)).expect("renewed");
    assert_eq!(answers(), [Answer::Dropped; 2]);
}

#[test]
fn a_probe_leaves_no_trace_but_its_own_count() {
    let stage = Stage::new("trace");
    let dataplane = stage.dataplane();
    for _ in 0..2 {
        let drained = dataplane.drain().expect("drained");
        dataplane.settle(drained.id).expect("settled");
    }
    stage.dataplane().events().expect("readable");
    let packets = || {
        let counts = stage.dataplane().counts().expect("readable")[0].by_reason;
        counts.map(|count| count.packets)
    };
    let before = packets();
    stage.evidence();
    let mut expected = before;
    expected[Reason::CanaryDropped as usize] += 2;
    assert_eq!(packets(), expected);
    assert!(stage.dataplane().drain().expect("drained").rows.is_empty());
    assert!(stage.dataplane().events().expect("readable").is_empty());
    stage.dataplane().evidence(Depth::Shallow).expect("readable");
    assert_eq!(packets(), expected, "what was right and did not change is not asked again");
}

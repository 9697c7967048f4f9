//! Programs on interfaces, and interfaces.

use std::{os::fd::AsFd as _, sync::Barrier, thread};

use sekisho::dataplane::{
    Attachment, Dataplane as _,
    evidence::{Depth, Drift, PortState},
    trial::PassProgram,
};
use sekisho_tests::tamper;

use crate::stage::{Stage, has_program, ip, missed};

#[test]
fn a_program_that_is_taken_off_is_put_on_again() {
    let stage = Stage::new("detached");
    tamper::detach_link(&stage.link_pin()).unwrap();
    assert!(!has_program());
    assert_eq!(stage.drifts(), ["one Detached"]);
    assert_eq!(stage.attachment(), None);
    stage.repair(&Drift::Link { interface: "one".to_owned() });
    assert!(has_program());
    assert_eq!(stage.attachment(), Some(Attachment::Native));
}

#[test]
fn a_program_that_takes_the_place_of_ours_loses_it() {
    let stage = Stage::new("replaced");
    let other = PassProgram::load().unwrap();
    tamper::replace_program(&stage.link_pin(), other.as_fd()).unwrap();
    let PortState::Replaced { expected, found } = stage.evidence().ports[0].state else {
        panic!("{:?}", stage.drifts());
    };
    assert_ne!(expected, found);
    let (_, [v4, v6]) = missed();
    let [replaced, missed @ ..] = &stage.drifts()[..] else { panic!() };
    assert!(replaced.starts_with("one Replaced"), "{replaced}");
    assert_eq!(missed, [v4, v6]);
    stage.repair(&Drift::Program { interface: "one".to_owned(), expected, found });
}

#[test]
fn a_program_that_is_replaced_during_a_look_is_told_with_its_canaries_or_not_yet() {
    let stage = Stage::new("meanwhile");
    let other = PassProgram::load().unwrap();
    for _ in 0..20 {
        let both = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                tamper::replace_program(&stage.link_pin(), other.as_fd()).unwrap();
            });
            both.wait();
            // After a repair the programs are asked again, which takes a while.
            let evidence = stage.dataplane().evidence(Depth::Shallow).expect("readable");
            let replaced = evidence.ports.iter().filter(|port| port.state != PortState::Guarded);
            let wrong = evidence.canaries.iter().filter(|canary| canary.answer != canary.expected);
            assert_eq!(wrong.count(), 2 * replaced.count(), "{evidence:?}");
        });
        let PortState::Replaced { expected, found } = stage.evidence().ports[0].state else {
            panic!("{:?}", stage.drifts());
        };
        let drift = Drift::Program { interface: "one".to_owned(), expected, found };
        stage.dataplane().repair(&drift).expect("repaired");
    }
}

#[test]
fn an_interface_that_comes_back_is_guarded_again_with_its_slot_and_counters() {
    let stage = Stage::new("returned");
    let port = |stage: &Stage| stage.dataplane().installed().unwrap().ports[0].clone();
    let seen = |stage: &Stage| {
        let counts = stage.dataplane().counts().unwrap();
        counts[0].by_reason.iter().map(|count| count.packets).sum::<u64>()
    };
    let (before, packets) = (port(&stage), seen(&stage));
    ip("link del one");
    assert_eq!(stage.drifts(), ["one Absent"]);
    assert_eq!(stage.attachment(), None);
    ip("link add one type veth peer name two");
    assert_eq!(stage.drifts(), ["one Returned", "device one"]);
    stage.repair(&Drift::Interface { interface: "one".to_owned() });
    assert!(has_program());
    assert_eq!(port(&stage), before);
    assert!(packets > 0 && seen(&stage) >= packets, "the counters go on");
}

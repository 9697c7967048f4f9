//! Programs on interfaces, and interfaces.

use std::os::fd::AsFd as _;

use sekisho::dataplane::{
    Attachment, Dataplane as _,
    evidence::{Drift, PortState},
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

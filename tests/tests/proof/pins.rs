//! Pins.

use std::fs;

use sekisho::dataplane::{
    Attachment, Dataplane as _,
    evidence::Drift,
    kernel::{Guarded, KernelDataplane},
};
use sekisho_abi::{names, record::Role};
use sekisho_tests::tamper;

use crate::stage::{Stage, has_program, remove};

#[test]
fn a_pin_that_is_removed_takes_nothing_away_and_comes_back() {
    let stage = Stage::new("pins");
    for pin in [stage.pins().join(names::MODES), stage.pins().join(names::EVENTS)] {
        let drift = remove(&pin);
        assert_eq!(stage.drifts(), [pin.display().to_string()]);
        stage.repair(&drift);
        assert!(pin.exists());
    }
    let drift = remove(&stage.link_pin());
    assert!(has_program(), "the program stays on the interface without its pin");
    stage.repair(&drift);
    stage.repair(&remove(&stage.slot_pin()));
    assert_eq!(stage.attachment(), Some(Attachment::Native));
}

#[test]
fn a_pin_of_another_object_is_no_pin() {
    let stage = Stage::new("other-pin");
    let (modes, lease) = (stage.pins().join(names::MODES), stage.pins().join(names::LEASE));
    let drift = remove(&modes);
    tamper::pin_again(&lease, &modes).unwrap();
    assert_eq!(stage.drifts(), [modes.display().to_string()]);
    stage.repair(&drift);
}

#[test]
fn a_folder_that_is_removed_comes_back_with_everything_and_is_still_one_daemons() {
    let stage = Stage::new("folder");
    fs::read_dir(stage.pins())
        .unwrap()
        .for_each(|pin| fs::remove_file(pin.unwrap().path()).unwrap());
    fs::remove_dir(stage.pins()).unwrap();
    fs::remove_dir(&stage.settings.pin_dir).unwrap();
    let lost = stage.drifts();
    assert_eq!(lost.len(), names::PINNED.len() + 3, "{lost:?}");
    for path in lost {
        stage.dataplane().repair(&Drift::Pin { path }).expect("repaired");
    }
    assert_eq!(stage.drifts(), [""; 0]);
    assert!(stage.drops());
    let guarded = [Guarded::routed("one", Role::Subscriber)];
    let second = KernelDataplane::start(&stage.settings, &guarded).err().expect("one daemon only");
    assert!(second.to_string().contains("daemon that is running"), "{second}");
}

//! Those who opted out.

use sekisho::dataplane::{
    Dataplane as _, OptOuts, PortBlock,
    evidence::{Depth, Drift},
};
use sekisho_abi::{names, opt_out::BlockKey};
use sekisho_tests::tamper;
use zerocopy::IntoBytes as _;

use crate::stage::Stage;

const WHOLE: &str = "100.64.9.9";
const SHARED: &str = "100.65.0.1";
const PORT: u16 = 1030;

fn opt_outs() -> OptOuts {
    let address = SHARED.parse().unwrap();
    OptOuts {
        networks: vec![format!("{WHOLE}/32").parse().unwrap()],
        blocks: vec![PortBlock { address, first: PORT, last: 1041 }],
    }
}

/// With two who opted out, of whom one has a few ports only.
fn stage(name: &str) -> Stage {
    let stage = Stage::new(name);
    stage.dataplane().set_opt_outs(&opt_outs()).expect("set");
    assert_eq!(stage.drifts(), [""; 0], "who sets it may");
    assert_eq!(dropped(&stage), [false; 2]);
    stage
}

/// Whose traffic is dropped although they opted out.
fn dropped(stage: &Stage) -> [bool; 2] {
    [stage.drops_of(WHOLE, 1), stage.drops_of(SHARED, PORT)]
}

fn repair(stage: &Stage) {
    assert_eq!(stage.drifts(), ["opt-outs"]);
    stage.repair(&Drift::OptOuts);
    assert_eq!(dropped(stage), [false; 2]);
    assert!(stage.drops_of(SHARED, PORT - 1), "of another subscriber");
}

#[test]
fn an_image_that_is_taken_out_is_put_back() {
    let stage = stage("opt-out-image");
    tamper::remove_first(&stage.pins().join(names::OPT_OUT)).unwrap();
    assert_eq!(dropped(&stage), [true; 2]);
    repair(&stage);
}

#[test]
fn a_flag_that_is_changed_is_set_again() {
    let stage = stage("opt-out-flag");
    stage.dataplane().change_modes(&mut |modes| modes.opt_outs = 0).expect("written");
    assert_eq!(dropped(&stage), [true; 2]);
    repair(&stage);
    stage.dataplane().set_opt_outs(&OptOuts::default()).expect("set");
    assert_eq!(stage.drifts(), [""; 0]);
    assert_eq!(dropped(&stage), [true; 2], "nobody is opted out any more");
    stage.dataplane().change_modes(&mut |modes| modes.opt_outs = 1).expect("written");
    assert_eq!(stage.drifts(), ["opt-outs"]);
    stage.repair(&Drift::OptOuts);
}

#[test]
fn a_port_block_that_is_removed_comes_back_at_the_next_deep_look() {
    let stage = stage("opt-out-rows");
    let (key, _) = BlockKey::of(u32::from_be_bytes([100, 65, 0, 1]), PORT);
    tamper::remove(&stage.pins().join(names::OPT_OUT_BLOCKS), key.as_bytes()).unwrap();
    assert_eq!(dropped(&stage), [false, true]);
    assert!(stage.dataplane().evidence(Depth::Shallow).expect("readable").opt_outs_hold);
    repair(&stage);
}

#[test]
fn what_a_daemon_before_us_set_is_put_back_too() {
    let mut stage = stage("opt-out-adopted");
    stage.start_again();
    assert_eq!(stage.drifts(), [""; 0]);
    tamper::remove_first(&stage.pins().join(names::OPT_OUT)).unwrap();
    stage.dataplane().change_modes(&mut |modes| modes.opt_outs = 0).expect("written");
    repair(&stage);
}

//! The switch.

use sekisho::dataplane::{Dataplane as _, evidence::Drift};
use sekisho_abi::record::{Mode, Modes};

use crate::stage::Stage;

#[test]
fn a_switch_of_nonsense_is_as_it_last_was() {
    let stage = Stage::new("nonsense");
    let dataplane = stage.dataplane();
    dataplane.change_modes(&mut |modes| modes.ports[5] = Mode::Observe as u8).expect("switched");
    assert_eq!(stage.drifts(), [""; 0], "an operator may switch");
    let switched = dataplane.modes().unwrap();
    dataplane.change_modes(&mut |modes| modes.global = 77).expect("written");
    assert_eq!(stage.drifts(), ["switch"]);
    stage.repair(&Drift::Switch);
    let restored = dataplane.modes().unwrap();
    assert!(restored.version > switched.version, "what was judged meanwhile is judged anew");
    assert_eq!(Modes { version: switched.version, ..restored }, switched);
    dataplane.change_modes(&mut |modes| modes.written = 0).expect("written");
    stage.repair(&Drift::Switch);
}

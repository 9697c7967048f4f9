//! Where redirected frames go.

use sekisho::dataplane::{evidence::Drift, kernel::SinkholeWay};
use sekisho_abi::{
    names,
    record::{Sinkhole, SinkholeKind},
};
use sekisho_tests::tamper;

use crate::stage::{Stage, ip};

#[test]
fn a_device_that_is_taken_out_is_named_again() {
    let stage = Stage::new("device");
    tamper::remove_first(&stage.pins().join(names::DEVICES)).unwrap();
    assert_eq!(stage.drifts(), ["device one"]);
    stage.repair(&Drift::Device { interface: "one".to_owned() });
}

fn with_sinkhole(name: &str) -> Stage {
    Stage::with(name, |settings| {
        let none: Sinkhole = zerocopy::FromZeros::new_zeroed();
        let sinkhole = Sinkhole { kind: SinkholeKind::NextHop as u8, mtu: 1500, ..none };
        let sinkhole = Some(SinkholeWay { interface: "two".to_owned(), sinkhole });
        sekisho::dataplane::kernel::Settings { sinkhole, ..settings }
    })
}

#[test]
fn a_way_to_the_sinkhole_that_is_overwritten_is_set_again() {
    let stage = with_sinkhole("way");
    let way = stage.pins().join(names::SINKHOLE);
    tamper::overwrite(&way, &[0xff; size_of::<Sinkhole>()]).unwrap();
    assert_eq!(stage.drifts(), ["sinkhole"]);
    stage.repair(&Drift::Sinkhole);
}

#[test]
fn frames_to_the_sinkhole_come_from_the_address_that_its_interface_has_now() {
    let stage = with_sinkhole("address");
    ip("link set dev two address 02:51:00:00:00:77");
    assert_eq!(stage.drifts(), ["sinkhole"]);
    stage.repair(&Drift::Sinkhole);
    let way = tamper::value(&stage.pins().join(names::SINKHOLE), size_of::<Sinkhole>()).unwrap();
    assert_eq!(way[6..12], [0x02, 0x51, 0, 0, 0, 0x77]);
}

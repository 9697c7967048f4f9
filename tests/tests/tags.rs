//! NICs leave VLAN tags in the frames that a wire carries, on veth pairs in a namespace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use nix::sched::{CloneFlags, unshare};
use sekisho::{
    dataplane::{
        Dataplane as _,
        evidence::Drift,
        kernel::{Attach, Guarded, KernelDataplane, Settings},
    },
    preflight::gather,
};
use sekisho_abi::record::{Forwarding, Role};
use sekisho_tests::{pins::Pins, span::ip};

fn stage(name: &str) -> Pins {
    assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    ip("link add one type veth peer name far-one");
    ip("link add two type veth peer name far-two");
    Pins::new(&format!("tags-{name}"))
}

fn start(pins: &Pins, guarded: &[Guarded]) -> KernelDataplane {
    let settings = Settings {
        flow_table_entries: 1024,
        attach: Attach::Native,
        ..Settings::new(pins.0.clone(), 8 << 20)
    };
    KernelDataplane::start(&settings, guarded).expect("starts")
}

/// Whether tags are taken off, 802.1Q and 802.1ad.
fn strips(interface: &str) -> [bool; 2] {
    let facts = gather(&[interface.to_owned()], &[], None, false).expect("netlink answers");
    let link = facts.ports[0].link.as_ref().expect("it is there");
    let offloads = link.offloads.expect("a veth tells");
    [offloads.strips_vlan, offloads.strips_service_vlan]
}

#[test]
fn the_ends_of_a_wire_leave_tags_in_place_and_again_when_they_return() {
    let pins = stage("wire");
    assert_eq!([strips("one"), strips("two")], [[true; 2]; 2], "as a veth comes");
    let end = |interface: &str, peer: &str| Guarded {
        forwarding: Forwarding::Wire,
        peer: Some(peer.to_owned()),
        ..Guarded::routed(interface, Role::Subscriber)
    };
    let dataplane = start(&pins, &[end("one", "two"), end("two", "one")]);
    assert_eq!([strips("one"), strips("two")], [[false; 2]; 2]);
    assert_eq!(strips("far-one"), [true; 2], "nobody else's");
    ip("link del one");
    ip("link add one type veth peer name far-one");
    assert_eq!(strips("one"), [true; 2]);
    dataplane.repair(&Drift::Interface { interface: "one".to_owned() }).expect("guarded again");
    assert_eq!(strips("one"), [false; 2]);
}

#[test]
fn what_is_no_wire_stays_as_its_operator_set_it() {
    let pins = stage("others");
    let tap = Guarded { forwarding: Forwarding::Tap, ..Guarded::routed("one", Role::Both) };
    drop(start(&pins, &[tap, Guarded::routed("two", Role::Both)]));
    assert_eq!([strips("one"), strips("two")], [[true; 2]; 2]);
}

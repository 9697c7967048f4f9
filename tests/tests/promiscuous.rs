//! Interfaces that forward or watch others' frames take them, on veth pairs in a namespace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{path::Path, process::Command};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Dataplane as _,
    evidence::Drift,
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::record::{Forwarding, Role};
use sekisho_tests::{pins::Pins, span::ip};

fn stage(name: &str) -> Pins {
    assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    ip("link add one type veth peer name far-one");
    ip("link add two type veth peer name far-two");
    Pins::new(name)
}

fn is_promiscuous(interface: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", "dev", interface]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("PROMISC")
}

fn start(pins: &Path, guarded: &[Guarded]) -> KernelDataplane {
    let settings = Settings {
        flow_table_entries: 1024,
        attach: Attach::Native,
        ..Settings::new(pins.to_owned(), 8 << 20)
    };
    KernelDataplane::start(&settings, guarded).expect("starts")
}

fn end(interface: &str, peer: &str) -> Guarded {
    let (forwarding, peer) = (Forwarding::Wire, Some(peer.to_owned()));
    Guarded { forwarding, peer, ..Guarded::routed(interface, Role::Subscriber) }
}

#[test]
fn the_ends_of_a_wire_are_promiscuous_until_detached_and_again_when_they_return() {
    let pins = stage("wire");
    ip("link set dev two promisc on");
    let wire = [end("one", "two"), end("two", "one")];
    let dataplane = start(&pins.0, &wire);
    assert!(is_promiscuous("one"));
    ip("link del one");
    ip("link add one type veth peer name far-one");
    assert!(!is_promiscuous("one"));
    dataplane.repair(&Drift::Interface { interface: "one".to_owned() }).expect("guarded again");
    assert!(is_promiscuous("one"));
    drop(dataplane);
    assert!(is_promiscuous("one"), "frames go on while there is no daemon");
    drop(start(&pins.0, &wire));
    detach(&pins.0).expect("detached");
    assert!(!is_promiscuous("one"));
    assert!(is_promiscuous("two"), "the operator set it");
}

#[test]
fn a_tap_is_promiscuous_until_it_is_none_and_a_router_never() {
    let pins = stage("tap");
    let tap = Guarded { forwarding: Forwarding::Tap, ..Guarded::routed("one", Role::Both) };
    let routed = Guarded::routed("two", Role::Both);
    drop(start(&pins.0, &[tap, routed.clone()]));
    assert!(is_promiscuous("one") && !is_promiscuous("two"));
    drop(start(&pins.0, &[Guarded::routed("one", Role::Both), routed]));
    assert!(!is_promiscuous("one"));
}

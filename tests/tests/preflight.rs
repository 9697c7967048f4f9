//! What `sekisho preflight` makes of real interfaces, in a namespace of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
    trial::PassProgram,
};
use sekisho_abi::record::Role;
use sekisho_tests::{program, scene::write_lists};
use serde_json::Value;

/// A namespace with a veth pair that is up.
fn stage() {
    assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    ip("link add one type veth peer name two");
    ip("link set dev one up");
    ip("link set dev two up");
}

fn try_ip(arguments: &str) -> bool {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    status.expect("iproute2 is installed").success()
}

fn ip(arguments: &str) {
    assert!(try_ip(arguments), "ip {arguments}");
}

/// Makes an interface of a kind that not every kernel has.
fn has_kind(arguments: &str) -> bool {
    let made = try_ip(arguments);
    if !made {
        eprintln!("not tested, as this kernel can't: ip {arguments}");
    }
    made
}

/// Whether the command found everything fit, and its rows.
fn preflight(subjects: &[&str]) -> (bool, Vec<Value>) {
    let output =
        Command::new(program!()).arg("preflight").args(subjects).arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON, whatever it finds");
    let fit = report["fit"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(if fit { 0 } else { 1 }));
    let rows = report["checks"].as_array().unwrap().clone();
    for row in &rows {
        assert_eq!(row["outcome"] == "pass", row["command"].is_null(), "{row}");
    }
    (fit, rows)
}

/// Outcome, sentence and command of a check.
fn found(rows: &[Value], about: &str, check: &str) -> (String, String, String) {
    let row = rows.iter().find(|row| row["about"] == about && row["check"] == check);
    let row = row.unwrap_or_else(|| panic!("no row {check} about {about} in {rows:?}"));
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("text"), text("command"))
}

fn has_program(interface: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", "dev", interface]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("xdp")
}

#[test]
fn a_veth_is_fit_and_nothing_stays_on_it() {
    stage();
    let (fit, rows) = preflight(&["one"]);
    assert!(fit, "{rows:?}");
    for check in ["rights", "kernel", "bpffs", "program"] {
        assert_eq!(found(&rows, "host", check).0, "pass", "{check}");
    }
    for check in ["interface", "state", "xdp-program", "native-xdp", "mtu", "lro"] {
        assert_eq!(found(&rows, "one", check).0, "pass", "{check}");
    }
    assert!(!has_program("one"));
}

/// As many instructions as a dataplane of every role and with everything on has at least.
#[test]
fn the_program_that_is_tried_is_the_one_that_would_run() {
    stage();
    let pin_dir = format!("/sys/fs/bpf/sekisho-preflight-whole-{}", std::process::id()).into();
    let settings = Settings { flow_table_entries: 1024, ..Settings::new(pin_dir, 8 << 20) };
    let dataplane = KernelDataplane::start(&settings, &[Guarded::routed("one", Role::Both)]);
    let dataplane = dataplane.expect("starts");
    let least = dataplane.verified_instructions("one").expect("readable").expect("counted");
    let (outcome, text, _) = found(&preflight(&["one"]).1, "host", "program");
    assert_eq!(outcome, "pass");
    let told = text.split(' ').find_map(|word| word.parse::<u32>().ok()).expect("a number");
    assert!(told > least, "{text}; one that runs has {least}");
    drop(dataplane);
    detach(&settings.pin_dir).expect("detached");
}

#[test]
fn without_a_trial_it_does_not_know() {
    stage();
    let (fit, rows) = preflight(&["one", "--no-trial"]);
    assert!(fit);
    assert_eq!(found(&rows, "one", "native-xdp").0, "warn");
}

#[test]
fn an_interface_that_is_missing_fails() {
    stage();
    let (fit, rows) = preflight(&["nosuch", "one"]);
    assert!(!fit);
    assert_eq!(found(&rows, "nosuch", "interface").0, "fail");
    assert_eq!(found(&rows, "one", "native-xdp").0, "pass", "the others are looked at");
}

#[test]
fn what_sits_on_an_interface_sends_the_operator_to_it() {
    stage();
    ip("link add sub0 link one type macvlan");
    let mut subs = vec!["sub0"];
    if has_kind("link add link one name one.7 type vlan id 7") {
        subs.push("one.7");
    }
    for sub in subs {
        let (fit, rows) = preflight(&[sub]);
        assert!(!fit);
        let (outcome, _, command) = found(&rows, sub, "interface");
        assert_eq!((&*outcome, &*command), ("fail", "sekisho preflight one"));
    }
    ip("link add bridge0 type bridge");
    assert!(!preflight(&["bridge0"]).0);
    assert!(!preflight(&["lo"]).0);
}

#[test]
fn a_driver_without_xdp_is_told_in_the_kernels_words() {
    stage();
    ip("link add plain0 type ifb");
    let (fit, rows) = preflight(&["plain0"]);
    assert!(!fit);
    let (outcome, text, command) = found(&rows, "plain0", "native-xdp");
    assert_eq!((&*outcome, &*command), ("fail", "ethtool -i plain0"));
    assert!(text.contains("does not support XDP"), "{text}");
    if has_kind("link add dummy0 type dummy") {
        assert_eq!(found(&preflight(&["dummy0"]).1, "dummy0", "native-xdp").0, "fail");
    }
}

#[test]
fn a_program_of_others_is_named_and_stays() {
    stage();
    let other = PassProgram::load().unwrap();
    let held = other.attach(nix::net::if_::if_nametoindex("one").unwrap()).unwrap();
    let (fit, rows) = preflight(&["one"]);
    assert!(!fit);
    let (outcome, text, command) = found(&rows, "one", "xdp-program");
    assert_eq!(outcome, "fail");
    assert!(text.contains("sekisho_try, id "), "{text}");
    assert!(command.starts_with("bpftool link detach id "), "{command}");
    assert_eq!(found(&rows, "one", "native-xdp").0, "pass", "it sits in the driver");
    assert!(has_program("one"));
    drop(held);
    assert!(preflight(&["one"]).0);
}

#[test]
fn our_own_program_is_no_hindrance() {
    stage();
    let pin_dir = format!("/sys/fs/bpf/sekisho-preflight-{}", std::process::id()).into();
    let settings = Settings {
        flow_table_entries: 1024,
        attach: Attach::Native,
        ..Settings::new(pin_dir, 8 << 20)
    };
    let guarded = [Guarded::routed("one", Role::Subscriber)];
    let dataplane = KernelDataplane::start(&settings, &guarded).expect("starts");
    let (fit, rows) = preflight(&["one"]);
    assert!(fit, "{rows:?}");
    assert!(found(&rows, "one", "xdp-program").1.contains("Sekisho's own"));
    assert!(has_program("one"));
    drop(dataplane);
    detach(&settings.pin_dir).expect("detached");
}

#[test]
fn both_ends_of_a_wire_are_looked_at() {
    stage();
    ip("link set dev two mtu 2000");
    let (fit, rows) = preflight(&["one=two"]);
    assert!(!fit);
    let (outcome, _, command) = found(&rows, "one=two", "mtu");
    assert_eq!((&*outcome, &*command), ("fail", "ip link set dev one mtu 2000"));
    let (outcome, _, command) = found(&rows, "one=two", "wire");
    assert_eq!((&*outcome, &*command), ("fail", "ip link set dev one promisc on"));
    ip(&command["ip ".len()..]);
    let (_, rows) = preflight(&["one=two"]);
    assert_eq!(found(&rows, "one=two", "wire").0, "pass", "the command mends it");
}

#[test]
fn whether_frames_leave_an_interface_is_told_by_its_driver() {
    stage();
    let told = |rows: &[Value], about: &str| found(rows, about, "outlet").0;
    let (_, rows) = preflight(&["one=two", "--sinkhole", "two"]);
    assert_eq!(told(&rows, "one=two"), "warn", "neither end has a program after the trial");
    assert_eq!(told(&rows, "two"), "fail");
    // A veth end sends once the other end has a program.
    let passing = PassProgram::load().unwrap();
    let _held = passing.attach(nix::net::if_::if_nametoindex("one").unwrap()).unwrap();
    let (_, rows) = preflight(&["one", "--sinkhole", "two"]);
    assert_eq!(told(&rows, "two"), "pass");
    assert_eq!(
        found(&preflight(&["one", "--sinkhole", "nosuch"]).1, "nosuch", "interface").0,
        "fail"
    );
}

#[test]
fn a_daemon_that_can_not_attach_says_why_and_sends_the_operator_here() {
    stage();
    ip("link add plain0 type ifb");
    let folder = tempfile::tempdir().unwrap();
    write_lists(folder.path(), &[("one", "plain", b"198.18.0.1\n")]).unwrap();
    let pins = format!("/sys/fs/bpf/sekisho-preflight-run-{}", std::process::id());
    let config = format!(
        "interfaces: [{{name: plain0, role: subscriber}}]\nfeeds: feeds.yaml\nstate_dir: state\n\
         dataplane: {{pin_dir: {pins}, attach: native}}\napi: {{listen: '127.0.0.1:0'}}\n"
    );
    let path = folder.path().join("sekisho.yaml");
    std::fs::write(&path, config).unwrap();
    let output = Command::new(program!()).args(["run", "-c"]).arg(&path).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("does not support XDP"), "{told}");
    assert!(told.contains("`sekisho preflight plain0`"), "{told}");
}

//! What outlives a daemon: pins, links and the switch, on veth pairs in a namespace of their own.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{path::PathBuf, process::Command, time::Duration};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Attachment, Dataplane, DataplaneError, OptOuts, PortBlock,
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach, set_global_mode},
};
use sekisho_abi::{
    ABI_VERSION,
    image::{Action, Image, ImageBuilder, List, Port},
    record::{Mode, Role},
};
use sekisho_tests::packet::{Ipv4, UDP, udp};

const CAPACITY: usize = 8 << 20;
const XDP_DROP: u32 = 1;

/// A network namespace with veth pairs, and a pin folder.
struct Stage {
    settings: Settings,
}

impl Stage {
    fn new(name: &str, interfaces: &[&str]) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        for interface in interfaces {
            ip(&[
                "link",
                "add",
                interface,
                "type",
                "veth",
                "peer",
                "name",
                &format!("{interface}p"),
            ]);
        }
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        Self {
            settings: Settings {
                flow_table_entries: 1024,
                attach: Attach::Native,
                ..Settings::new(pin_dir, CAPACITY)
            },
        }
    }

    fn layout(&self) -> PathBuf {
        self.settings.pin_dir.join(format!("abi{ABI_VERSION}"))
    }

    fn start(&self, interfaces: &[&str]) -> Result<KernelDataplane, DataplaneError> {
        let guarded: Vec<Guarded> =
            interfaces.iter().map(|name| Guarded::routed(*name, Role::Subscriber)).collect();
        KernelDataplane::start(&self.settings, &guarded)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.settings.pin_dir) {
            eprintln!("cannot clean up {}: {error}", self.settings.pin_dir.display());
        }
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments:?}");
}

fn image(generation: u32) -> Image {
    let list = List { name: "list".to_owned(), action: Action::Drop };
    let mut builder = ImageBuilder::new(vec![list]);
    builder.list_v4("198.18.0.1".parse().expect("an address"), 32, Port::Any, 1);
    builder.build(generation, CAPACITY).expect("one address fits")
}

fn drops(dataplane: &KernelDataplane, interface: &str) -> bool {
    let frame = Ipv4::new("100.64.0.1", "198.18.0.1", UDP).frame(&[], &udp(1, 2));
    dataplane.test_run(interface, &frame, 1).expect("the program runs").0 == XDP_DROP
}

fn ports(dataplane: &KernelDataplane) -> Vec<(String, u8, Option<Attachment>)> {
    let ports = dataplane.installed().expect("readable").ports;
    ports.into_iter().map(|port| (port.interface, port.slot, port.attachment)).collect()
}

#[test]
fn every_interface_enforces_not_only_the_first() {
    let stage = Stage::new("several", &["one", "two", "three"]);
    let dataplane = stage.start(&["one", "two", "three"]).expect("starts");
    dataplane.publish(&image(1)).expect("published");
    dataplane.renew_lease(Duration::from_secs(60)).expect("renewed");
    for interface in ["one", "two", "three"] {
        assert!(drops(&dataplane, interface), "{interface}");
    }
}

#[test]
fn a_restart_adopts_ruleset_switch_and_ports() {
    let stage = Stage::new("restart", &["one", "two"]);
    let first = stage.start(&["one", "two"]).expect("starts");
    first.publish(&image(5)).expect("published");
    first.renew_lease(Duration::from_secs(60)).expect("renewed");
    first.change_modes(&mut |modes| modes.ports[1] = Mode::Observe as u8).expect("switched");
    let before = ports(&first);
    drop(first);
    let second = stage.start(&["one", "two"]).expect("starts again");
    assert_eq!(ports(&second), before);
    assert_eq!(second.installed().expect("readable").generation, Some(5));
    assert!(drops(&second, "one"));
    assert!(!drops(&second, "two"), "the operator's switch outlives the daemon");
}

#[test]
fn a_larger_image_takes_over_what_is_live() {
    let mut stage = Stage::new("capacity", &["one"]);
    let first = stage.start(&["one"]).expect("starts");
    first.publish(&image(3)).expect("published");
    first.renew_lease(Duration::from_secs(60)).expect("renewed");
    drop(first);
    stage.settings.image_capacity = 2 * CAPACITY;
    let second = stage.start(&["one"]).expect("starts again");
    assert!(drops(&second, "one"));
    let installed = second.installed().expect("readable");
    assert_eq!((installed.generation, installed.image_capacity), (Some(3), 2 * CAPACITY as u64));
    assert!(installed.intact);
}

#[test]
fn a_renamed_interface_keeps_its_link_and_a_new_one_of_its_name_gets_its_own() {
    let stage = Stage::new("rename", &["one"]);
    drop(stage.start(&["one"]).expect("starts"));
    ip(&["link", "set", "one", "name", "uno.7"]);
    let renamed = stage.start(&["uno.7"]).expect("starts under the new name");
    assert_eq!(ports(&renamed), [("uno.7".to_owned(), 0, Some(Attachment::Native))]);
    drop(renamed);
    ip(&["link", "del", "uno.7"]);
    ip(&["link", "add", "uno.7", "type", "veth", "peer", "name", "unop"]);
    let recreated = stage.start(&["uno.7"]).expect("starts on the new interface");
    assert_eq!(ports(&recreated), [("uno.7".to_owned(), 0, Some(Attachment::Native))]);
}

#[test]
fn a_start_that_fails_changes_nothing() {
    let stage = Stage::new("failing", &["one"]);
    // Loopback takes no program in its driver.
    let error = stage.start(&["one", "lo"]).err().expect("loopback has no native XDP");
    assert!(matches!(error, DataplaneError::NoXdp { .. }), "{error}");
    assert!(!stage.layout().exists(), "a first start leaves nothing");
    drop(stage.start(&["one"]).expect("starts"));
    stage.start(&["one", "lo"]).err().expect("still none");
    let after = stage.start(&["one"]).expect("starts again");
    assert_eq!(ports(&after), [("one".to_owned(), 0, Some(Attachment::Native))]);
    let error = stage.start(&["missing"]).err().expect("no such interface, and a daemon runs");
    assert!(matches!(error, DataplaneError::Busy { .. }), "{error}");
}

#[test]
fn an_interface_that_left_takes_its_switch_along() {
    let stage = Stage::new("left", &["one", "two"]);
    let first = stage.start(&["one"]).expect("starts");
    first.change_modes(&mut |modes| modes.ports[0] = Mode::Bypass as u8).expect("switched");
    drop(first);
    let second = stage.start(&["two"]).expect("starts with another interface");
    second.publish(&image(1)).expect("published");
    second.renew_lease(Duration::from_secs(60)).expect("renewed");
    // Slot 0 was still held when the other one came.
    assert_eq!(ports(&second), [("two".to_owned(), 1, Some(Attachment::Native))]);
    assert!(drops(&second, "two"));
    drop(second);
    let third = stage.start(&["one"]).expect("starts with the first interface again");
    third.renew_lease(Duration::from_secs(60)).expect("renewed");
    assert_eq!(ports(&third), [("one".to_owned(), 0, Some(Attachment::Native))]);
    assert!(drops(&third, "one"), "what comes back begins with a switch of its own");
}

#[test]
fn the_switch_for_everything_needs_only_its_own_map() {
    let stage = Stage::new("switch", &["one"]);
    let dataplane = stage.start(&["one"]).expect("starts");
    dataplane.publish(&image(1)).expect("published");
    dataplane.renew_lease(Duration::from_secs(60)).expect("renewed");
    let pins = stage.layout();
    for damaged in ["LEASE", "COUNTERS", "OVERFLOW"] {
        std::fs::remove_file(pins.join(damaged)).expect("the pin is there");
    }
    assert!(KernelDataplane::open(&stage.settings.pin_dir).is_err());
    set_global_mode(&stage.settings.pin_dir, Mode::Bypass).expect("switched all the same");
    assert!(!drops(&dataplane, "one"));
}

#[test]
fn detach_leaves_what_is_not_ours() {
    let stage = Stage::new("foreign", &["one"]);
    drop(stage.start(&["one"]).expect("starts"));
    let foreign = stage.settings.pin_dir.join("tc");
    std::fs::create_dir(&foreign).expect("bpffs takes folders");
    detach(&stage.settings.pin_dir).expect("detached");
    assert!(foreign.is_dir());
    std::fs::remove_dir(&foreign).expect("it is empty");
    std::fs::remove_dir(&stage.settings.pin_dir).expect("nothing else is left");
}

fn blocks(count: u16, first: u16) -> OptOuts {
    let address = "100.65.0.1".parse().expect("an address");
    let block = |nth: u16| PortBlock { address, first: first + nth * 16, last: first + nth * 16 };
    OptOuts { networks: Vec::new(), blocks: (0..count).map(block).collect() }
}

/// How many of the blocks' packets pass as of those who opted out.
fn unseen(dataplane: &KernelDataplane, opt_outs: &OptOuts) -> usize {
    let passes = |block: &&PortBlock| {
        let packet = Ipv4::new("100.65.0.1", "198.18.0.1", UDP);
        let frame = packet.frame(&[], &udp(block.first, 2));
        dataplane.test_run("one", &frame, 1).expect("the program runs").0 != XDP_DROP
    };
    opt_outs.blocks.iter().filter(passes).count()
}

#[test]
fn a_table_of_port_blocks_has_room_for_as_many_others_as_it_holds() {
    let mut stage = Stage::new("rows-replaced", &["one"]);
    stage.settings.opt_out_rows = 8;
    let dataplane = stage.start(&["one"]).expect("starts");
    dataplane.publish(&image(1)).expect("published");
    dataplane.renew_lease(Duration::from_secs(60)).expect("renewed");
    let (some, others) = (blocks(8, 1024), blocks(8, 9008));
    for opt_outs in [&some, &others, &some] {
        dataplane.set_opt_outs(opt_outs).expect("they fit");
        assert_eq!(unseen(&dataplane, opt_outs), 8);
    }
    assert_eq!(unseen(&dataplane, &others), 0);
}

#[test]
fn a_larger_table_of_port_blocks_takes_the_place_of_a_smaller_one_with_all_its_rows() {
    let mut stage = Stage::new("rows-raised", &["one"]);
    stage.settings.opt_out_rows = 4;
    let first = stage.start(&["one"]).expect("starts");
    first.publish(&image(1)).expect("published");
    first.renew_lease(Duration::from_secs(60)).expect("renewed");
    first.set_opt_outs(&blocks(4, 1024)).expect("four fit");
    assert!(first.set_opt_outs(&blocks(16, 1024)).is_err(), "sixteen do not");
    first.set_opt_outs(&blocks(4, 1024)).expect("four fit");
    drop(first);
    stage.settings.opt_out_rows = 16;
    let second = stage.start(&["one"]).expect("adopts");
    assert_eq!(unseen(&second, &blocks(16, 1024)), 4, "who opted out before");
    second.set_opt_outs(&blocks(16, 1024)).expect("sixteen fit");
    assert_eq!(unseen(&second, &blocks(16, 1024)), 16);
    drop(second);
    stage.settings.opt_out_rows = 4;
    let third = stage.start(&["one"]).expect("adopts");
    assert_eq!(unseen(&third, &blocks(16, 1024)), 16, "a smaller number takes nothing away");
}

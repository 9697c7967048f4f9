//! What becomes of a dataplane that is tampered with, on veth pairs in a namespace of its own: by
//! hand, step by step, and with a daemon that runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Attachment, Dataplane as _,
    evidence::{Depth, Drift, Evidence, PortState},
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    ABI_VERSION,
    image::{Action, Image, ImageBuilder, List, Port},
    names,
    record::{Mode, Role},
};
use sekisho_tests::{
    packet::{Ipv4, UDP, udp},
    tamper,
};

const CAPACITY: usize = 8 << 20;
const XDP_DROP: u32 = 1;

/// A dataplane on one end of a veth pair, with a ruleset of one address that it drops.
struct Stage {
    settings: Settings,
    dataplane: Option<KernelDataplane>,
}

impl Stage {
    fn new(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("link add one type veth peer name two");
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        let settings = Settings {
            pin_dir,
            image_capacity: CAPACITY,
            flow_table_entries: 1024,
            attach: Attach::Native,
            initial_mode: Mode::Enforce,
        };
        let guarded = [Guarded { interface: "one".to_owned(), role: Role::Subscriber }];
        let dataplane = KernelDataplane::start(&settings, &guarded).expect("starts");
        dataplane.publish(&image(1)).expect("published");
        dataplane.renew_lease(Duration::from_secs(60)).expect("renewed");
        let stage = Self { settings, dataplane: Some(dataplane) };
        assert_eq!(stage.drifts(), [""; 0], "nothing differs yet");
        assert!(stage.drops());
        stage
    }

    fn dataplane(&self) -> &KernelDataplane {
        self.dataplane.as_ref().expect("it runs")
    }

    fn pins(&self) -> PathBuf {
        self.settings.pin_dir.join(format!("abi{ABI_VERSION}"))
    }

    fn link_pin(&self) -> PathBuf {
        self.pins().join("link-0-native-one")
    }

    fn slot_pin(&self) -> PathBuf {
        self.pins().join(format!("ruleset-{CAPACITY}"))
    }

    fn evidence(&self) -> Evidence {
        self.dataplane().evidence(Depth::Deep).expect("readable")
    }

    fn drifts(&self) -> Vec<String> {
        let evidence = self.evidence();
        let mut told = evidence.lost_pins;
        told.extend(evidence.ports.iter().filter_map(|port| match port.state {
            PortState::Guarded => None,
            other => Some(format!("{} {other:?}", port.interface)),
        }));
        if evidence.expected != evidence.found {
            told.push("image".to_owned());
        } else if !evidence.intact {
            told.push("checksum".to_owned());
        }
        if !evidence.switch_holds {
            told.push("switch".to_owned());
        }
        told
    }

    fn repair(&self, drift: &Drift) {
        self.dataplane().repair(drift).expect("repaired");
        assert_eq!(self.drifts(), [""; 0], "after {drift}");
        assert!(self.drops(), "after {drift}");
    }

    fn drops(&self) -> bool {
        let frame = Ipv4::new("100.64.0.1", "198.18.0.1", UDP).frame(&[], &udp(1, 2));
        self.dataplane().test_run("one", &frame, 1).expect("the program runs").0 == XDP_DROP
    }

    fn attachment(&self) -> Option<Attachment> {
        self.dataplane().installed().expect("readable").ports[0].attachment
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.dataplane.take());
        if let Err(error) = detach(&self.settings.pin_dir) {
            eprintln!("cannot clean up {}: {error}", self.settings.pin_dir.display());
        }
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("iproute2 is installed").success(), "ip {arguments}");
}

fn image(generation: u32) -> Image {
    let list = List { name: "list".to_owned(), action: Action::Drop };
    let mut builder = ImageBuilder::new(vec![list]);
    builder.list_v4("198.18.0.1".parse().expect("an address"), 32, Port::Any, 1);
    builder.build(generation, CAPACITY).expect("one address fits")
}

fn remove(pin: &Path) -> Drift {
    fs::remove_file(pin).expect("the pin is there");
    Drift::Pin { path: pin.display().to_string() }
}

fn has_program() -> bool {
    let output = Command::new("ip").args(["link", "show", "dev", "one"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("xdp")
}

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
    assert_eq!(lost.len(), names::PINNED.len() + 2, "{lost:?}");
    for path in lost {
        stage.dataplane().repair(&Drift::Pin { path }).expect("repaired");
    }
    assert_eq!(stage.drifts(), [""; 0]);
    assert!(stage.drops());
    let guarded = [Guarded { interface: "one".to_owned(), role: Role::Subscriber }];
    let second = KernelDataplane::start(&stage.settings, &guarded).err().expect("one daemon only");
    assert!(second.to_string().contains("daemon that is running"), "{second}");
}

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
    let other = sekisho::dataplane::trial::PassProgram::load().unwrap();
    tamper::replace_program(&stage.link_pin(), other.as_fd()).unwrap();
    let PortState::Replaced { expected, found } = stage.evidence().ports[0].state else {
        panic!("{:?}", stage.drifts());
    };
    assert_ne!(expected, found);
    stage.repair(&Drift::Program { interface: "one".to_owned(), expected, found });
}

#[test]
fn a_ruleset_that_is_swapped_or_emptied_is_put_back() {
    let stage = Stage::new("image");
    let before = stage.evidence().found;
    let drift = |found| Drift::Image { expected: before.clone(), found };
    tamper::empty_slot(&stage.slot_pin()).unwrap();
    assert!(!stage.drops());
    assert_eq!(stage.drifts(), ["image"]);
    stage.repair(&drift(None));
    tamper::swap_image(&stage.slot_pin(), CAPACITY, &image(1)).unwrap();
    let found = stage.evidence().found;
    assert_eq!(stage.drifts(), ["image"], "of the same generation and content: {found:?}");
    stage.repair(&drift(found));
    assert_eq!(stage.evidence().found, before);
}

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
    assert_eq!(dataplane.modes().unwrap(), switched);
    dataplane.change_modes(&mut |modes| modes.written = 0).expect("written");
    stage.repair(&Drift::Switch);
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
    assert_eq!(stage.drifts(), ["one Returned"]);
    stage.repair(&Drift::Interface { interface: "one".to_owned() });
    assert!(has_program());
    assert_eq!(port(&stage), before);
    assert!(packets > 0 && seen(&stage) >= packets, "the counters go on");
}

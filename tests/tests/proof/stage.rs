//! A dataplane that can be tampered with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Attachment, Dataplane as _,
    canary::{ADDRESSES, Answer},
    evidence::{Depth, Drift, Evidence, PortState},
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    ABI_VERSION,
    image::{Action, Image, ImageBuilder, List, Port},
    record::{Mode, Modes, Role},
};
use sekisho_tests::packet::{Ipv4, UDP, udp};

pub(crate) const CAPACITY: usize = 8 << 20;
pub(crate) const XDP_DROP: u32 = 1;

/// A dataplane on one end of a veth pair, with a ruleset of one address that it drops.
pub(crate) struct Stage {
    pub(crate) settings: Settings,
    dataplane: Option<KernelDataplane>,
}

impl Stage {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, |settings| settings)
    }

    /// With other settings than usual.
    pub(crate) fn with(name: &str, adapt: impl FnOnce(Settings) -> Settings) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("link add one type veth peer name two");
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        let settings = Settings {
            flow_table_entries: 1024,
            attach: Attach::Native,
            ..Settings::new(pin_dir, CAPACITY)
        };
        let settings = adapt(settings);
        let guarded = [Guarded::routed("one", Role::Subscriber)];
        let dataplane = KernelDataplane::start(&settings, &guarded).expect("starts");
        dataplane.publish(&image(1)).expect("published");
        dataplane.renew_lease(Duration::from_secs(60)).expect("renewed");
        let stage = Self { settings, dataplane: Some(dataplane) };
        assert_eq!(stage.drifts(), [""; 0], "nothing differs yet");
        assert!(stage.drops());
        stage
    }

    /// As another daemon would.
    pub(crate) fn start_again(&mut self) {
        drop(self.dataplane.take());
        let guarded = [Guarded::routed("one", Role::Subscriber)];
        let dataplane = KernelDataplane::start(&self.settings, &guarded).expect("starts");
        self.dataplane = Some(dataplane);
    }

    pub(crate) fn dataplane(&self) -> &KernelDataplane {
        self.dataplane.as_ref().expect("it runs")
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.settings.pin_dir.join(format!("abi{ABI_VERSION}"))
    }

    pub(crate) fn link_pin(&self) -> PathBuf {
        self.pins().join("link-0-native-one")
    }

    pub(crate) fn slot_pin(&self) -> PathBuf {
        self.pins().join(format!("ruleset-{CAPACITY}"))
    }

    pub(crate) fn evidence(&self) -> Evidence {
        self.dataplane().evidence(Depth::Deep).expect("readable")
    }

    pub(crate) fn drifts(&self) -> Vec<String> {
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
        let wrong = evidence.canaries.iter().filter(|canary| canary.answer != canary.expected);
        told.extend(wrong.map(|canary| format!("{} {:?}", canary.address, canary.answer)));
        told.extend(evidence.lost_devices.iter().map(|interface| format!("device {interface}")));
        for (holds, name) in [
            (evidence.switch_holds, "switch"),
            (evidence.opt_outs_hold, "opt-outs"),
            (evidence.sinkhole_holds, "sinkhole"),
        ] {
            if !holds {
                told.push(name.to_owned());
            }
        }
        told
    }

    pub(crate) fn repair(&self, drift: &Drift) {
        self.dataplane().repair(drift).expect("repaired");
        assert_eq!(self.drifts(), [""; 0], "after {drift}");
        assert!(self.drops(), "after {drift}");
    }

    pub(crate) fn drops(&self) -> bool {
        self.drops_of("100.64.0.1", 1)
    }

    /// Whether what a subscriber sends from a port to the listed address is dropped.
    pub(crate) fn drops_of(&self, subscriber: &str, port: u16) -> bool {
        let frame = Ipv4::new(subscriber, "198.18.0.1", UDP).frame(&[], &udp(port, 2));
        self.dataplane().test_run("one", &frame, 1).expect("the program runs").0 == XDP_DROP
    }

    pub(crate) fn switch(&self, mode: Mode) {
        let set = &mut |modes: &mut Modes| modes.global = mode as u8;
        self.dataplane().change_modes(set).expect("switched");
    }

    pub(crate) fn attachment(&self) -> Option<Attachment> {
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

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("iproute2 is installed").success(), "ip {arguments}");
}

pub(crate) fn image(generation: u32) -> Image {
    built(ImageBuilder::new(vec![list()]).with_canary(), generation)
}

pub(crate) fn without_canary(generation: u32) -> Image {
    built(ImageBuilder::new(vec![list()]), generation)
}

pub(crate) fn list() -> List {
    List { name: "list".to_owned(), action: Action::Drop }
}

pub(crate) fn built(mut builder: ImageBuilder, generation: u32) -> Image {
    builder.list_v4("198.18.0.1".parse().expect("an address"), 32, Port::Any, 1);
    builder.build(generation, CAPACITY).expect("one address fits")
}

/// A program that finds no canary, as a drift and as [`Stage::drifts`] tells it.
pub(crate) fn missed() -> ([Drift; 2], [String; 2]) {
    let drift = |address| Drift::Canary {
        interface: "one".to_owned(),
        address,
        expected: Answer::Dropped,
        answer: Answer::NotFound,
    };
    (ADDRESSES.map(drift), ADDRESSES.map(|address| format!("{address} NotFound")))
}

pub(crate) fn remove(pin: &Path) -> Drift {
    fs::remove_file(pin).expect("the pin is there");
    Drift::Pin { path: pin.display().to_string() }
}

pub(crate) fn has_program() -> bool {
    let output = Command::new("ip").args(["link", "show", "dev", "one"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("xdp")
}

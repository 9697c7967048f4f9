//! What becomes of a dataplane that is tampered with, on veth pairs in a namespace of its own: by
//! hand, step by step, and with a daemon that runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Attachment, Dataplane as _,
    canary::{ADDRESSES, Answer},
    evidence::{Depth, Drift, Evidence, PortState},
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
    trial::PassProgram,
};
use sekisho_abi::{
    ABI_VERSION,
    image::{Action, Image, ImageBuilder, List, Port},
    names,
    reason::Reason,
    record::{Mode, Modes, Role},
};
use sekisho_tests::{
    packet::{Ipv4, UDP, udp},
    program,
    scene::write_lists,
    tamper,
};
use serde_json::Value;

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
            flow_table_entries: 1024,
            attach: Attach::Native,
            ..Settings::new(pin_dir, CAPACITY)
        };
        let guarded = [Guarded::routed("one", Role::Subscriber)];
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
        let wrong = evidence.canaries.iter().filter(|canary| canary.answer != canary.expected);
        told.extend(wrong.map(|canary| format!("{} {:?}", canary.address, canary.answer)));
        told.extend(evidence.lost_devices.iter().map(|interface| format!("device {interface}")));
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
    built(ImageBuilder::new(vec![list()]).with_canary(), generation)
}

fn without_canary(generation: u32) -> Image {
    built(ImageBuilder::new(vec![list()]), generation)
}

fn list() -> List {
    List { name: "list".to_owned(), action: Action::Drop }
}

fn built(mut builder: ImageBuilder, generation: u32) -> Image {
    builder.list_v4("198.18.0.1".parse().expect("an address"), 32, Port::Any, 1);
    builder.build(generation, CAPACITY).expect("one address fits")
}

/// A program that finds no canary, as a drift and as [`Stage::drifts`] tells it.
fn missed() -> ([Drift; 2], [String; 2]) {
    let drift = |address| Drift::Canary {
        interface: "one".to_owned(),
        address,
        expected: Answer::Dropped,
        answer: Answer::NotFound,
    };
    (ADDRESSES.map(drift), ADDRESSES.map(|address| format!("{address} NotFound")))
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
    let other = PassProgram::load().unwrap();
    tamper::replace_program(&stage.link_pin(), other.as_fd()).unwrap();
    let PortState::Replaced { expected, found } = stage.evidence().ports[0].state else {
        panic!("{:?}", stage.drifts());
    };
    assert_ne!(expected, found);
    let (_, [v4, v6]) = missed();
    let [replaced, missed @ ..] = &stage.drifts()[..] else { panic!() };
    assert!(replaced.starts_with("one Replaced"), "{replaced}");
    assert_eq!(missed, [v4, v6]);
    stage.repair(&Drift::Program { interface: "one".to_owned(), expected, found });
}

#[test]
fn a_ruleset_that_is_swapped_or_emptied_is_put_back() {
    let stage = Stage::new("image");
    let before = stage.evidence().found;
    let drift = |found| Drift::Image { expected: before.clone(), found };
    tamper::remove_first(&stage.slot_pin()).unwrap();
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
fn a_ruleset_without_the_canary_is_found_out_by_asking_the_live_program() {
    let stage = Stage::new("no-canary");
    let (drifts, told) = missed();
    tamper::swap_image(&stage.slot_pin(), CAPACITY, &without_canary(2)).unwrap();
    assert!(stage.drops(), "it lists what the other one did");
    let [swapped, wrong @ ..] = &stage.drifts()[..] else { panic!() };
    assert_eq!((&**swapped, wrong), ("image", &told[..]));
    let [v4, _v6] = drifts;
    stage.repair(&v4);
    stage.dataplane().publish(&without_canary(3)).expect("published");
    assert_eq!(stage.drifts(), told, "of a ruleset that was put there, it is the only sign");
    stage.dataplane().publish(&image(4)).expect("published");
    assert_eq!(stage.drifts(), [""; 0]);
}

#[test]
fn the_canary_is_dropped_passed_or_left_alone_as_the_switch_and_the_lease_say() {
    let stage = Stage::new("expected");
    let dataplane = stage.dataplane();
    let answers = || -> Vec<Answer> {
        assert_eq!(stage.drifts(), [""; 0]);
        stage.evidence().canaries.iter().map(|canary| canary.answer).collect()
    };
    let probes = || {
        let counts = dataplane.counts().expect("readable")[0].by_reason;
        counts.map(|count| count.packets)
    };
    assert_eq!(answers(), [Answer::Dropped; 2]);
    dataplane.set_modes(&Modes::all(Mode::Observe)).expect("switched");
    assert_eq!(answers(), [Answer::Passed; 2]);
    dataplane.set_modes(&Modes::all(Mode::Bypass)).expect("switched");
    let before = probes();
    assert_eq!(answers(), [Answer::NotAsked; 2]);
    assert_eq!(probes(), before, "nobody asked");
    dataplane.set_modes(&Modes::all(Mode::Enforce)).expect("switched");
    dataplane.renew_lease(Duration::ZERO).expect("renewed");
    assert_eq!(answers(), [Answer::Passed; 2]);
    dataplane.renew_lease(Duration::from_secs(60)).expect("renewed");
    assert_eq!(answers(), [Answer::Dropped; 2]);
}

#[test]
fn a_probe_leaves_no_trace_but_its_own_count() {
    let stage = Stage::new("trace");
    let dataplane = stage.dataplane();
    for _ in 0..2 {
        let drained = dataplane.drain().expect("drained");
        dataplane.settle(drained.id).expect("settled");
    }
    stage.dataplane().events().expect("readable");
    let packets = || {
        let counts = stage.dataplane().counts().expect("readable")[0].by_reason;
        counts.map(|count| count.packets)
    };
    let before = packets();
    stage.evidence();
    let mut expected = before;
    expected[Reason::CanaryDropped as usize] += 2;
    assert_eq!(packets(), expected);
    assert!(stage.dataplane().drain().expect("drained").rows.is_empty());
    assert!(stage.dataplane().events().expect("readable").is_empty());
    stage.dataplane().evidence(Depth::Shallow).expect("readable");
    assert_eq!(packets(), expected, "what was right and did not change is not asked again");
}

#[test]
fn a_device_that_is_taken_out_is_named_again() {
    let stage = Stage::new("device");
    tamper::remove_first(&stage.pins().join(names::DEVICES)).unwrap();
    assert_eq!(stage.drifts(), ["device one"]);
    stage.repair(&Drift::Device { interface: "one".to_owned() });
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
    let restored = dataplane.modes().unwrap();
    assert!(restored.version > switched.version, "what was judged meanwhile is judged anew");
    assert_eq!(Modes { version: switched.version, ..restored }, switched);
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
    assert_eq!(stage.drifts(), ["one Returned", "device one"]);
    stage.repair(&Drift::Interface { interface: "one".to_owned() });
    assert!(has_program());
    assert_eq!(port(&stage), before);
    assert!(packets > 0 && seen(&stage) >= packets, "the counters go on");
}

/// A daemon on one end of a veth pair, with a list of one address.
struct Daemon {
    child: Child,
    pin_dir: PathBuf,
    _folder: tempfile::TempDir,
}

impl Daemon {
    const API: &str = "127.0.0.1:9320";

    fn start(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("link set dev lo up");
        ip("link add one type veth peer name two");
        let folder = tempfile::tempdir().unwrap();
        write_lists(folder.path(), &[("listed", "plain", b"198.18.0.1\n")]).unwrap();
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        let config = format!(
            "interfaces: [{{name: one, role: subscriber}}]\nfeeds: feeds.yaml\nstate_dir: state\n\
             never_block: {{shipped: false}}\napi: {{listen: '{}'}}\n\
             dataplane: {{pin_dir: {}, image_capacity_mib: 8, flow_table_entries: 1024}}\n",
            Self::API,
            pin_dir.display()
        );
        let path = folder.path().join("sekisho.yaml");
        fs::write(&path, config).unwrap();
        let child = Command::new(program!()).args(["run", "-c"]).arg(&path).spawn().unwrap();
        let daemon = Self { child, pin_dir, _folder: folder };
        daemon.wait("a ruleset", || daemon.status()["ruleset"]["entries_v4"] == 1);
        daemon.wait("health", || daemon.status()["health"]["ok"] == true);
        daemon
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.pin_dir.join(format!("abi{ABI_VERSION}")).join(name)
    }

    /// As the API gives it; null while it does not answer.
    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/api/v1/status").unwrap_or_default()).unwrap_or_default()
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(Self::API)?;
        let host = Self::API;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.get("/metrics").ok()?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series))?;
        line.trim().parse().ok()
    }

    fn drifts(&self, kind: &str) -> Option<f64> {
        self.metric(&format!("sekisho_drift_total{{kind=\"{kind}\"}} "))
    }

    fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "no {what} in {}", self.status());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = detach(&self.pin_dir) {
            eprintln!("cannot clean up {}: {error}", self.pin_dir.display());
        }
    }
}

#[test]
fn a_running_daemon_guards_an_interface_that_comes_back() {
    let daemon = Daemon::start("comes-back");
    let attached = || daemon.metric("sekisho_interface_attached{interface=\"one\"} ");
    assert_eq!(attached(), Some(1.0));
    for round in 1..=2 {
        ip("link del one");
        daemon.wait("word that it is gone", || attached() == Some(0.0));
        let reasons = daemon.status()["health"]["reasons"].clone();
        assert_eq!(reasons, serde_json::json!(["interface 'one' is gone"]));
        ip("link add one type veth peer name two");
        let since = Instant::now();
        daemon.wait("program", has_program);
        eprintln!("guarded again after {:?}", since.elapsed());
        daemon.wait("word of it", || attached() == Some(1.0));
        daemon.wait("a count", || daemon.drifts("interface") == Some(f64::from(round)));
        daemon.wait("health", || daemon.status()["health"]["ok"] == true);
    }
    let status = daemon.status();
    assert_eq!(status["interfaces"][0]["attachment"], "native");
    let told = status["proof"]["put_right"][0]["what"].as_str().unwrap();
    assert_eq!(told, "interface 'one' is back, without the program");
}

#[test]
fn a_running_daemon_puts_right_what_somebody_changes() {
    let daemon = Daemon::start("heals");
    let (link, slot) =
        (daemon.pin("link-0-native-one"), daemon.pin(&format!("ruleset-{CAPACITY}")));
    let modes = daemon.pin(names::MODES);

    fs::remove_file(&modes).unwrap();
    fs::remove_file(&link).unwrap();
    daemon.wait("pins", || modes.exists() && link.exists());
    assert!(has_program(), "it never left");
    daemon.wait("a count of pins", || daemon.drifts("pin") == Some(2.0));

    tamper::detach_link(&link).unwrap();
    daemon.wait("program", has_program);
    daemon.wait("a count of links", || daemon.drifts("link") == Some(1.0));

    let other = PassProgram::load().unwrap();
    tamper::replace_program(&link, other.as_fd()).unwrap();
    daemon.wait("a count of programs", || daemon.drifts("program") == Some(1.0));
    daemon.wait("count of canaries", || daemon.drifts("canary") == Some(2.0));

    tamper::remove_first(&slot).unwrap();
    daemon.wait("ruleset", || daemon.status()["ruleset"]["entries_v4"] == 1);
    tamper::swap_image(&slot, CAPACITY, &without_canary(77)).unwrap();
    daemon.wait("count of images", || daemon.drifts("image") == Some(2.0));
    daemon.wait("count of canaries", || daemon.drifts("canary") == Some(4.0));
    daemon.wait("the ruleset that was", || daemon.status()["ruleset"]["generation"] != 77);

    let all_put_right =
        |status: &Value| status["proof"]["put_right"].as_array().map(Vec::len) == Some(10);
    daemon.wait("word of ten repairs", || all_put_right(&daemon.status()));
    let status = daemon.status();
    assert_eq!(status["health"]["ok"], true, "{status}");
    assert_eq!(status["proof"]["standing"], serde_json::json!([]));
    let told = status["health"]["degraded"].as_array().unwrap();
    assert_eq!(told.iter().filter(|told| told.as_str().unwrap().contains("put right")).count(), 10);
}

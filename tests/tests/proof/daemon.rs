//! What a daemon that runs does about it.

use std::{
    fs,
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{kernel::detach, trial::PassProgram};
use sekisho_abi::{ABI_VERSION, names};
use sekisho_tests::{post, program, scene::write_lists, tamper};

use crate::stage::{CAPACITY, has_program, ip, without_canary};

/// A daemon on one end of a veth pair, with a list of one address.
struct Daemon {
    child: Child,
    pin_dir: PathBuf,
    _folder: tempfile::TempDir,
}

impl Daemon {
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
            post::API,
            pin_dir.display()
        );
        let path = folder.path().join("sekisho.yaml");
        fs::write(&path, config).unwrap();
        let child = Command::new(program!()).args(["run", "-c"]).arg(&path).spawn().unwrap();
        let daemon = Self { child, pin_dir, _folder: folder };
        daemon.wait("a ruleset", || post::status()["ruleset"]["entries_v4"] == 1);
        daemon.wait("health", || post::status()["health"]["ok"] == true);
        daemon
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.pin_dir.join(format!("abi{ABI_VERSION}")).join(name)
    }

    fn metric(&self, series: &str) -> Option<f64> {
        let metrics = post::get("/metrics").ok()?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series))?;
        line.trim().parse().ok()
    }

    fn drifts(&self, kind: &str) -> Option<f64> {
        self.metric(&format!("sekisho_drift_total{{kind=\"{kind}\"}} "))
    }

    /// What it says that it put right, the last first.
    fn put_right(&self) -> Vec<String> {
        let status = post::status();
        let repairs = status["proof"]["put_right"].as_array().cloned().unwrap_or_default();
        repairs.iter().map(|repair| repair["what"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until it has put right so much, and has looked whether it is.
    fn wait_for_repairs(&self, repairs: usize) {
        self.wait(&format!("word of {repairs} repairs"), || self.put_right().len() == repairs);
    }

    fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "no {what} in {}", post::status());
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
        let reasons = post::status()["health"]["reasons"].clone();
        assert_eq!(reasons, serde_json::json!(["interface 'one' is gone"]));
        ip("link add one type veth peer name two");
        let since = Instant::now();
        daemon.wait("program", has_program);
        eprintln!("guarded again after {:?}", since.elapsed());
        daemon.wait("word of it", || attached() == Some(1.0));
        daemon.wait("a count", || daemon.drifts("interface") == Some(f64::from(round)));
        daemon.wait("health", || post::status()["health"]["ok"] == true);
    }
    let status = post::status();
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
    daemon.wait_for_repairs(2);
    assert!(modes.exists() && link.exists());
    assert!(has_program(), "it never left");
    assert_eq!(daemon.drifts("pin"), Some(2.0));

    tamper::detach_link(&link).unwrap();
    daemon.wait_for_repairs(3);
    assert!(has_program());
    assert_eq!(daemon.drifts("link"), Some(1.0));

    let other = PassProgram::load().unwrap();
    tamper::replace_program(&link, other.as_fd()).unwrap();
    daemon.wait_for_repairs(6);
    assert_eq!(daemon.drifts("program"), Some(1.0));
    assert_eq!(daemon.drifts("canary"), Some(2.0));

    let generation = || post::status()["ruleset"]["generation"].clone();
    let before = generation();
    tamper::remove_first(&slot).unwrap();
    daemon.wait_for_repairs(7);
    assert_eq!(post::status()["ruleset"]["entries_v4"], 1);
    assert_eq!(daemon.drifts("image"), Some(1.0));
    tamper::swap_image(&slot, CAPACITY, &without_canary(77)).unwrap();
    daemon.wait_for_repairs(10);
    assert_eq!(daemon.drifts("image"), Some(2.0));
    assert_eq!(daemon.drifts("canary"), Some(4.0));
    assert_eq!(generation(), before, "the ruleset that was");

    let status = post::status();
    assert_eq!(status["health"]["ok"], true, "{status}");
    assert_eq!(status["proof"]["standing"], serde_json::json!([]));
    let told = status["health"]["degraded"].as_array().unwrap();
    assert_eq!(told.iter().filter(|told| told.as_str().unwrap().contains("put right")).count(), 10);
}

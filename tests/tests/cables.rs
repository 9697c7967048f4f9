//! What a daemon on a wire tells of its cables and of the room that frames have there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::kernel::detach;
use sekisho_tests::{post, program, scene::write_lists, span::ip};

/// A daemon between the inner ends of two cables, `one` and `two`.
struct Daemon {
    child: Child,
    pin_dir: PathBuf,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start(name: &str, mtu: u32) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("link set dev lo up");
        for end in ["one", "two"] {
            ip(&format!("link add {end} mtu {mtu} type veth peer name far-{end} mtu {mtu}"));
            ip(&format!("link set dev {end} up"));
            ip(&format!("link set dev far-{end} up"));
        }
        let folder = tempfile::tempdir().unwrap();
        write_lists(folder.path(), &[("listed", "plain", b"198.18.0.1\n")]).unwrap();
        let pin_dir =
            PathBuf::from(format!("/sys/fs/bpf/sekisho-cables-{name}-{}", std::process::id()));
        let config = format!(
            "interfaces:\n- {{name: one, role: subscriber, forwarding: wire, peer: two}}\n\
             - {{name: two, role: uplink, forwarding: wire, peer: one}}\n\
             feeds: feeds.yaml\nstate_dir: state\nnever_block: {{shipped: false}}\n\
             api: {{listen: '{}'}}\n\
             dataplane: {{pin_dir: {}, image_capacity_mib: 8, flow_table_entries: 1024}}\n",
            post::API,
            pin_dir.display()
        );
        let (path, log) = (folder.path().join("sekisho.yaml"), folder.path().join("log"));
        fs::write(&path, config).unwrap();
        let mut command = Command::new(program!());
        let command = command.args(["run", "-c"]).arg(&path);
        let child = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let daemon = Self { child, pin_dir, log, _folder: folder };
        daemon.wait("a ruleset", || post::status()["ruleset"]["entries_v4"] == 1);
        daemon
    }

    /// Whether this end has a carrier, as the metrics have it.
    fn carrier(&self, interface: &str) -> Option<bool> {
        let metrics = post::get("/metrics").ok()?;
        let series = format!("sekisho_interface_carrier{{interface=\"{interface}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series))?;
        Some(line == "1")
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "no {what}: {}, {}", post::status(), self.log());
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
fn an_end_without_a_carrier_is_told_until_it_has_one_again() {
    let daemon = Daemon::start("carrier", 1528);
    let carriers = || [daemon.carrier("one"), daemon.carrier("two")];
    daemon.wait("word of both carriers", || carriers() == [Some(true); 2]);
    daemon.wait("health", || post::status()["health"]["ok"] == true);
    let degraded = || post::status()["health"]["degraded"].clone();
    assert_eq!(degraded(), serde_json::json!([]));
    for (down, up, what) in [
        ("link set dev far-two down", "link set dev far-two up", "has no carrier"),
        ("link set dev two down", "link set dev two up", "is set down"),
    ] {
        ip(down);
        let told = format!("interface 'two' {what}: what its wire should send out of it is lost");
        daemon.wait("word of the loss", || degraded() == serde_json::json!([told]));
        assert_eq!(carriers()[1], Some(false));
        assert_eq!(post::status()["health"]["ok"], true, "it does its own work");
        assert!(post::get("/healthz").unwrap().contains(&told));
        assert!(daemon.log().contains(&told));
        ip(up);
        daemon.wait("a carrier", || carriers() == [Some(true); 2]);
        assert_eq!(degraded(), serde_json::json!([]));
    }
    ip("link del two");
    daemon.wait("word that it is gone", || daemon.carrier("two").is_none());
}

#[test]
fn a_start_tells_how_a_wire_gets_room_for_tags() {
    let command = "ip link set dev one mtu 1528 && ip link set dev two mtu 1528";
    let daemon = Daemon::start("short", 1500);
    let log = daemon.log();
    assert!(log.contains(command), "{log}");
    assert!(!log.contains("rxvlan off"), "it switched that off itself: {log}");
    assert!(log.contains("leaves VLAN tags in the frames from now on"), "{log}");
}

#[test]
fn a_start_on_a_wire_with_room_has_nothing_to_tell() {
    let daemon = Daemon::start("roomy", 1528);
    let log = daemon.log();
    assert!(!log.contains(" mtu "), "{log}");
}

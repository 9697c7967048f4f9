//! Packets that other stacks made, captured: the program in the kernel and the parser on the host
//! judge each alike, and a listed remote is found whatever it is wrapped in.
//!
//! `captures/*.pcap` are Linux's own (`captures/record` makes them); others are taken from where
//! somebody has put them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use etherparse::{LaxNetSlice, LaxSlicedPacket};
use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Dataplane as _, RuleTotals,
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    image::{Action, Image, ImageBuilder, List, Port},
    reason::{Reason, Verdict},
    record::Role,
};
use sekisho_tests::{pcap, site::HostSite};

const CAPACITY: usize = 8 << 20;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// The kernel's test run takes no shorter frames.
const SHORTEST: usize = 14;
const PORTS: [(&str, Role); 3] =
    [("lo", Role::Subscriber), ("uplink", Role::Uplink), ("both", Role::Both)];

/// The listed remotes of our own captures.
const LISTED: [&str; 2] = ["198.18.0.1", "2001:2:0:1::1"];

/// A dataplane with an interface of each role.
struct Stage {
    dataplane: Option<KernelDataplane>,
    pin_dir: PathBuf,
    image: Image,
}

impl Stage {
    fn new(name: &str, listed: &[IpAddr]) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads an XDP program and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let pair = ["link", "add", "uplink", "type", "veth", "peer", "name", "both"];
        assert!(Command::new("ip").args(pair).status().expect("iproute2 is there").success());
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        let settings = Settings {
            flow_table_entries: 65_536,
            attach: Attach::Generic,
            ..Settings::new(pin_dir.clone(), CAPACITY)
        };
        let ports = PORTS.map(|(interface, role)| Guarded::routed(interface, role));
        let dataplane = KernelDataplane::start(&settings, &ports).expect("the program loads");
        let image = image(listed);
        dataplane.publish(&image).expect("published");
        dataplane.renew_lease(Duration::from_secs(3600)).expect("renewed");
        Self { dataplane: Some(dataplane), pin_dir, image }
    }

    fn dataplane(&self) -> &KernelDataplane {
        self.dataplane.as_ref().expect("it runs")
    }

    /// Every frame on every interface, as kernel and host see it; the reasons on the one where either
    /// end may be the remote.
    fn judge(&self, frames: &[Vec<u8>]) -> Vec<Reason> {
        let before = self.counted();
        let mut expected = [[0_u64; Reason::COUNT]; 3];
        let mut reasons = Vec::new();
        for frame in frames {
            for (row, (interface, role)) in PORTS.into_iter().enumerate() {
                let (reason, _) = HostSite::new(role).judge(frame, &self.image);
                let (action, _) = self.dataplane().test_run(interface, frame, 1).expect("it runs");
                let wanted = match reason.verdict() {
                    Verdict::Pass => XDP_PASS,
                    _ => XDP_DROP,
                };
                assert_eq!(action, wanted, "{reason:?} ({role:?}): {frame:02x?}");
                expected[row][reason as usize] += 1;
                if role == Role::Both {
                    reasons.push(reason);
                }
            }
        }
        for (row, (now, before)) in self.counted().iter().zip(&before).enumerate() {
            for reason in Reason::ALL {
                let at = reason as usize;
                assert_eq!(
                    now[at] - before[at],
                    expected[row][at],
                    "{reason:?} of {:?}",
                    PORTS[row]
                );
            }
        }
        reasons
    }

    fn counted(&self) -> Vec<[u64; Reason::COUNT]> {
        let counts = self.dataplane().counts().expect("counters can be read");
        counts.iter().map(|port| port.by_reason.map(|count| count.packets)).collect()
    }

    /// Rows and overflow are all hits.
    fn check_ledger(&self) {
        let drained = self.dataplane().drain().expect("drained");
        self.dataplane().settle(drained.id).expect("settled");
        let rows = drained.rows;
        let totals = self.dataplane().rule_totals().expect("totals can be read");
        let sum = |pick: fn(&RuleTotals) -> u64| {
            totals.iter().map(|(_, totals)| pick(totals)).sum::<u64>()
        };
        let rows: u64 = rows.iter().map(|row| row.totals.packets).sum();
        let hits = Reason::ALL.into_iter().filter(|reason| reason.is_hit());
        let counted = self.counted();
        let hits: u64 = hits.flat_map(|hit| counted.iter().map(move |c| c[hit as usize])).sum();
        assert_eq!(sum(|totals| totals.hits.packets), hits, "every hit is counted by rule");
        assert_eq!(rows + sum(|totals| totals.overflow.packets), hits, "rows and overflow");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.dataplane.take());
        if let Err(error) = detach(&self.pin_dir) {
            eprintln!("cannot clean up {}: {error}", self.pin_dir.display());
        }
    }
}

fn image(listed: &[IpAddr]) -> Image {
    let list = List { name: "list".to_owned(), action: Action::Drop };
    let mut builder = ImageBuilder::new(vec![list]);
    for address in listed {
        match address {
            IpAddr::V4(v4) => builder.list_v4(*v4, 32, Port::Any, 1),
            IpAddr::V6(v6) => builder.list_v6(*v6, 128, Port::Any, 1),
        }
    }
    builder.build(1, CAPACITY).expect("it fits")
}

/// The captures of a folder and of those below it, in order.
fn captures(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(captures(&path));
        } else if path
            .extension()
            .is_some_and(|e| ["pcap", "pcapng", "cap"].iter().any(|x| e == *x))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn frames(path: &Path) -> Vec<Vec<u8>> {
    let mut frames = pcap::frames(path).unwrap_or_else(|error| panic!("{error:#}"));
    frames.retain(|frame| frame.len() >= SHORTEST);
    frames
}

#[test]
fn what_linux_sends_through_tunnels_and_sessions_is_found_in_them() {
    let stage = Stage::new("captures", &LISTED.map(|text| text.parse().expect("an address")));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let mut told = String::new();
    for path in captures(&folder) {
        let frames = frames(&path);
        let mut reasons: BTreeMap<Reason, u32> = BTreeMap::new();
        for (frame, reason) in frames.iter().zip(stage.judge(&frames)) {
            *reasons.entry(reason).or_default() += 1;
            // Who looks for a neighbour asks a multicast group for its address.
            let is_multicast = frame.starts_with(&[0x33, 0x33]);
            let shows_listed = !is_multicast && LISTED.iter().any(|text| shows(frame, text));
            let passes_unfound = matches!(reason, Reason::NotListed | Reason::MplsNotIp);
            assert!(!(shows_listed && passes_unfound), "{}: {frame:02x?}", path.display());
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let _ = write!(told, "{name}:");
        for (reason, frames) in reasons {
            let _ = write!(told, " {} {frames}", reason.as_str());
        }
        told.push('\n');
    }
    stage.check_ledger();
    let expected = fs::read_to_string(folder.join("expected")).expect("it is beside the captures");
    assert_eq!(told, expected, "captures/expected says what becomes of each; it is now:\n{told}");
}

/// Whether a frame has the bytes of an address in it.
fn shows(frame: &[u8], address: &str) -> bool {
    let bytes = match address.parse().expect("an address") {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    frame.windows(bytes.len()).any(|window| window == bytes)
}

/// In the folder of real lists, or in one beside the checkout.
fn others() -> Option<PathBuf> {
    let lists = match env::var_os("SEKISHO_FEEDS_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/feeds"),
    };
    lists.is_dir().then_some(lists)
}

#[test]
fn what_others_captured_is_judged_alike_by_kernel_and_host() {
    let Some(folder) = others() else {
        println!(
            "SKIPPED: there are no captures; SEKISHO_FEEDS_DIR may name a folder that has some"
        );
        return;
    };
    let captures = captures(&folder);
    let all: Vec<Vec<u8>> = captures.iter().flat_map(|path| frames(path)).collect();
    assert!(!all.is_empty(), "no capture in {}", folder.display());
    // Another implementation says who talks to whom; every second of them is listed.
    let mut talkers: Vec<IpAddr> = all.iter().filter_map(|frame| ends(frame)).flatten().collect();
    talkers.sort();
    talkers.dedup();
    // An image holds global unicast addresses only (RFC 4291, 2.4).
    talkers.retain(|talker| match talker {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.segments()[0] >> 13 == 1,
    });
    let listed: Vec<IpAddr> = talkers.into_iter().step_by(2).collect();
    let stage = Stage::new("captured", &listed);
    let reasons = stage.judge(&all);
    stage.check_ledger();
    for (frame, reason) in all.iter().zip(&reasons) {
        let is_listed = ends(frame).is_some_and(|ends| ends.iter().any(|end| listed.contains(end)));
        let is_found = matches!(reason, Reason::Dropped | Reason::Protected);
        assert_eq!(is_found, is_listed, "{reason:?}: {frame:02x?}");
    }
    let found = reasons.iter().filter(|reason| **reason == Reason::Dropped).count();
    println!("{} captures, {} packets, {found} dropped", captures.len(), all.len());
    assert!(found > 0);
}

/// Source and destination, as another implementation reads them.
fn ends(frame: &[u8]) -> Option<[IpAddr; 2]> {
    match LaxSlicedPacket::from_ethernet(frame).ok()?.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some([header.source_addr().into(), header.destination_addr().into()])
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some([header.source_addr().into(), header.destination_addr().into()])
        }
        LaxNetSlice::Arp(_) => None,
    }
}

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
use sekisho_tests::{pcap, site::HostSite, tshark::dissect};

const CAPACITY: usize = 8 << 20;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// The kernel's test run takes no shorter frames.
const SHORTEST: usize = 14;
/// Longer ones come of NICs that put packets together.
const LONGEST: usize = 9_000;
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

/// Global unicast addresses, which are all that an image holds (RFC 4291, 2.4); every second of them.
fn every_second(mut talkers: Vec<IpAddr>) -> Vec<IpAddr> {
    talkers.retain(|talker| match talker {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.segments()[0] >> 13 == 1,
    });
    talkers.sort();
    talkers.dedup();
    talkers.into_iter().step_by(2).collect()
}

/// Layers that the program looks behind, as Wireshark names them.
const LOOKED_BEHIND: [&str; 16] = [
    "eth",
    "ethertype",
    "vlan",
    "ieee8021ad",
    "pppoes",
    "ppp",
    "mpls",
    "ip",
    "ipv6",
    "ipv6.hopopts",
    "ipv6.dstopts",
    "ipv6.routing",
    "ipv6.fraghdr",
    "mipv6",
    "ah",
    "gre",
];

/// Lists every second address that Wireshark sees in frames, and holds the program to finding it behind
/// whatever layers there are. Returns how many packets were found behind each layer.
fn check_by_wireshark(name: &str, frames: &[Vec<u8>]) -> BTreeMap<String, u32> {
    let folder = tempfile::tempdir().expect("a folder");
    let dissected = dissect(frames, folder.path()).expect("tshark dissects them");
    let listed = every_second(dissected.iter().flat_map(|frame| frame.ends.clone()).collect());
    let stage = Stage::new(name, &listed);
    let reasons = stage.judge(frames);
    stage.check_ledger();
    let (mut compared, mut found_behind) = (0, BTreeMap::new());
    for ((frame, seen), reason) in frames.iter().zip(&dissected).zip(&reasons) {
        let innermost = seen.layers.iter().rposition(|layer| layer == "ip" || layer == "ipv6");
        let outer = &seen.layers[..innermost.unwrap_or_default()];
        // PPP may negotiate labels (RFC 3032, 4); sessions of subscribers do not.
        let is_looked_behind = outer.iter().all(|layer| LOOKED_BEHIND.contains(&layer.as_str()))
            && !outer.windows(2).any(|pair| pair == ["ppp", "mpls"]);
        if !is_looked_behind || reason.is_unparsed() || *reason == Reason::MplsNotIp {
            continue;
        }
        compared += 1;
        let is_listed = seen.ends.iter().any(|end| listed.contains(end));
        let is_found = matches!(reason, Reason::Dropped | Reason::Protected);
        assert_eq!(is_found, is_listed, "{reason:?}, {:?}: {frame:02x?}", seen.layers);
        for layer in outer.iter().filter(|_| is_found) {
            *found_behind.entry(layer.clone()).or_default() += 1;
        }
    }
    println!("{} packets, {compared} compared; found behind {found_behind:?}", frames.len());
    assert!(compared * 10 > frames.len() * 9, "{compared} of {} are compared", frames.len());
    found_behind
}

#[test]
fn what_wireshark_sees_in_tunnels_and_sessions_is_found_in_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let all: Vec<Vec<u8>> = captures(&folder).iter().flat_map(|path| frames(path)).collect();
    let found_behind = check_by_wireshark("dissected", &all);
    for layer in ["vlan", "ieee8021ad", "pppoes", "mpls", "gre", "ip", "ipv6"] {
        assert!(found_behind.contains_key(layer), "nothing behind {layer}: {found_behind:?}");
    }
}

/// In a folder that was named, or that of real lists, or one beside the checkout.
fn others() -> Option<PathBuf> {
    let named = ["SEKISHO_CAPTURES_DIR", "SEKISHO_FEEDS_DIR"].into_iter().find_map(env::var_os);
    let folder = match named {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/feeds"),
    };
    folder.is_dir().then_some(folder)
}

#[test]
fn what_others_captured_is_judged_as_wireshark_sees_it() {
    let Some(folder) = others() else {
        println!(
            "SKIPPED: there are no captures; SEKISHO_CAPTURES_DIR may name a folder that has some"
        );
        return;
    };
    // Captures of radio and the like are none of Ethernet frames.
    let readable = |path: &PathBuf| pcap::frames(path).ok();
    let mut all: Vec<Vec<u8>> = captures(&folder).iter().filter_map(readable).flatten().collect();
    all.retain(|frame| (SHORTEST..=LONGEST).contains(&frame.len()));
    assert!(!all.is_empty(), "no capture in {}", folder.display());
    let found_behind = check_by_wireshark("captured", &all);
    assert!(!found_behind.is_empty());
}

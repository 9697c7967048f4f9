//! A guarded stretch of a link: two cables, and the dataplane between their inner ends.
//!
//! ```text
//! line ══ access [dataplane] uplink ══ core
//! ```
#![allow(clippy::expect_used, reason = "a span that cannot be built fails its test")]

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Dataplane as _,
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    image::{Action, Image, ImageBuilder, List, Port},
    reason::Reason,
    record::{Forwarding, Role},
};

use crate::cable::{Source, Tally, Then};

/// The subscribers' end.
pub const LINE: &str = "line";
/// The guarded end towards subscribers.
pub const ACCESS: &str = "access";
/// The guarded end towards the Internet.
pub const UPLINK: &str = "uplink";
/// The Internet's end.
pub const CORE: &str = "core";
/// Room for a ruleset.
pub const CAPACITY: usize = 8 << 20;
/// Listed by [`image`].
pub const LISTED: &str = "198.18.0.1";
/// Listed by [`image`].
pub const LISTED_V6: &str = "2001:2:0:1::1";
/// Listed by nobody.
pub const CLEAN: &str = "198.19.0.1";
/// Listed by nobody.
pub const CLEAN_V6: &str = "2001:2:0:ffff::1";
/// A subscriber.
pub const SUBSCRIBER: &str = "100.64.7.9";
/// A subscriber.
pub const SUBSCRIBER_V6: &str = "2001:db8:7::9";

const LONGEST: Duration = Duration::from_secs(30);

/// The cables and their outer ends, in a network namespace of the test's own.
pub struct Span {
    /// What a dataplane here is loaded with.
    pub settings: Settings,
    /// Counts what arrives at the subscribers' end.
    pub line: Tally,
    /// Counts what arrives at the Internet's end.
    pub core: Tally,
    /// Sends from the subscribers' end.
    pub from_line: Source,
    /// Sends from the Internet's end.
    pub from_core: Source,
}

impl Span {
    /// Lays the cables and moves the calling thread into their namespace.
    pub fn lay(name: &str, then: Then) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        // No neighbour discovery between the frames that are counted.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("root writes");
        for (inner, outer) in [(ACCESS, LINE), (UPLINK, CORE)] {
            ip(&format!("link add {inner} type veth peer name {outer}"));
            ip(&format!("link set {inner} up"));
            ip(&format!("link set {outer} up"));
        }
        ip("link add spare type veth peer name spare-too");
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        Self {
            settings: Settings {
                flow_table_entries: 1024,
                attach: Attach::Native,
                ..Settings::new(pin_dir, CAPACITY)
            },
            line: Tally::attach(LINE, then).expect("a program that counts"),
            core: Tally::attach(CORE, then).expect("a program that counts"),
            from_line: Source::new(LINE, "spare").expect("a program that sends"),
            from_core: Source::new(CORE, "spare-too").expect("a program that sends"),
        }
    }

    /// Guards both inner ends, or adopts them; a wire joins them.
    pub fn guard(&self, forwarding: Forwarding) -> KernelDataplane {
        let end = |name: &str, role, other: &str| Guarded {
            forwarding,
            peer: (forwarding == Forwarding::Wire).then(|| other.to_owned()),
            ..Guarded::routed(name, role)
        };
        let guarded = [end(ACCESS, Role::Subscriber, UPLINK), end(UPLINK, Role::Uplink, ACCESS)];
        KernelDataplane::start(&self.settings, &guarded).expect("the dataplane starts")
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.settings.pin_dir) {
            eprintln!("cannot clean up {}: {error}", self.settings.pin_dir.display());
        }
    }
}

/// A ruleset with one list that drops [`LISTED`], [`LISTED_V6`] and further addresses.
pub fn image(generation: u32, further: u32) -> Image {
    let list = List { name: "list".to_owned(), action: Action::Drop };
    let mut builder = ImageBuilder::new(vec![list]);
    builder.list_v4(LISTED.parse().expect("an address"), 32, Port::Any, 1);
    builder.list_v6(LISTED_V6.parse().expect("an address"), 128, Port::Any, 1);
    for nth in 0..further {
        // From 11.0.0.0 on, scattered over /24s.
        builder.list_v4((0x0b00_0000 + nth * 0x101).into(), 32, Port::Any, 1);
    }
    builder.build(generation, CAPACITY).expect("it fits")
}

/// Packets of one guarded end that were counted under a reason.
pub fn packets(dataplane: &KernelDataplane, port: usize, reason: Reason) -> u64 {
    dataplane.counts().expect("counters can be read")[port].by_reason[reason as usize].packets
}

/// Every packet of one guarded end.
pub fn all_packets(dataplane: &KernelDataplane, port: usize) -> u64 {
    let counts = dataplane.counts().expect("counters can be read");
    counts[port].by_reason.iter().map(|count| count.packets).sum()
}

/// Frames that a cable lost at this end because its ring was full.
pub fn lost_before(interface: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("the kernel tells");
    let row = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    let dropped = row.and_then(|row| row.split_whitespace().nth(3));
    dropped.and_then(|dropped| dropped.parse().ok()).expect("a count of dropped frames")
}

/// Waits for a condition, and says what is there if it does not come about.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `ip` in the caller's namespace.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is there");
    assert!(status.success(), "ip {arguments}");
}

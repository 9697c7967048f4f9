//! Bonds: links that are aggregated, guarded through their master.
//!
//! ```text
//! line0 ══ access0 ┐                                ┌ uplink0 ══ core0
//!                  access (bond) [dataplane] uplink (bond)
//! line1 ══ access1 ┘                                └ uplink1 ══ core1
//! ```
//!
//! Few kernels that tests run on have bonds built in: `make test-kernel` and `make kernels` run these
//! on Debian's.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf, time::Duration};

use nix::sched::{CloneFlags, unshare};
use sekisho::{
    dataplane::{
        Attachment, Dataplane as _, PortStatus,
        kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
    },
    preflight::{Outcome, Topic, check, gather},
};
use sekisho_abi::{
    reason::Reason,
    record::{Forwarding, Role},
};
use sekisho_tests::{
    cable::{MARK_AT, Source, Tally, Then},
    packet::{UDP, ethernet, ip as packet, udp},
    span::{CAPACITY, CLEAN, LISTED, SUBSCRIBER, all_packets, image, ip, packets, wait_until},
};

const MEMBERS: [&str; 2] = ["0", "1"];
const LEASE: Duration = Duration::from_secs(600);

struct Bonds {
    settings: Settings,
    from_line: Vec<Source>,
    core: Vec<Tally>,
}

impl Bonds {
    /// Two bonds of a mode, in a network namespace of the caller's own.
    fn lay(name: &str, mode: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        // No neighbour discovery between the frames that are counted.
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("root writes");
        for bond in ["access", "uplink"] {
            ip(&format!("link add {bond} type bond mode {mode} miimon 100"));
        }
        for (bond, far) in [("access", "line"), ("uplink", "core")] {
            for member in MEMBERS {
                ip(&format!("link add {bond}{member} type veth peer name {far}{member}"));
                ip(&format!("link set {far}{member} up"));
                ip(&format!("link set {bond}{member} master {bond}"));
            }
            ip(&format!("link set {bond} up"));
        }
        ip("link add spare0 type veth peer name spare1");
        let pin_dir = format!("/sys/fs/bpf/sekisho-bonds-{name}-{}", std::process::id());
        let source = |member: &str| {
            Source::new(&format!("line{member}"), &format!("spare{member}")).expect("a source")
        };
        let tally =
            |member: &str| Tally::attach(&format!("core{member}"), Then::Drop).expect("a tally");
        Self {
            settings: Settings {
                flow_table_entries: 1024,
                attach: Attach::Native,
                ..Settings::new(PathBuf::from(pin_dir), CAPACITY)
            },
            from_line: MEMBERS.map(source).into(),
            core: MEMBERS.map(tally).into(),
        }
    }

    fn guard(&self, forwarding: Forwarding) -> KernelDataplane {
        let end = |name: &str, role, other: &str| Guarded {
            forwarding,
            peer: (forwarding == Forwarding::Wire).then(|| other.to_owned()),
            ..Guarded::routed(name, role)
        };
        let guarded =
            [end("access", Role::Subscriber, "uplink"), end("uplink", Role::Uplink, "access")];
        let dataplane = KernelDataplane::start(&self.settings, &guarded).expect("it starts");
        dataplane.publish(&image(1, 0)).expect("published");
        dataplane.renew_lease(LEASE).expect("renewed");
        dataplane
    }

    fn arrived(&self, mark: u8) -> u64 {
        self.core.iter().map(|core| core.counted(mark).expect("a count")).sum()
    }
}

impl Drop for Bonds {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.settings.pin_dir) {
            eprintln!("cannot clean up {}: {error}", self.settings.pin_dir.display());
        }
    }
}

fn to(remote: &str, mark: u8) -> Vec<u8> {
    let mut frame = ethernet(&[], 0x0800, &packet(SUBSCRIBER, remote, UDP, &udp(4000, 53)));
    frame[MARK_AT] = mark;
    frame
}

/// Sends listed and clean frames into each member, and waits until all are counted.
fn try_members(bonds: &Bonds, dataplane: &KernelDataplane) {
    let reasons = [Reason::Dropped, Reason::NotListed];
    let counted = || reasons.map(|reason| packets(dataplane, 0, reason));
    for source in &bonds.from_line {
        let before = counted();
        source.send(&to(LISTED, 1), 64).expect("sent");
        source.send(&to(CLEAN, 2), 32).expect("sent");
        wait_until("all frames of a member to be counted", || {
            counted() == [before[0] + 64, before[1] + 32]
        });
    }
}

fn every_member_is_guarded(name: &str, mode: &str) {
    let bonds = Bonds::lay(name, mode);
    let dataplane = bonds.guard(Forwarding::Kernel);
    let ports = dataplane.installed().expect("it tells").ports;
    let native = |port: &PortStatus| port.attachment == Some(Attachment::Native);
    assert!(ports.len() == 2 && ports.iter().all(native), "{ports:?}");
    try_members(&bonds, &dataplane);
    let rows = dataplane.drain().expect("drained").rows;
    assert_eq!(rows.iter().map(|row| row.totals.packets).sum::<u64>(), 128, "rows are the hits");

    drop(dataplane);
    let adopted = bonds.guard(Forwarding::Kernel);
    try_members(&bonds, &adopted);

    // One that is taken out is guarded no more, and again once it is back.
    ip("link set access1 nomaster");
    ip("link set access1 up");
    let before = all_packets(&adopted, 0);
    bonds.from_line[1].send(&to(LISTED, 1), 64).expect("sent");
    bonds.from_line[0].send(&to(LISTED, 1), 1).expect("sent");
    wait_until("the other member", || all_packets(&adopted, 0) == before + 1);
    ip("link set access1 down");
    ip("link set access1 master access");
    try_members(&bonds, &adopted);
}

#[test]
#[ignore = "needs a kernel with bonds: `make test-kernel` runs it"]
fn every_member_of_an_802_3ad_bond_is_guarded() {
    every_member_is_guarded("lacp", "802.3ad");
}

#[test]
#[ignore = "needs a kernel with bonds: `make test-kernel` runs it"]
fn every_member_of_an_active_backup_bond_is_guarded() {
    every_member_is_guarded("standby", "active-backup");
}

#[test]
#[ignore = "needs a kernel with bonds: `make test-kernel` runs it"]
fn every_member_of_a_balance_xor_bond_is_guarded() {
    every_member_is_guarded("xor", "balance-xor");
}

#[test]
#[ignore = "needs a kernel with bonds: `make test-kernel` runs it"]
fn every_member_of_a_balance_rr_bond_is_guarded() {
    every_member_is_guarded("round", "balance-rr");
}

/// A wire between two bonds, to whose members partners of their own speak LACP through the program.
#[test]
#[ignore = "needs a kernel with bonds: `make test-kernel` runs it"]
fn a_wire_between_bonds_carries_everything_but_what_aggregates_them() {
    let bonds = Bonds::lay("wire", "802.3ad");
    let dataplane = bonds.guard(Forwarding::Wire);
    let wire = [("access".to_owned(), "uplink".to_owned())];
    let rows = check(&gather(&[], &wire, None, false).expect("facts"));
    let tags: Vec<_> = rows.iter().filter(|row| row.check == Topic::VlanOffload).collect();
    assert_eq!(tags.len(), 4, "each member");
    assert!(tags.iter().all(|row| row.outcome == Outcome::Pass), "{tags:?}");
    try_members(&bonds, &dataplane);
    wait_until("every clean frame at the far end", || bonds.arrived(2) == 64);
    assert_eq!(bonds.arrived(1), 0, "nothing listed leaves");

    let mut lacp = ethernet(&[], 0x8809, &[1; 110]);
    lacp[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x02]);
    lacp[MARK_AT] = 3;
    let mut other = ethernet(&[], 0x88cc, &[1; 110]);
    other[MARK_AT] = 4;
    let before = packets(&dataplane, 0, Reason::NotIp);
    for source in &bonds.from_line {
        source.send(&lacp, 8).expect("sent");
        source.send(&other, 8).expect("sent");
    }
    wait_until("LLDP at the far end", || bonds.arrived(4) == 16);
    assert_eq!(packets(&dataplane, 0, Reason::NotIp), before + 32, "both are counted");
    assert_eq!(bonds.arrived(3), 0, "LACP is the bond's own");
}

#[test]
#[ignore = "needs a kernel with bonds: `make test-kernel` runs it"]
fn a_partner_is_heard_through_the_program_however_it_forwards() {
    let bonds = Bonds::lay("partner", "802.3ad");
    for forwarding in [Forwarding::Kernel, Forwarding::Wire, Forwarding::Tap] {
        let dataplane = bonds.guard(forwarding);
        assert!(!is_aggregated("access"), "there is no partner yet");
        ip("link add line type bond mode 802.3ad miimon 100 lacp_rate fast");
        for member in MEMBERS {
            ip(&format!("link set line{member} down"));
            ip(&format!("link set line{member} master line"));
        }
        ip("link set line up");
        wait_until("both members in one aggregator", || is_aggregated("access"));
        assert!(packets(&dataplane, 0, Reason::NotIp) > 0, "LACP is counted ({forwarding:?})");
        ip("link delete line");
        for member in MEMBERS {
            ip(&format!("link set line{member} up"));
        }
        wait_until("the end of it", || !is_aggregated("access"));
    }
}

/// Whether all members of a bond have joined the same partner.
fn is_aggregated(bond: &str) -> bool {
    let told = fs::read_to_string(format!("/proc/thread-self/net/bonding/{bond}"));
    told.expect("the kernel tells").contains("Number of ports: 2")
}

#[test]
#[ignore = "needs a kernel with bonds: `make test-kernel` runs it"]
fn preflight_tells_which_bonds_take_a_program_and_that_members_do_not() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let modes = [
        ("802.3ad", Outcome::Pass),
        ("active-backup", Outcome::Pass),
        ("balance-xor", Outcome::Pass),
        ("balance-rr", Outcome::Pass),
        ("balance-tlb", Outcome::Fail),
        ("balance-alb", Outcome::Fail),
        ("broadcast", Outcome::Fail),
    ];
    let name = |nth: usize| format!("bond{nth}");
    for (nth, (mode, _)) in modes.into_iter().enumerate() {
        let bond = name(nth);
        ip(&format!("link add {bond} type bond mode {mode}"));
        ip(&format!("link add member{nth} type veth peer name far{nth}"));
        ip(&format!("link set member{nth} master {bond}"));
    }
    let mut asked: Vec<String> = (0..modes.len()).map(name).collect();
    asked.push("member0".to_owned());
    let rows = check(&gather(&asked, &[], None, true).expect("facts"));
    let outcome = |about: &str, topic: Topic| {
        let row = rows.iter().find(|row| row.about == about && row.check == topic);
        row.map(|row| row.outcome)
    };
    for (nth, (mode, expected)) in modes.into_iter().enumerate() {
        for topic in [Topic::Bond, Topic::NativeXdp] {
            assert_eq!(outcome(&name(nth), topic), Some(expected), "{mode}");
        }
    }
    assert_eq!(outcome("member0", Topic::Master), Some(Outcome::Fail));
}

//! What happens to a link at a million packets a second while rulesets, programs and daemons change:
//! nothing.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use sekisho::dataplane::{Dataplane as _, kernel::KernelDataplane};
use sekisho_abi::{encapsulation::Encapsulation, reason::Reason, record::Forwarding};
use sekisho_tests::{
    cable::Then,
    post::{Daemon, Post},
    program,
    span::{CAPACITY, Span, all_packets, image, packets, wait_until},
    traffic::{Sent, Traffic},
};

const LEASE: Duration = Duration::from_secs(600);

/// Rounds of a test: so many in `make test`, SEKISHO_CHAOS times as many in `make chaos`.
fn rounds(short: u32) -> u32 {
    let factor = std::env::var("SEKISHO_CHAOS").ok();
    short * factor.map_or(1, |factor| factor.parse().expect("SEKISHO_CHAOS is a number"))
}

/// Hits that left the kernel in rows.
fn drained(dataplane: &KernelDataplane) -> u64 {
    let drained = dataplane.drain().expect("flows can be drained");
    dataplane.settle(drained.id).expect("a drain can be settled");
    drained.rows.iter().map(|row| row.totals.packets).sum()
}

/// Hits that no row could hold.
fn overflow(dataplane: &KernelDataplane) -> u64 {
    let totals = dataplane.rule_totals().expect("totals can be read");
    totals.iter().map(|(_, totals)| totals.overflow.packets).sum()
}

/// Every account tells of the same packets.
fn expect_accounts(dataplane: &KernelDataplane, sent: &Sent, mut rows: u64) {
    // Both sides.
    rows += drained(dataplane) + drained(dataplane);
    assert_eq!(rows + overflow(dataplane), sent.listed, "rows and overflow are all hits");
    expect_counters(dataplane, sent);
}

/// The counters tell of every packet under the right reason.
fn expect_counters(dataplane: &KernelDataplane, sent: &Sent) {
    assert_eq!(packets(dataplane, 0, Reason::Dropped), sent.listed);
    assert_eq!(packets(dataplane, 0, Reason::NotListed), sent.clean);
    let probes = [Reason::CanaryDropped, Reason::CanaryPassed]
        .map(|reason| packets(dataplane, 0, reason))
        .iter()
        .sum::<u64>();
    let all = all_packets(dataplane, 0) - probes;
    assert_eq!(all, sent.clean + sent.listed, "there is no other reason");
}

#[test]
fn rulesets_replace_each_other_and_no_packet_is_misjudged() {
    let span = Span::lay("swaps", Then::Drop);
    let dataplane = span.guard(Forwarding::Wire);
    let images = [image(1, 0), image(2, 20_000)];
    dataplane.publish(&images[1]).expect("published");
    dataplane.renew_lease(LEASE).expect("renewed");
    let traffic = Traffic::start(&span);
    let mut rows = 0;
    for round in 0..rounds(100) as usize {
        dataplane.publish(&images[round % 2]).expect("published");
        if round % 50 == 0 {
            rows += drained(&dataplane);
        }
    }
    let sent = traffic.stop();
    sent.expect_at(&span);
    expect_accounts(&dataplane, &sent, rows);
    eprintln!("{} packets, {:.2} Mpps", sent.clean + sent.listed, sent.rate() / 1e6);
}

#[test]
fn another_program_takes_over_and_no_packet_is_misjudged() {
    let mut span = Span::lay("upgrade", Then::Drop);
    let mut dataplane = span.guard(Forwarding::Wire);
    dataplane.publish(&image(1, 1_000)).expect("published");
    dataplane.renew_lease(LEASE).expect("renewed");
    let traffic = Traffic::start(&span);
    let mut rows = 0;
    for round in 0..rounds(1) {
        let_flow(&traffic);
        let before = dataplane.installed().expect("readable");
        rows += drained(&dataplane);
        drop(dataplane);
        // What the constants of a program are made of, and the size of its ruleset.
        let is_even = round % 2 == 0;
        span.settings.unwrapped = if is_even { Encapsulation::PPPOE } else { Encapsulation::ALL };
        span.settings.image_capacity = if is_even { 2 * CAPACITY } else { CAPACITY };
        dataplane = span.guard(Forwarding::Wire);
        let after = dataplane.installed().expect("readable");
        assert_eq!(after.ports, before.ports);
        assert_eq!(after.generation, Some(1));
        let_flow(&traffic);
    }
    let sent = traffic.stop();
    sent.expect_at(&span);
    expect_accounts(&dataplane, &sent, rows);
    eprintln!("{} packets, {:.2} Mpps", sent.clean + sent.listed, sent.rate() / 1e6);
}

/// Lets traffic flow for a while.
fn let_flow(traffic: &Traffic) {
    let before = traffic.so_far();
    wait_until("more traffic", || traffic.so_far() > before + 100_000);
}

#[test]
fn a_daemon_killed_at_any_moment_and_its_successor_lose_and_misjudge_no_packet() {
    let (span, sent, _post, daemon) =
        killed_again_and_again("killed", |traffic, _| let_flow(traffic));
    let overflow = overflow(&dataplane_of(&span));
    assert_eq!(all_that_is_recorded(&daemon) + overflow, sent.listed, "every hit, and once");
}

#[test]
fn a_daemon_killed_between_two_drains_takes_no_hit_along() {
    let after_a_drain = |_: &Traffic, daemon: &Daemon| {
        let before = daemon.recorded();
        wait_until("a drain", || daemon.recorded() > before);
    };
    let (span, sent, _post, daemon) = killed_again_and_again("drained", after_a_drain);
    let overflow = overflow(&dataplane_of(&span));
    wait_until("every hit in the record", || daemon.recorded() + overflow == sent.listed);
}

/// Kills daemons under traffic, each when `moment` returns, and finds no packet lost or misjudged.
fn killed_again_and_again(
    name: &str,
    moment: impl Fn(&Traffic, &Daemon),
) -> (Span, Sent, Post, Daemon) {
    let span = Span::lay(name, Then::Drop);
    let post = Post::furnish(program!(), &span);
    let mut daemon = post.start();
    let traffic = Traffic::start(&span);
    for _ in 0..rounds(1) {
        moment(&traffic, &daemon);
        daemon.kill();
        let_flow(&traffic);
        daemon = post.start();
    }
    let sent = traffic.stop();
    sent.expect_at(&span);
    expect_counters(&dataplane_of(&span), &sent);
    (span, sent, post, daemon)
}

fn dataplane_of(span: &Span) -> KernelDataplane {
    KernelDataplane::open(&span.settings.pin_dir).expect("it is pinned")
}

/// Packets in the record of hits once two drains have brought nothing new.
fn all_that_is_recorded(daemon: &Daemon) -> u64 {
    let mut recorded = daemon.recorded();
    let (mut since, begin) = (Instant::now(), Instant::now());
    while since.elapsed() < Duration::from_millis(2_500) {
        assert!(begin.elapsed() < Duration::from_secs(30), "hits appear without traffic");
        std::thread::sleep(Duration::from_millis(50));
        let now = daemon.recorded();
        if now != recorded {
            (recorded, since) = (now, Instant::now());
        }
    }
    recorded
}

#[test]
fn a_daemon_that_follows_another_loses_and_misjudges_no_packet_and_no_hit_is_missing() {
    let span = Span::lay("followed", Then::Drop);
    let post = Post::furnish(program!(), &span);
    let mut daemon = post.start();
    let traffic = Traffic::start(&span);
    for round in 0..rounds(1) {
        let_flow(&traffic);
        assert!(daemon.stop().success());
        let_flow(&traffic);
        // Other constants, another program.
        post.configure(["dataplane: {unwrap: [pppoe]}", ""][round as usize % 2]);
        daemon = post.start();
    }
    let sent = traffic.stop();
    sent.expect_at(&span);
    expect_counters(&dataplane_of(&span), &sent);
    let overflow = overflow(&dataplane_of(&span));
    wait_until("every hit in the record", || daemon.recorded() + overflow == sent.listed);
}

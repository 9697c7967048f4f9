//! A link whose daemon is gone, is switched, or has its opt-outs changed while it runs.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    time::{Duration, Instant},
};

use sekisho_abi::reason::Reason;
use sekisho_tests::{
    link::Link,
    program,
    span::{SUBSCRIBER, SUBSCRIBER_V6, wait_until},
};

#[test]
fn a_dataplane_that_hears_nothing_of_its_daemon_only_observes_until_the_next_one() {
    let link = Link::new(program!(), "heartbeat");
    link.post.configure("heartbeat_lifetime: 2s");
    let daemon = link.post.start();
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(2_500) {
        assert!(!link.passes(SUBSCRIBER), "a daemon that lives is heard");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.kill();
    let killed = Instant::now();
    assert!(!link.passes(SUBSCRIBER), "its last word still holds");
    wait_until("the heartbeat to lapse", || link.passes(SUBSCRIBER));
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
    assert!(link.passes(SUBSCRIBER_V6));
    assert!(link.counted(Reason::LifetimeOver) >= 2, "what passes is counted as a hit");
    let _next = link.post.start();
    assert!(!link.passes(SUBSCRIBER), "the next daemon vouches for it");
    assert!(!link.passes(SUBSCRIBER_V6));
}

#[test]
fn the_switch_works_at_once_with_the_daemon_dead() {
    let link = Link::new(program!(), "switch");
    let daemon = link.post.start();
    assert!(!link.passes(SUBSCRIBER));
    daemon.kill();
    for (mode, passes) in
        [("bypass", true), ("enforce", false), ("observe", true), ("bypass", true)]
    {
        link.switch(mode);
        assert_eq!(link.passes(SUBSCRIBER), passes, "the first packet after '{mode}'");
        assert_eq!(link.passes(SUBSCRIBER_V6), passes, "the second packet after '{mode}'");
    }
    assert_eq!(link.counted(Reason::ModeBypass), 4);
    assert_eq!(link.counted(Reason::ModeObserved), 2);
    let _daemon = link.post.start();
    assert!(link.passes(SUBSCRIBER), "the next daemon leaves the switch alone");
}

#[test]
fn who_opts_out_while_the_daemon_runs_passes_unseen_within_a_second() {
    let link = Link::new(program!(), "opt-outs");
    let csv = link.post.file("opt-outs.csv");
    let write = |rows: &str| {
        // As a careful operator's script replaces it.
        let new = csv.with_extension("new");
        fs::write(&new, format!("prefix,ports\n{rows}")).expect("written");
        fs::rename(&new, &csv).expect("replaced");
    };
    write("");
    link.post.configure("opt_outs: {csv: opt-outs.csv}");
    let daemon = link.post.start();
    let neighbour = "100.64.7.10";
    let before = daemon.status()["ruleset"]["generation"].clone();
    for _ in 0..2 {
        assert!(!link.passes(SUBSCRIBER) && !link.passes(SUBSCRIBER_V6) && !link.passes(neighbour));
        let hits = || link.counted(Reason::Dropped);
        write(&format!("{SUBSCRIBER}/32,\n2001:db8:7::/64,\n"));
        let written = Instant::now();
        wait_until("the opt-out", || link.passes(SUBSCRIBER));
        assert!(written.elapsed() < Duration::from_secs(1), "{:?}", written.elapsed());
        let counted = hits();
        assert!(link.passes(SUBSCRIBER_V6) && link.passes(SUBSCRIBER));
        assert_eq!(hits(), counted, "no hit of theirs");
        assert!(!link.passes(neighbour), "nobody else");
        write("");
        let written = Instant::now();
        wait_until("the end of the opt-out", || !link.passes(SUBSCRIBER));
        assert!(written.elapsed() < Duration::from_secs(1), "{:?}", written.elapsed());
    }
    assert_eq!(daemon.status()["ruleset"]["generation"], before, "the ruleset stays as it is");
    let dropped = link.counted(Reason::Dropped);
    wait_until("every drop in the record", || daemon.recorded() == dropped);
}

//! The daemon between a subscriber link and an uplink: what happens to packets when it dies, comes
//! back, is switched, or has no news of its lists.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use sekisho::demo::{daemon::period, lab::ACCESS};
use sekisho_tests::{
    program,
    scene::{Answers, CLEAN, LISTED, Scene},
};

#[test]
fn a_killed_daemon_leaves_blocks_in_place_and_the_next_one_goes_on_where_it_stopped() {
    let scene = Scene::build(program!(), "restart", |_| Ok(())).unwrap();
    let mut daemon = scene.start().unwrap();
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::None);
    let (sent, _) = scene.outbound(LISTED).unwrap();
    let recorded = |sent| move |packets: u64| (packets == sent).then_some(());
    let before = recorded(sent);
    scene.wait_for("the first hits", || Ok(before(scene.hit_packets()?))).unwrap();

    let (done, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let stream = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(scene.ask(CLEAN).unwrap(), Answers::All);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let another_round = || {
            let so_far = rounds.load(Ordering::Relaxed);
            let more = || Ok((rounds.load(Ordering::Relaxed) > so_far + 1).then_some(()));
            scene.wait_for("clean traffic", more).unwrap();
        };
        another_round();
        daemon.kill().unwrap();
        another_round();
        assert_eq!(scene.ask(LISTED).unwrap(), Answers::None, "with the daemon dead");
        daemon = scene.start().unwrap();
        another_round();
        assert_eq!(scene.ask(LISTED).unwrap(), Answers::None, "with the next daemon");
        done.store(true, Ordering::Relaxed);
        stream.join().unwrap();
    });

    let (sent, arrived) = scene.outbound(CLEAN).unwrap();
    assert_eq!(sent, arrived, "no clean packet is lost");
    let (sent, arrived) = scene.outbound(LISTED).unwrap();
    assert_eq!(arrived, 0, "no listed packet passes");
    let after = recorded(sent);
    scene.wait_for("all hits in one record", || Ok(after(scene.hit_packets()?))).unwrap();
    drop(daemon);
}

#[test]
fn the_kill_switch_works_with_the_daemon_dead() {
    let scene = Scene::build(program!(), "mode", |_| Ok(())).unwrap();
    let mut daemon = scene.start().unwrap();
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::None);
    daemon.kill().unwrap();

    let pins = scene.home.pins().to_str().unwrap().to_owned();
    let switch = |mode: &str| {
        let output = scene.run(&["mode", mode, "--pin-dir", &pins]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    switch("observe");
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::All);
    let _daemon = scene.start().unwrap();
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::All, "the switch is pinned");
    // Three questions of six subscribers, twice, and as many answers.
    let observed = || {
        let counters = scene.client.counters()?;
        let packets = counters.iter().filter(|counter| counter.reason == "mode_observed");
        Ok((packets.map(|counter| counter.packets).sum::<u64>() == 72).then_some(()))
    };
    scene.wait_for("72 observed packets", observed).unwrap();
    switch("enforce");
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::None);
    switch("bypass");
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::All);
}

#[test]
fn lists_that_nobody_confirms_any_more_only_observe() {
    let scene = Scene::build(program!(), "lifetime", |config| {
        config.fetch.floor = period("1s")?;
        config.list_lifetime = period("15s")?;
        Ok(())
    })
    .unwrap();
    let mut daemon = scene.start().unwrap();
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::None);
    daemon.kill().unwrap();
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::None, "death alone ends nothing");
    let lapsed = || Ok((scene.ask(LISTED)? == Answers::All).then_some(()));
    scene.wait_for("the lists to lapse", lapsed).unwrap();
}

#[test]
fn counters_by_reason_add_up_to_the_frames_that_were_sent() {
    let scene = Scene::build(program!(), "metrics", |_| Ok(())).unwrap();
    let _daemon = scene.start().unwrap();
    let counted = || -> anyhow::Result<u64> {
        let counters = scene.client.counters()?;
        Ok(counters.iter().filter(|c| c.interface == ACCESS).map(|c| c.packets).sum())
    };
    scene.quiet().unwrap();
    let frames_before = scene.line.seen().frames_sent;
    let counted_before = counted().unwrap();
    assert_eq!(scene.ask(CLEAN).unwrap(), Answers::All);
    assert_eq!(scene.ask(LISTED).unwrap(), Answers::None);
    let agree = || {
        let frames = scene.line.complete()?.frames_sent - frames_before;
        Ok((counted()? - counted_before == frames && frames >= 36).then_some(()))
    };
    scene.wait_for("the counters to be the frames", agree).unwrap();
    let dropped = |c: &&sekisho::demo::daemon::Counter| c.reason == "dropped";
    let counters = scene.client.counters().unwrap();
    let dropped: u64 = counters.iter().filter(dropped).map(|counter| counter.packets).sum();
    assert_eq!(dropped, 18, "three questions of six subscribers");
}

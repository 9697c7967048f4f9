//! A build with another layout of records takes over what the one before left: on a live wire, and
//! whatever comes in between.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sekisho::dataplane::{
    Dataplane as _, DataplaneError,
    kernel::{Guarded, KernelDataplane, detach, set_global_mode},
};
use sekisho_abi::{
    ABI_VERSION,
    image::{Action, ImageBuilder, List, Port},
    reason::Reason,
    record::{Forwarding, Mode, Role},
};
use sekisho_tests::{
    cable::{MARK_AT, Then},
    link::Link,
    packet::{UDP, ethernet, ip as ip_packet, udp},
    program,
    span::{
        ACCESS, CAPACITY, CLEAN, LISTED, SUBSCRIBER, Span, UPLINK, image, ip, packets, wait_until,
    },
    tamper,
    traffic::Traffic,
};

const LEASE: Duration = Duration::from_secs(600);

fn folder(pin_dir: &Path, layout: u32) -> PathBuf {
    pin_dir.join(format!("abi{layout}"))
}

fn own(pin_dir: &Path) -> PathBuf {
    folder(pin_dir, ABI_VERSION)
}

/// Makes what is pinned another layout's, as far as a daemon can tell before it looks inside.
fn age(pin_dir: &Path, layout: u32) -> PathBuf {
    let other = folder(pin_dir, layout);
    fs::rename(own(pin_dir), &other).expect("bpffs renames folders");
    // A map that only the other layout has.
    tamper::pin_again(&other.join("LEASE"), &other.join("OTHER_MAP")).expect("pinned");
    other
}

fn link_pin(folder: &Path, slot: u8, interface: &str) -> PathBuf {
    folder.join(format!("link-{slot}-native-{interface}"))
}

fn ends(folder: &Path) -> [(u32, u32, u32); 2] {
    let pins = [link_pin(folder, 0, ACCESS), link_pin(folder, 1, UPLINK)];
    pins.map(|pin| tamper::link(&pin).expect("a link is pinned"))
}

fn has_program(interface: &str) -> bool {
    let output = std::process::Command::new("ip").args(["link", "show", "dev", interface]).output();
    String::from_utf8_lossy(&output.expect("iproute2 is there").stdout).contains("xdp")
}

fn routed(span: &Span, interfaces: &[&str]) -> Result<KernelDataplane, DataplaneError> {
    let guarded: Vec<Guarded> =
        interfaces.iter().map(|name| Guarded::routed(*name, Role::Subscriber)).collect();
    KernelDataplane::start(&span.settings, &guarded)
}

#[test]
fn a_daemon_of_another_layout_takes_a_live_wire_over_in_bypass_and_loses_no_frame() {
    let link = Link::new(program!(), "layouts");
    let pins = &link.span.settings.pin_dir;
    let mut daemon = link.post.start();
    link.switch("bypass");
    let traffic = Traffic::start(&link.span);
    for other in [ABI_VERSION - 1, ABI_VERSION + 1] {
        let flowed = |traffic: &Traffic| {
            let before = traffic.so_far();
            wait_until("more traffic", || traffic.so_far() > before + 100_000);
        };
        flowed(&traffic);
        assert!(daemon.stop().success());
        let left = age(pins, other);
        let before = ends(&left);
        flowed(&traffic);
        daemon = link.post.start();
        for (before, after) in before.into_iter().zip(ends(&own(pins))) {
            assert_eq!((after.0, after.2), (before.0, before.2), "the same link and interface");
            assert_ne!(after.1, before.1, "another program");
        }
        assert!(!left.exists());
        assert_eq!(daemon.status()["mode"]["global"], "bypass");
        flowed(&traffic);
    }
    let sent = traffic.stop();
    sent.expect_all_at(&link.span);
    assert!(link.passes(SUBSCRIBER));
    link.switch("enforce");
    assert!(!link.passes(SUBSCRIBER), "the new layout blocks");
    eprintln!("{} packets, {:.2} Mpps", sent.clean + sent.listed, sent.rate() / 1e6);
}

#[test]
fn the_switch_for_everything_works_on_what_another_layout_left() {
    let span = Span::lay("layouts-switch", Then::Drop);
    let pins = span.settings.pin_dir.clone();
    let dataplane = span.guard(Forwarding::Wire);
    dataplane.publish(&image(1, 0)).expect("published");
    dataplane.renew_lease(LEASE).expect("renewed");
    let frame = |remote: &str, mark: u8| {
        let packet = ip_packet(SUBSCRIBER, remote, UDP, &udp(4000, 443));
        let mut frame = ethernet(&[], 0x0800, &packet);
        frame[MARK_AT] = mark;
        frame
    };
    let arrived = |mark: u8| span.core.counted(mark).expect("a count");
    age(&pins, ABI_VERSION - 1);
    for (mode, passes) in [(Mode::Bypass, 64), (Mode::Enforce, 0), (Mode::Observe, 64)] {
        set_global_mode(&pins, mode).expect("switched");
        let before = [arrived(1), arrived(2)];
        span.from_line.send(&frame(LISTED, 1), 64).expect("sent");
        span.from_line.send(&frame(CLEAN, 2), 1).expect("sent");
        wait_until("the frame behind them", || arrived(2) == before[1] + 1);
        assert_eq!(arrived(1) - before[0], passes, "in {mode:?}");
    }
    drop(dataplane);
    let next = span.guard(Forwarding::Wire);
    assert_eq!(next.modes().expect("readable").global, Mode::Observe as u8);
}

#[test]
fn listed_packets_pass_between_two_layouts_and_clean_ones_are_all_carried() {
    let span = Span::lay("layouts-gap", Then::Drop);
    let dataplane = span.guard(Forwarding::Wire);
    dataplane.publish(&image(1, 0)).expect("published");
    dataplane.renew_lease(LEASE).expect("renewed");
    drop(dataplane);
    age(&span.settings.pin_dir, ABI_VERSION - 1);
    let dataplane = span.guard(Forwarding::Wire);
    let installed = dataplane.installed().expect("readable");
    assert_eq!(installed.generation, None);
    let traffic = Traffic::start(&span);
    wait_until("traffic", || traffic.so_far() > 100_000);
    let sent = traffic.stop();
    sent.expect_all_at(&span);
    assert_eq!(packets(&dataplane, 0, Reason::NoRuleset), sent.clean + sent.listed);
}

#[test]
fn switches_of_lists_and_interfaces_follow_their_names() {
    let span = Span::lay("layouts-names", Then::Drop);
    let first = span.guard(Forwarding::Kernel);
    let lists = ["one", "two"].map(|name| List { name: name.to_owned(), action: Action::Drop });
    let mut builder = ImageBuilder::new(lists.to_vec());
    builder.list_v4(LISTED.parse().expect("an address"), 32, Port::Any, 2);
    first.publish(&builder.build(1, CAPACITY).expect("it fits")).expect("published");
    let switch = &mut |modes: &mut sekisho_abi::record::Modes| {
        (modes.observed_lists, modes.ports[1]) = (2, Mode::Observe as u8);
    };
    first.change_modes(switch).expect("switched");
    drop(first);
    age(&span.settings.pin_dir, ABI_VERSION - 1);
    // Before it is guarded again, one of them has got another name.
    ip(&format!("link set {UPLINK} down"));
    ip(&format!("link set {UPLINK} name renamed"));
    let second = routed(&span, &["renamed", ACCESS]).expect("starts");
    let installed = second.installed().expect("readable");
    let ports: Vec<_> =
        installed.ports.iter().map(|port| (port.slot, port.interface.as_str())).collect();
    assert_eq!(ports, [(0, ACCESS), (1, "renamed")]);
    assert!(installed.ports.iter().all(|port| port.attachment.is_some()));
    assert_eq!(installed.lists, ["one", "two"], "which lists the switch speaks of");
    let modes = second.modes().expect("readable");
    assert_eq!((modes.observed_lists, modes.global), (2, Mode::Enforce as u8));
    assert_eq!(modes.ports[..2], [Mode::Enforce as u8, Mode::Observe as u8]);
}

#[test]
fn nothing_is_enforced_once_the_names_of_switched_lists_are_lost() {
    let span = Span::lay("layouts-unnamed", Then::Drop);
    let first = span.guard(Forwarding::Kernel);
    first.publish(&image(1, 0)).expect("published");
    first.change_modes(&mut |modes| modes.observed_lists = 1).expect("switched");
    drop(first);
    let left = age(&span.settings.pin_dir, ABI_VERSION - 1);
    fs::remove_file(left.join(format!("ruleset-{CAPACITY}"))).expect("it was pinned");
    let second = span.guard(Forwarding::Kernel);
    let modes = second.modes().expect("readable");
    assert_eq!((modes.observed_lists, modes.global), (0, Mode::Observe as u8));
}

#[test]
fn nothing_is_enforced_once_the_switch_is_lost() {
    let span = Span::lay("layouts-switchless", Then::Drop);
    drop(span.guard(Forwarding::Kernel));
    let left = age(&span.settings.pin_dir, ABI_VERSION - 1);
    fs::remove_file(left.join("MODES")).expect("it was pinned");
    let second = span.guard(Forwarding::Kernel);
    assert_eq!(second.modes().expect("readable").global, Mode::Observe as u8);
}

#[test]
fn while_a_daemon_of_another_layout_runs_nothing_is_touched() {
    let span = Span::lay("layouts-busy", Then::Drop);
    let running = span.guard(Forwarding::Kernel);
    let left = age(&span.settings.pin_dir, ABI_VERSION - 1);
    let before = ends(&left);
    let error = routed(&span, &[ACCESS, UPLINK]).err().expect("refused");
    assert!(matches!(error, DataplaneError::Busy { .. }), "{error}");
    assert!(error.to_string().contains(&left.display().to_string()), "{error}");
    assert!(matches!(detach(&span.settings.pin_dir), Err(DataplaneError::Busy { .. })));
    assert_eq!(ends(&left), before);
    assert!(!own(&span.settings.pin_dir).exists());
    drop(running);
    drop(routed(&span, &[ACCESS, UPLINK]).expect("starts"));
}

#[test]
fn a_start_that_fails_gives_links_and_programs_back() {
    let span = Span::lay("layouts-failing", Then::Drop);
    drop(span.guard(Forwarding::Kernel));
    let left = age(&span.settings.pin_dir, ABI_VERSION - 1);
    let before = ends(&left);
    // Loopback takes no program in its driver.
    let error = routed(&span, &[ACCESS, UPLINK, "lo"]).err().expect("refused");
    assert!(matches!(error, DataplaneError::NoXdp { .. }), "{error}");
    assert_eq!(ends(&left), before);
    assert!(!own(&span.settings.pin_dir).exists());
    drop(routed(&span, &[ACCESS, UPLINK]).expect("starts"));
    assert!(!left.exists());
}

#[test]
fn a_takeover_that_broke_off_is_finished() {
    let span = Span::lay("layouts-broken-off", Then::Drop);
    let first = span.guard(Forwarding::Wire);
    first.publish(&image(1, 0)).expect("published");
    let switch = &mut |modes: &mut sekisho_abi::record::Modes| {
        (modes.ports[0], modes.ports[1]) = (Mode::Observe as u8, Mode::Bypass as u8);
    };
    first.change_modes(switch).expect("switched");
    drop(first);
    // One link is in the folder already, with the maps; the other one is not yet.
    let pins = &span.settings.pin_dir;
    let before = ends(&own(pins));
    let left = folder(pins, ABI_VERSION - 1);
    fs::create_dir(&left).expect("bpffs takes folders");
    tamper::pin_again(&own(pins).join("MODES"), &left.join("MODES")).expect("pinned");
    let not_yet = |folder: &Path| link_pin(folder, 1, UPLINK);
    fs::rename(not_yet(&own(pins)), not_yet(&left)).expect("renamed");
    let second = span.guard(Forwarding::Wire);
    assert!(!left.exists());
    assert_eq!(ends(&own(pins)).map(|end| end.0), before.map(|end| end.0), "the same links");
    assert_eq!(second.installed().expect("readable").generation, Some(1), "it is still live");
    let modes = second.modes().expect("readable");
    assert_eq!(modes.ports[..2], [Mode::Observe as u8, Mode::Bypass as u8]);
}

#[test]
fn an_interface_that_is_no_longer_guarded_loses_the_program_of_the_other_layout() {
    let span = Span::lay("layouts-left", Then::Drop);
    drop(span.guard(Forwarding::Kernel));
    age(&span.settings.pin_dir, ABI_VERSION - 1);
    let second = routed(&span, &[UPLINK]).expect("starts");
    assert!(has_program(UPLINK) && !has_program(ACCESS));
    assert_eq!(second.installed().expect("readable").ports[0].slot, 1);
}

#[test]
fn detach_takes_every_layout_off() {
    let span = Span::lay("layouts-detach", Then::Drop);
    drop(span.guard(Forwarding::Wire));
    age(&span.settings.pin_dir, ABI_VERSION - 1);
    assert!(is_promiscuous(ACCESS));
    detach(&span.settings.pin_dir).expect("detached");
    assert!(!span.settings.pin_dir.exists());
    assert!(!has_program(ACCESS) && !has_program(UPLINK));
    assert!(!is_promiscuous(ACCESS));
}

#[test]
fn who_made_an_interface_promiscuous_is_known_in_the_next_layout() {
    let span = Span::lay("layouts-promisc", Then::Drop);
    drop(span.guard(Forwarding::Wire));
    age(&span.settings.pin_dir, ABI_VERSION - 1);
    let second = span.guard(Forwarding::Wire);
    assert!(is_promiscuous(ACCESS) && is_promiscuous(UPLINK));
    drop(second);
    detach(&span.settings.pin_dir).expect("detached");
    assert!(!is_promiscuous(ACCESS) && !is_promiscuous(UPLINK));
}

fn is_promiscuous(interface: &str) -> bool {
    let output = std::process::Command::new("ip").args(["link", "show", "dev", interface]).output();
    String::from_utf8_lossy(&output.expect("iproute2 is there").stdout).contains("PROMISC")
}

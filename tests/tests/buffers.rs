//! Frames that a driver hands over in several buffers: what is judged does not depend on where the first
//! one ends. Some leave it empty.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{os::fd::AsFd as _, time::Duration};

use nix::{
    sched::{CloneFlags, unshare},
    sys::utsname::uname,
};
use sekisho::dataplane::{
    Dataplane as _,
    kernel::{Attach, Guarded, KernelDataplane, Settings},
};
use sekisho_abi::{
    image::{Action, Image, ImageBuilder, List, Port},
    reason::Reason,
    record::{Count, Mode, Modes, Role},
};
use sekisho_tests::{
    buffers,
    packet::{Carrier, TCP, Tunnel, UDP, flag, ip, tcp, udp},
    pins::Pins,
    span::{CAPACITY, CLEAN, CLEAN_V6, LISTED, LISTED_V6, SUBSCRIBER, SUBSCRIBER_V6, image},
};

const QINQ: [(u16, u16); 2] = [(0x88a8, 30), (0x8100, 1200)];
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// Longer than all headers together.
const BODY: usize = 700;

struct Stage {
    dataplane: KernelDataplane,
    /// Dropped last, when the dataplane has let go of its pins.
    _pins: Pins,
}

impl Stage {
    fn new(role: Role, image: &Image) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads an XDP program and needs root");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        // Each test has a thread of its own.
        let pins = Pins::new(&format!("buffers-{}", nix::unistd::gettid()));
        let settings = Settings {
            flow_table_entries: 1024,
            attach: Attach::Generic,
            ..Settings::new(pins.0.clone(), CAPACITY)
        };
        let dataplane = KernelDataplane::start(&settings, &[Guarded::routed("lo", role)]);
        let dataplane = dataplane.expect("the program loads");
        dataplane.publish(image).expect("published");
        dataplane.renew_lease(Duration::from_secs(600)).expect("renewed");
        Self { dataplane, _pins: pins }
    }

    fn switch_to_bypass(&self) {
        let bypass = &mut |modes: &mut Modes| modes.global = Mode::Bypass as u8;
        self.dataplane.change_modes(bypass).expect("switched");
    }

    fn counted(&self) -> [Count; Reason::COUNT] {
        self.dataplane.counts().expect("counters can be read")[0].by_reason
    }
}

/// Whether a test run can have a first buffer that is short: since kernel 6.18.
fn can_split() -> bool {
    let release = uname().expect("the kernel has a name").release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().expect("a number"), numbers.next().expect("a number"));
    let can = version >= (6, 18);
    if !can {
        println!("NOT TESTED: kernel {release} has no test runs with a short first buffer");
    }
    can
}

struct Sample {
    what: String,
    frame: Vec<u8>,
    is_listed: bool,
    /// Bytes up to the end of the transport header.
    headers: usize,
    /// Whether the way back is known.
    is_answerable: bool,
}

/// The same packet to a listed and to a clean remote, in all that access links wrap it in.
fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (subscriber, remote, is_listed) in [
        (SUBSCRIBER, LISTED, true),
        (SUBSCRIBER, CLEAN, false),
        (SUBSCRIBER_V6, LISTED_V6, true),
        (SUBSCRIBER_V6, CLEAN_V6, false),
    ] {
        for (protocol, header_bytes, header) in
            [(UDP, 8, udp(4000, 443)), (TCP, 20, tcp(4000, 443, flag::SYN))]
        {
            let packet = ip(subscriber, remote, protocol, &[&header[..], &[0x5a; BODY]].concat());
            let inside =
                |tunnel: Tunnel| tunnel.packet("2001:db8:b4::1", "2001:2:0:af::1", &packet);
            for (carrier, tags, packet, is_answerable) in [
                (Carrier::Plain, &[][..], packet.clone(), true),
                (Carrier::Pppoe(7), &QINQ, packet.clone(), true),
                (Carrier::Mpls { ethertype: 0x8847, labels: 2 }, &[], packet.clone(), false),
                (Carrier::Plain, &QINQ, inside(Tunnel::Ip), false),
                (Carrier::Plain, &[], inside(Tunnel::Gre(0)), false),
            ] {
                let what = format!("{remote}, protocol {protocol}, {carrier:?}, {tags:x?}");
                let frame = carrier.frame(tags, &packet);
                let headers = frame.len() - BODY - (header.len() - header_bytes);
                samples.push(Sample { what, frame, is_listed, headers, is_answerable });
            }
        }
    }
    samples
}

fn try_all(role: Role) {
    if !can_split() {
        return;
    }
    let stage = Stage::new(role, &image(1, 0));
    let program = stage.dataplane.program("lo").expect("it was loaded");
    for Sample { what, frame, is_listed, .. } in samples() {
        let (action, reason) =
            if is_listed { (XDP_DROP, Reason::Dropped) } else { (XDP_PASS, Reason::NotListed) };
        for in_first in (0..=160).chain([400, frame.len() as u32]) {
            let before = stage.counted()[reason as usize];
            let done = buffers::run(program.as_fd(), &frame, in_first).expect("it runs");
            assert_eq!(done, action, "{what}: {in_first} bytes in the first buffer");
            let after = stage.counted()[reason as usize];
            let since = (after.packets - before.packets, after.bytes - before.bytes);
            assert_eq!(since, (1, frame.len() as u64), "{what}: {in_first} bytes in the first");
        }
    }
    stage.switch_to_bypass();
    let frame = samples().swap_remove(0).frame;
    let before = stage.counted()[Reason::ModeBypass as usize];
    buffers::run(program.as_fd(), &frame, 0).expect("it runs");
    let after = stage.counted()[Reason::ModeBypass as usize];
    assert_eq!(after.bytes - before.bytes, frame.len() as u64, "in bypass");
    let rows = stage.dataplane.drain().expect("drained").rows;
    let dropped = stage.counted()[Reason::Dropped as usize];
    let packets: u64 = rows.iter().map(|row| row.totals.packets).sum();
    let bytes: u64 = rows.iter().map(|row| row.totals.bytes).sum();
    assert_eq!((packets, bytes), (dropped.packets, dropped.bytes), "rows are the hits");
}

#[test]
fn a_subscribers_frame_is_judged_wherever_its_first_buffer_ends() {
    try_all(Role::Subscriber);
}

#[test]
fn a_frame_on_a_two_way_interface_is_judged_wherever_its_first_buffer_ends() {
    try_all(Role::Both);
}

/// An answer is made of headers that lie in the first buffer; without them the packet is dropped.
#[test]
fn what_can_not_be_answered_is_dropped() {
    if !can_split() {
        return;
    }
    let list = List { name: "list".to_owned(), action: Action::Reject };
    let mut builder = ImageBuilder::new(vec![list]);
    builder.list_v4(LISTED.parse().expect("an address"), 32, Port::Any, 1);
    builder.list_v6(LISTED_V6.parse().expect("an address"), 128, Port::Any, 1);
    let stage = Stage::new(Role::Subscriber, &builder.build(1, CAPACITY).expect("it fits"));
    let program = stage.dataplane.program("lo").expect("it was loaded");
    let counted = || {
        let by_reason = stage.counted();
        [Reason::Rejected, Reason::RejectedSilently].map(|it| by_reason[it as usize].packets)
    };
    for Sample { what, frame, is_listed, headers, is_answerable } in samples() {
        for in_first in (0..=160).chain([frame.len() as u32]).filter(|_| is_listed) {
            let before = counted();
            let action = buffers::run(program.as_fd(), &frame, in_first).expect("it runs");
            let since = [0, 1].map(|at| counted()[at] - before[at]);
            let is_answered = is_answerable && in_first as usize >= headers;
            let wanted = if is_answered { (XDP_TX, [1, 0]) } else { (XDP_DROP, [0, 1]) };
            assert_eq!((action, since), wanted, "{what}: {in_first} bytes in the first buffer");
        }
    }
}

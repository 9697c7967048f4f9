//! Packets through the program in the kernel (`BPF_PROG_TEST_RUN`), each a sentence, and the same
//! packets through the same code on the host.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use sekisho::dataplane::{
    Dataplane, FlowRow,
    kernel::{Attach, Guarded, KernelDataplane, Settings, detach},
};
use sekisho_abi::{
    image::{Action, Image, ImageBuilder, List, Port},
    reason::{Reason, Verdict},
    record::{FlagClass, Mode, Modes, Role},
};
use sekisho_tests::{
    packet::{ICMP, Ipv4, Ipv6, TCP, UDP, ethernet, extension, flag, fragment, tcp, udp},
    site::HostSite,
};
use sekisho_xdp::decide;

const CAPACITY: usize = 8 << 20;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

const SUBSCRIBER: &str = "100.64.7.9";
const SUBSCRIBER_V6: &str = "2001:db8:7::9";
/// Listed for every packet by a list that drops.
const LISTED: &str = "198.18.0.1";
const LISTED_V6: &str = "2001:2:0:1::1";
/// Listed for TCP port 23 and UDP port 53.
const BY_PORT: &str = "198.18.0.2";
const BY_PORT_V6: &str = "2001:2:0:2::2";
/// Listed by a list that observes.
const OBSERVED: &str = "198.18.0.3";
/// Inside a listed /24, but never blocked.
const ALLOWED: &str = "198.18.9.9";
/// Inside the same /24.
const IN_NETWORK: &str = "198.18.9.10";
const CLEAN: &str = "198.19.0.1";
const CLEAN_V6: &str = "2001:2:0:ffff::1";

fn ruleset(generation: u32) -> Image {
    let list = |name: &str, action| List { name: name.to_owned(), action };
    let mut builder =
        ImageBuilder::new(vec![list("drops", Action::Drop), list("observes", Action::Observe)]);
    let v4 = |text: &str| text.parse().expect("an IPv4 address");
    let v6 = |text: &str| text.parse().expect("an IPv6 address");
    builder.list_v4(v4(LISTED), 32, Port::Any, 1);
    builder.list_v6(v6(LISTED_V6), 128, Port::Any, 1);
    builder.list_v4(v4(BY_PORT), 32, Port::One(TCP, 23), 1);
    builder.list_v4(v4(BY_PORT), 32, Port::One(UDP, 53), 1);
    builder.list_v6(v6(BY_PORT_V6), 128, Port::One(TCP, 23), 1);
    builder.list_v4(v4(OBSERVED), 32, Port::Any, 2);
    builder.list_v4(v4("198.18.9.0"), 24, Port::Any, 1);
    builder.allow_v4(v4(ALLOWED), 32);
    builder.build(generation, CAPACITY).expect("a handful fits")
}

/// A dataplane on the loopback interface of a network namespace of its own.
struct Lab {
    dataplane: KernelDataplane,
    image: Image,
    site: HostSite,
    /// Dropped last, when the dataplane has let go of its pins.
    _pins: Pins,
}

struct Pins(std::path::PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.0) {
            eprintln!("cannot clean up {}: {error}", self.0.display());
        }
    }
}

impl Lab {
    fn new(name: &str, role: Role) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test loads an XDP program and needs root");
        // Each test has a thread of its own, and with it a namespace of its own.
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let pin_dir =
            std::path::PathBuf::from(format!("/sys/fs/bpf/sekisho-{name}-{}", std::process::id()));
        let pins = Pins(pin_dir.clone());
        let settings = Settings {
            flow_table_entries: 1024,
            attach: Attach::Generic,
            ..Settings::new(pin_dir, CAPACITY)
        };
        let guarded = [Guarded::routed("lo", role)];
        let dataplane = KernelDataplane::start(&settings, &guarded).expect("the program loads");
        let image = ruleset(7);
        dataplane.publish(&image).expect("the image is published");
        dataplane.renew_lease(Duration::from_secs(3600)).expect("the lease is renewed");
        Self { dataplane, image, site: HostSite::new(role), _pins: pins }
    }

    fn by_reason(&self) -> [u64; Reason::COUNT] {
        let counts = self.dataplane.counts().expect("counters can be read");
        counts.first().expect("one interface").by_reason.map(|count| count.packets)
    }

    /// What the kernel says of a frame: its action, and the one reason whose counter rose by one.
    fn judge(&self, frame: &[u8]) -> (u32, Reason) {
        let before = self.by_reason();
        let (action, _) = self.dataplane.test_run("lo", frame, 1).expect("the program runs");
        let after = self.by_reason();
        let mut risen = Reason::ALL.into_iter().filter(|reason| {
            let rise = after[*reason as usize] - before[*reason as usize];
            assert!(rise <= 1, "one packet, counted {rise} times as {reason:?}");
            rise == 1
        });
        let reason = risen.next().expect("every packet is counted");
        assert_eq!(risen.next(), None, "a packet has one reason");
        (action, reason)
    }

    /// What the same code says on the host, in enforcement.
    fn judge_on_host(&self, frame: &[u8]) -> Reason {
        decide::judge(frame, self.image.bytes(), &self.site, |found| {
            decide::decide(found.lists, &Modes::all(Mode::Enforce), Mode::Enforce, || true)
        })
    }

    fn check(&self, sentence: &str, frame: &[u8], expected: Reason) {
        let (action, reason) = self.judge(frame);
        assert_eq!(reason, expected, "{sentence}");
        let verdict = match expected.verdict() {
            Verdict::Pass => XDP_PASS,
            _ => XDP_DROP,
        };
        assert_eq!(action, verdict, "{sentence}");
        assert_eq!(self.judge_on_host(frame), expected, "on the host: {sentence}");
    }

    fn drained(&self) -> Vec<FlowRow> {
        self.dataplane.drain().expect("flows can be drained").rows
    }
}

const TAGS: [&[(u16, u16)]; 5] = [
    &[],
    &[(0x8100, 100)],
    &[(0x88a8, 200), (0x8100, 100)],
    &[(0x9100, 1), (0x8100, 2), (0x8100, 3)],
    &[(0x88a8, 1), (0x88a8, 2), (0x8100, 3), (0x8100, 4)],
];

#[test]
fn every_layer_is_judged_by_its_remote() {
    let lab = Lab::new("layers", Role::Subscriber);
    for tags in TAGS {
        let depth = tags.len();
        for (protocol, payload) in [
            (TCP, tcp(40_000, 443, flag::SYN)),
            (UDP, udp(40_000, 443)),
            (ICMP, vec![8, 0, 0, 0, 0, 1, 0, 1]),
            (50, vec![0; 8]),
        ] {
            for (remote, reason) in [
                (LISTED, Reason::Dropped),
                (CLEAN, Reason::NotListed),
                (OBSERVED, Reason::ListObserved),
                (ALLOWED, Reason::NotListed),
                (IN_NETWORK, Reason::Dropped),
                (BY_PORT, Reason::PortNotListed),
            ] {
                let ip = Ipv4::new(SUBSCRIBER, remote, protocol);
                lab.check(
                    &format!("IPv4 protocol {protocol} to {remote} behind {depth} tags"),
                    &ip.frame(tags, &payload),
                    reason,
                );
            }
            for (remote, reason) in [
                (LISTED_V6, Reason::Dropped),
                (CLEAN_V6, Reason::NotListed),
                (BY_PORT_V6, Reason::PortNotListed),
            ] {
                lab.check(
                    &format!("IPv6 protocol {protocol} to {remote} behind {depth} tags"),
                    &Ipv6::new(SUBSCRIBER_V6, remote, protocol).frame(tags, &payload),
                    reason,
                );
            }
        }
    }
}

#[test]
fn a_port_condition_blocks_its_port_and_no_other() {
    let lab = Lab::new("ports", Role::Subscriber);
    for (protocol, port, reason) in [
        (TCP, 23, Reason::Dropped),
        (TCP, 53, Reason::PortNotListed),
        (TCP, 22, Reason::PortNotListed),
        (UDP, 53, Reason::Dropped),
        (UDP, 23, Reason::PortNotListed),
    ] {
        let payload = if protocol == TCP { tcp(23, port, flag::ACK) } else { udp(53, port) };
        let sentence = format!("protocol {protocol} port {port}");
        let v4 = Ipv4::new(SUBSCRIBER, BY_PORT, protocol);
        lab.check(&sentence, &v4.frame(&[], &payload), reason);
        let options = Ipv4 { options: &[1; 40], ..v4 };
        lab.check(
            &format!("{sentence} behind IPv4 options"),
            &options.frame(&[], &payload),
            reason,
        );
        if protocol == TCP {
            let v6 = Ipv6::new(SUBSCRIBER_V6, BY_PORT_V6, TCP);
            lab.check(&sentence, &v6.frame(&[], &payload), reason);
        }
    }
}

#[test]
fn extension_headers_are_walked_to_the_ports() {
    let lab = Lab::new("extensions", Role::Subscriber);
    let to_port = |first: u8, headers: &[u8], port: u16| {
        let payload = [headers, &tcp(40_000, port, flag::SYN)].concat();
        Ipv6::new(SUBSCRIBER_V6, BY_PORT_V6, first).frame(&[(0x8100, 5)], &payload)
    };
    for (kind, name) in
        [(0, "hop-by-hop"), (43, "routing"), (60, "destination options"), (135, "mobility")]
    {
        for units in [0, 1, 31, 255] {
            let header = extension(TCP, units);
            let sentence = format!("{name} header with {units} more units");
            lab.check(&sentence, &to_port(kind, &header, 23), Reason::Dropped);
            lab.check(&sentence, &to_port(kind, &header, 24), Reason::PortNotListed);
        }
    }
    let authentication = [&[TCP, 4, 0, 0][..], &[0; 20]].concat();
    lab.check("authentication header", &to_port(51, &authentication, 23), Reason::Dropped);
    lab.check(
        "the first fragment shows its ports",
        &to_port(44, &fragment(TCP, 0, true), 23),
        Reason::Dropped,
    );
    lab.check(
        "a later fragment shows none",
        &to_port(44, &fragment(TCP, 5, true), 23),
        Reason::LaterFragment,
    );
    let chain = |length: usize| {
        extension(60, 0)
            .repeat(length - 1)
            .into_iter()
            .chain(extension(TCP, 0))
            .collect::<Vec<u8>>()
    };
    lab.check("eight headers", &to_port(60, &chain(8), 23), Reason::Dropped);
    lab.check("nine headers", &to_port(60, &chain(9), 23), Reason::TooManyExtensionHeaders);
    lab.check(
        "nine headers to an address that is listed for every packet",
        &Ipv6::new(SUBSCRIBER_V6, LISTED_V6, 60).frame(&[], &chain(9)),
        Reason::Dropped,
    );
}

#[test]
fn fragments_match_by_address_and_only_the_first_by_port() {
    let lab = Lab::new("fragments", Role::Subscriber);
    let first = |remote| Ipv4 { more: true, ..Ipv4::new(SUBSCRIBER, remote, TCP) };
    let later = |remote| Ipv4 { fragment: 64, ..Ipv4::new(SUBSCRIBER, remote, TCP) };
    let payload = tcp(40_000, 23, flag::SYN);
    lab.check("first to a listed port", &first(BY_PORT).frame(&[], &payload), Reason::Dropped);
    lab.check(
        "later to a listed port",
        &later(BY_PORT).frame(&[], &payload),
        Reason::LaterFragment,
    );
    lab.check("later to a listed address", &later(LISTED).frame(&[], &payload), Reason::Dropped);
    lab.check("later to a clean address", &later(CLEAN).frame(&[], &payload), Reason::NotListed);
}

#[test]
fn every_truncation_passes_and_is_counted() {
    let lab = Lab::new("truncation", Role::Subscriber);
    for tags in TAGS {
        let frames = [
            Ipv4 { options: &[1; 8], ..Ipv4::new(SUBSCRIBER, BY_PORT, TCP) }
                .frame(tags, &tcp(40_000, 23, flag::SYN)),
            Ipv6::new(SUBSCRIBER_V6, BY_PORT_V6, 60)
                .frame(tags, &[extension(TCP, 1), tcp(40_000, 23, flag::SYN)].concat()),
        ];
        for frame in frames {
            let link = 14 + tags.len() * 4;
            let is_v6 = frame[link] >> 4 == 6;
            let network = link + if is_v6 { 40 } else { 20 };
            let transport = if is_v6 { network + 16 } else { network + 8 };
            for length in 14..frame.len() {
                let expected = match length {
                    length if length < link => Reason::TruncatedVlan,
                    length if length < network && is_v6 => Reason::TruncatedIpv6,
                    length if length < network => Reason::TruncatedIpv4,
                    length if length < transport + 4 => Reason::TruncatedTransport,
                    _ => Reason::Dropped,
                };
                let sentence = format!("IPv6 {is_v6}, {} tags, cut to {length}", tags.len());
                lab.check(&sentence, &frame[..length], expected);
            }
        }
    }
}

#[test]
fn what_is_not_ip_or_contradicts_itself_passes() {
    let lab = Lab::new("foreign", Role::Subscriber);
    for (name, ethertype) in [
        ("ARP", 0x0806),
        ("LACP", 0x8809),
        ("PPPoE discovery", 0x8863),
        ("LLDP", 0x88cc),
        ("802.3 length", 60),
    ] {
        lab.check(name, &ethernet(&[], ethertype, &[0; 46]), Reason::NotIp);
        lab.check(name, &ethernet(&[(0x8100, 7)], ethertype, &[0; 46]), Reason::NotIp);
    }
    let tags = [(0x8100, 1); 5];
    let ip = Ipv4::new(SUBSCRIBER, LISTED, UDP);
    lab.check("five tags", &ip.frame(&tags, &udp(1, 2)), Reason::TooManyVlans);
    let mut version = ip.bytes(&udp(1, 2));
    version[0] = 0x65;
    lab.check("IPv6 in an IPv4 frame", &ethernet(&[], 0x0800, &version), Reason::MalformedIpv4);
    let mut short = ip.bytes(&udp(1, 2));
    short[0] = 0x44;
    lab.check("a header of 16 bytes", &ethernet(&[], 0x0800, &short), Reason::MalformedIpv4);
    lab.check("IPv4 in an IPv6 frame", &ethernet(&[], 0x86dd, &[0x45; 60]), Reason::MalformedIpv6);
}

#[test]
fn the_role_of_the_interface_says_which_end_is_the_remote() {
    let outbound = Ipv4::new(SUBSCRIBER, BY_PORT, TCP).frame(&[], &tcp(40_000, 23, flag::SYN));
    let inbound =
        Ipv4::new(BY_PORT, SUBSCRIBER, TCP).frame(&[], &tcp(23, 40_000, flag::SYN | flag::ACK));
    let inbound_v6 = Ipv6::new(LISTED_V6, SUBSCRIBER_V6, UDP).frame(&[], &udp(53, 40_000));
    {
        let lab = Lab::new("role-subscriber", Role::Subscriber);
        lab.check("outbound", &outbound, Reason::Dropped);
        lab.check("inbound", &inbound, Reason::NotListed);
        lab.check("inbound IPv6", &inbound_v6, Reason::NotListed);
    }
    {
        let lab = Lab::new("role-uplink", Role::Uplink);
        lab.check("outbound", &outbound, Reason::NotListed);
        lab.check("inbound", &inbound, Reason::Dropped);
        lab.check("inbound IPv6", &inbound_v6, Reason::Dropped);
    }
    let lab = Lab::new("role-both", Role::Both);
    lab.check("outbound", &outbound, Reason::Dropped);
    lab.check("inbound", &inbound, Reason::Dropped);
    lab.check("inbound IPv6", &inbound_v6, Reason::Dropped);
    let between = Ipv4::new(SUBSCRIBER, CLEAN, TCP).frame(&[], &tcp(1, 2, flag::SYN));
    lab.check("neither end is listed", &between, Reason::NotListed);
    let both = Ipv4::new(LISTED, BY_PORT, TCP).frame(&[], &tcp(1, 24, flag::SYN));
    lab.check("of two listed ends the destination is the remote", &both, Reason::PortNotListed);
}

#[test]
fn modes_and_the_lease_turn_drops_into_passes() {
    let lab = Lab::new("modes", Role::Subscriber);
    let frame = Ipv4::new(SUBSCRIBER, LISTED, UDP).frame(&[], &udp(40_000, 443));
    let set = |modes: &Modes| lab.dataplane.set_modes(modes).expect("the mode can be set");
    let expect = |reason: Reason, sentence: &str| {
        let action = if reason == Reason::Dropped { XDP_DROP } else { XDP_PASS };
        assert_eq!(lab.judge(&frame), (action, reason), "{sentence}");
    };
    expect(Reason::Dropped, "enforce");
    set(&Modes::all(Mode::Observe));
    expect(Reason::ModeObserved, "observe");
    set(&Modes::all(Mode::Bypass));
    expect(Reason::ModeBypass, "bypass");
    let mut modes = Modes::all(Mode::Enforce);
    modes.ports[0] = Mode::Observe as u8;
    set(&modes);
    expect(Reason::ModeObserved, "this interface observes");
    modes = Modes::all(Mode::Enforce);
    modes.observed_lists = 1;
    set(&modes);
    expect(Reason::ListObserved, "the list observes");
    modes.bypassed_lists = 1;
    set(&modes);
    expect(Reason::ListBypassed, "the list is bypassed");
    set(&Modes::all(Mode::Enforce));
    expect(Reason::Dropped, "enforce again");
    lab.dataplane.renew_lease(Duration::ZERO).expect("the lease can be ended");
    expect(Reason::LifetimeOver, "the lease is over");
    lab.dataplane.renew_lease(Duration::from_secs(60)).expect("the lease can be renewed");
    expect(Reason::Dropped, "the lease is renewed");
}

#[test]
fn a_hit_keeps_who_what_and_how_and_a_scan_reply_is_a_response() {
    let lab = Lab::new("record", Role::Subscriber);
    let tags = [(0x88a8, 200), (0x8100, 100)];
    let send = |flags: u8, times: u32| {
        let frame = Ipv4::new(SUBSCRIBER, BY_PORT, TCP).frame(&tags, &tcp(40_000, 23, flags));
        lab.dataplane.test_run("lo", &frame, times).expect("the program runs");
        frame.len() as u64
    };
    let length = send(flag::SYN, 3);
    send(flag::SYN | flag::ACK, 2);
    send(flag::RST | flag::ACK, 1);
    send(flag::ACK, 5);
    let rows = lab.drained();
    let of = |class: FlagClass| {
        let of_class = rows.iter().filter(|row| row.key.class == class as u8);
        of_class.fold((0, 0), |sum, row| (sum.0 + row.totals.packets, sum.1 + row.totals.bytes))
    };
    assert_eq!(of(FlagClass::Initiated), (3, 3 * length));
    assert_eq!(of(FlagClass::Response), (3, 3 * length), "a scan's answer is no infection");
    assert_eq!(of(FlagClass::Other), (5, 5 * length));
    for row in &rows {
        let key = row.key;
        assert_eq!(key.subscriber.ip().to_string(), SUBSCRIBER);
        assert_eq!(key.remote.ip().to_string(), BY_PORT);
        assert_eq!(u16::from_be_bytes(key.remote_port), 23);
        assert_eq!(u16::from_be_bytes(row.totals.subscriber_port), 40_000);
        assert_eq!((key.protocol, key.generation, key.vlan_tags), (TCP, 7, 2));
        assert_eq!(key.vlans, 200 << 16 | 100);
        assert_eq!(Reason::from_u8(key.reason), Some(Reason::Dropped));
        assert!(row.totals.first_ns <= row.totals.last_ns);
    }
    assert!(lab.drained().is_empty(), "what was drained is gone");
    let events = lab.dataplane.events().expect("the ring can be read");
    assert!(!events.is_empty(), "the first packet of a flow is announced");
}

#[test]
fn flow_rows_and_overflow_are_all_hits_whatever_the_number_of_flows() {
    let lab = Lab::new("ledger", Role::Subscriber);
    let (mut sent, mut rows) = (0_u64, 0_u64);
    for round in 0..3 {
        // More flows than the cache (1024 a CPU) and the table (1024) together can hold.
        for flow in 0..6_000_u32 {
            let source = std::net::Ipv4Addr::from(0x6440_0000 + flow).to_string();
            let frame = Ipv4::new(&source, LISTED, UDP).frame(&[], &udp(40_000, 443));
            let repeat = 1 + flow % 3;
            lab.dataplane.test_run("lo", &frame, repeat).expect("the program runs");
            sent += u64::from(repeat);
        }
        rows += lab.drained().iter().map(|row| row.totals.packets).sum::<u64>();
        let totals = lab.dataplane.rule_totals().expect("totals can be read");
        let hits: u64 = totals.iter().map(|(_, totals)| totals.hits.packets).sum();
        let overflow: u64 = totals.iter().map(|(_, totals)| totals.overflow.packets).sum();
        assert_eq!(hits, sent, "round {round}: every hit is counted by rule");
        assert!(overflow > 0, "round {round}: the table is meant to overflow");
        assert_eq!(rows + overflow, sent, "round {round}: rows and overflow are all hits");
    }
}

#[test]
fn the_live_ruleset_answers_as_the_image_does_and_a_swap_changes_all_at_once() {
    let lab = Lab::new("swap", Role::Subscriber);
    let ask = |remote: &str, protocol, port| {
        lab.dataplane.ask(remote.parse().expect("an address"), protocol, port).expect("an answer")
    };
    assert_eq!(ask(LISTED, TCP, Some(1)), 1);
    assert_eq!(ask(BY_PORT, TCP, Some(23)), 1);
    assert_eq!(ask(BY_PORT, TCP, Some(24)), 0);
    assert_eq!(ask(OBSERVED, UDP, None), 2);
    let installed = lab.dataplane.installed().expect("what is installed can be read");
    assert_eq!(installed.generation, Some(7));
    assert!(installed.intact, "the image in the kernel is the one that was built");
    let empty = ImageBuilder::new(Vec::new()).build(8, CAPACITY).expect("nothing fits");
    lab.dataplane.publish(&empty).expect("the image is published");
    let frame = Ipv4::new(SUBSCRIBER, LISTED, UDP).frame(&[], &udp(1, 2));
    assert_eq!(lab.judge(&frame), (XDP_PASS, Reason::NotListed));
    assert_eq!(lab.dataplane.installed().expect("readable").generation, Some(8));
}

#[test]
fn random_and_mutated_frames_are_judged_alike_by_kernel_and_host() {
    let lab = Lab::new("mutation", Role::Both);
    let mut random = Random(0x5e41_5110);
    let seeds = [
        Ipv4::new(SUBSCRIBER, BY_PORT, TCP).frame(&[(0x8100, 3)], &tcp(1, 23, flag::SYN)),
        Ipv4 { options: &[1; 12], ..Ipv4::new(LISTED, SUBSCRIBER, UDP) }.frame(&[], &udp(53, 9)),
        Ipv6::new(SUBSCRIBER_V6, BY_PORT_V6, 0).frame(
            &[(0x88a8, 1), (0x8100, 2)],
            &[extension(44, 1), fragment(TCP, 0, true), tcp(1, 23, 2)].concat(),
        ),
        Ipv6::new(LISTED_V6, SUBSCRIBER_V6, UDP).frame(&[], &udp(1, 2)),
    ];
    let before: u64 = lab.by_reason().iter().sum();
    let mut counts = [0_u64; Reason::COUNT];
    const FRAMES: u64 = 30_000;
    let start = lab.by_reason();
    for number in 0..FRAMES {
        let mut frame = seeds[(number % seeds.len() as u64) as usize].clone();
        for _ in 0..random.below(6) {
            let at = random.below(frame.len() as u64) as usize;
            frame[at] = random.next() as u8;
        }
        frame.truncate(14 + random.below(frame.len() as u64 - 13) as usize);
        let expected = lab.judge_on_host(&frame);
        counts[expected as usize] += 1;
        let (action, _) = lab.dataplane.test_run("lo", &frame, 1).expect("the program runs");
        let dropped = expected.verdict() == Verdict::Drop;
        assert_eq!(action == XDP_DROP, dropped, "{expected:?}: {frame:02x?}");
    }
    let after = lab.by_reason();
    for reason in Reason::ALL {
        let rise = after[reason as usize] - start[reason as usize];
        assert_eq!(rise, counts[reason as usize], "{reason:?}");
    }
    assert_eq!(after.iter().sum::<u64>() - before, FRAMES, "every packet has one reason");
}

/// A small generator (xorshift64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

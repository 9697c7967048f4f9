//! The image against a model so plain that it cannot be wrong.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use sekisho_abi::{
    canary,
    image::{
        self, Action, BuildError, Image, ImageBuilder, Limit, List, ListSet, Lists, Named, Port,
        Selector, layout,
    },
};

const CAPACITY: usize = 64 << 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

fn lists(count: usize) -> Vec<List> {
    (0..count)
        .map(|slot| List {
            name: format!("list-{slot}"),
            action: if slot % 3 == 0 { Action::Observe } else { Action::Drop },
        })
        .collect()
}

/// The lists that the image finds for a packet.
fn found(image: &Image, address: IpAddr, protocol: u8, port: Option<u16>) -> ListSet {
    asked(image, address, protocol, port).all()
}

/// The same by what they ask for.
fn asked(image: &Image, address: IpAddr, protocol: u8, port: Option<u16>) -> Lists {
    let bytes = image.bytes();
    let Some(selector) = selector(image, address) else { return Lists::default() };
    let rule = image::resolve(bytes, selector, protocol, port).expect("the selector is there");
    image::lists_of(bytes, rule).expect("the rule is there")
}

fn selector(image: &Image, address: IpAddr) -> Option<Selector> {
    let bytes = image.bytes();
    match address {
        IpAddr::V4(v4) => image::find_v4(bytes, v4.into()),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            image::find_v6(bytes, (bits >> 64) as u64, bits as u64)
        }
    }
}

/// What the quick looks say, all of them.
fn may_be(image: &Image, address: IpAddr) -> bool {
    let bytes = image.bytes();
    match address {
        IpAddr::V4(v4) => {
            image::may_hold_v4(bytes, v4.into()) && image::may_be_v4(bytes, v4.into())
        }
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            image::may_hold_v6(bytes, (bits >> 64) as u64, bits as u64)
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    network: IpAddr,
    length: u8,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Allow,
    Listed(Port, u8),
    /// The list observes, whatever it asks for otherwise.
    Observed(Port, u8),
}

fn covers(claim: &Claim, address: IpAddr) -> bool {
    match (claim.network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let shift = 32 - u32::from(claim.length);
            (u32::from(network) ^ u32::from(address)).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let shift = 128 - u32::from(claim.length);
            (u128::from(network) ^ u128::from(address)).checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn model(claims: &[Claim], address: IpAddr, protocol: u8, port: Option<u16>) -> Lists {
    let is_meant = |meant| match meant {
        Port::Any => true,
        Port::Protocol(wanted) => wanted == protocol,
        Port::One(wanted, number) => wanted == protocol && port == Some(number),
    };
    let (mut acting, mut named) = (0, 0);
    for claim in claims.iter().filter(|claim| covers(claim, address)) {
        match claim.what {
            What::Allow => return Lists::default(),
            What::Listed(port, list) if is_meant(port) => {
                acting |= 1 << list;
                named |= 1 << list;
            }
            What::Observed(port, list) if is_meant(port) => named |= 1 << list,
            What::Listed(..) | What::Observed(..) => {}
        }
    }
    // Every third of the lists observes by itself.
    let drop = acting & 0b1011_0110;
    Lists { observe: named & !drop, drop, ..Lists::default() }
}

fn build(claims: &[Claim]) -> Image {
    let mut builder = ImageBuilder::new(lists(8));
    for claim in claims {
        let (port, lists) = match claim.what {
            What::Allow => {
                match claim.network {
                    IpAddr::V4(v4) => builder.allow_v4(v4, claim.length),
                    IpAddr::V6(v6) => builder.allow_v6(v6, claim.length),
                }
                continue;
            }
            What::Listed(port, list) => (port, Named::from(1 << list)),
            What::Observed(port, list) => (port, Named { acting: 0, observing: 1 << list }),
        };
        match claim.network {
            IpAddr::V4(v4) => builder.list_v4(v4, claim.length, port, lists),
            IpAddr::V6(v6) => builder.list_v6(v6, claim.length, port, lists),
        }
    }
    builder.build(1, CAPACITY).expect("few claims fit")
}

/// Addresses from a small corner, so that prefixes overlap and queries hit.
fn v4() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => (0_u32..4, 0_u32..2, 0_u32..3, prop_oneof![0_u32..8, 60..70_u32, 248..256_u32])
            .prop_map(|(a, b, c, d)| (40 + a) << 24 | b << 16 | c << 8 | d),
        1 => any::<u32>(),
    ]
}

fn v6() -> impl Strategy<Value = u128> {
    let near = prop_oneof![0_u128..4, 0xfffc_u128..0x1_0000];
    prop_oneof![
        8 => proptest::collection::vec(near, 8).prop_map(|groups| {
            groups.iter().fold(0, |bits, group| bits << 16 | group) >> 3 | 1 << 125
        }),
        1 => any::<u128>().prop_map(|bits| bits >> 3 | 1 << 125),
    ]
}

fn port() -> impl Strategy<Value = Port> {
    let protocol = prop_oneof![Just(TCP), Just(UDP)];
    prop_oneof![
        3 => Just(Port::Any),
        1 => protocol.clone().prop_map(Port::Protocol),
        3 => (protocol, prop_oneof![1_u16..5, Just(65_535)]).prop_map(|(p, n)| Port::One(p, n)),
    ]
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        1 => Just(What::Allow),
        4 => (port(), 0_u8..8).prop_map(|(port, list)| What::Listed(port, list)),
        2 => (port(), 0_u8..8).prop_map(|(port, list)| What::Observed(port, list)),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    let deep = prop_oneof![1 => 12_u8..=20, 3 => 21_u8..=32];
    let claim_v4 = (v4(), deep, what()).prop_map(|(bits, length, what)| Claim {
        network: Ipv4Addr::from(bits & (u32::MAX << (32 - length))).into(),
        length,
        what,
    });
    let claim_v6 = (v6(), 20_u8..=128, what()).prop_map(|(bits, length, what)| Claim {
        network: Ipv6Addr::from(bits & (u128::MAX << (128 - length))).into(),
        length,
        what,
    });
    prop_oneof![claim_v4, claim_v6]
}

/// Where prefixes begin and end is where mistakes are.
fn edges(claim: &Claim) -> Vec<IpAddr> {
    match claim.network {
        IpAddr::V4(network) => {
            let first = u32::from(network);
            let last = first | u32::MAX.checked_shr(claim.length.into()).unwrap_or(0);
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from(bits).into())
                .to_vec()
        }
        IpAddr::V6(network) => {
            let first = u128::from(network);
            let last = first | u128::MAX.checked_shr(claim.length.into()).unwrap_or(0);
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from(bits).into())
                .to_vec()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn finds_what_the_model_finds(
        claims in proptest::collection::vec(claim(), 0..40),
        near in proptest::collection::vec(prop_oneof![
            v4().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits))),
            v6().prop_map(|bits| IpAddr::from(Ipv6Addr::from(bits))),
        ], 40),
    ) {
        let image = build(&claims);
        let addresses = claims.iter().flat_map(edges).chain(near);
        for address in addresses {
            prop_assert!(selector(&image, address).is_none() || may_be(&image, address), "{}", address);
            for (protocol, port) in [
                (TCP, Some(1)), (TCP, Some(4)), (TCP, Some(65_535)), (UDP, Some(2)),
                (TCP, None), (UDP, None), (1, None),
            ] {
                prop_assert_eq!(
                    asked(&image, address, protocol, port),
                    model(&claims, address, protocol, port),
                    "{} {}/{:?}", address, protocol, port
                );
            }
        }
    }

    #[test]
    fn order_and_repetition_do_not_matter(
        claims in proptest::collection::vec(claim(), 0..30),
        seed in any::<u64>(),
    ) {
        let mut shuffled = claims.clone();
        shuffled.extend(claims.clone());
        let count = shuffled.len().max(1) as u64;
        shuffled.sort_by_cached_key(|claim| {
            (format!("{claim:?}").len() as u64).wrapping_mul(seed | 1) % count
        });
        let (one, other) = (build(&claims), build(&shuffled));
        for address in claims.iter().flat_map(edges) {
            prop_assert_eq!(asked(&one, address, TCP, Some(1)), asked(&other, address, TCP, Some(1)));
        }
    }

    #[test]
    fn no_byte_of_a_damaged_image_makes_a_lookup_panic(
        claims in proptest::collection::vec(claim(), 1..10),
        damage in proptest::collection::vec((0_usize..1_000_000, any::<u8>()), 1..40),
        cut in 0_usize..2000,
    ) {
        let mut bytes = build(&claims).bytes().to_vec();
        let dynamic = layout::DYNAMIC.min(bytes.len() - 1);
        for (at, byte) in damage {
            // Half of the damage goes to the header, half to where the tables are.
            let at = if at % 2 == 0 { at % 64 } else { dynamic + at % (bytes.len() - dynamic) };
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        for address in claims.iter().flat_map(edges) {
            let selector = match address {
                IpAddr::V4(v4) => image::find_v4(bytes.as_slice(), v4.into()),
                IpAddr::V6(v6) => {
                    let bits = u128::from(v6);
                    image::find_v6(bytes.as_slice(), (bits >> 64) as u64, bits as u64)
                }
            };
            if let Some(selector) = selector
                && let Some(rule) = image::resolve(bytes.as_slice(), selector, TCP, Some(1))
            {
                image::lists_of(bytes.as_slice(), rule);
            }
        }
    }
}

fn listed(network: &str, length: u8) -> ImageBuilder {
    let mut builder = ImageBuilder::new(lists(2));
    match network.parse().expect("an address") {
        IpAddr::V4(v4) => builder.list_v4(v4, length, Port::Any, 2),
        IpAddr::V6(v6) => builder.list_v6(v6, length, Port::Any, 2),
    }
    builder
}

#[test]
fn every_prefix_length_covers_its_first_and_last_address_and_no_neighbour() {
    for length in layout::SHORTEST_V4..=32 {
        let claim = Claim {
            network: Ipv4Addr::from(0x6340_0000 & (u32::MAX << (32 - length))).into(),
            length,
            what: What::Listed(Port::Any, 1),
        };
        check_edges(&claim);
    }
    for length in layout::SHORTEST_V6..=128 {
        let claim = Claim {
            network: Ipv6Addr::from(
                (0x2a01_u128 << 112 | 0x4f8 << 96) & (u128::MAX << (128 - length)),
            )
            .into(),
            length,
            what: What::Listed(Port::Any, 1),
        };
        check_edges(&claim);
    }
}

fn check_edges(claim: &Claim) {
    let image = build(std::slice::from_ref(claim));
    let answers: Vec<ListSet> =
        edges(claim).into_iter().map(|address| found(&image, address, TCP, Some(9))).collect();
    assert_eq!(answers, [2, 2, 0, 0], "{claim:?}");
}

#[test]
fn prefixes_wider_than_any_allocation_are_refused() {
    for (network, length) in [("0.0.0.0", 0), ("64.0.0.0", 7), ("2000::", 3), ("2a00::", 11)] {
        let error = listed(network, length).build(1, CAPACITY).expect_err("too wide");
        assert!(matches!(error, BuildError::TooWide { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{network}/{length}")), "{error}");
    }
}

#[test]
fn addresses_outside_global_unicast_are_refused() {
    let error = listed("fd00::", 64).build(1, CAPACITY).expect_err("outside 2000::/3");
    assert!(matches!(error, BuildError::NotGlobalUnicast { .. }), "{error}");
}

#[test]
fn allowing_a_wide_prefix_allows_what_it_contains_and_nothing_else() {
    let host: IpAddr = "2a01::7".parse().expect("an address");
    for (network, length, contains) in [
        ("::", 0, true),
        ("8000::", 0, true),
        ("::", 1, true),
        ("8000::", 1, false),
        ("::", 2, true),
        ("3fff::", 2, true),
        ("4000::", 2, false),
        ("c000::", 2, false),
        ("::", 3, false),
        ("2000::", 3, true),
        ("4000::", 3, false),
        ("2000::", 4, true),
        ("3000::", 4, false),
        ("2800::", 5, true),
    ] {
        let mut builder = listed("2a01::7", 128);
        builder.allow_v6(network.parse().expect("an address"), length);
        let image = builder.build(1, CAPACITY).expect("fits");
        let lists = if contains { 0 } else { 2 };
        assert_eq!(found(&image, host, TCP, Some(9)), lists, "{network}/{length}");
    }
}

#[test]
fn an_image_that_does_not_fit_names_the_limit() {
    let mut builder = ImageBuilder::new(lists(1));
    for host in 0..100_000_u32 {
        builder.list_v4(Ipv4Addr::from(host << 12), 32, Port::Any, 1);
    }
    let capacity = layout::DYNAMIC + 4096;
    let error = builder.build(1, capacity).expect_err("too much");
    let BuildError::Full { limit: Limit::Bytes, needed, allowed } = error else {
        panic!("{error}");
    };
    assert!(needed > allowed, "{error}");
    assert!(error.to_string().contains("bytes of the ruleset image"), "{error}");
}

#[test]
fn many_ports_of_one_address_take_room_for_themselves_alone() {
    let mut builder = ImageBuilder::new(lists(1));
    for port in 1..=60_000 {
        builder.list_v4(Ipv4Addr::new(45, 0, 0, 1), 32, Port::One(TCP, port), 1);
    }
    let image = builder.build(1, CAPACITY).expect("60,000 ports fit");
    let tables = image.bytes().len() - layout::DYNAMIC;
    assert!(tables < 60_000 * layout::port::BYTES * 5, "{tables} bytes");
    assert_eq!(found(&image, Ipv4Addr::new(45, 0, 0, 1).into(), TCP, Some(60_000)), 1);
    assert_eq!(found(&image, Ipv4Addr::new(45, 0, 0, 1).into(), TCP, Some(60_001)), 0);
}

#[test]
fn large_port_sets_nested_in_large_port_sets_are_an_error_not_all_the_memory() {
    let mut builder = ImageBuilder::new(lists(2));
    for port in 1..=4_000 {
        builder.list_v4(Ipv4Addr::new(45, 0, 0, 0), 16, Port::One(TCP, port), 1);
    }
    for host in 0..60_000_u32 {
        let port = Port::One(UDP, host as u16 + 1);
        builder.list_v4(Ipv4Addr::from(0x2d00_0000 + host), 32, port, 2);
    }
    let error = builder.build(1, CAPACITY).expect_err("240 million conditions");
    let BuildError::Full { limit: Limit::Bytes, needed, allowed } = error else {
        panic!("{error}");
    };
    assert!(allowed as usize <= CAPACITY && allowed < needed, "{error}");
    // It stops at the first set that is too much.
    assert!(needed - allowed <= 4_001 * layout::port::BYTES as u64, "{error}");
}

#[test]
fn too_many_combinations_of_lists_are_an_error_not_a_wrong_rule() {
    let mut builder = ImageBuilder::new(lists(64));
    for set in 1..=layout::rule::MAX as u64 {
        builder.list_v4(Ipv4Addr::from(0x2000_0000 + set as u32), 32, Port::Any, set);
    }
    let error = builder.build(1, CAPACITY).expect_err("too many");
    assert!(matches!(error, BuildError::Full { limit: Limit::Rules, .. }), "{error}");
}

#[test]
fn rules_keep_their_numbers_across_images() {
    let mut first = ImageBuilder::new(lists(3));
    first.list_v4(Ipv4Addr::new(45, 0, 0, 1), 32, Port::Any, 0b10);
    first.list_v4(Ipv4Addr::new(45, 0, 0, 2), 32, Port::Any, 0b100);
    let first = first.build(1, CAPACITY).expect("fits");
    let mut second = ImageBuilder::new(lists(3));
    second.keep_rules(first.rules());
    second.list_v4(Ipv4Addr::new(45, 0, 0, 2), 32, Port::Any, 0b100);
    second.list_v4(Ipv4Addr::new(45, 0, 0, 3), 32, Port::Any, 0b110);
    let second = second.build(2, CAPACITY).expect("fits");
    assert_eq!(second.rules()[..first.rules().len()], *first.rules());
    assert_eq!(second.rules().last(), Some(&Lists { drop: 0b110, ..Lists::default() }));
}

#[test]
fn the_header_tells_what_is_inside() {
    let mut builder = listed("45.9.0.0", 24);
    builder.list_v4(Ipv4Addr::new(45, 9, 0, 7), 32, Port::One(TCP, 23), 1);
    builder.list_v6("2a01::7".parse().expect("an address"), 128, Port::Any, 1);
    builder.allow_v4(Ipv4Addr::new(45, 9, 0, 9), 32);
    let image = builder.build(7, CAPACITY).expect("fits");
    let header = image::header(image.bytes()).expect("a header");
    assert_eq!((header.generation, header.prefixes_v4, header.prefixes_v6), (7, 2, 1));
    assert_eq!(header.bytes as usize, image.bytes().len());
    assert_eq!(header.checksum, image::checksum(image.bytes()));
    assert_eq!(image::list_names(image.bytes()), ["list-0", "list-1"]);
}

#[test]
fn the_canary_is_listed_alone_whatever_is_allowed_or_listed_around_it() {
    const CANARY: ListSet = 1 << canary::LIST;
    let mut builder = listed("192.0.0.0", 16).with_canary();
    builder.list_v4(canary::V4, 32, Port::One(TCP, 80), 1);
    builder.list_v6("2001:db8::".parse().expect("an address"), 32, Port::Any, 0b10);
    builder.allow_v4(Ipv4Addr::new(192, 0, 2, 128), 25);
    builder.allow_v6("2000::".parse().expect("an address"), 3);
    let image = builder.build(1, CAPACITY).expect("fits");
    for port in [None, Some(80)] {
        assert_eq!(found(&image, canary::V4.into(), TCP, port), CANARY);
        assert_eq!(found(&image, canary::V6.into(), TCP, port), CANARY);
    }
    for beside in [canary::V4.to_bits() - 1, canary::V4.to_bits() + 1] {
        assert_eq!(found(&image, Ipv4Addr::from_bits(beside).into(), TCP, None), 0, "allowed");
    }
    assert_eq!(found(&image, Ipv4Addr::new(192, 0, 2, 127).into(), TCP, None), 0b10);
    for beside in [canary::V6.to_bits() - 1, canary::V6.to_bits() + 1] {
        assert_eq!(found(&image, Ipv6Addr::from_bits(beside).into(), TCP, None), 0, "allowed");
    }
    assert_eq!(image::list_names(image.bytes()), ["list-0", "list-1"]);
}

#[test]
fn the_canary_is_no_entry_and_leaves_room_for_63_lists() {
    let mut builder = ImageBuilder::new(lists(63)).with_canary();
    builder.list_v4(Ipv4Addr::new(45, 9, 0, 9), 32, Port::Any, 1 << 62);
    let header = builder.build(1, CAPACITY).expect("fits").header();
    assert_eq!((header.prefixes_v4, header.prefixes_v6), (1, 0));
    let error = ImageBuilder::new(lists(64)).with_canary().build(1, CAPACITY).expect_err("64");
    assert_eq!(error, BuildError::Full { limit: Limit::Lists, needed: 64, allowed: 63 });
}

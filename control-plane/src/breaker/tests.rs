use std::sync::Arc;

use super::*;
use crate::{
    hits::{ClockOffset, Generation, Names},
    testing,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn generations(rows: &[testing::Row<'_>]) -> Generations {
    let mut generations = Generations::default();
    let (generation, _): (Generation, _) = testing::generation(1, rows);
    generations.push(Arc::new(generation));
    generations
}

fn breaker(limits: BreakerLimits) -> Breaker {
    let breaker = Breaker::default();
    breaker.set_limits(limits);
    breaker
}

fn few() -> BreakerLimits {
    BreakerLimits { subscribers_per_minute: 30, at_least: 10, ..BreakerLimits::default() }
}

/// Hits of so many subscribers, each from an address of its own.
fn hits(generations: &Generations, remote: &str, port: u16, subscribers: u32) -> Vec<Hit> {
    hits_of(generations, remote, port, 0..subscribers, |_| {})
}

fn hits_of(
    generations: &Generations,
    remote: &str,
    port: u16,
    subscribers: std::ops::Range<u32>,
    change: impl Fn(&mut Hit),
) -> Vec<Hit> {
    let known = Subscribers::default();
    let clock = ClockOffset::from_boot(at(0));
    let names = Names { generations, subscribers: &known, ports: &[], clock };
    let hit = |number: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x6440_0000 + number).to_string();
        let mut hit = names.hit(&testing::row(&address, remote, port));
        change(&mut hit);
        hit
    };
    subscribers.map(hit).collect()
}

fn tripped(trips: &[Trip]) -> Vec<String> {
    trips.iter().map(|trip| format!("{} {}/{}", trip.entry, trip.subscribers, trip.limit)).collect()
}

const ROWS: &[testing::Row<'static>] = &[
    ("198.18.0.0/24", "wide", None, None),
    ("198.18.0.7/32", "one", None, None),
    ("198.18.0.7/32", "two", Some(443), None),
];

#[test]
fn an_entry_trips_when_the_limit_is_met_and_not_before() {
    let generations = generations(&ROWS[1..2]);
    let breaker = breaker(few());
    let nobody = Subscribers::default();
    let watch = |count, second| {
        let hits = hits(&generations, "198.18.0.7", 80, count);
        breaker.watch(&hits, &generations, &nobody, at(second))
    };
    assert_eq!(tripped(&watch(29, 0)), [""; 0]);
    assert_eq!(tripped(&watch(29, 1)), [""; 0], "the same subscribers again");
    assert_eq!(tripped(&watch(40, 61)), ["198.18.0.7 30/30"]);
}

#[test]
fn all_entries_that_cover_the_packets_count_each_for_itself() {
    let generations = generations(ROWS);
    let breaker = breaker(few());
    let hits = hits(&generations, "198.18.0.7", 443, 30);
    let trips = breaker.watch(&hits, &generations, &Subscribers::default(), at(0));
    let mut told = tripped(&trips);
    told.sort();
    assert_eq!(told, ["198.18.0.0/24 30/30", "198.18.0.7 30/30", "198.18.0.7:443/tcp 30/30"]);
    let feeds: Vec<_> = trips.iter().map(|trip| trip.feeds.join(",")).collect();
    assert!(["one", "two", "wide"].iter().all(|feed| feeds.contains(&(*feed).to_owned())));
}

#[test]
fn a_share_of_those_who_hold_an_address_is_the_limit_if_it_is_lower() {
    let rows: String =
        (0..1200).map(|n| format!("10.0.{}.{},s{n},,,\n", n / 256, n % 256)).collect();
    let known = testing::subscribers(&rows);
    let generations = generations(ROWS);
    let breaker = breaker(BreakerLimits { at_least: 5, ..BreakerLimits::default() });
    let hits = hits(&generations, "198.18.0.9", 80, 100);
    let trips = breaker.watch(&hits, &generations, &known, at(0));
    assert_eq!(tripped(&trips), ["198.18.0.0/24 12/12"]);
}

#[test]
fn answers_to_a_scan_and_packets_from_the_remote_never_trip() {
    let generations = generations(ROWS);
    let breaker = breaker(few());
    let watch = |change: &dyn Fn(&mut Hit)| {
        let hits = hits_of(&generations, "198.18.0.7", 80, 0..100, change);
        breaker.watch(&hits, &generations, &Subscribers::default(), at(0)).len()
    };
    assert_eq!(watch(&|hit| hit.class = FlagClass::Response.as_str()), 0);
    assert_eq!(watch(&|hit| hit.class = FlagClass::Other.as_str()), 0);
    assert_eq!(watch(&|hit| hit.direction = Direction::Inbound.as_str()), 0);
    let udp = |hit: &mut Hit| {
        hit.protocol = Protocol::Udp.number();
        hit.class = FlagClass::Other.as_str();
    };
    assert_eq!(watch(&udp), 2, "UDP has no sign of who began");
}

#[test]
fn a_subscriber_with_many_addresses_counts_once() {
    let generations = generations(ROWS);
    let breaker = breaker(few());
    let one = |hit: &mut Hit| hit.subscriber = "alice".into();
    let hits = hits_of(&generations, "198.18.0.7", 80, 0..100, one);
    assert!(breaker.watch(&hits, &generations, &Subscribers::default(), at(0)).is_empty());
}

#[test]
fn what_is_held_or_released_does_not_trip_again_and_what_is_forgotten_does() {
    let generations = generations(&ROWS[1..2]);
    let breaker = breaker(few());
    let watch = |second| {
        let hits = hits(&generations, "198.18.0.7", 80, 30);
        breaker.watch(&hits, &generations, &Subscribers::default(), at(second))
    };
    let trip = watch(0).remove(0);
    let broken = Broken { id: 7, trip, decision: None, decided_at: None };
    breaker.hold(broken.clone());
    assert_eq!(breaker.demoted().len(), 1);
    assert!(watch(60).is_empty());
    for (decision, demoted) in [(Decision::Keep, 1), (Decision::Release, 0)] {
        breaker.decided(7, Some(Broken { decision: Some(decision), ..broken.clone() }));
        assert_eq!(breaker.demoted().len(), demoted);
        assert!(watch(120).is_empty());
    }
    assert_eq!(breaker.counts().released, 1);
    breaker.decided(7, None);
    assert_eq!(watch(180).len(), 1);
}

#[test]
fn a_breaker_that_is_off_watches_nothing() {
    let generations = generations(ROWS);
    let breaker = breaker(BreakerLimits { enabled: false, ..few() });
    let hits = hits(&generations, "198.18.0.7", 80, 100);
    assert!(breaker.watch(&hits, &generations, &Subscribers::default(), at(0)).is_empty());
}

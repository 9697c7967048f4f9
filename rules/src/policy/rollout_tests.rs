use super::*;
use crate::{
    catalogue::Catalogue,
    compile::{FeedInput, compile},
    parse::parse_feed,
    policy::Policy,
    table::Table,
};

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3_600;

/// One or two feeds whose lists change while time goes by.
struct World {
    catalogue: Catalogue,
    policy: Policy,
    seen: Seen,
    table: Table,
    next: Option<i64>,
    staged: u64,
}

impl World {
    fn new(feeds: &str, rollout: &str) -> Self {
        let policy = format!("rollout: {{{rollout}}}");
        Self {
            catalogue: Catalogue::from_yaml(&format!("feeds: [{feeds}]"), "feeds").unwrap(),
            policy: Policy::from_yaml(&policy, "policy").unwrap(),
            seen: Seen::default(),
            table: Table::default(),
            next: None,
            staged: 0,
        }
    }

    /// Publishes these lists, in the order of the catalogue; an empty one is no list.
    fn publish(&mut self, after: i64, lists: &[&str]) {
        let now = Moment::nearest(NOW + after);
        let specs = || self.catalogue.feeds.iter().zip(lists).filter(|(_, list)| !list.is_empty());
        let parsed: Vec<_> = specs()
            .map(|(spec, list)| parse_feed(spec, list.as_bytes(), &Default::default()).unwrap())
            .collect();
        let inputs: Vec<_> = specs()
            .zip(&parsed)
            .map(|((spec, _), parsed)| FeedInput { spec, parsed: Ok(parsed), fetched_at: now })
            .collect();
        let mut compiled = compile(&inputs, &self.policy, &[], now).unwrap();
        let feeds: Vec<_> = specs().map(|(spec, _)| (spec, true)).collect();
        let staged = stage(&mut compiled, &feeds, &self.policy.rollout, &self.seen, now);
        self.next = staged.next.map(|next| next.as_second() - NOW);
        // What is kept is what a restart finds.
        self.seen = Seen::from_bytes(&staged.seen.to_bytes()).unwrap();
        assert_eq!(self.seen, staged.seen);
        let counted = compiled.feeds.iter().map(|feed| feed.demoted_by_reason.get(&Demotion::New));
        self.staged = counted.flatten().sum();
        self.table = compiled.table;
    }

    /// What an address is asked to suffer, the strictest claim first.
    fn asks(&self, network: &str) -> Option<Action> {
        let network = network.parse().unwrap();
        let entry = self.table.v4.iter().find(|entry| entry.network == network)?;
        self.table.claims_of(entry).iter().filter_map(|claim| self.table.asked(claim)).max()
    }
}

const ONE: &str = "{name: one, source: x, format: plain}";
const TWO: &str = "{name: one, source: x, format: plain}, {name: two, source: y, format: plain}";
const OLD: &str = "198.51.7.1\n";
const BOTH: &str = "198.51.7.1\n198.51.7.2\n";

#[test]
fn what_is_new_observes_for_an_hour_and_is_then_promoted() {
    let mut world = World::new(ONE, "");
    world.publish(0, &[OLD]);
    assert_eq!(world.asks("198.51.7.1/32"), Some(Action::Drop), "a first list is enforced");
    assert_eq!((world.next, world.staged), (None, 0));
    world.publish(10, &[BOTH]);
    assert_eq!(world.asks("198.51.7.1/32"), Some(Action::Drop));
    assert_eq!(world.asks("198.51.7.2/32"), Some(Action::Observe));
    assert_eq!((world.next, world.staged), (Some(10 + HOUR), 1));
    world.publish(9 + HOUR, &[BOTH]);
    assert_eq!(world.asks("198.51.7.2/32"), Some(Action::Observe));
    world.publish(10 + HOUR, &[BOTH]);
    assert_eq!(world.asks("198.51.7.2/32"), Some(Action::Drop));
    assert_eq!((world.next, world.staged), (None, 0));
    let since = world.table.claims.iter().map(|claim| claim.since.unwrap().as_second() - NOW);
    assert_eq!(since.collect::<Vec<_>>(), [0, 10]);
}

#[test]
fn a_first_list_can_be_staged_too() {
    let mut world = World::new(ONE, "first_list: observe, observe_for: 5m");
    world.publish(0, &[OLD]);
    assert_eq!(world.asks("198.51.7.1/32"), Some(Action::Observe));
    assert_eq!(world.next, Some(300));
    world.publish(300, &[OLD]);
    assert_eq!(world.asks("198.51.7.1/32"), Some(Action::Drop));
}

#[test]
fn a_wait_of_zero_switches_it_off_for_all_or_for_one_feed() {
    let mut world = World::new(ONE, "observe_for: 0");
    world.publish(0, &[OLD]);
    world.publish(10, &[BOTH]);
    assert_eq!(world.asks("198.51.7.2/32"), Some(Action::Drop));
    let mut world = World::new("{name: one, source: x, format: plain, observe_for: 0}", "");
    world.publish(0, &[OLD]);
    world.publish(10, &[BOTH]);
    assert_eq!(world.asks("198.51.7.2/32"), Some(Action::Drop));
}

#[test]
fn what_comes_back_in_time_goes_on_and_what_comes_back_late_starts_anew() {
    let mut world = World::new(ONE, "forget_after: 2h");
    world.publish(0, &[BOTH]);
    world.publish(10, &[OLD]);
    world.publish(10 + 2 * HOUR, &[BOTH]);
    assert_eq!(world.asks("198.51.7.2/32"), Some(Action::Drop));
    world.publish(20 + 2 * HOUR, &[OLD]);
    world.publish(21 + 4 * HOUR, &[BOTH]);
    assert_eq!(world.asks("198.51.7.2/32"), Some(Action::Observe));
    assert_eq!(world.asks("198.51.7.1/32"), Some(Action::Drop));
}

#[test]
fn the_time_counts_from_the_first_feed_that_lists_it_and_another_port_is_new() {
    let mut world = World::new(TWO, "");
    world.publish(0, &[OLD, "198.51.7.9\n"]);
    world.publish(10, &[OLD, "198.51.7.9\n198.51.7.1\n198.51.7.1:443\n"]);
    let waits: Vec<_> =
        world.table.claims.iter().map(|claim| !claim.demotions.is_empty()).collect();
    assert_eq!(waits, [false, false, true, false], "{:?}", world.table.claims);
    assert_eq!(world.asks("198.51.7.1/32"), Some(Action::Drop));
}

#[test]
fn a_list_that_stayed_the_same_for_months_is_no_first_list() {
    let mut world = World::new(ONE, "");
    world.publish(0, &[OLD]);
    world.publish(2000 * HOUR, &[BOTH]);
    assert_eq!(world.asks("198.51.7.1/32"), Some(Action::Drop));
    assert_eq!(world.asks("198.51.7.2/32"), Some(Action::Observe));
}

#[test]
fn a_feed_that_joins_late_brings_its_first_list_into_force() {
    let mut world = World::new(TWO, "");
    world.publish(0, &[OLD, ""]);
    world.publish(10, &[OLD, "198.51.7.5\n"]);
    assert_eq!(world.asks("198.51.7.5/32"), Some(Action::Drop));
    world.publish(20, &[OLD, "198.51.7.5\n198.51.7.6\n"]);
    assert_eq!(world.asks("198.51.7.6/32"), Some(Action::Observe));
}

#[test]
fn ports_that_come_and_go_between_others_keep_their_own_times() {
    let mut world = World::new(ONE, "");
    let list =
        |ports: &[u16]| ports.iter().map(|p| format!("198.51.7.1:{p}\n")).collect::<String>();
    world.publish(0, &[&list(&[5, 7, 9])]);
    world.publish(10, &[&list(&[5, 9])]);
    world.publish(20, &[&list(&[5, 8, 9])]);
    let since = |world: &World| -> Vec<_> {
        world.table.claims.iter().map(|claim| claim.since.unwrap().as_second() - NOW).collect()
    };
    assert_eq!(since(&world), [0, 20, 0]);
    world.publish(30, &[&list(&[5, 7, 8, 9])]);
    assert_eq!(since(&world), [0, 0, 20, 0]);
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_waiting_for_years() {
    let mut world = World::new(ONE, "");
    world.publish(0, &[OLD]);
    world.publish(100 * HOUR, &[BOTH]);
    world.publish(10, &[BOTH]);
    assert_eq!(world.next, Some(10 + HOUR));
}

#[test]
fn a_file_that_is_damaged_anywhere_is_none() {
    let mut world = World::new(ONE, "");
    world.publish(0, &["198.51.7.1\n2a00::1\n"]);
    assert_eq!(world.seen.len(), 2);
    let bytes = world.seen.to_bytes();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert_eq!(Seen::from_bytes(&damaged), None, "byte {at}");
        assert_eq!(Seen::from_bytes(&bytes[..at]), None, "cut at {at}");
    }
}

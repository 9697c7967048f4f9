//! A rules table to a ruleset image: the only place that knows both.

use std::collections::HashMap;

use ipnet::{Ipv4Net, Ipv6Net};
use sekisho_abi::{
    canary,
    image::{self, BuildError, Image, ImageBuilder, Limit, List, ListSet, Lists, Named, Port},
};
use sekisho_rules::{
    compile::FeedReport,
    feed::Action,
    indicator::{Protocol, Traffic},
    table::{Claim, Table, TableFeed},
};

use super::split::Observed;

/// IPv6 space that an image can list: what the IANA has made global unicast.
const LISTABLE_V6: u128 = 1;

/// Which list sits in which slot of the image, and which rules its totals are counted under.
///
/// A feed keeps its slot for as long as the dataplane stays loaded, since the operator's switch by
/// list and the totals by rule go by slot. The slot of a feed that is gone stays reserved until no
/// other one is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    names: Vec<String>,
    rules: Vec<Lists>,
}

/// An image, and what came of the slots.
#[derive(Clone, Debug)]
pub struct Built {
    /// What goes into the kernel.
    pub image: Image,
    /// The slots to go on with once the image is live.
    pub slots: Slots,
    /// Slots that a new feed took over from another one, as bits: switches set for the old one must
    /// not hold for the new one.
    pub taken_over: ListSet,
    /// IPv6 entries outside 2000::/3, where no host of the Internet lives: left out.
    pub left_out: u64,
}

/// Why there is no image, and which feed has the most in it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the ruleset does not fit: {fault}; most of it is feed '{feed}' with {accepted} indicators: give \
     the ruleset more room (dataplane.image_capacity_mib), or switch that feed off"
)]
pub struct Unfit {
    fault: BuildError,
    feed: String,
    accepted: u64,
}

impl Unfit {
    /// The fault, for a table with these feeds.
    pub fn new(fault: BuildError, feeds: &[FeedReport]) -> Self {
        let largest = feeds.iter().max_by_key(|report| report.accepted);
        let (feed, accepted) = largest
            .map_or_else(Default::default, |report| (report.name.to_string(), report.accepted));
        Self { fault, feed, accepted }
    }
}

impl Slots {
    /// What an installed image says: names by slot, and the lists of each rule, rule 0 first.
    pub fn installed(names: Vec<String>, rules: Vec<Lists>) -> Self {
        Self { names, rules }
    }

    /// Names by slot; empty where a slot is free.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The list set of a rule.
    pub fn lists_of(&self, rule: u16) -> ListSet {
        self.rules.get(usize::from(rule)).map_or(0, |lists| lists.all())
    }

    /// The names in a list set, by slot.
    pub fn names_in(&self, lists: ListSet) -> Vec<&str> {
        let named = self.names.iter().take(canary::LIST).enumerate();
        named.filter(|(slot, _)| lists >> slot & 1 == 1).map(|(_, name)| name.as_str()).collect()
    }

    /// Gives every feed a slot: its own, a free one, or that of a feed that is gone.
    fn assign(&mut self, feeds: &[TableFeed]) -> Result<(Vec<usize>, ListSet), BuildError> {
        if feeds.len() > canary::LIST {
            return Err(BuildError::Full {
                limit: Limit::Lists,
                needed: feeds.len() as u64,
                allowed: canary::LIST as u64,
            });
        }
        let held = |names: &[String], name: &str| names.iter().position(|held| held == name);
        let mut taken: ListSet = 0;
        for slot in feeds.iter().filter_map(|feed| held(&self.names, &feed.name)) {
            taken |= 1 << slot;
        }
        let mut taken_over = 0;
        let mut slots = Vec::with_capacity(feeds.len());
        for feed in feeds {
            let slot = held(&self.names, &feed.name).unwrap_or_else(|| {
                let slot = self.vacant(taken);
                if slot < self.names.len() {
                    taken_over |= u64::from(!self.names[slot].is_empty()) << slot;
                    self.names[slot] = feed.name.to_string();
                } else {
                    self.names.push(feed.name.to_string());
                }
                taken |= 1 << slot;
                slot
            });
            slots.push(slot);
        }
        Ok((slots, taken_over))
    }

    /// A slot that was never used, else the first one of a feed that is gone.
    fn vacant(&self, taken: ListSet) -> usize {
        if let Some(slot) = self.names.iter().position(String::is_empty) {
            return slot;
        }
        if self.names.len() < canary::LIST {
            return self.names.len();
        }
        taken.trailing_ones() as usize
    }
}

/// Builds the image of a table, in at most `capacity` bytes.
pub fn build(
    table: &Table,
    slots: &Slots,
    generation: u32,
    capacity: usize,
) -> Result<Built, BuildError> {
    match fill(table, slots, generation, capacity) {
        // Combinations of lists that nothing uses any more take up the room.
        Err(BuildError::Full { limit: Limit::Rules, .. }) if slots.rules.len() > 1 => {
            let fresh = Slots { names: slots.names.clone(), rules: Vec::new() };
            fill(table, &fresh, generation, capacity)
        }
        other => other,
    }
}

fn fill(
    table: &Table,
    slots: &Slots,
    generation: u32,
    capacity: usize,
) -> Result<Built, BuildError> {
    let mut slots = slots.clone();
    let (slot_of, taken_over) = slots.assign(&table.feeds)?;
    let mut builder = ImageBuilder::new(lists(&slots, table)).with_canary();
    builder.keep_rules(&slots.rules);
    let mut conditions = Conditions::default();
    let observed = Observed::of(&table.observed);
    for entry in &table.v4 {
        conditions.gather(table.claims_of(entry), &slot_of);
        observed.split_v4(entry.network, &mut |part: Ipv4Net, observes| {
            for (port, lists) in conditions.each(observes) {
                builder.list_v4(part.network(), part.prefix_len(), port, lists);
            }
        });
    }
    let mut left_out = 0;
    for entry in &table.v6 {
        if u128::from(entry.network.network()) >> 125 != LISTABLE_V6 {
            left_out += 1;
            continue;
        }
        conditions.gather(table.claims_of(entry), &slot_of);
        observed.split_v6(entry.network, &mut |part: Ipv6Net, observes| {
            for (port, lists) in conditions.each(observes) {
                builder.list_v6(part.network(), part.prefix_len(), port, lists);
            }
        });
    }
    for network in &table.never_block {
        match network {
            ipnet::IpNet::V4(v4) => builder.allow_v4(v4.network(), v4.prefix_len()),
            ipnet::IpNet::V6(v6) => builder.allow_v6(v6.network(), v6.prefix_len()),
        }
    }
    let image = builder.build(generation, capacity)?;
    slots.rules = image.rules().to_vec();
    Ok(Built { image, slots, taken_over, left_out })
}

fn lists(slots: &Slots, table: &Table) -> Vec<List> {
    let actions: HashMap<&str, Action> =
        table.feeds.iter().map(|feed| (&*feed.name, feed.action)).collect();
    let action = |name: &str| match actions.get(name) {
        Some(Action::Drop) => image::Action::Drop,
        Some(Action::Reject) => image::Action::Reject,
        Some(Action::Sinkhole) => image::Action::Sinkhole,
        // A feed that is gone has no entries.
        Some(Action::Observe) | None => image::Action::Observe,
    };
    slots.names.iter().map(|name| List { name: name.clone(), action: action(name) }).collect()
}

/// The claims of one entry by what they mean, so that many feeds on one host cost one item.
#[derive(Default)]
struct Conditions(Vec<(Port, Named)>);

impl Conditions {
    fn gather(&mut self, claims: &[Claim], slot_of: &[usize]) {
        self.0.clear();
        for claim in claims {
            let Some(slot) = slot_of.get(usize::from(claim.feed)) else { continue };
            let list: ListSet = 1 << slot;
            let named = match claim.demotions.leave(Action::Drop) {
                None => continue,
                Some(Action::Drop) => Named { acting: list, observing: 0 },
                Some(_) => Named { acting: 0, observing: list },
            };
            for port in ports(claim.traffic).into_iter().flatten() {
                self.0.push((port, named));
            }
        }
        self.0.sort_unstable_by_key(|(port, _)| *port);
        self.0.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1.acting |= next.1.acting;
                kept.1.observing |= next.1.observing;
            }
            same
        });
    }

    /// What is named for each port; where all of it only observes, by lists that do.
    fn each(&self, observes: bool) -> impl Iterator<Item = (Port, Named)> + '_ {
        self.0.iter().map(move |&(port, named)| {
            let all = named.acting | named.observing;
            (port, if observes { Named { acting: 0, observing: all } } else { named })
        })
    }
}

/// A port without a protocol means TCP and UDP.
fn ports(traffic: Traffic) -> [Option<Port>; 2] {
    match (traffic.protocol, traffic.port) {
        (None, None) => [Some(Port::Any), None],
        (Some(protocol), None) => [Some(Port::Protocol(protocol.number())), None],
        (Some(protocol), Some(port)) => [Some(Port::One(protocol.number(), port)), None],
        (None, Some(port)) => {
            [Protocol::Tcp, Protocol::Udp].map(|protocol| Some(Port::One(protocol.number(), port)))
        }
    }
}

#[cfg(test)]
mod tests {
    use sekisho_rules::{moment::Moment, table::Entry};

    use super::*;
    use crate::{
        dataplane::{Dataplane as _, fake::FakeDataplane},
        testing::FIRST_RULE,
    };

    const CAPACITY: usize = 8 << 20;

    fn table(feeds: &[(&str, Action)], entries: &[(&str, u8, Traffic)]) -> Table {
        let mut table = Table {
            feeds: feeds
                .iter()
                .map(|(name, action)| TableFeed { name: (*name).into(), action: *action })
                .collect(),
            ..Table::default()
        };
        for (network, feed, traffic) in entries {
            let claims_at = table.claims.len() as u32;
            table.claims.push(Claim::new(*feed, *traffic, Moment::MAX));
            if network.contains(':') {
                let network = network.parse().unwrap();
                table.v6.push(Entry { network, claims_at, claims_len: 1 });
            } else {
                let network = network.parse().unwrap();
                table.v4.push(Entry { network, claims_at, claims_len: 1 });
            }
        }
        table
    }

    fn named(names: &[&str]) -> Slots {
        Slots::installed(
            names.iter().map(|name| (*name).to_owned()).collect(),
            vec![Lists::default()],
        )
    }

    fn feeds(names: &[&str]) -> Table {
        let feeds: Vec<_> = names.iter().map(|name| (*name, Action::Drop)).collect();
        table(&feeds, &[])
    }

    #[test]
    fn a_feed_keeps_its_slot_when_others_come_and_go() {
        let first = build(&feeds(&["a", "b"]), &Slots::default(), 1, CAPACITY).unwrap();
        let second = build(&feeds(&["c", "b"]), &first.slots, 2, CAPACITY).unwrap();
        assert_eq!(second.slots.names(), ["a", "b", "c"]);
        let third = build(&feeds(&["a", "c"]), &second.slots, 3, CAPACITY).unwrap();
        assert_eq!(third.slots.names(), ["a", "b", "c"]);
        assert_eq!(third.taken_over, 0);
    }

    #[test]
    fn the_slot_of_a_feed_that_is_gone_is_taken_last_and_said() {
        let names: Vec<String> = (0..63).map(|n| format!("f{n}")).collect();
        let slots = Slots::installed(names, vec![Lists::default()]);
        let built = build(&feeds(&["f0", "new", "f2"]), &slots, 1, CAPACITY).unwrap();
        assert_eq!(built.slots.names()[1], "new");
        assert_eq!(built.taken_over, 0b10);
        let built = build(&feeds(&["x"]), &named(&["a", "", "c"]), 1, CAPACITY).unwrap();
        assert_eq!((built.slots.names()[1].as_str(), built.taken_over), ("x", 0));
    }

    #[test]
    fn more_feeds_than_slots_are_an_error_that_names_the_limit() {
        let names: Vec<String> = (0..64).map(|n| format!("f{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let error = build(&feeds(&names), &Slots::default(), 1, CAPACITY).unwrap_err();
        assert_eq!(error.to_string(), "too many lists: 64 needed, 63 fit");
    }

    #[test]
    fn a_port_without_a_protocol_means_tcp_and_udp() {
        let port = Traffic { protocol: None, port: Some(443) };
        let udp = Traffic { protocol: Some(Protocol::Udp), port: None };
        let table = table(
            &[("a", Action::Drop), ("b", Action::Observe)],
            &[
                ("198.18.0.1/32", 0, port),
                ("198.18.0.2/32", 1, Traffic::ANY),
                ("2a00:1450::/48", 1, udp),
            ],
        );
        let fake = FakeDataplane::new(CAPACITY);
        fake.publish(&build(&table, &Slots::default(), 7, CAPACITY).unwrap().image).unwrap();
        let ask = |address: &str, protocol, port| {
            fake.ask(address.parse().unwrap(), protocol, port).unwrap().all()
        };
        assert_eq!(ask("198.18.0.1", 6, Some(443)), 1);
        assert_eq!(ask("198.18.0.1", 17, Some(443)), 1);
        assert_eq!(ask("198.18.0.1", 6, Some(80)), 0);
        assert_eq!(ask("198.18.0.1", 1, None), 0);
        assert_eq!(ask("198.18.0.2", 1, None), 2);
        assert_eq!(ask("2a00:1450::5", 17, Some(9)), 2);
        assert_eq!(ask("2a00:1450::5", 6, Some(9)), 0);
    }

    #[test]
    fn never_block_networks_are_cut_out() {
        let mut table = table(&[("a", Action::Drop)], &[("198.18.0.0/24", 0, Traffic::ANY)]);
        table.never_block.push("198.18.0.8/31".parse().unwrap());
        let fake = FakeDataplane::new(CAPACITY);
        fake.publish(&build(&table, &Slots::default(), 1, CAPACITY).unwrap().image).unwrap();
        assert_eq!(fake.ask("198.18.0.7".parse().unwrap(), 6, Some(1)).unwrap().all(), 1);
        assert_eq!(fake.ask("198.18.0.9".parse().unwrap(), 6, Some(1)).unwrap().all(), 0);
    }

    #[test]
    fn two_feeds_on_one_host_are_both_named() {
        let mut table = table(
            &[("a", Action::Drop), ("b", Action::Drop)],
            &[("198.18.0.1/32", 0, Traffic::ANY), ("198.18.0.2/32", 1, Traffic::ANY)],
        );
        table.v4.pop();
        table.v4[0].claims_len = 2;
        let built = build(&table, &named(&["z"]), 1, CAPACITY).unwrap();
        let lists = built.slots.lists_of(FIRST_RULE);
        assert_eq!(built.slots.names_in(lists), ["a", "b"]);
    }

    #[test]
    fn rule_numbers_outlive_a_generation() {
        let two = |table: &Table, slots: &Slots| build(table, slots, 1, CAPACITY).unwrap();
        let feeds = [("a", Action::Drop), ("b", Action::Drop)];
        let first = table(&feeds, &[("198.18.0.1/32", 1, Traffic::ANY)]);
        let first = two(&first, &Slots::default());
        let second = table(
            &feeds,
            &[("198.18.0.1/32", 0, Traffic::ANY), ("198.18.0.2/32", 1, Traffic::ANY)],
        );
        let second = two(&second, &first.slots);
        assert_eq!(first.slots.lists_of(FIRST_RULE), 0b10);
        assert_eq!(second.slots.lists_of(FIRST_RULE), 0b10);
        assert_eq!(second.slots.lists_of(FIRST_RULE + 1), 0b01);
    }

    #[test]
    fn what_the_image_cannot_hold_is_left_out_and_counted() {
        let table = table(&[("a", Action::Drop)], &[("4000::1/128", 0, Traffic::ANY)]);
        let built = build(&table, &Slots::default(), 1, CAPACITY).unwrap();
        assert_eq!(built.left_out, 1);
        assert_eq!(built.image.header().prefixes_v6, 0);
    }

    #[test]
    fn an_overfull_image_names_the_limit() {
        let table = table(&[("a", Action::Drop)], &[("198.18.0.1/32", 0, Traffic::ANY)]);
        let error = build(&table, &Slots::default(), 1, 4096).unwrap_err().to_string();
        assert!(error.starts_with("too many bytes of the ruleset image"), "{error}");
    }
}

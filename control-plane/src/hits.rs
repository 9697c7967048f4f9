//! Rows of the kernel's flow table to hits with names.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sekisho_abi::{
    flow::{FlowKey, FlowTotals},
    reason::Reason,
    record::{Address, Direction, FlagClass},
};
use sekisho_rules::{
    compile::Compiled,
    indicator::{Protocol, Traffic},
    table::{Claim, Table},
};

use crate::{
    dataplane::{FlowRow, PortStatus, tables::Slots},
    subscribers::{Certainty, Subscribers},
};

/// Rulesets that are remembered for hits which matched them: their rules, not their tables.
const REMEMBERED: usize = 8;

/// Packets of a subscriber from or to a listed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// As the operator's systems name it; empty unless the attribution is exact.
    pub subscriber: Arc<str>,
    /// Whose customer; empty if there is but one tenant.
    pub tenant: Arc<str>,
    /// How sure the attribution is.
    pub attribution: Certainty,
    /// The subscriber's address.
    pub subscriber_address: IpAddr,
    /// The subscriber's port in the first packet; 0 where there is none.
    pub subscriber_port: u16,
    /// The listed address.
    pub remote: IpAddr,
    /// Its port; 0 where there is none.
    pub remote_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Who began: a [`FlagClass`] by name.
    pub class: &'static str,
    /// A [`Direction`] by name.
    pub direction: &'static str,
    /// What became of the packets: a [`Reason`] by name.
    pub reason: &'static str,
    /// The interface that they came in on.
    pub interface: Arc<str>,
    /// VLAN identifiers, outermost first.
    pub vlans: Vec<u16>,
    /// How many VLAN tags the packets carried.
    pub vlan_tags: u8,
    /// What else they were wrapped in, by the names of [`Encapsulation`].
    pub encapsulation: Vec<&'static str>,
    /// The PPPoE session; 0 without one.
    pub pppoe_session: u16,
    /// In a tunnel, the inner address at the subscriber's end, of the first packet.
    pub inner_subscriber: Option<IpAddr>,
    /// In a tunnel or around an embedded address, the outer address at the remote's end, of the first
    /// packet.
    pub outer_remote: Option<IpAddr>,
    /// Feeds that list the remote, sorted.
    pub feeds: Vec<String>,
    /// The malware family that they name; empty if none does.
    pub malware: Arc<str>,
    /// Generation of the ruleset that matched.
    pub generation: u32,
    /// Rule that matched, within that generation.
    pub rule: u16,
    /// TCP flags of the first packet, else 0.
    pub tcp_flags: u8,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Time of the first packet.
    pub first_seen: Timestamp,
    /// Time of the last packet.
    pub last_seen: Timestamp,
}

/// A ruleset that hits may name.
#[derive(Clone, Debug)]
pub struct Generation {
    number: u32,
    slots: Slots,
    known: Option<Known>,
}

/// A table and what makes it quick to ask.
#[derive(Clone, Debug)]
struct Known {
    compiled: Arc<Compiled>,
    /// Prefix lengths that occur, longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl Generation {
    /// The ruleset of this number.
    pub fn new(number: u32, slots: Slots, compiled: Arc<Compiled>) -> Self {
        let table = &compiled.table;
        let lengths_v4 = lengths(table.v4.iter().map(|entry| entry.network.prefix_len()));
        let lengths_v6 = lengths(table.v6.iter().map(|entry| entry.network.prefix_len()));
        Self { number, slots, known: Some(Known { compiled, lengths_v4, lengths_v6 }) }
    }

    /// A ruleset of which only the rules are known, such as an earlier daemon's.
    pub const fn without_table(number: u32, slots: Slots) -> Self {
        Self { number, slots, known: None }
    }

    /// Which list sits in which slot.
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }
}

impl Known {
    /// The claims of the entries that cover an address, the narrowest entry's first.
    fn claims_on(&self, address: IpAddr) -> impl Iterator<Item = &Claim> {
        self.entries_on(address).map(|(_, claim)| claim)
    }

    /// The same, each with its entry's network.
    fn entries_on(&self, address: IpAddr) -> impl Iterator<Item = (IpNet, &Claim)> {
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        let table = &self.compiled.table;
        lengths.iter().flat_map(move |length| {
            let network = IpNet::new(address, *length).map(|network| network.trunc());
            let claims = claims_of(table, address, *length).iter();
            network.into_iter().cycle().zip(claims)
        })
    }
}

fn lengths(all: impl Iterator<Item = u8>) -> Vec<u8> {
    let seen: BTreeSet<u8> = all.collect();
    seen.into_iter().rev().collect()
}

/// The claims of the entry of this length that covers an address.
fn claims_of(table: &Table, address: IpAddr, length: u8) -> &[Claim] {
    match IpNet::new(address, length).map(|network| network.trunc()) {
        Ok(IpNet::V4(network)) => table
            .v4
            .binary_search_by_key(&network, |entry| entry.network)
            .ok()
            .and_then(|at| table.v4.get(at))
            .map(|entry| table.claims_of(entry))
            .unwrap_or_default(),
        Ok(IpNet::V6(network)) => table
            .v6
            .binary_search_by_key(&network, |entry| entry.network)
            .ok()
            .and_then(|at| table.v6.get(at))
            .map(|entry| table.claims_of(entry))
            .unwrap_or_default(),
        Err(_) => &[],
    }
}

/// Rulesets that hits may name, the newest last.
#[derive(Clone, Debug, Default)]
pub struct Generations(Vec<Arc<Generation>>);

impl Generations {
    /// Remembers a ruleset that is being made live.
    pub fn push(&mut self, generation: Arc<Generation>) {
        self.remove(generation.number);
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(generation);
    }

    /// Drops the tables of all but this one, which is live: a table of a million addresses takes a
    /// hundred megabytes.
    pub fn keep_table_of(&mut self, number: u32) {
        for known in self.0.iter_mut().filter(|known| known.number != number) {
            if known.known.is_some() {
                *known = Arc::new(Generation::without_table(known.number, known.slots.clone()));
            }
        }
    }

    /// The table of the newest ruleset that has one.
    pub fn newest_table(&self) -> Option<&Table> {
        self.newest().map(|known| &known.compiled.table)
    }

    /// The claims of that table that mean packets to a remote, by protocol (IANA number) and port,
    /// each with its entry's network.
    pub fn claims_meant(
        &self,
        remote: IpAddr,
        protocol: u8,
        port: u16,
    ) -> impl Iterator<Item = (IpNet, &Claim)> {
        let claims = self.newest().into_iter().flat_map(move |known| known.entries_on(remote));
        claims.filter(move |(_, claim)| means(claim, protocol, port))
    }

    fn newest(&self) -> Option<&Known> {
        self.0.iter().rev().find_map(|known| known.known.as_ref())
    }

    /// Forgets a ruleset that did not become live after all.
    pub fn remove(&mut self, number: u32) {
        self.0.retain(|known| known.number != number);
    }

    /// The ruleset of a number, and whether it is not just the newest one in its place.
    fn get(&self, number: u32) -> Option<(bool, &Generation)> {
        let exact = self.0.iter().find(|known| known.number == number);
        let found = exact.or(self.0.last())?;
        Some((exact.is_some(), found))
    }

    /// The table that a ruleset was made of, or else the newest one.
    fn table_of<'a>(&'a self, generation: &'a Generation) -> Option<&'a Known> {
        generation.known.as_ref().or_else(|| self.newest())
    }
}

/// How the kernel's clock relates to the calendar.
#[derive(Clone, Copy, Debug)]
pub struct ClockOffset(SignedDuration);

impl ClockOffset {
    /// As it is now.
    pub fn now() -> Result<Self, nix::errno::Errno> {
        use nix::time::{ClockId, clock_gettime};
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let monotonic = SignedDuration::new(monotonic.tv_sec(), monotonic.tv_nsec() as i32);
        Ok(Self(Timestamp::now().as_duration() - monotonic))
    }

    /// With this calendar time at the kernel's zero.
    pub fn from_boot(boot: Timestamp) -> Self {
        Self(boot.as_duration())
    }

    /// The calendar time of a kernel time in nanoseconds, to the millisecond.
    pub fn timestamp(self, nanoseconds: u64) -> Timestamp {
        let since_boot = SignedDuration::from_nanos(i64::try_from(nanoseconds).unwrap_or(i64::MAX));
        let at = self.0.checked_add(since_boot).unwrap_or(SignedDuration::MAX);
        let milliseconds = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
    }
}

/// What it takes to give a row its names.
#[derive(Debug)]
pub struct Names<'a> {
    /// Rulesets that may have matched.
    pub generations: &'a Generations,
    /// Who used which address.
    pub subscribers: &'a Subscribers,
    /// Interfaces by slot.
    pub ports: &'a [PortStatus],
    /// How the kernel's clock relates to the calendar.
    pub clock: ClockOffset,
}

impl Names<'_> {
    /// The hit behind a row of the flow table.
    pub fn hit(&self, FlowRow { key, totals }: &FlowRow) -> Hit {
        let first_seen = self.clock.timestamp(totals.first_ns);
        let last_seen = self.clock.timestamp(totals.last_ns).max(first_seen);
        let subscriber_address = key.subscriber.ip();
        let whose = self.subscribers.attribute(subscriber_address, first_seen, last_seen);
        let (subscriber, tenant) =
            whose.subscriber.map(|subscriber| (subscriber.id, subscriber.tenant)).unzip();
        let (feeds, malware) = self.word_on(key);
        Hit {
            subscriber: subscriber.unwrap_or_default(),
            tenant: tenant.unwrap_or_default(),
            attribution: whose.certainty,
            subscriber_address,
            subscriber_port: totals.subscriber_port,
            remote: key.remote.ip(),
            remote_port: key.conversation.remote_port,
            protocol: key.conversation.protocol,
            class: class_name(key.conversation.class),
            direction: direction_name(key.conversation.direction),
            reason: Reason::from_u8(key.decision.reason).map_or("unknown", Reason::as_str),
            interface: self.interface(key.conversation.port),
            vlans: vlans(key),
            vlan_tags: key.link.vlan_tags,
            encapsulation: key.link.encapsulation.names().collect(),
            pppoe_session: key.link.pppoe_session,
            inner_subscriber: shown(totals.inner_subscriber),
            outer_remote: shown(totals.outer_remote),
            feeds,
            malware,
            generation: key.decision.generation,
            rule: key.decision.rule,
            tcp_flags: totals.tcp_flags,
            packets: totals.packets,
            bytes: totals.bytes,
            first_seen,
            last_seen,
        }
    }

    fn interface(&self, slot: u8) -> Arc<str> {
        let port = self.ports.iter().find(|port| port.slot == slot);
        port.map_or_else(|| format!("slot {slot}").into(), |port| port.interface.as_str().into())
    }

    /// Which feeds list the remote, and as what.
    fn word_on(&self, key: &FlowKey) -> (Vec<String>, Arc<str>) {
        let Some((exact, generation)) = self.generations.get(key.decision.generation) else {
            return Default::default();
        };
        let mut feeds = Vec::new();
        let mut malware = None;
        if let Some(known) = self.generations.table_of(generation) {
            let named = &known.compiled.table.feeds;
            let (protocol, port) = (key.conversation.protocol, key.conversation.remote_port);
            let means = |claim: &&Claim| means(claim, protocol, port);
            for claim in known.claims_on(key.remote.ip()).filter(means) {
                feeds.extend(named.get(usize::from(claim.feed)).map(|feed| &*feed.name));
                malware = malware.or(claim.malware.as_ref());
            }
        }
        let lists = generation.slots.lists_of(key.decision.rule);
        if exact && lists != 0 {
            feeds = generation.slots.names_in(lists);
        }
        feeds.sort_unstable();
        feeds.dedup();
        (feeds.into_iter().map(str::to_owned).collect(), malware.cloned().unwrap_or_default())
    }
}

/// Whether a claim means packets of this protocol (IANA number) and remote port.
fn means(claim: &Claim, protocol: u8, remote_port: u16) -> bool {
    let Traffic { protocol: meant, port } = claim.traffic;
    let has_ports = [Protocol::Tcp, Protocol::Udp].iter().any(|p| p.number() == protocol);
    meant.is_none_or(|meant| meant.number() == protocol)
        && port.is_none_or(|port| has_ports && port == remote_port)
}

/// An address, unless it is the zero that stands for none.
fn shown(address: Address) -> Option<IpAddr> {
    Some(address.ip()).filter(|address| !address.is_unspecified())
}

fn vlans(key: &FlowKey) -> Vec<u16> {
    let both = [(key.link.vlans >> 16) as u16, key.link.vlans as u16];
    both.into_iter().take(usize::from(key.link.vlan_tags)).collect()
}

fn class_name(class: u8) -> &'static str {
    [FlagClass::Other, FlagClass::Initiated, FlagClass::Response]
        .into_iter()
        .find(|known| *known as u8 == class)
        .map_or("unknown", FlagClass::as_str)
}

fn direction_name(direction: u8) -> &'static str {
    [Direction::Outbound, Direction::Inbound]
        .into_iter()
        .find(|known| *known as u8 == direction)
        .map_or("unknown", Direction::as_str)
}

/// Adds up rows of one flow, which comes once for each CPU.
pub fn add_up(mut rows: Vec<FlowRow>) -> Vec<FlowRow> {
    // In place: there may be a million.
    rows.sort_unstable_by_key(|row| row.key);
    rows.dedup_by(|more, sum| {
        let is_same = more.key == sum.key;
        if is_same {
            merge(&mut sum.totals, &more.totals);
        }
        is_same
    });
    rows
}

fn merge(sum: &mut FlowTotals, more: &FlowTotals) {
    sum.packets = sum.packets.saturating_add(more.packets);
    sum.bytes = sum.bytes.saturating_add(more.bytes);
    sum.last_ns = sum.last_ns.max(more.last_ns);
    if more.first_ns < sum.first_ns {
        sum.first_ns = more.first_ns;
        sum.subscriber_port = more.subscriber_port;
        sum.tcp_flags = more.tcp_flags;
        sum.inner_subscriber = more.inner_subscriber;
        sum.outer_remote = more.outer_remote;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const BOOT: i64 = 1_800_000_000;

    fn clock() -> ClockOffset {
        ClockOffset::from_boot(Timestamp::from_second(BOOT).unwrap())
    }

    fn generations() -> Generations {
        let mut generations = Generations::default();
        let (generation, _) = testing::generation(
            4,
            &[
                ("198.18.0.0/24", "wide", None, Some("Wide")),
                ("198.18.0.7/32", "drop", Some(443), None),
                ("198.18.0.7/32", "mirai", Some(23), Some("Mirai")),
            ],
        );
        generations.push(Arc::new(generation));
        generations
    }

    fn hit(row: &FlowRow, generations: &Generations) -> Hit {
        let subscribers = testing::subscribers("100.64.0.7,alice,acme,,\n");
        let ports = [PortStatus { interface: "eth7".to_owned(), slot: 2, attachment: None }];
        let names = Names { generations, subscribers: &subscribers, ports: &ports, clock: clock() };
        names.hit(row)
    }

    #[test]
    fn a_row_gets_its_names_and_times() {
        let mut row = testing::row("100.64.0.7", "198.18.0.7", 23);
        row.key.conversation.port = 2;
        row.key.link.vlans = 100 << 16 | 7;
        row.key.link.vlan_tags = 2;
        row.key.decision.rule = 99;
        row.key.decision.generation = 4;
        let hit = hit(&row, &generations());
        assert_eq!((&*hit.subscriber, &*hit.tenant), ("alice", "acme"));
        assert_eq!(hit.attribution, Certainty::Exact);
        assert_eq!((&*hit.interface, &*hit.vlans), ("eth7", &[100, 7][..]));
        assert_eq!(hit.feeds, ["mirai", "wide"], "the other port is not meant");
        assert_eq!(&*hit.malware, "Mirai");
        assert_eq!((hit.class, hit.direction, hit.reason), ("initiated", "outbound", "dropped"));
        assert_eq!(hit.first_seen, Timestamp::from_second(BOOT + 1).unwrap());
        assert_eq!(hit.last_seen, Timestamp::from_second(BOOT + 2).unwrap());
    }

    #[test]
    fn the_rule_of_a_known_generation_names_the_feeds() {
        let mut row = testing::row("100.64.0.7", "198.18.0.200", 9);
        row.key.decision.generation = 4;
        let (generation, lists) =
            testing::generation(4, &[("198.18.0.0/24", "wide", None, Some("Wide"))]);
        let rule = lists.iter().position(|lists| *lists == 1).unwrap();
        row.key.decision.rule = u16::try_from(rule).unwrap();
        let mut generations = Generations::default();
        generations.push(Arc::new(generation));
        let hit = hit(&row, &generations);
        assert_eq!(hit.feeds, ["wide"]);
    }

    #[test]
    fn a_generation_that_nobody_remembers_is_answered_by_the_newest() {
        let mut row = testing::row("100.64.0.9", "198.18.0.1", 9);
        row.key.decision.generation = 77;
        let hit = hit(&row, &generations());
        assert_eq!(hit.feeds, ["wide"]);
        assert_eq!(hit.attribution, Certainty::Unknown);
        assert_eq!(&*hit.subscriber, "");
    }

    #[test]
    fn only_the_last_rulesets_are_remembered() {
        let mut generations = Generations::default();
        for number in 0..20 {
            generations.push(Arc::new(testing::generation(number, &[]).0));
        }
        assert!(generations.get(19).unwrap().0);
        assert!(generations.get(12).unwrap().0);
        assert!(!generations.get(11).unwrap().0);
    }

    #[test]
    fn only_the_table_that_is_live_is_kept_and_older_rules_still_name_their_feeds() {
        let (old, lists) = testing::generation(1, &[("198.18.0.7/32", "gone", None, Some("Old"))]);
        let table = Arc::downgrade(&old.known.as_ref().unwrap().compiled);
        let (new, _) = testing::generation(2, &[("198.18.0.7/32", "here", None, Some("New"))]);
        let mut generations = Generations::default();
        generations.push(Arc::new(old));
        generations.push(Arc::new(new));
        assert!(table.upgrade().is_some(), "the new one may yet be refused");
        generations.keep_table_of(2);
        assert!(table.upgrade().is_none());
        let mut row = testing::row("100.64.0.7", "198.18.0.7", 23);
        row.key.decision.generation = 1;
        row.key.decision.rule =
            u16::try_from(lists.iter().position(|lists| *lists == 1).unwrap()).unwrap();
        let hit = hit(&row, &generations);
        assert_eq!((hit.feeds.as_slice(), &*hit.malware), (&["gone".to_owned()][..], "New"));
    }

    #[test]
    fn rows_of_one_flow_are_added_up() {
        let row = testing::row("100.64.0.7", "198.18.0.7", 23);
        let mut earlier = row;
        earlier.totals.first_ns -= 5;
        earlier.totals.subscriber_port = 257;
        let other = testing::row("100.64.0.8", "198.18.0.7", 23);
        let rows = add_up(vec![row, earlier, other, row]);
        assert_eq!(rows.len(), 2);
        let sum = rows.iter().find(|sum| sum.key == row.key).unwrap();
        assert_eq!(sum.totals.packets, 3 * row.totals.packets);
        assert_eq!(sum.totals.first_ns, row.totals.first_ns - 5);
        assert_eq!(sum.totals.subscriber_port, 257);
    }
}

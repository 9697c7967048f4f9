//! Building an image: sort, cut out what is allowed, share what is alike.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    mem,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    layout::{
        BITMAP_V4, BITMAP_V6, DYNAMIC, LIST_NAME_BYTES, MAGIC, RANKS_V4, RANKS_V6, SHORTEST_V4,
        SHORTEST_V6, SLOT_BITS, header, leaf, node, port, rule, selector, tag,
    },
    lookup::{self, Header, Lists},
    named::{Asked, Named},
};
use crate::{ABI_VERSION, MAX_LISTS, canary};

/// A set of lists, as bits by their slot.
pub type ListSet = u64;

/// What a list asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Count the packet, let it pass.
    Observe,
    /// Count the packet, drop it.
    Drop,
    /// Count the packet, drop it, and tell the subscriber.
    Reject,
    /// Count the packet, send it to the sinkhole.
    Sinkhole,
}

/// A list as the image knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// At most [`LIST_NAME_BYTES`] bytes; empty marks a slot that is not in use.
    pub name: String,
    /// What its entries ask for.
    pub action: Action,
}

/// Which packets of a network an entry means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// Every packet.
    #[default]
    Any,
    /// Every packet of the protocol (IANA number).
    Protocol(u8),
    /// One port of the protocol (IANA number). Port 0 is the same as [`Port::Protocol`].
    One(u8, u16),
}

impl Port {
    /// 0 for any packet, which no protocol and port can have: protocol 0 has no ports.
    const fn key(self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Protocol(protocol) => port::key(protocol, 0),
            Self::One(protocol, number) => port::key(protocol, number),
        }
    }
}

/// A size of the image that cannot be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of the image, set by the dataplane's capacity.
    Bytes,
    /// Different combinations of lists.
    Rules,
    /// Different combinations of rules and port conditions.
    Selectors,
    /// Port conditions on one network.
    PortsOfOneNetwork,
    /// Lists.
    Lists,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes of the ruleset image",
            Self::Rules => "combinations of lists",
            Self::Selectors => "combinations of rules and port conditions",
            Self::PortsOfOneNetwork => "port conditions on one network",
            Self::Lists => "lists",
        })
    }
}

/// Why there is no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// More of something than an image can hold.
    Full {
        /// What there is too much of.
        limit: Limit,
        /// How much there is, as far as it was counted.
        needed: u64,
        /// How much fits.
        allowed: u64,
    },
    /// A prefix shorter than any allocation: no list can mean that.
    TooWide {
        /// The prefix.
        network: String,
        /// The shortest length that can be listed.
        shortest: u8,
    },
    /// An IPv6 prefix outside of 2000::/3.
    NotGlobalUnicast {
        /// The prefix.
        network: String,
    },
    /// A list's name is longer than the image has room for.
    NameTooLong {
        /// The name.
        name: String,
    },
    /// An entry names a list that was not declared.
    UnknownList {
        /// The set with the undeclared bit.
        lists: ListSet,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { limit, needed, allowed } => {
                write!(f, "too many {limit}: {needed} needed, {allowed} fit")
            }
            Self::TooWide { network, shortest } => {
                write!(
                    f,
                    "{network} is too wide: the shortest prefix that can be listed is /{shortest}"
                )
            }
            Self::NotGlobalUnicast { network } => {
                write!(f, "{network} is outside 2000::/3, where no host of the Internet lives")
            }
            Self::NameTooLong { name } => {
                write!(f, "list name '{name}' is longer than {LIST_NAME_BYTES} bytes")
            }
            Self::UnknownList { lists } => {
                write!(f, "list set {lists:#x} names an undeclared list")
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// A finished image.
#[derive(Clone)]
pub struct Image {
    bytes: Vec<u8>,
    rules: Vec<Lists>,
}

impl Image {
    /// The bytes, as they go into the map.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The lists behind each rule, by rule; rule 0 has none.
    pub fn rules(&self) -> &[Lists] {
        &self.rules
    }

    /// What the image says of itself.
    pub fn header(&self) -> Header {
        // An image that was just built has a header.
        lookup::header(self.bytes.as_slice()).unwrap_or(Header {
            abi: ABI_VERSION,
            generation: 0,
            bytes: 0,
            checksum: 0,
            prefixes_v4: 0,
            prefixes_v6: 0,
            rules: 0,
        })
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Image").field(&self.header()).finish()
    }
}

/// Collects entries and builds an image of them.
#[derive(Debug)]
pub struct ImageBuilder {
    lists: Vec<List>,
    v4: Vec<Item<u32>>,
    v6: Vec<Item<u128>>,
    claims: Claims,
    rules: Vec<Lists>,
    canary: bool,
    error: Option<BuildError>,
}

impl ImageBuilder {
    /// `lists` are declared in the order of their slots.
    pub fn new(lists: Vec<List>) -> Self {
        let error = if lists.len() > MAX_LISTS {
            Some(full(Limit::Lists, lists.len(), MAX_LISTS))
        } else {
            lists
                .iter()
                .find(|list| list.name.len() > LIST_NAME_BYTES)
                .map(|list| BuildError::NameTooLong { name: list.name.clone() })
        };
        Self {
            lists,
            v4: Vec::new(),
            v6: Vec::new(),
            claims: Claims::default(),
            rules: vec![Lists::default()],
            canary: false,
            error,
        }
    }

    /// Lists the [`canary`] as well, alone and whatever is allowed; it does not count as a prefix. Its
    /// list takes the last slot.
    pub fn with_canary(mut self) -> Self {
        self.canary = true;
        self
    }

    /// Keeps the rule numbers of an earlier image, so that totals by rule go on.
    pub fn keep_rules(&mut self, rules: &[Lists]) {
        if rules.first() == Some(&Lists::default()) && rules.len() <= rule::MAX {
            self.rules = rules.to_vec();
        }
    }

    /// Lists an IPv4 prefix. Host bits are ignored.
    pub fn list_v4(&mut self, address: Ipv4Addr, length: u8, port: Port, lists: impl Into<Named>) {
        if !(SHORTEST_V4..=32).contains(&length) {
            return self.fail(BuildError::TooWide {
                network: format!("{address}/{length}"),
                shortest: SHORTEST_V4,
            });
        }
        let claim = self.claim(port, lists.into());
        self.v4.push(Item::new(u32::from(address), length, claim));
    }

    /// Lists an IPv6 prefix. Host bits are ignored.
    pub fn list_v6(&mut self, address: Ipv6Addr, length: u8, port: Port, lists: impl Into<Named>) {
        if !(SHORTEST_V6..=128).contains(&length) {
            return self.fail(BuildError::TooWide {
                network: format!("{address}/{length}"),
                shortest: SHORTEST_V6,
            });
        }
        let bits = u128::from(address);
        if (bits ^ GLOBAL_UNICAST) >> (128 - SHARED_BITS) != 0 {
            return self
                .fail(BuildError::NotGlobalUnicast { network: format!("{address}/{length}") });
        }
        let claim = self.claim(port, lists.into());
        self.v6.push(Item::new(bits << SHARED_BITS, length - SHARED_BITS, claim));
    }

    /// Never lists this IPv4 prefix, whatever else is said. Host bits are ignored.
    pub fn allow_v4(&mut self, address: Ipv4Addr, length: u8) {
        self.v4.push(Item::new(u32::from(address), length.min(32), ALLOW));
    }

    /// Never lists this IPv6 prefix, whatever else is said. Host bits are ignored, and so is a prefix
    /// without an address in 2000::/3.
    pub fn allow_v6(&mut self, address: Ipv6Addr, length: u8) {
        let bits = u128::from(address);
        let differs = (bits ^ GLOBAL_UNICAST) >> (128 - SHARED_BITS);
        if differs >> (SHARED_BITS - length.min(SHARED_BITS)) == 0 {
            let length = length.clamp(SHARED_BITS, 128) - SHARED_BITS;
            self.v6.push(Item::new(bits << SHARED_BITS, length, ALLOW));
        }
    }

    /// Builds the image of at most `capacity` bytes.
    pub fn build(mut self, generation: u32, capacity: usize) -> Result<Image, BuildError> {
        if self.canary {
            self.add_canary();
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let unlisted = u32::from(self.canary);
        let room = (capacity.min(1 << 29)).saturating_sub(DYNAMIC) / 4;
        let mut trees =
            Trees { pool: Vec::new(), selectors: Selectors::new(room), room, error: None };
        let prefixes_v4 = self.claims.gather(&mut self.v4, &mut trees.selectors) - unlisted;
        let slots_v4 = trees.slots(&self.v4);
        drop(self.v4);
        let prefixes_v6 = self.claims.gather(&mut self.v6, &mut trees.selectors) - unlisted;
        let slots_v6 = trees.slots(&self.v6);
        drop(self.v6);
        let Trees { pool, selectors, error, .. } = trees;
        if let Some(error) = error.or(selectors.error()) {
            return Err(error);
        }
        let tables = selectors.into_tables(self.rules, &Asked::of(&self.lists))?;
        Parts { generation, lists: &self.lists, prefixes_v4, prefixes_v6, slots_v4, slots_v6, pool }
            .write(tables, capacity)
    }

    fn add_canary(&mut self) {
        let feeds = self.lists.len();
        if feeds > canary::LIST {
            return self.fail(full(Limit::Lists, feeds, canary::LIST));
        }
        let unused = List { name: String::new(), action: Action::Observe };
        self.lists.resize(canary::LIST, unused);
        self.lists.push(List { name: canary::NAME.to_owned(), action: Action::Drop });
        part_around(&mut self.v4, canary::V4.to_bits());
        part_around(&mut self.v6, canary::V6.to_bits() << SHARED_BITS);
        self.list_v4(canary::V4, 32, Port::Any, CANARY);
        self.list_v6(canary::V6, 128, Port::Any, CANARY);
    }

    fn claim(&mut self, port: Port, lists: Named) -> u32 {
        let declared = u64::MAX.checked_shr(64 - self.lists.len().min(64) as u32).unwrap_or(0);
        if lists.is_empty() || lists.all() & !declared != 0 {
            self.fail(BuildError::UnknownList { lists: lists.all() });
            return 0;
        }
        self.claims.number((port.key(), Named::default().with(lists)))
    }

    fn fail(&mut self, error: BuildError) {
        self.error.get_or_insert(error);
    }
}

fn full(limit: Limit, needed: usize, allowed: usize) -> BuildError {
    BuildError::Full { limit, needed: needed as u64, allowed: allowed as u64 }
}

const CANARY: ListSet = 1 << canary::LIST;

/// 2000::/3, all global unicast addresses; keys go without the bits that they share.
const GLOBAL_UNICAST: u128 = 0x2000 << 112;
const SHARED_BITS: u8 = 3;

/// The number of an item that allows, and the selector of a range that is allowed.
const ALLOW: u32 = u32::MAX;

/// Bits from the left: an IPv4 address, or an IPv6 address without its first three bits.
trait Key: Copy + Ord + fmt::Debug {
    /// Bits that an address has.
    const BITS: u8;
    /// The bits as the upper part of a `u128`.
    fn left(self) -> u128;
    /// All but the first `length` bits zero.
    fn masked(self, length: u8) -> Self;
    /// The half, without this key, of the prefix of `length` bits that the key is in.
    fn other_half(self, length: u8) -> Self;
}

impl Key for u32 {
    const BITS: u8 = 32;

    fn left(self) -> u128 {
        u128::from(self) << 96
    }

    fn masked(self, length: u8) -> Self {
        self & Self::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
    }

    fn other_half(self, length: u8) -> Self {
        (self ^ 1 << (31 - length)).masked(length + 1)
    }
}

impl Key for u128 {
    const BITS: u8 = 125;

    fn left(self) -> u128 {
        self
    }

    fn masked(self, length: u8) -> Self {
        self & Self::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }

    fn other_half(self, length: u8) -> Self {
        (self ^ 1 << (127 - length)).masked(length + 1)
    }
}

/// One prefix and what is said of it: the number of a claim while entries are collected, that of a
/// selector once they are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item<K> {
    key: K,
    length: u8,
    number: u32,
}

impl<K: Key> Item<K> {
    fn new(key: K, length: u8, number: u32) -> Self {
        Self { key: key.masked(length), length, number }
    }

    /// `width` bits of the key from bit `depth` on.
    fn bits(&self, depth: u32, width: u32) -> u32 {
        (self.key.left() << depth >> (128 - width)) as u32
    }
}

/// Has each item that covers a key cover all but that key.
fn part_around<K: Key>(items: &mut Vec<Item<K>>, key: K) {
    let covers = |item: &mut Item<K>| item.key == key.masked(item.length);
    for whole in items.extract_if(.., covers).collect::<Vec<_>>() {
        let halves = (whole.length..K::BITS).map(|length| Item {
            key: key.other_half(length),
            length: length + 1,
            number: whole.number,
        });
        items.extend(halves);
    }
}

/// A port key and the lists that name it.
type Condition = (u32, Named);

/// Conditions as entries name them, each kept once and numbered.
#[derive(Debug, Default)]
struct Claims {
    conditions: Vec<Condition>,
    numbers: HashMap<Condition, u32>,
}

impl Claims {
    fn number(&mut self, condition: Condition) -> u32 {
        *self.numbers.entry(condition).or_insert_with(|| {
            self.conditions.push(condition);
            self.conditions.len() as u32 - 1
        })
    }

    /// Sorts the items and leaves one for each prefix, with the selector of all its claims. Returns
    /// how many prefixes are listed.
    fn gather<K: Key>(&self, items: &mut Vec<Item<K>>, selectors: &mut Selectors) -> u32 {
        items.sort_unstable();
        let mut alone: Vec<Option<u32>> = vec![None; self.conditions.len()];
        let (mut kept, mut at, mut listed) = (0, 0, 0);
        while let Some(&first) = items.get(at) {
            let same = |item: &Item<K>| (item.key, item.length) == (first.key, first.length);
            let end = at + items[at..].iter().take_while(|item| same(item)).count();
            let group = &items[at..end];
            let claims = group.iter().map(|item| item.number).filter(|number| *number != ALLOW);
            listed += u32::from(claims.clone().next().is_some());
            let number = if group.iter().any(|item| item.number == ALLOW) {
                ALLOW
            } else if group.len() == 1 {
                let number = first.number as usize;
                *alone[number]
                    .get_or_insert_with(|| selectors.intern(vec![self.conditions[number]]))
            } else {
                selectors.intern(joined(claims.map(|number| self.conditions[number as usize])))
            };
            items[kept] = Item { number, ..first };
            kept += 1;
            at = end;
        }
        items.truncate(kept);
        listed
    }
}

/// Conditions as a set: sorted by key, each key once.
fn joined(conditions: impl Iterator<Item = Condition>) -> Vec<Condition> {
    let mut set: Vec<Condition> = conditions.collect();
    set.sort_unstable();
    set.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.with(next.1);
        }
        same
    });
    set
}

/// Sets of conditions, each kept once and numbered; 0 is the empty set.
#[derive(Debug)]
struct Selectors {
    /// Sorted by port key; key 0, any packet, comes first.
    sets: Vec<Box<[Condition]>>,
    hasher: RandomState,
    /// The newest set of each hash.
    newest: HashMap<u64, u32>,
    /// For each set, the one of the same hash before it, or 0.
    earlier: Vec<u32>,
    unions: HashMap<(u32, u32), u32>,
    /// For each set, the number it has in the image; 0 while nothing refers to it.
    places: Vec<u32>,
    /// The sets that the image needs, in the order of their numbers there.
    used: Vec<u32>,
    /// Conditions in all sets, and how many may be.
    conditions: usize,
    most_conditions: usize,
}

impl Selectors {
    /// `room` is how many words the image has; conditions take two.
    fn new(room: usize) -> Self {
        Self {
            sets: vec![Box::default()],
            hasher: RandomState::new(),
            newest: HashMap::new(),
            earlier: vec![0],
            unions: HashMap::new(),
            places: vec![0],
            used: vec![0],
            conditions: 0,
            most_conditions: (room / 2).max(1 << 16),
        }
    }

    fn intern(&mut self, set: Vec<Condition>) -> u32 {
        let newest = self.newest.entry(self.hasher.hash_one(&set)).or_default();
        let mut number = *newest;
        while number != 0 {
            if *self.sets[number as usize] == *set {
                return number;
            }
            number = self.earlier[number as usize];
        }
        number = self.sets.len() as u32;
        self.earlier.push(mem::replace(newest, number));
        self.conditions += set.len();
        self.sets.push(set.into_boxed_slice());
        self.places.push(0);
        number
    }

    /// The selector of packets that either asks for.
    fn union(&mut self, one: u32, other: u32) -> u32 {
        if one == other || other == 0 {
            return one;
        }
        if one == 0 {
            return other;
        }
        let pair = (one.min(other), one.max(other));
        if let Some(number) = self.unions.get(&pair) {
            return *number;
        }
        // Large sets nested in large sets multiply; what the image cannot hold is not computed.
        if self.error().is_some() {
            return one;
        }
        let sets = [one, other].map(|number| &*self.sets[number as usize]);
        let number = self.intern(joined(sets.concat().into_iter()));
        self.unions.insert(pair, number);
        number
    }

    fn error(&self) -> Option<BuildError> {
        let (needed, allowed) = (self.conditions, self.most_conditions);
        (needed > allowed).then(|| full(Limit::Bytes, DYNAMIC + needed * 8, DYNAMIC + allowed * 8))
    }

    /// The number in the image of a set that a word refers to.
    fn place(&mut self, number: u32) -> u32 {
        if number != 0 && self.places[number as usize] == 0 {
            self.places[number as usize] = self.used.len() as u32;
            self.used.push(number);
        }
        self.places[number as usize]
    }

    /// The three tables of the image: selectors, port conditions, rules.
    fn into_tables(self, rules: Vec<Lists>, asked: &Asked) -> Result<Tables, BuildError> {
        if self.used.len() > selector::MAX {
            return Err(full(Limit::Selectors, self.used.len(), selector::MAX));
        }
        let mut numbers: HashMap<Lists, u16> =
            rules.iter().enumerate().map(|(number, lists)| (*lists, number as u16)).collect();
        let mut tables = Tables { selectors: Vec::new(), ports: Vec::new(), rules };
        for number in &self.used {
            let set = &self.sets[*number as usize];
            let lists_at = |key: u32| {
                set.binary_search_by_key(&key, |condition| condition.0)
                    .map_or(Named::default(), |at| set[at].1)
            };
            let any = lists_at(0);
            let any_rule = tables.rule(&mut numbers, asked.by(any))?;
            let mut conditions = Vec::new();
            for &(key, lists) in set.iter().filter(|condition| condition.0 != 0) {
                let whole_protocol = lists_at(key & 0xffff_0000);
                let lists = lists.with(whole_protocol).with(any);
                let rule = tables.rule(&mut numbers, asked.by(lists))?;
                conditions.push((key, u32::from(rule)));
            }
            if conditions.len() > selector::MAX_PORTS {
                return Err(full(Limit::PortsOfOneNetwork, conditions.len(), selector::MAX_PORTS));
            }
            let first = tables.ports.len() as u32;
            let (places, probes, size_log2) = port_table(&conditions);
            tables.ports.extend(places);
            let shape = u32::from(any_rule) | probes << 16 | u32::from(size_log2) << 24;
            tables.selectors.push((shape, first));
        }
        Ok(tables)
    }
}

/// A hash table of port conditions: its places, how many a search looks at, and how many it may
/// begin at, as a binary logarithm.
fn port_table(conditions: &[(u32, u32)]) -> (Vec<(u32, u32)>, u32, u8) {
    if conditions.is_empty() {
        return (Vec::new(), 0, 0);
    }
    let mut size_log2 = conditions.len().next_power_of_two().trailing_zeros() as u8;
    loop {
        if let Some((places, probes)) = try_port_table(conditions, size_log2) {
            return (places, probes, size_log2);
        }
        size_log2 += 1;
    }
}

fn try_port_table(conditions: &[(u32, u32)], size_log2: u8) -> Option<(Vec<(u32, u32)>, u32)> {
    let mut places = vec![(0, 0); (1 << size_log2) + port::MAX_PROBES as usize - 1];
    let mut probes = 0;
    for &(key, rule) in conditions {
        let begin = port::place(key, size_log2) as usize;
        let tried = &mut places[begin..begin + port::MAX_PROBES as usize];
        let at = tried.iter().position(|place| place.0 == 0)?;
        tried[at] = (key, rule);
        probes = probes.max(at as u32 + 1);
    }
    places.truncate((1 << size_log2) + probes as usize - 1);
    Some((places, probes))
}

struct Tables {
    selectors: Vec<(u32, u32)>,
    ports: Vec<(u32, u32)>,
    rules: Vec<Lists>,
}

impl Tables {
    fn rule(&mut self, numbers: &mut HashMap<Lists, u16>, lists: Lists) -> Result<u16, BuildError> {
        if let Some(number) = numbers.get(&lists) {
            return Ok(*number);
        }
        let number = self.rules.len();
        if number >= rule::MAX {
            return Err(full(Limit::Rules, number + 1, rule::MAX));
        }
        self.rules.push(lists);
        numbers.insert(lists, number as u16);
        Ok(number as u16)
    }
}

/// The word of a slot that nothing lists, where its surroundings are listed.
const NOT_LISTED: u32 = tag::SELECTOR << tag::SHIFT;

/// What is known of a range of slots before its own longer prefixes are looked at.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u32,
    last: u32,
    selector: u32,
}

/// Builds the slot words of both families into one pool.
struct Trees {
    pool: Vec<u32>,
    selectors: Selectors,
    /// Words that may be used, a rough bound checked while building so that memory stays bounded.
    room: usize,
    error: Option<BuildError>,
}

impl Trees {
    /// The words of a family's slots, sorted by slot.
    fn slots<K: Key>(&mut self, items: &[Item<K>]) -> Vec<(u32, u32)> {
        self.level(items, 0, SLOT_BITS, 0)
    }

    /// The words of all values of the next `width` bits whose word differs from what they inherit.
    fn level<K: Key>(
        &mut self,
        items: &[Item<K>],
        depth: u32,
        width: u32,
        inherited: u32,
    ) -> Vec<(u32, u32)> {
        let ends_here = |item: &Item<K>| u32::from(item.length) <= depth + width;
        let ranges =
            self.ranges(items.iter().filter(|item| ends_here(item)), depth, width, inherited);
        let mut longer = items.iter().enumerate().filter(|(_, item)| !ends_here(item)).peekable();
        let mut words = Vec::new();
        let mut ranges = ranges.into_iter().peekable();
        let mut slot = 0_u32;
        loop {
            let next_longer = longer.peek().map(|(_, item)| item.bits(depth, width));
            while ranges.next_if(|range| range.last < slot).is_some() {}
            let next_range = ranges.peek().map(|range| range.first.max(slot));
            let Some(at) = next_longer.into_iter().chain(next_range).min() else { break };
            if words.len() + self.pool.len() > self.room {
                self.error.get_or_insert(full(
                    Limit::Bytes,
                    DYNAMIC + (words.len() + self.pool.len()) * 4,
                    DYNAMIC + self.room * 4,
                ));
                return Vec::new();
            }
            let selector = match ranges.peek() {
                Some(range) if range.first <= at => range.selector,
                _ => inherited,
            };
            let selector = if selector == ALLOW { None } else { Some(selector) };
            let word = if next_longer == Some(at) {
                // Sorted as they are, the longer prefixes of one slot are neighbours.
                let (begin, mut end) = (longer.peek().map_or(0, |(at, _)| *at), 0);
                while let Some((index, _)) =
                    longer.next_if(|(_, item)| item.bits(depth, width) == at)
                {
                    end = index + 1;
                }
                selector.and_then(|selector| {
                    let word = self.below(&items[begin..end], depth + width, selector);
                    word.or_else(|| self.alike(selector, inherited))
                })
            } else {
                selector.and_then(|selector| self.alike(selector, inherited))
            };
            // What is allowed inside of something listed needs a word that says so.
            let allowed = (selector.is_none() && inherited != 0).then_some(NOT_LISTED);
            words.extend(word.or(allowed).map(|word| (at, word)));
            match at.checked_add(1) {
                Some(next) if next >> width == 0 => slot = next,
                _ => break,
            }
        }
        words
    }

    /// Disjoint, sorted ranges of slots that prefixes ending on this level cover.
    fn ranges<'a, K: Key + 'a>(
        &mut self,
        items: impl Iterator<Item = &'a Item<K>>,
        depth: u32,
        width: u32,
        inherited: u32,
    ) -> Vec<Range> {
        let mut done: Vec<Range> = Vec::new();
        let mut open: Vec<Range> = Vec::new();
        let close = |range: Range, done: &mut Vec<Range>, open: &mut Vec<Range>| {
            let after = range.last.checked_add(1);
            if range.first <= range.last {
                done.push(range);
            }
            // The enclosing range goes on behind the one that ended.
            if let (Some(outer), Some(after)) = (open.last_mut(), after) {
                outer.first = after;
            }
        };
        for item in items {
            let first = item.bits(depth, width);
            let free = depth + width - u32::from(item.length).max(depth);
            let last = first + ((1_u64 << free) - 1) as u32;
            while let Some(range) = open.pop_if(|range| range.last < first) {
                close(range, &mut done, &mut open);
            }
            let around = open.last().map_or(inherited, |range| range.selector);
            let selector = match (around, item.number) {
                (ALLOW, _) | (_, ALLOW) => ALLOW,
                (around, own) => self.selectors.union(around, own),
            };
            match open.last_mut() {
                Some(same) if same.first == first && same.last == last => same.selector = selector,
                Some(outer) if outer.first < first => {
                    done.push(Range { last: first - 1, ..*outer });
                    open.push(Range { first, last, selector });
                }
                _ => open.push(Range { first, last, selector }),
            }
        }
        while let Some(range) = open.pop() {
            close(range, &mut done, &mut open);
        }
        done
    }

    /// The word of a slot that is listed alike, unless that is what it inherits.
    fn alike(&mut self, selector: u32, inherited: u32) -> Option<u32> {
        let differs = selector != inherited;
        differs.then(|| tag::SELECTOR << tag::SHIFT | self.selectors.place(selector))
    }

    /// The word of a slot that has longer prefixes; `None` if they change nothing.
    fn below<K: Key>(&mut self, items: &[Item<K>], depth: u32, inherited: u32) -> Option<u32> {
        if let [item] = items
            && item.number != ALLOW
        {
            let selector = self.selectors.union(inherited, item.number);
            if K::BITS != 32 {
                return Some(self.leaf(item, selector, inherited));
            }
            let place = self.selectors.place(selector);
            if item.length == 32 && inherited == 0 && (place as usize) < selector::MAX {
                let host = item.bits(24, 8);
                return Some(tag::HOST << tag::SHIFT | host << tag::HOST_SHIFT | place);
            }
        }
        let words = self.level(items, depth, 8, inherited);
        (!words.is_empty()).then(|| self.node(&words, inherited))
    }

    fn leaf<K: Key>(&mut self, item: &Item<K>, selector: u32, otherwise: u32) -> u32 {
        let at = self.aligned();
        let (selector, otherwise) =
            (self.selectors.place(selector), self.selectors.place(otherwise));
        let key = item.key.left();
        self.pool.extend(halves((key >> 64) as u64));
        self.pool.extend(halves(key as u64));
        self.pool.extend([u32::from(item.length), selector, otherwise, 0]);
        debug_assert_eq!(self.pool.len() - at, leaf::BYTES / 4);
        tag::LEAF << tag::SHIFT | at as u32
    }

    fn node(&mut self, words: &[(u32, u32)], otherwise: u32) -> u32 {
        let otherwise = self.selectors.place(otherwise);
        let children = self.pool.len();
        self.pool.extend(words.iter().map(|(_, word)| word));
        let at = self.aligned();
        let mut bits = [0_u64; 4];
        for (value, _) in words {
            bits[(value >> 6) as usize] |= 1 << (value & 63);
        }
        let mut ranks = 0_u32;
        let mut before = 0;
        for (quarter, bits) in bits[..3].iter().enumerate() {
            before += bits.count_ones();
            ranks |= before << (8 * quarter);
        }
        self.pool.extend(bits.iter().flat_map(|bits| halves(*bits)));
        self.pool.extend([children as u32, otherwise, ranks, 0]);
        debug_assert_eq!(self.pool.len() - at, node::BYTES / 4);
        tag::NODE << tag::SHIFT | at as u32
    }

    /// The next word offset that a `u64` may stand at.
    fn aligned(&mut self) -> usize {
        if self.pool.len() % 2 == 1 {
            self.pool.push(0);
        }
        self.pool.len()
    }
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// Everything an image is written from.
struct Parts<'a> {
    generation: u32,
    lists: &'a [List],
    prefixes_v4: u32,
    prefixes_v6: u32,
    slots_v4: Vec<(u32, u32)>,
    slots_v6: Vec<(u32, u32)>,
    pool: Vec<u32>,
}

impl Parts<'_> {
    fn write(self, tables: Tables, capacity: usize) -> Result<Image, BuildError> {
        let even = |words: usize| words + words % 2;
        let slots_v4 = DYNAMIC / 4;
        let slots_v6 = slots_v4 + self.slots_v4.len();
        let pool = even(slots_v6 + self.slots_v6.len());
        let selectors = even(pool + self.pool.len());
        let ports = selectors + tables.selectors.len() * selector::BYTES / 4;
        let rules = ports + tables.ports.len() * port::BYTES / 4;
        let total = (rules + tables.rules.len() * rule::BYTES / 4) * 4;
        if total > capacity {
            return Err(full(Limit::Bytes, total, capacity));
        }
        let mut out = Writer { bytes: vec![0; total] };
        out.slots(&self.slots_v4, BITMAP_V4, RANKS_V4, slots_v4);
        out.slots(&self.slots_v6, BITMAP_V6, RANKS_V6, slots_v6);
        out.words(pool, self.pool.iter().copied());
        out.words(selectors, tables.selectors.iter().flat_map(|&(shape, first)| [shape, first]));
        out.words(ports, tables.ports.iter().flat_map(|&(key, rule)| [key, rule]));
        // In the order of a rule's fields.
        let by_action =
            |lists: &Lists| [lists.observe, lists.drop, lists.reject, lists.sinkhole].map(halves);
        out.words(rules, tables.rules.iter().flat_map(by_action).flatten());
        for (slot, list) in self.lists.iter().enumerate() {
            out.put(header::LISTS + slot * LIST_NAME_BYTES, list.name.as_bytes());
        }
        out.put(header::MAGIC, &MAGIC.to_le_bytes());
        out.put(header::BYTES, &(total as u64).to_le_bytes());
        for (at, value) in [
            (header::ABI, ABI_VERSION),
            (header::GENERATION, self.generation),
            (header::PREFIXES_V4, self.prefixes_v4),
            (header::PREFIXES_V6, self.prefixes_v6),
            (header::POOL, pool as u32),
            (header::SELECTORS, selectors as u32),
            (header::PORTS, ports as u32),
            (header::RULES, rules as u32),
            (header::RULE_COUNT, tables.rules.len() as u32),
            (header::CHECKSUM, lookup::checksum(&out.bytes)),
        ] {
            out.put(at, &value.to_le_bytes());
        }
        Ok(Image { bytes: out.bytes, rules: tables.rules })
    }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn words(&mut self, at: usize, words: impl Iterator<Item = u32>) {
        for (place, word) in self.bytes[at * 4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// A family's bitmap, ranks and slot words, the words beginning at this word offset.
    fn slots(&mut self, slots: &[(u32, u32)], bitmap: usize, ranks: usize, words: usize) {
        let mut at = words as u32;
        let mut rest = slots.iter().peekable();
        for group in 0..1_u32 << (SLOT_BITS - 6) {
            self.put(ranks + group as usize * 4, &at.to_le_bytes());
            let mut bits = 0_u64;
            while let Some((slot, _)) = rest.next_if(|(slot, _)| slot >> 6 == group) {
                bits |= 1 << (slot & 63);
                at += 1;
            }
            if bits != 0 {
                self.put(bitmap + group as usize * 8, &bits.to_le_bytes());
            }
        }
        self.words(words, slots.iter().map(|(_, word)| *word));
    }
}

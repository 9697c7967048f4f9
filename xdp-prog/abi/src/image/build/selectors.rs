//! What is said of prefixes: port conditions, each kept once, and the tables that they become.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    mem,
};

use super::{
    BuildError, Limit, full,
    prefix::{ALLOW, Item, Key},
};
use crate::image::{
    Lists, Named,
    layout::{DYNAMIC, port, rule, selector},
    named::Asked,
};

/// A port key and the lists that name it.
type Condition = (u32, Named);

/// Conditions as entries name them, each kept once and numbered.
#[derive(Debug, Default)]
pub(super) struct Claims {
    conditions: Vec<Condition>,
    numbers: HashMap<Condition, u32>,
    /// What was named last: a long list says the same of all its entries.
    last: Option<(Condition, u32)>,
}

impl Claims {
    pub(super) fn number(&mut self, condition: Condition) -> u32 {
        if let Some((_, number)) = self.last.filter(|(last, _)| *last == condition) {
            return number;
        }
        let number = *self.numbers.entry(condition).or_insert_with(|| {
            self.conditions.push(condition);
            self.conditions.len() as u32 - 1
        });
        self.last = Some((condition, number));
        number
    }

    /// Sorts the items and leaves one for each prefix, with the selector of all its claims. Returns
    /// how many prefixes are listed.
    pub(super) fn gather<K: Key>(
        &self,
        items: &mut Vec<Item<K>>,
        selectors: &mut Selectors,
    ) -> u32 {
        // Stable, since that sort goes quickly over what is nearly sorted, as tables are.
        items.sort();
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
pub(super) struct Selectors {
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
    pub(super) fn new(room: usize) -> Self {
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

    pub(super) fn intern(&mut self, set: Vec<Condition>) -> u32 {
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
    pub(super) fn union(&mut self, one: u32, other: u32) -> u32 {
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

    pub(super) fn error(&self) -> Option<BuildError> {
        let (needed, allowed) = (self.conditions, self.most_conditions);
        (needed > allowed).then(|| full(Limit::Bytes, DYNAMIC + needed * 8, DYNAMIC + allowed * 8))
    }

    /// The number in the image of a set that a word refers to.
    pub(super) fn place(&mut self, number: u32) -> u32 {
        if number != 0 && self.places[number as usize] == 0 {
            self.places[number as usize] = self.used.len() as u32;
            self.used.push(number);
        }
        self.places[number as usize]
    }

    /// The three tables of the image: selectors, port conditions, rules.
    pub(super) fn into_tables(
        self,
        rules: Vec<Lists>,
        asked: &Asked,
    ) -> Result<Tables, BuildError> {
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

pub(super) struct Tables {
    pub(super) selectors: Vec<(u32, u32)>,
    pub(super) ports: Vec<(u32, u32)>,
    pub(super) rules: Vec<Lists>,
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

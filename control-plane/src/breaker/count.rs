//! How many different subscribers meet an entry within a minute.

use std::{
    collections::{HashMap, HashSet, hash_map},
    hash::{BuildHasher as _, Hash, RandomState},
    time::Duration,
};

use jiff::Timestamp;
use sekisho_rules::policy::EntryKey;

/// Length of a window. Windows follow each other, so that any two minutes hold a whole one.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Most pairs of an entry and a subscriber that a window holds: 40 MB if no two are of one entry.
pub(super) const MOST_PAIRS: usize = 1 << 18;

/// Subscribers by the entries that they met since the window began.
///
/// A subscriber is held as a hash of 64 bits, so that a count is exact but for one in 2^64 for each
/// two subscribers, and then too low. What does not fit is forgotten, those entries first that the
/// fewest met: a count can be too low, and never too high.
pub(super) struct Window {
    began: Option<Timestamp>,
    met: HashMap<EntryKey, HashSet<u64>>,
    pairs: usize,
    hasher: RandomState,
    forgotten: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            began: None,
            met: HashMap::new(),
            pairs: 0,
            hasher: RandomState::new(),
            forgotten: 0,
        }
    }
}

impl Window {
    /// Begins a new window if this one is over; says whether it did.
    pub(super) fn turn(&mut self, now: Timestamp) -> bool {
        let is_over = self.began.is_none_or(|began| {
            let length = now.duration_since(began).unsigned_abs();
            length >= WINDOW
        });
        if is_over {
            self.began = Some(now);
            self.met.clear();
            self.pairs = 0;
        }
        is_over
    }

    /// The number that a subscriber has in this process.
    pub(super) fn number_of(&self, subscriber: impl Hash) -> u64 {
        self.hasher.hash_one(subscriber)
    }

    /// Notes that a subscriber met an entry, of which more than `enough` need not be known; gives how
    /// many have so far.
    pub(super) fn meet(&mut self, entry: EntryKey, subscriber: u64, enough: usize) -> usize {
        if self.pairs >= MOST_PAIRS {
            self.forget();
        }
        let met = self.met.entry(entry).or_default();
        if met.len() < enough && met.insert(subscriber) {
            self.pairs += 1;
        }
        met.len()
    }

    /// How many pairs did not fit since the start.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Forgets entries until half of the room is free.
    fn forget(&mut self) {
        let mut sizes: Vec<usize> = self.met.values().map(HashSet::len).collect();
        sizes.sort_unstable();
        let mut excess = self.pairs.saturating_sub(MOST_PAIRS / 2);
        let enough = sizes.into_iter().find(|size| {
            excess = excess.saturating_sub(*size);
            excess == 0
        });
        let before = self.pairs;
        self.met.retain(|_, met| met.len() > enough.unwrap_or(0));
        self.pairs = self.met.values().map(HashSet::len).sum();
        self.met.shrink_to_fit();
        self.forgotten += (before - self.pairs) as u64;
    }
}

/// What entries the packets of one remote, port and protocol meet, asked once a batch.
pub(super) struct Asked<K, V>(HashMap<K, V>);

impl<K, V> Default for Asked<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V> Asked<K, V> {
    /// The answer, from before or from `ask`.
    pub(super) fn get(&mut self, key: K, ask: impl FnOnce(&K) -> V) -> &V {
        match self.0.entry(key) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(vacant) => {
                let answer = ask(vacant.key());
                vacant.insert(answer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use sekisho_rules::indicator::Traffic;

    use super::*;

    fn entry(number: u32) -> EntryKey {
        let address = Ipv4Addr::from_bits(0xc612_0000 | number);
        EntryKey { network: std::net::IpAddr::from(address).into(), traffic: Traffic::ANY }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_subscriber_counts_once_in_each_window() {
        let mut window = Window::default();
        assert!(window.turn(at(0)));
        assert_eq!(window.meet(entry(1), 7, 100), 1);
        assert_eq!(window.meet(entry(1), 7, 100), 1);
        assert_eq!(window.meet(entry(1), 8, 100), 2);
        assert_eq!(window.meet(entry(2), 8, 100), 1);
        assert!(!window.turn(at(59)));
        assert_eq!(window.meet(entry(1), 9, 100), 3);
        assert!(window.turn(at(60)));
        assert_eq!(window.meet(entry(1), 9, 100), 1);
        assert!(window.turn(at(-9000)), "a clock that was set back");
    }

    #[test]
    fn no_more_than_enough_is_held() {
        let mut window = Window::default();
        let counts: Vec<_> =
            (0..5).map(|subscriber| window.meet(entry(1), subscriber, 3)).collect();
        assert_eq!(counts, [1, 2, 3, 3, 3]);
        assert_eq!(window.pairs, 3);
    }

    #[test]
    fn a_full_window_forgets_what_the_fewest_met_and_never_counts_too_high() {
        let mut window = Window::default();
        for subscriber in 0..500 {
            window.meet(entry(0), subscriber, 10_000);
        }
        for number in 1..=2 * MOST_PAIRS as u32 {
            assert_eq!(window.meet(entry(number % (1 << 14) + 1), number.into(), 10_000).min(1), 1);
            assert!(window.pairs <= MOST_PAIRS);
        }
        assert!(window.forgotten() > 0);
        assert_eq!(window.meet(entry(0), 0, 10_000), 500, "the entry that many met is still there");
    }
}

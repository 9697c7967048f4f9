//! Entries that implausibly many subscribers meet are demoted until somebody decides.
//!
//! Only packets that subscribers sent count, and of TCP only those that begin a connection: a C&C
//! server that scans all subscribers must not get itself off the list. So an interface is needed that
//! sees what subscribers send.

mod count;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use sekisho_abi::record::{Direction, FlagClass};
use sekisho_rules::{
    demotion::Demotion,
    feed::Action,
    indicator::{Protocol, Traffic},
    policy::{BreakerLimits, EntryKey},
    table::{Claim, Table},
};
use serde::{Deserialize, Serialize, Serializer};

use self::count::{Asked, Window};
use crate::{
    hits::{Generations, Hit},
    subscribers::Subscribers,
};

/// Most entries that are demoted or decided upon at a time.
pub const MOST_BROKEN: usize = 4096;

/// What somebody decided about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It is enforced again, and the breaker leaves it alone from now on.
    Release,
    /// It goes on being observed only, without an alarm.
    Keep,
}

impl Decision {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Release, Self::Keep];

    /// The name on the command line, in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Keep => "keep",
        }
    }

    /// The decision of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|decision| decision.as_str() == name)
    }
}

/// An entry that too many subscribers met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    /// The entry.
    pub entry: EntryKey,
    /// When.
    pub at: Timestamp,
    /// How many had met it by then within the minute.
    pub subscribers: u32,
    /// How many are too many.
    pub limit: u32,
    /// The feeds that list it, sorted.
    pub feeds: Vec<String>,
}

/// A trip, and what somebody decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Names it to `sekisho breaker`.
    pub id: i64,
    /// The entry and what it met.
    #[serde(flatten)]
    pub trip: Trip,
    /// `None` as long as nobody has.
    pub decision: Option<Decision>,
    /// When somebody did.
    pub decided_at: Option<Timestamp>,
}

impl Serialize for Trip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told<'a> {
            entry: String,
            tripped_at: Timestamp,
            subscribers: u32,
            limit: u32,
            feeds: &'a [String],
        }
        let Self { entry, at, subscribers, limit, ref feeds } = *self;
        let entry = entry.to_string();
        Told { entry, tripped_at: at, subscribers, limit, feeds }.serialize(serializer)
    }
}

/// How many entries the breaker has in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Demoted, and nobody has decided.
    pub tripped: u64,
    /// Demoted for good.
    pub kept: u64,
    /// Left alone.
    pub released: u64,
    /// Trips since the start.
    pub trips: u64,
    /// Pairs of entry and subscriber that did not fit.
    pub forgotten: u64,
}

/// Watches hits, and holds what came of it.
#[derive(Default)]
pub struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    limits: BreakerLimits,
    window: Window,
    /// How many are too many in this window, once that was asked.
    limit: Option<usize>,
    broken: HashMap<EntryKey, Broken>,
    trips: u64,
}

impl Breaker {
    /// Takes the limits of a policy.
    pub fn set_limits(&self, limits: BreakerLimits) {
        let mut state = self.state();
        state.limits = limits;
        state.limit = None;
    }

    /// Takes what the record knows.
    pub fn load(&self, broken: Vec<Broken>) {
        let keyed = broken.into_iter().map(|broken| (broken.trip.entry, broken));
        self.state().broken = keyed.collect();
    }

    /// Counts hits; gives the entries that too many subscribers met by now and that nothing is known
    /// of yet.
    pub fn watch(
        &self,
        hits: &[Hit],
        generations: &Generations,
        subscribers: &Subscribers,
        now: Timestamp,
    ) -> Vec<Trip> {
        let mut state = self.state();
        if !state.limits.enabled {
            return Vec::new();
        }
        if state.window.turn(now) {
            state.limit = None;
        }
        let mut asked = Asked::default();
        let mut trips: Vec<Trip> = Vec::new();
        for hit in hits.iter().filter(|hit| is_called(hit)) {
            let key = (hit.remote, hit.protocol, hit.remote_port);
            for &entry in asked.get(key, |&key| stopping(generations, key)) {
                if trips.iter().all(|trip| trip.entry != entry) {
                    trips.extend(state.meet(entry, hit, subscribers, now));
                }
            }
        }
        for trip in &mut trips {
            trip.feeds = listing(generations, trip.entry);
        }
        trips.truncate(MOST_BROKEN.saturating_sub(state.broken.len()));
        trips
    }

    /// Holds an entry demoted from now on.
    pub fn hold(&self, broken: Broken) {
        let mut state = self.state();
        state.trips += 1;
        state.broken.insert(broken.trip.entry, broken);
    }

    /// Takes a decision that was recorded; `None` forgets the entry.
    pub fn decided(&self, id: i64, broken: Option<Broken>) {
        let mut state = self.state();
        state.broken.retain(|_, held| held.id != id);
        state.broken.extend(broken.map(|broken| (broken.trip.entry, broken)));
    }

    /// What it has in hand, the latest first.
    pub fn all(&self) -> Vec<Broken> {
        let mut all: Vec<_> = self.state().broken.values().cloned().collect();
        all.sort_by_key(|broken| std::cmp::Reverse((broken.trip.at, broken.id)));
        all
    }

    /// What is to be demoted.
    pub fn demoted(&self) -> Vec<EntryKey> {
        let state = self.state();
        let demoted = state.broken.values().filter(|b| b.decision != Some(Decision::Release));
        demoted.map(|broken| broken.trip.entry).collect()
    }

    /// How much it has in hand.
    pub fn counts(&self) -> Counts {
        let state = self.state();
        let of = |decision| {
            state.broken.values().filter(|broken| broken.decision == decision).count() as u64
        };
        Counts {
            tripped: of(None),
            kept: of(Some(Decision::Keep)),
            released: of(Some(Decision::Release)),
            trips: state.trips,
            forgotten: state.window.forgotten(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn meet(
        &mut self,
        entry: EntryKey,
        hit: &Hit,
        subscribers: &Subscribers,
        now: Timestamp,
    ) -> Option<Trip> {
        if self.broken.contains_key(&entry) {
            return None;
        }
        let number = if hit.subscriber.is_empty() {
            self.window.number_of(hit.subscriber_address)
        } else {
            self.window.number_of((&hit.tenant, &hit.subscriber))
        };
        let most = self.limits.limit(0);
        let met = self.window.meet(entry, number, most);
        // Who is known is only counted once it may matter.
        if met < self.limits.at_least.max(1) as usize {
            return None;
        }
        let limit = *self.limit.get_or_insert_with(|| self.limits.limit(subscribers.holding(now)));
        (met >= limit).then(|| Trip {
            entry,
            at: now,
            subscribers: met as u32,
            limit: limit as u32,
            feeds: Vec::new(),
        })
    }
}

/// Whether a subscriber began to talk to the remote.
fn is_called(hit: &Hit) -> bool {
    hit.direction == Direction::Outbound.as_str()
        && (hit.protocol != Protocol::Tcp.number() || hit.class == FlagClass::Initiated.as_str())
}

/// The entries that stop packets to a remote, or would once they are promoted.
fn stopping(
    generations: &Generations,
    (remote, protocol, port): (IpAddr, u8, u16),
) -> Vec<EntryKey> {
    let Some(table) = generations.newest_table() else { return Vec::new() };
    let mut entries: Vec<EntryKey> = generations
        .claims_meant(remote, protocol, port)
        .filter(|(_, claim)| stops(table, claim))
        .map(|(network, claim)| EntryKey { network, traffic: claim.traffic })
        .collect();
    entries.sort_unstable();
    entries.dedup();
    entries
}

fn stops(table: &Table, claim: &Claim) -> bool {
    let asks = table.feeds.get(usize::from(claim.feed)).map(|feed| feed.action);
    asks.is_some_and(|action| action != Action::Observe)
        && claim.demotions.iter().all(|demotion| demotion == Demotion::New)
}

/// The feeds with a claim on an entry.
fn listing(generations: &Generations, entry: EntryKey) -> Vec<String> {
    let Some(table) = generations.newest_table() else { return Vec::new() };
    let name =
        |claim: &Claim| table.feeds.get(usize::from(claim.feed)).map(|feed| Arc::clone(&feed.name));
    let Traffic { protocol, port } = entry.traffic;
    let protocol = protocol.map_or(Protocol::Tcp, |protocol| protocol).number();
    let claims = generations.claims_meant(entry.network.addr(), protocol, port.unwrap_or(0));
    let own = claims
        .filter(|(network, claim)| (*network, claim.traffic) == (entry.network, entry.traffic));
    let mut names: Vec<String> =
        own.filter_map(|(_, claim)| name(claim)).map(|n| n.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;

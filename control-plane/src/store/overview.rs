//! What the hits of the last days come to.

use std::{cmp::Reverse, collections::BTreeMap};

// Hundreds of thousands of rows are added up by such keys while somebody waits.
use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;

use super::{
    query::action,
    rollup::{DAY_MS, PART, Set, Sums, set_of},
};

/// Most remotes and subscribers that are named.
pub const MOST_NAMED: usize = 10;

/// What came together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Flows, each within one hour: rows of the record.
    pub flows: u64,
    /// Packets of all of them.
    pub packets: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Different subscribers.
    pub subscribers: u64,
}

/// One of several things that are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// A list, a class, a direction; empty for hits whose lists are not known.
    pub name: String,
    /// What came of it.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What became of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// observe, drop, reject or sinkhole.
    pub action: &'static str,
    /// Why: the reason as counted by the packet path.
    pub reason: String,
    /// How many.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A day, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Day {
    /// Its date.
    pub day: Date,
    /// What came on it.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A listed address that was met often, whoever began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OftenMet {
    /// The address.
    pub remote: String,
    /// Flows, each within one hour.
    pub flows: u64,
    /// Packets of all of them.
    pub packets: u64,
}

/// A subscriber who met listed addresses often, whoever began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Busy {
    /// As the operator's systems name it, or the address of one that is not known by name.
    pub subscriber: String,
    /// Whose customer; empty if there is but one tenant.
    pub tenant: String,
    /// Flows, each within one hour.
    pub flows: u64,
    /// Packets of all of them.
    pub packets: u64,
}

/// What the hits of some days come to. Days are those of UTC; a row counts for the day of its last
/// packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// All days together.
    pub total: Counts,
    /// Each day, the earliest first, those without hits as well.
    pub days: Vec<Day>,
    /// By the lists that name the remote; a flow counts for each of them. The busiest first.
    pub lists: Vec<Share>,
    /// By what became of the packets, and why.
    pub outcomes: Vec<Outcome>,
    /// By who began: `initiated` is what says that a subscriber is infected.
    pub classes: Vec<Share>,
    /// outbound and inbound.
    pub directions: Vec<Share>,
    /// The listed addresses of most flows.
    pub remotes: Vec<OftenMet>,
    /// The subscribers of most flows.
    pub subscribers: Vec<Busy>,
}

/// The last so many days, the one of `now` included.
pub(super) fn overview(
    connection: &Connection,
    now: Timestamp,
    days: u32,
) -> rusqlite::Result<Overview> {
    let last = now.as_millisecond().div_euclid(DAY_MS);
    let first = last.saturating_sub(i64::from(days.max(1)) - 1);
    // Everything of one moment.
    let connection = &connection.unchecked_transaction()?;
    let sets = sets(connection, first, last)?;
    let callers = Callers::read(connection, first, last)?;
    let mut kinds =
        Kinds { days: vec![Sums::default(); (last - first + 1) as usize], ..Kinds::default() };
    kinds.read(connection, first, last)?;
    let subscribers =
        |set, value: &str| sets.get(&(set as u8, value.to_owned())).map_or(0, members);
    let shares = |set, all: BTreeMap<String, Sums>| {
        let share = |(name, sums): (String, Sums)| {
            let counts = counts(sums, subscribers(set, &name));
            Share { name, counts }
        };
        busiest_first(all.into_iter().map(share).collect(), |share| share.counts)
    };
    let outcome = |(reason, sums): (String, Sums)| {
        let counts = counts(sums, subscribers(Set::Reason, &reason));
        Outcome { action: action(&reason), reason, counts }
    };
    let outcomes = kinds.reasons.into_iter().map(outcome).collect();
    let day = |(at, (sums, of_day)): (i64, (&Sums, &u64))| Day {
        day: date(first + at),
        counts: counts(*sums, *of_day),
    };
    let mut total = Sums::default();
    kinds.days.iter().for_each(|day| total.add(*day));
    Ok(Overview {
        total: counts(total, callers.sums.len() as u64),
        days: (0..).zip(kinds.days.iter().zip(&callers.by_day)).map(day).collect(),
        lists: shares(Set::List, kinds.lists),
        outcomes: busiest_first(outcomes, |outcome| outcome.counts),
        classes: shares(Set::Class, kinds.classes),
        directions: shares(Set::Direction, kinds.directions),
        remotes: remotes(connection, first, last)?,
        subscribers: callers.busiest(connection)?,
    })
}

fn date(day: i64) -> Date {
    let midnight = Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_hours(day * 24));
    midnight.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date()
}

const fn counts(sums: Sums, subscribers: u64) -> Counts {
    Counts {
        flows: sums.flows.unsigned_abs(),
        packets: sums.packets.unsigned_abs(),
        bytes: sums.bytes.unsigned_abs(),
        subscribers,
    }
}

/// The order in which they come breaks ties.
fn busiest_first<T>(mut all: Vec<T>, counts: impl Fn(&T) -> Counts) -> Vec<T> {
    all.sort_by_key(|one| {
        let Counts { flows, packets, .. } = counts(one);
        Reverse((flows, packets))
    });
    all
}

/// Sums by what flows have in common.
#[derive(Default)]
struct Kinds {
    days: Vec<Sums>,
    lists: BTreeMap<String, Sums>,
    reasons: BTreeMap<String, Sums>,
    classes: BTreeMap<String, Sums>,
    directions: BTreeMap<String, Sums>,
}

impl Kinds {
    fn read(&mut self, connection: &Connection, first: i64, last: i64) -> rusqlite::Result<()> {
        let mut select = connection.prepare_cached(
            "SELECT day, feeds, reason, class, direction, flows, packets, bytes
             FROM daily_kinds WHERE day BETWEEN ?1 AND ?2",
        )?;
        let mut rows = select.query(params![first, last])?;
        while let Some(row) = rows.next()? {
            let day: i64 = row.get(0)?;
            let feeds: String = row.get(1)?;
            let sums = Sums { flows: row.get(5)?, packets: row.get(6)?, bytes: row.get(7)? };
            if let Some(day) =
                usize::try_from(day - first).ok().and_then(|at| self.days.get_mut(at))
            {
                day.add(sums);
            }
            for feed in feeds.split(',') {
                self.lists.entry(feed.to_owned()).or_default().add(sums);
            }
            self.reasons.entry(row.get(2)?).or_default().add(sums);
            self.classes.entry(row.get(3)?).or_default().add(sums);
            self.directions.entry(row.get(4)?).or_default().add(sums);
        }
        Ok(())
    }
}

/// Flows and packets of everybody, by number.
struct Callers {
    sums: HashMap<i64, Sums>,
    /// How many there are on each day, the first one first.
    by_day: Vec<u64>,
}

impl Callers {
    fn read(connection: &Connection, first: i64, last: i64) -> rusqlite::Result<Self> {
        let mut callers = Self { sums: HashMap::new(), by_day: Vec::new() };
        let mut select = connection
            .prepare_cached("SELECT caller, flows, packets FROM daily_callers WHERE day = ?1")?;
        for day in first..=last {
            let mut rows = select.query([day])?;
            let mut of_day = 0;
            while let Some(row) = rows.next()? {
                let sums = Sums { flows: row.get(1)?, packets: row.get(2)?, bytes: 0 };
                callers.sums.entry(row.get(0)?).or_default().add(sums);
                of_day += 1;
            }
            callers.by_day.push(of_day);
        }
        Ok(callers)
    }

    fn busiest(&self, connection: &Connection) -> rusqlite::Result<Vec<Busy>> {
        let key = |sums: &Sums| Reverse((sums.flows, sums.packets));
        let mut all: Vec<_> = self.sums.iter().map(|(number, sums)| (key(sums), *number)).collect();
        let Some(worst) = all.len().min(MOST_NAMED).checked_sub(1) else { return Ok(Vec::new()) };
        let (_, (least, _), _) = all.select_nth_unstable(worst);
        // Whoever is as busy as the last one may come before it by name.
        let least = *least;
        all.retain(|(key, _)| *key <= least);
        let mut select =
            connection.prepare_cached("SELECT name, tenant FROM callers WHERE id = ?1")?;
        let mut busiest = Vec::with_capacity(all.len());
        for (Reverse((flows, packets)), number) in all {
            let found =
                select.query_row([number], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((subscriber, tenant)) = found else { continue };
            let (flows, packets) = (flows.unsigned_abs(), packets.unsigned_abs());
            busiest.push(Busy { subscriber, tenant, flows, packets });
        }
        busiest.sort_by(|one, other| {
            let key = |busy: &Busy| Reverse((busy.flows, busy.packets));
            let name = |busy: &Busy| (busy.subscriber.clone(), busy.tenant.clone());
            key(one).cmp(&key(other)).then_with(|| name(one).cmp(&name(other)))
        });
        busiest.truncate(MOST_NAMED);
        Ok(busiest)
    }
}

fn remotes(connection: &Connection, first: i64, last: i64) -> rusqlite::Result<Vec<OftenMet>> {
    let mut sums: HashMap<String, Sums> = HashMap::new();
    let mut select = connection.prepare_cached(
        "SELECT remote, flows, packets FROM daily_remotes WHERE day BETWEEN ?1 AND ?2",
    )?;
    let mut rows = select.query(params![first, last])?;
    while let Some(row) = rows.next()? {
        let remote = row.get_ref(0)?.as_str().unwrap_or_default();
        let of_day = Sums { flows: row.get(1)?, packets: row.get(2)?, bytes: 0 };
        sums.entry_ref(remote).or_default().add(of_day);
    }
    let mut all: Vec<_> = sums.into_iter().collect();
    let key = |sums: &Sums| Reverse((sums.flows, sums.packets));
    all.sort_by(|(one, of_one), (other, of_other)| {
        key(of_one).cmp(&key(of_other)).then_with(|| one.cmp(other))
    });
    let met = |(remote, sums): (String, Sums)| OftenMet {
        remote,
        flows: sums.flows.unsigned_abs(),
        packets: sums.packets.unsigned_abs(),
    };
    Ok(all.into_iter().take(MOST_NAMED).map(met).collect())
}

/// The bits of everybody in a set, by part.
type Parts = HashMap<i64, Vec<u8>>;

fn sets(
    connection: &Connection,
    first: i64,
    last: i64,
) -> rusqlite::Result<HashMap<(u8, String), Parts>> {
    let mut sets: HashMap<(u8, String), Parts> = HashMap::new();
    let mut select = connection
        .prepare_cached("SELECT name, part, bits FROM daily_sets WHERE day BETWEEN ?1 AND ?2")?;
    let mut rows = select.query(params![first, last])?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str().unwrap_or_default();
        let Some((set, value)) = set_of(name) else { continue };
        let bits = row.get_ref(2)?.as_blob().unwrap_or_default();
        let parts = sets.entry((set as u8, value.to_owned())).or_default();
        let known = parts.entry(row.get(1)?).or_insert_with(|| vec![0; PART as usize / 8]);
        known.iter_mut().zip(bits).for_each(|(known, bits)| *known |= bits);
    }
    Ok(sets)
}

fn members(parts: &Parts) -> u64 {
    parts.values().flatten().map(|bits| u64::from(bits.count_ones())).sum()
}

//! Hits by day, kept beside them in the same transactions, so that an overview of a month does not
//! read a month of hits.
//!
//! Everything here can be made anew from the hits of a day, and is for the day whose hits are
//! forgotten in part.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::hits::Hit;

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;
/// Callers whose bits are in one part of a set.
pub(super) const PART: i64 = 4_096;
const PART_BYTES: usize = PART as usize / 8;

/// What is counted of flows, each within one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) flows: i64,
    pub(super) packets: i64,
    pub(super) bytes: i64,
}

impl Sums {
    pub(super) const fn add(&mut self, other: Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What flows have in common that a chart tells apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    day: i64,
    feeds: String,
    reason: String,
    class: String,
    direction: String,
}

impl Kind {
    /// The sets that whoever causes such flows belongs to.
    fn sets(&self) -> impl Iterator<Item = String> {
        let feeds = self.feeds.split(',').map(|feed| set_name(Set::List, feed));
        feeds.chain([
            set_name(Set::Reason, &self.reason),
            set_name(Set::Class, &self.class),
            set_name(Set::Direction, &self.direction),
        ])
    }
}

/// What callers are counted apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    List,
    Reason,
    Class,
    Direction,
}

impl Set {
    const ALL: [Self; 4] = [Self::List, Self::Reason, Self::Class, Self::Direction];

    const fn prefix(self) -> &'static str {
        match self {
            Self::List => "list ",
            Self::Reason => "reason ",
            Self::Class => "class ",
            Self::Direction => "direction ",
        }
    }
}

fn set_name(set: Set, value: &str) -> String {
    format!("{}{value}", set.prefix())
}

/// What a set's name says.
pub(super) fn set_of(name: &str) -> Option<(Set, &str)> {
    Set::ALL.into_iter().find_map(|set| Some((set, name.strip_prefix(set.prefix())?)))
}

/// Who caused a flow: tenant and name, or an address where nobody is known by name.
type Caller = (String, String);

/// What is to be added to the sums of the days.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    kinds: HashMap<Kind, Sums>,
    remotes: HashMap<(i64, String), Sums>,
    callers: HashMap<(i64, Caller), (Sums, BTreeSet<String>)>,
}

impl Rollup {
    /// Adds packets of a flow, which may have a row already.
    pub(super) fn add_hit(&mut self, hit: &Hit, is_new: bool) {
        let name = match &*hit.subscriber {
            "" => hit.subscriber_address.to_string(),
            name => name.to_owned(),
        };
        let kind = Kind {
            day: hit.last_seen.as_millisecond().div_euclid(DAY_MS),
            feeds: super::query::joined(&hit.feeds),
            reason: hit.reason.to_owned(),
            class: hit.class.to_owned(),
            direction: hit.direction.to_owned(),
        };
        let sums = Sums {
            flows: i64::from(is_new),
            packets: i64::try_from(hit.packets).unwrap_or(i64::MAX),
            bytes: i64::try_from(hit.bytes).unwrap_or(i64::MAX),
        };
        self.add(kind, hit.remote.to_string(), (hit.tenant.to_string(), name), sums);
    }

    fn add_row(&mut self, day: i64, row: &Row<'_>) -> rusqlite::Result<()> {
        let kind = Kind {
            day,
            feeds: row.get(0)?,
            reason: row.get(1)?,
            class: row.get(2)?,
            direction: row.get(3)?,
        };
        let sums = Sums { flows: 1, packets: row.get(7)?, bytes: row.get(8)? };
        self.add(kind, row.get(4)?, (row.get(5)?, row.get(6)?), sums);
        Ok(())
    }

    fn add(&mut self, kind: Kind, remote: String, caller: Caller, sums: Sums) {
        let day = kind.day;
        let (of_caller, sets) = self.callers.entry((day, caller)).or_default();
        of_caller.add(sums);
        sets.extend(kind.sets());
        self.kinds.entry(kind).or_default().add(sums);
        self.remotes.entry((day, remote)).or_default().add(sums);
    }

    /// Writes it, within the transaction of the hits.
    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO daily_kinds VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET flows = flows + excluded.flows,
                 packets = packets + excluded.packets, bytes = bytes + excluded.bytes",
        )?;
        for (kind, Sums { flows, packets, bytes }) in &self.kinds {
            let Kind { day, feeds, reason, class, direction } = kind;
            insert.execute(params![day, feeds, reason, class, direction, flows, packets, bytes])?;
        }
        let mut insert = connection.prepare_cached(
            "INSERT INTO daily_remotes VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET flows = flows + excluded.flows,
                 packets = packets + excluded.packets",
        )?;
        for ((day, remote), Sums { flows, packets, .. }) in &self.remotes {
            insert.execute(params![day, remote, flows, packets])?;
        }
        self.write_callers(connection)
    }

    fn write_callers(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO daily_callers VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET flows = flows + excluded.flows,
                 packets = packets + excluded.packets",
        )?;
        let mut bits: HashMap<(i64, &str, i64), Vec<u8>> = HashMap::new();
        for ((day, caller), (Sums { flows, packets, .. }, sets)) in &self.callers {
            let number = number(connection, caller, *day)?;
            insert.execute(params![day, number, flows, packets])?;
            for set in sets {
                let part = bits.entry((*day, set, number / PART)).or_default();
                part.resize(PART_BYTES, 0);
                let at = number % PART;
                if let Some(byte) = part.get_mut(at as usize / 8) {
                    *byte |= 1 << (at % 8);
                }
            }
        }
        let mut select = connection.prepare_cached(
            "SELECT bits FROM daily_sets WHERE day = ?1 AND name = ?2 AND part = ?3",
        )?;
        let mut replace =
            connection.prepare_cached("REPLACE INTO daily_sets VALUES (?1, ?2, ?3, ?4)")?;
        for ((day, name, part), mut bits) in bits {
            let known: Option<Vec<u8>> =
                select.query_row(params![day, name, part], |row| row.get(0)).optional()?;
            if let Some(known) = &known {
                bits.iter_mut().zip(known).for_each(|(bits, known)| *bits |= known);
            }
            if known.as_ref() != Some(&bits) {
                replace.execute(params![day, name, part, bits])?;
            }
        }
        Ok(())
    }
}

/// The number of a caller, who is given one if new.
fn number(connection: &Connection, (tenant, name): &Caller, day: i64) -> rusqlite::Result<i64> {
    let known: Option<(i64, i64)> = connection
        .prepare_cached("SELECT id, last_day FROM callers WHERE tenant = ?1 AND name = ?2")?
        .query_row(params![tenant, name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some((number, last_day)) if last_day >= day => Ok(number),
        Some((number, _)) => {
            connection
                .prepare_cached("UPDATE callers SET last_day = ?2 WHERE id = ?1")?
                .execute(params![number, day])?;
            Ok(number)
        }
        None => {
            connection
                .prepare_cached("INSERT INTO callers (tenant, name, last_day) VALUES (?1, ?2, ?3)")?
                .execute(params![tenant, name, day])?;
            Ok(connection.last_insert_rowid())
        }
    }
}

const TABLES: [&str; 4] = ["daily_kinds", "daily_remotes", "daily_callers", "daily_sets"];

/// Makes the sums of every day anew.
pub(super) fn rebuild(connection: &Connection) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT DISTINCT hour / ?1 FROM hits")?;
    let days = select.query_map([DAY_MS], |row| row.get(0))?;
    for day in days.collect::<rusqlite::Result<Vec<i64>>>()? {
        rebuild_day(connection, day)?;
    }
    Ok(())
}

fn rebuild_day(connection: &Connection, day: i64) -> rusqlite::Result<()> {
    for table in TABLES {
        connection.execute(&format!("DELETE FROM {table} WHERE day = ?1"), [day])?;
    }
    let mut select = connection.prepare_cached(
        "SELECT feeds, reason, class, direction, remote, tenant,
                iif(subscriber = '', subscriber_address, subscriber), packets, bytes
         FROM hits WHERE hour >= ?1 AND hour < ?2",
    )?;
    let mut rows = select.query(params![day * DAY_MS, (day + 1) * DAY_MS])?;
    let mut rollup = Rollup::default();
    while let Some(row) = rows.next()? {
        rollup.add_row(day, row)?;
    }
    rollup.write(connection)
}

/// Forgets the days before the one of this time, and of that day what its hits no longer say.
pub(super) fn forget(connection: &mut Connection, before_ms: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let day = before_ms.div_euclid(DAY_MS);
    for table in TABLES {
        transaction.execute(&format!("DELETE FROM {table} WHERE day < ?1"), [day])?;
    }
    let summed: i64 = transaction.query_row(
        "SELECT coalesce(sum(flows), 0) FROM daily_kinds WHERE day = ?1",
        [day],
        |row| row.get(0),
    )?;
    let kept: i64 = transaction.query_row(
        "SELECT count(*) FROM hits WHERE hour >= ?1 AND hour < ?2",
        params![day * DAY_MS, (day + 1) * DAY_MS],
        |row| row.get(0),
    )?;
    if summed != kept {
        rebuild_day(&transaction, day)?;
    }
    transaction.execute(
        "DELETE FROM callers WHERE last_day < ?1 OR last_day = ?1
             AND id NOT IN (SELECT caller FROM daily_callers WHERE day = ?1)",
        [day],
    )?;
    transaction.commit()
}

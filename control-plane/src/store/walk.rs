//! Going through recorded hits, without asking whose they are in particular.

use std::{net::IpAddr, path::Path};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, params, types::ValueRef};
use sekisho_abi::{
    reason::{Reason, Verdict},
    record::FlagClass,
};
use serde::Serialize;

use super::{StoreError, schema, writer::HOUR_MS};

/// A row of the record, as far as reports about lists need it.
#[derive(Clone, Copy, Debug)]
pub struct Met<'a> {
    /// The listed address.
    pub remote: IpAddr,
    /// Its port; 0 where there is none.
    pub remote_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Who met it: tenant and name, or an empty tenant and an address. For counting only.
    pub subscriber: (&'a str, &'a str),
    /// Whether it was stopped.
    pub stopped: bool,
    /// Whether the subscriber began, as far as TCP tells.
    pub initiated: bool,
    /// How many packets.
    pub packets: u64,
    /// Feeds that listed it, joined by commas.
    pub feeds: &'a str,
}

/// How often an address was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MetOften {
    /// Flows, each within one hour.
    pub flows: u64,
    /// Those of them that were stopped.
    pub stopped: u64,
    /// Those of them that the subscriber began, as far as TCP tells.
    pub initiated: u64,
    /// Packets of all of them.
    pub packets: u64,
    /// Different subscribers.
    pub subscribers: u64,
    /// Time of the first packet.
    pub first: Option<Timestamp>,
    /// Time of the last packet.
    pub last: Option<Timestamp>,
}

const WALK: &str = "
    SELECT remote, remote_port, protocol, tenant,
           iif(subscriber = '', subscriber_address, subscriber), reason, class, packets, feeds
    FROM hits WHERE hour > ?1 AND last_seen >= ?2";

const OFTEN: &str = "
    SELECT reason, class, count(*), sum(packets), min(first_seen), max(last_seen)
    FROM hits WHERE remote = ?1 AND hour > ?2 AND last_seen >= ?3 GROUP BY reason, class";

const BY_WHOM: &str = "
    SELECT count(DISTINCT tenant || char(0) || iif(subscriber = '', subscriber_address, subscriber))
    FROM hits WHERE remote = ?1 AND hour > ?2 AND last_seen >= ?3";

/// Hands over each row with a packet at this time or later; blocks.
pub fn walk(
    path: &Path,
    since: Timestamp,
    mut each: impl FnMut(&Met<'_>),
) -> Result<(), StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let connection = open(path).map_err(sqlite)?;
    let since = since.as_millisecond();
    let mut go = || {
        let mut statement = connection.prepare(WALK)?;
        let mut rows = statement.query(params![since.saturating_sub(HOUR_MS), since])?;
        while let Some(row) = rows.next()? {
            if let Some(met) = met(row)? {
                each(&met);
            }
        }
        Ok(())
    };
    go().map_err(sqlite)
}

/// How often an address was met at this time or later; blocks.
pub(super) fn often(path: &Path, remote: IpAddr, since: Timestamp) -> Result<MetOften, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let connection = open(path).map_err(sqlite)?;
    let since = since.as_millisecond();
    let remote = remote.to_canonical().to_string();
    let bound = params![remote, since.saturating_sub(HOUR_MS), since];
    let go = || {
        let mut often = MetOften::default();
        let mut statement = connection.prepare(OFTEN)?;
        let mut rows = statement.query(bound)?;
        while let Some(row) = rows.next()? {
            add(&mut often, row)?;
        }
        let subscribers: i64 = connection.query_row(BY_WHOM, bound, |row| row.get(0))?;
        Ok(MetOften { subscribers: subscribers.unsigned_abs(), ..often })
    };
    go().map_err(sqlite)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(schema::BUSY_TIMEOUT)?;
    Ok(connection)
}

fn add(often: &mut MetOften, row: &Row<'_>) -> rusqlite::Result<()> {
    let (flows, packets): (i64, i64) = (row.get(2)?, row.get(3)?);
    let flows = flows.unsigned_abs();
    let (first, last): (i64, i64) = (row.get(4)?, row.get(5)?);
    let time = |milliseconds| Timestamp::from_millisecond(milliseconds).ok();
    often.flows += flows;
    often.packets += packets.unsigned_abs();
    often.stopped += if is_stopped(text(row, 0)?) { flows } else { 0 };
    often.initiated += if text(row, 1)? == FlagClass::Initiated.as_str() { flows } else { 0 };
    often.first = often.first.into_iter().chain(time(first)).min();
    often.last = often.last.max(time(last));
    Ok(())
}

fn met<'a>(row: &'a Row<'_>) -> rusqlite::Result<Option<Met<'a>>> {
    let Ok(remote) = text(row, 0)?.parse() else { return Ok(None) };
    let packets: i64 = row.get(7)?;
    Ok(Some(Met {
        remote,
        remote_port: row.get(1)?,
        protocol: row.get(2)?,
        subscriber: (text(row, 3)?, text(row, 4)?),
        stopped: is_stopped(text(row, 5)?),
        initiated: text(row, 6)? == FlagClass::Initiated.as_str(),
        packets: packets.unsigned_abs(),
        feeds: text(row, 8)?,
    }))
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    match row.get_ref(column)? {
        ValueRef::Text(bytes) => Ok(std::str::from_utf8(bytes).unwrap_or_default()),
        _ => Ok(""),
    }
}

fn is_stopped(reason: &str) -> bool {
    let known = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
    known.is_some_and(|reason| reason.verdict() != Verdict::Pass)
}

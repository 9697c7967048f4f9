//! The operator's own entries in the store.

use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};
use sekisho_rules::{
    feed::Action, indicator::Protocol, moment::Moment, operator::OperatorEntry, period::Period,
};
use serde::Serialize;

use super::false_positives;

/// How long an entry is kept after it ended, for those who ask later what was decided.
const KEPT_ENDED: Period = Period::days(400);

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredEntry {
    /// The entry.
    #[serde(flatten)]
    pub entry: OperatorEntry,
    /// Who made it.
    pub made_by: String,
    /// When somebody ended it.
    pub ended_at: Option<Timestamp>,
    /// Who ended it.
    pub ended_by: Option<String>,
}

const COLUMNS: &str =
    "id, decision, action, network, protocol, ports, feed, reason, owner, made_by,
                       since, until, ended_at, ended_by";

/// Keeps a new entry and gives its number. It is on disk before this returns.
pub(super) fn add(
    connection: &mut Connection,
    entry: &OperatorEntry,
    made_by: &str,
) -> rusqlite::Result<u32> {
    let ports: Vec<String> = entry.ports.iter().map(u16::to_string).collect();
    durably(connection, |connection| {
        let transaction = connection.transaction()?;
        let forgotten = Timestamp::now().as_second().saturating_sub(KEPT_ENDED.as_secs());
        transaction.execute(
            "DELETE FROM operator_entries
             WHERE until < ?1 OR ended_at < ?1",
            params![forgotten],
        )?;
        false_positives::forget(&transaction, forgotten)?;
        transaction.execute(
            "INSERT INTO operator_entries
                 (decision, action, network, protocol, ports, feed, reason, owner, made_by, since,
                  until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                entry.decision.as_str(),
                entry.action.as_str(),
                entry.network.to_string(),
                entry.protocol.map(Protocol::as_str),
                ports.join(","),
                entry.feed.as_deref(),
                entry.reason,
                entry.owner,
                made_by,
                entry.since.as_second(),
                entry.until.map(Moment::as_second),
            ],
        )?;
        let id = transaction.last_insert_rowid();
        transaction.commit()?;
        u32::try_from(id).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, id))
    })
}

/// Ends an entry, and takes back what was found by it; gives it, unless there is none of that number
/// that has not ended.
pub(super) fn end(
    connection: &mut Connection,
    id: u32,
    by: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<StoredEntry>> {
    durably(connection, |connection| {
        let sql = format!(
            "UPDATE operator_entries SET ended_at = ?2, ended_by = ?3
             WHERE id = ?1 AND ended_at IS NULL AND (until IS NULL OR until > ?2)
             RETURNING {COLUMNS}"
        );
        let transaction = connection.transaction()?;
        let ended =
            transaction.query_row(&sql, params![id, now.as_second(), by], read).optional()?;
        if let Some(StoredEntry { entry, .. }) = &ended {
            false_positives::take_back(&transaction, entry.network, entry.feed.as_deref())?;
        }
        transaction.commit()?;
        Ok(ended)
    })
}

/// All that are kept, by number.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<StoredEntry>> {
    let sql = format!("SELECT {COLUMNS} FROM operator_entries ORDER BY id");
    connection.prepare(&sql)?.query_map([], read)?.collect()
}

/// A decision must outlive a power cut; hits, which come by the thousand, need not.
fn durably<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let outcome = work(connection);
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    outcome
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
    let ports: String = row.get(5)?;
    let ports = ports.split(',').filter(|port| !port.is_empty());
    Ok(StoredEntry {
        entry: OperatorEntry {
            id: row.get(0)?,
            decision: parsed(row, 1)?,
            action: action(&row.get::<_, String>(2)?),
            network: parsed(row, 3)?,
            protocol: optional(row, 4)?,
            ports: ports.filter_map(|port| port.parse().ok()).collect(),
            feed: optional(row, 6)?,
            reason: row.get(7)?,
            owner: row.get(8)?,
            since: Moment::nearest(row.get(10)?),
            until: row.get::<_, Option<i64>>(11)?.map(Moment::nearest),
        },
        made_by: row.get(9)?,
        ended_at: row
            .get::<_, Option<i64>>(12)?
            .and_then(|seconds| Timestamp::from_second(seconds).ok()),
        ended_by: row.get(13)?,
    })
}

fn action(text: &str) -> Action {
    let all = [Action::Observe, Action::Sinkhole, Action::Reject, Action::Drop];
    all.into_iter().find(|action| action.as_str() == text).unwrap_or(Action::Observe)
}

fn parsed<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    of_text(&text, column)
}

fn optional<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| of_text(&text, column)).transpose()
}

fn of_text<T: FromStr>(text: &str, column: usize) -> rusqlite::Result<T> {
    text.parse().map_err(|_| {
        let fault = format!("'{text}' can't be read");
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, fault.into())
    })
}

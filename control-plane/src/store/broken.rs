//! The record of what the breaker demoted.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};
use sekisho_rules::{
    indicator::{Protocol, Traffic},
    policy::EntryKey,
};

use super::query::joined;
use crate::breaker::{Broken, Decision, Trip};

const COLUMNS: &str = "id, network, protocol, port, tripped_at, subscribers, most, feeds, decision, \
                       decided_at";

/// Records a trip. One of an entry that is there already replaces it.
pub(super) fn add(connection: &Connection, trip: &Trip) -> rusqlite::Result<Broken> {
    let EntryKey { network, traffic: Traffic { protocol, port } } = trip.entry;
    connection.execute(
        "INSERT OR REPLACE INTO breaker
             (network, protocol, port, tripped_at, subscribers, most, feeds)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            network.to_string(),
            protocol.map_or(0, Protocol::number),
            port.unwrap_or(0),
            trip.at.as_millisecond(),
            trip.subscribers,
            trip.limit,
            joined(&trip.feeds),
        ],
    )?;
    let id = connection.last_insert_rowid();
    Ok(Broken { id, trip: trip.clone(), decision: None, decided_at: None })
}

/// All of them.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Broken>> {
    let mut statement =
        connection.prepare(&format!("SELECT {COLUMNS} FROM breaker ORDER BY id"))?;
    statement.query_map([], broken)?.collect()
}

/// Records what somebody decided; `None` if there is no such row.
pub(super) fn decide(
    connection: &Connection,
    id: i64,
    decision: Decision,
    at: Timestamp,
) -> rusqlite::Result<Option<Broken>> {
    connection.execute(
        "UPDATE breaker SET decision = ?2, decided_at = ?3 WHERE id = ?1",
        params![id, decision.as_str(), at.as_millisecond()],
    )?;
    one(connection, id)
}

/// Forgets one, and gives it as it was; `None` if there is no such row.
pub(super) fn forget(connection: &Connection, id: i64) -> rusqlite::Result<Option<Broken>> {
    let forgotten = one(connection, id)?;
    connection.execute("DELETE FROM breaker WHERE id = ?1", [id])?;
    Ok(forgotten)
}

fn one(connection: &Connection, id: i64) -> rusqlite::Result<Option<Broken>> {
    let sql = format!("SELECT {COLUMNS} FROM breaker WHERE id = ?1");
    connection.query_row(&sql, [id], broken).optional()
}

fn broken(row: &Row<'_>) -> rusqlite::Result<Broken> {
    let network: String = row.get("network")?;
    let network = network.parse().map_err(|fault| {
        rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(fault))
    })?;
    let protocol: u8 = row.get("protocol")?;
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.number() == protocol);
    let port = Some(row.get("port")?).filter(|port| *port != 0);
    let time = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MIN);
    let feeds: String = row.get("feeds")?;
    let feeds = feeds.split(',').filter(|feed| !feed.is_empty()).map(str::to_owned).collect();
    let trip = Trip {
        entry: EntryKey { network, traffic: Traffic { protocol, port } },
        at: time(row.get("tripped_at")?),
        subscribers: row.get("subscribers")?,
        limit: row.get("most")?,
        feeds,
    };
    Ok(Broken {
        id: row.get("id")?,
        trip,
        decision: Decision::from_name(&row.get::<_, String>("decision")?),
        decided_at: row.get::<_, Option<i64>>("decided_at")?.map(time),
    })
}

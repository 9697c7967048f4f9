//! What the one writing thread does.

use std::{net::IpAddr, path::Path};

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, params};

use super::{
    StoreError,
    query::joined,
    rollup::{self, Rollup},
};
use crate::{dataplane::DrainId, hits::Hit};

/// Milliseconds of an hour: the time that one row covers.
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Rows deleted in one transaction, so that readers and the next batch of hits need not wait long.
const DELETED_AT_ONCE: usize = 10_000;
/// Pages given back to the file system each time that old hits are deleted: 256 MiB.
const FREED_AT_ONCE: usize = 65_536;

/// Begins the row of a flow in an hour, unless it is there: the key's columns come first.
///
/// An upsert would do in one statement what this and [`GO_ON`] do in two. But only with RETURNING it tells
/// whether a row is new, and then SQLite journals every page that it touches, for each row anew.
const BEGIN: &str = "
    INSERT INTO hits (
        hour, subscriber_address, remote, remote_port, protocol, class, direction, reason,
        interface, vlans, vlan_tags, feeds, malware, subscriber, tenant, attribution,
        encapsulation, pppoe_session,
        generation, rule, subscriber_port, tcp_flags, packets, bytes, first_seen, last_seen,
        inner_subscriber, outer_remote
    )
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
            ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)
    ON CONFLICT DO NOTHING";

/// Adds to the row of a flow, from the same values.
const GO_ON: &str = "
    UPDATE hits SET
        generation = ?19,
        rule = ?20,
        subscriber_port = iif(?25 < first_seen, ?21, subscriber_port),
        tcp_flags = iif(?25 < first_seen, ?22, tcp_flags),
        inner_subscriber = iif(?25 < first_seen, ?27, inner_subscriber),
        outer_remote = iif(?25 < first_seen, ?28, outer_remote),
        packets = packets + ?23,
        bytes = bytes + ?24,
        first_seen = min(first_seen, ?25),
        last_seen = max(last_seen, ?26)
    WHERE hour = ?1 AND subscriber_address = ?2 AND remote = ?3 AND remote_port = ?4
        AND protocol = ?5 AND class = ?6 AND direction = ?7 AND reason = ?8 AND interface = ?9
        AND vlans = ?10 AND vlan_tags = ?11 AND feeds = ?12 AND malware = ?13
        AND subscriber = ?14 AND tenant = ?15 AND attribution = ?16 AND encapsulation = ?17
        AND pppoe_session = ?18";

/// Notes the number of a drain; changes nothing if it is noted already.
const MARK: &str = "
    INSERT INTO last_drain (only, ledger, epoch) VALUES (1, ?1, ?2)
    ON CONFLICT DO UPDATE SET ledger = excluded.ledger, epoch = excluded.epoch
        WHERE ledger <> excluded.ledger OR epoch <> excluded.epoch";

/// Records the hits of a drain together with its number: one that is recorded already, by a daemon
/// that died before it could settle it, is not recorded twice.
pub(super) fn record(
    connection: &mut Connection,
    hits: &[Hit],
    drain: DrainId,
    path: &Path,
) -> Result<(), StoreError> {
    let mut write = || {
        let transaction = connection.transaction()?;
        let marked = transaction.execute(MARK, params![drain.ledger, drain.epoch])?;
        if marked == 0 {
            return Ok(());
        }
        let mut rollup = Rollup::default();
        let mut begin = transaction.prepare_cached(BEGIN)?;
        let mut go_on = transaction.prepare_cached(GO_ON)?;
        for hit in hits {
            rollup.add_hit(hit, record_one(&mut begin, &mut go_on, hit)?);
        }
        drop((begin, go_on));
        rollup.write(&transaction)?;
        transaction.commit()
    };
    write().map_err(|source| StoreError::Sqlite { path: path.to_owned(), source })
}

/// Whether the hit has got a row of its own.
fn record_one(
    begin: &mut CachedStatement<'_>,
    go_on: &mut CachedStatement<'_>,
    hit: &Hit,
) -> rusqlite::Result<bool> {
    let last_seen = hit.last_seen.as_millisecond();
    let values = params![
        last_seen.div_euclid(HOUR_MS) * HOUR_MS,
        hit.subscriber_address.to_string(),
        hit.remote.to_string(),
        hit.remote_port,
        hit.protocol,
        hit.class,
        hit.direction,
        hit.reason,
        &*hit.interface,
        joined(&hit.vlans),
        hit.vlan_tags,
        joined(&hit.feeds),
        &*hit.malware,
        &*hit.subscriber,
        &*hit.tenant,
        hit.attribution.as_str(),
        joined(&hit.encapsulation),
        hit.pppoe_session,
        hit.generation,
        hit.rule,
        hit.subscriber_port,
        hit.tcp_flags,
        i64::try_from(hit.packets).unwrap_or(i64::MAX),
        i64::try_from(hit.bytes).unwrap_or(i64::MAX),
        hit.first_seen.as_millisecond(),
        last_seen,
        optional(hit.inner_subscriber),
        optional(hit.outer_remote),
    ];
    let is_new = begin.execute(values)? > 0;
    // Where neither does anything, the key's columns here are not those of its index: the rows stay in
    // the kernel.
    if !is_new && go_on.execute(values)? != 1 {
        return Err(rusqlite::Error::StatementChangedRows(0));
    }
    Ok(is_new)
}

/// An address, or the empty text.
fn optional(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

pub(super) fn forget(
    connection: &mut Connection,
    before: Timestamp,
    path: &Path,
) -> Result<usize, StoreError> {
    let mut delete = || {
        let mut forgotten = 0;
        loop {
            let rows = connection.execute(
                "DELETE FROM hits WHERE id IN
                     (SELECT id FROM hits WHERE last_seen < ?1 ORDER BY last_seen LIMIT ?2)",
                params![before.as_millisecond(), DELETED_AT_ONCE as i64],
            )?;
            forgotten += rows;
            if rows < DELETED_AT_ONCE {
                break;
            }
        }
        rollup::forget(connection, before.as_millisecond())?;
        // Each row of its answer stands for a page that it gave back.
        let mut vacuum =
            connection.prepare(&format!("PRAGMA incremental_vacuum({FREED_AT_ONCE})"))?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        Ok(forgotten)
    };
    delete().map_err(|source| StoreError::Sqlite { path: path.to_owned(), source })
}

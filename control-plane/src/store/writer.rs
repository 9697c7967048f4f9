//! What the one writing thread does.

use std::{net::IpAddr, path::Path};

use jiff::Timestamp;
use rusqlite::{Connection, params};

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

const RECORD: &str = "
    INSERT INTO hits (
        hour, subscriber_address, remote, remote_port, protocol, class, direction, reason,
        interface, vlans, vlan_tags, feeds, malware, subscriber, tenant, attribution,
        generation, rule, subscriber_port, tcp_flags, packets, bytes, first_seen, last_seen,
        encapsulation, pppoe_session, inner_subscriber, outer_remote
    )
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
            ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)
    ON CONFLICT DO UPDATE SET
        generation = excluded.generation,
        rule = excluded.rule,
        subscriber_port = iif(excluded.first_seen < first_seen, excluded.subscriber_port,
                              subscriber_port),
        tcp_flags = iif(excluded.first_seen < first_seen, excluded.tcp_flags, tcp_flags),
        inner_subscriber = iif(excluded.first_seen < first_seen, excluded.inner_subscriber,
                               inner_subscriber),
        outer_remote = iif(excluded.first_seen < first_seen, excluded.outer_remote, outer_remote),
        packets = packets + excluded.packets,
        bytes = bytes + excluded.bytes,
        first_seen = min(first_seen, excluded.first_seen),
        last_seen = max(last_seen, excluded.last_seen)
    RETURNING id";

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
        // A row that is new has a number above all others.
        let newest = "SELECT coalesce(max(id), 0) FROM hits";
        let mut newest: i64 = transaction.query_row(newest, [], |row| row.get(0))?;
        let mut rollup = Rollup::default();
        let mut insert = transaction.prepare_cached(RECORD)?;
        for hit in hits {
            let id = insert_one(&mut insert, hit)?;
            rollup.add_hit(hit, id > newest);
            newest = newest.max(id);
        }
        drop(insert);
        rollup.write(&transaction)?;
        transaction.commit()
    };
    write().map_err(|source| StoreError::Sqlite { path: path.to_owned(), source })
}

/// Gives the number of the hit's row.
fn insert_one(insert: &mut rusqlite::CachedStatement<'_>, hit: &Hit) -> rusqlite::Result<i64> {
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
        hit.generation,
        hit.rule,
        hit.subscriber_port,
        hit.tcp_flags,
        i64::try_from(hit.packets).unwrap_or(i64::MAX),
        i64::try_from(hit.bytes).unwrap_or(i64::MAX),
        hit.first_seen.as_millisecond(),
        last_seen,
        joined(&hit.encapsulation),
        hit.pppoe_session,
        optional(hit.inner_subscriber),
        optional(hit.outer_remote),
    ];
    insert.query_row(values, |row| row.get(0))
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

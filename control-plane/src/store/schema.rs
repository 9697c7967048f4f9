//! Tables, and how older ones become them.

use std::{
    fs::{OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use rusqlite::Connection;

use super::{StoreError, rollup};

/// How long a statement waits for another process.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Memory in KiB that keeps pages of the file: the indices of some million hits. Rows come in the
/// order of time and their subscribers in none, so each batch touches pages all over these.
const CACHE_KIB: i64 = 64 << 10;
/// Pages in the write-ahead log that make it be written back: the more, the fewer pages are written
/// again and again. 64 MiB.
const LOGGED_PAGES: i64 = 16_384;

/// Readable and writable by the owner alone.
const PRIVATE: u32 = 0o600;

/// Statements that bring a file from the version of their index to the next.
///
/// A row holds all packets of one flow within one hour, whatever generation of the ruleset they
/// matched; times are milliseconds since 1970 in UTC. The key's columns come first.
const MIGRATIONS: [&str; 7] = [
    "
    CREATE TABLE hits (
        id INTEGER PRIMARY KEY,
        hour INTEGER NOT NULL,
        subscriber_address TEXT NOT NULL,
        remote TEXT NOT NULL,
        remote_port INTEGER NOT NULL,
        protocol INTEGER NOT NULL,
        class TEXT NOT NULL,
        direction TEXT NOT NULL,
        reason TEXT NOT NULL,
        interface TEXT NOT NULL,
        vlans TEXT NOT NULL,
        vlan_tags INTEGER NOT NULL,
        feeds TEXT NOT NULL,
        malware TEXT NOT NULL,
        subscriber TEXT NOT NULL,
        tenant TEXT NOT NULL,
        attribution TEXT NOT NULL,
        generation INTEGER NOT NULL,
        rule INTEGER NOT NULL,
        subscriber_port INTEGER NOT NULL,
        tcp_flags INTEGER NOT NULL,
        packets INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX hits_flow ON hits (
        hour, subscriber_address, remote, remote_port, protocol, class, direction, reason,
        interface, vlans, vlan_tags, feeds, malware, subscriber, tenant, attribution
    );
    CREATE INDEX hits_subscriber ON hits (subscriber, hour, id);
    CREATE INDEX hits_subscriber_address ON hits (subscriber_address, hour, id);
    CREATE INDEX hits_remote ON hits (remote, hour, id);
    CREATE INDEX hits_last_seen ON hits (last_seen);
",
    "
    ALTER TABLE hits ADD COLUMN encapsulation TEXT NOT NULL DEFAULT '';
    ALTER TABLE hits ADD COLUMN pppoe_session INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE hits ADD COLUMN inner_subscriber TEXT NOT NULL DEFAULT '';
    ALTER TABLE hits ADD COLUMN outer_remote TEXT NOT NULL DEFAULT '';
    DROP INDEX hits_flow;
    CREATE UNIQUE INDEX hits_flow ON hits (
        hour, subscriber_address, remote, remote_port, protocol, class, direction, reason,
        interface, vlans, vlan_tags, encapsulation, pppoe_session, feeds, malware, subscriber,
        tenant, attribution
    );
",
    "
    CREATE TABLE last_drain (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        ledger INTEGER NOT NULL,
        epoch INTEGER NOT NULL
    ) STRICT;
",
    // Entries that too many subscribers met. Protocol and port are 0 where any is meant; the decision
    // is empty as long as there is none.
    "
    CREATE TABLE breaker (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        network TEXT NOT NULL,
        protocol INTEGER NOT NULL,
        port INTEGER NOT NULL,
        tripped_at INTEGER NOT NULL,
        subscribers INTEGER NOT NULL,
        most INTEGER NOT NULL,
        feeds TEXT NOT NULL,
        decision TEXT NOT NULL DEFAULT '',
        decided_at INTEGER,
        UNIQUE (network, protocol, port)
    ) STRICT;
",
    // The operator's own entries; times are seconds since 1970 in UTC. Numbers are never used twice.
    "
    CREATE TABLE operator_entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        decision TEXT NOT NULL,
        action TEXT NOT NULL,
        network TEXT NOT NULL,
        protocol TEXT,
        ports TEXT NOT NULL,
        feed TEXT,
        reason TEXT NOT NULL,
        owner TEXT NOT NULL,
        made_by TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER,
        ended_at INTEGER,
        ended_by TEXT
    ) STRICT;
",
    // What feeds listed and should not have; seconds since 1970 in UTC.
    "
    CREATE TABLE false_positives (
        feed TEXT NOT NULL,
        network TEXT NOT NULL,
        found_at INTEGER NOT NULL,
        PRIMARY KEY (feed, network)
    ) STRICT;
",
    // Hits by day since 1970 in UTC. A caller is a subscriber, or the address of one who is not known
    // by name; a set holds a bit for each caller's number, in parts.
    "
    CREATE TABLE daily_kinds (
        day INTEGER NOT NULL,
        feeds TEXT NOT NULL,
        reason TEXT NOT NULL,
        class TEXT NOT NULL,
        direction TEXT NOT NULL,
        flows INTEGER NOT NULL,
        packets INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (day, feeds, reason, class, direction)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE daily_remotes (
        day INTEGER NOT NULL,
        remote TEXT NOT NULL,
        flows INTEGER NOT NULL,
        packets INTEGER NOT NULL,
        PRIMARY KEY (day, remote)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE callers (
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        last_day INTEGER NOT NULL,
        UNIQUE (tenant, name)
    ) STRICT;
    CREATE TABLE daily_callers (
        day INTEGER NOT NULL,
        caller INTEGER NOT NULL,
        flows INTEGER NOT NULL,
        packets INTEGER NOT NULL,
        PRIMARY KEY (day, caller)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE daily_sets (
        day INTEGER NOT NULL,
        name TEXT NOT NULL,
        part INTEGER NOT NULL,
        bits BLOB NOT NULL,
        PRIMARY KEY (day, name, part)
    ) STRICT, WITHOUT ROWID;
",
];

/// The version that brought the sums of days, which are made of the hits that are there.
const WITH_DAYS: i64 = 7;

/// The version of a file that has no sums of days yet.
pub(super) fn without_days(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((found < WITH_DAYS).then_some(found))
}

/// Opens or creates a file and brings it up to date.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    keep_private(path).map_err(|source| StoreError::System { path: path.to_owned(), source })?;
    let mut connection = Connection::open(path).map_err(sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    // It only takes effect before the first page is written, which journal_mode does.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(sqlite)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
    // With WAL, a power cut may lose the last commits and never damages the file.
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(sqlite)?;
    connection.pragma_update(None, "secure_delete", "ON").map_err(sqlite)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(sqlite)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOGGED_PAGES).map_err(sqlite)?;
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    let known = MIGRATIONS.len() as i64;
    let Some(pending) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..))
    else {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    };
    let transaction = connection.transaction().map_err(sqlite)?;
    for migration in pending {
        transaction.execute_batch(migration).map_err(sqlite)?;
    }
    if found < WITH_DAYS {
        rollup::rebuild(&transaction).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)?;
    Ok(connection)
}

/// Only the daemon's user may read who called whom. SQLite gives the files beside it the same mode.
fn keep_private(path: &Path) -> std::io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(path)?;
    file.set_permissions(Permissions::from_mode(PRIVATE))
}

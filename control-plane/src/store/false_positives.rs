//! Networks that feeds listed and should not have, as they were found.

use ipnet::IpNet;
use rusqlite::{Connection, Row, params, types::Type};
use sekisho_rules::{feed::FeedName, moment::Moment, policy::FalsePositive};

use super::broken;
use crate::breaker::Decision;

/// Keeps new findings. One of a feed and network that is there already stays as it is.
pub(super) fn add(connection: &mut Connection, found: &[FalsePositive]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for FalsePositive { feed, network, at } in found {
        transaction.execute(
            "INSERT OR IGNORE INTO false_positives (feed, network, found_at) VALUES (?1, ?2, ?3)",
            params![&**feed, network.to_string(), at.as_second()],
        )?;
    }
    transaction.commit()
}

/// Takes back what was found by a decision about this network; of one feed, or of all.
pub(super) fn take_back(
    connection: &Connection,
    network: IpNet,
    feed: Option<&str>,
) -> rusqlite::Result<()> {
    connection
        .execute(
            "DELETE FROM false_positives WHERE network = ?1 AND (?2 IS NULL OR feed = ?2)",
            params![network.to_string(), feed],
        )
        .map(drop)
}

/// All that are known: of the operator's entries, and of what the breaker demoted for good.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<FalsePositive>> {
    let mut statement =
        connection.prepare("SELECT feed, network, found_at FROM false_positives ORDER BY 1, 2")?;
    let mut found: Vec<_> = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    for row in broken::all(connection)? {
        let (Some(Decision::Keep), Some(at)) = (row.decision, row.decided_at) else { continue };
        let names = row.trip.feeds.iter().filter_map(|feed| feed.parse::<FeedName>().ok());
        let network = row.trip.entry.network;
        found.extend(names.map(|feed| FalsePositive { feed, network, at: at.into() }));
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> rusqlite::Result<FalsePositive> {
    let text = |column: usize| row.get::<_, String>(column);
    let wrong = |column, text: &str| {
        let fault = format!("'{text}' can't be read");
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, fault.into())
    };
    let (feed, network) = (text(0)?, text(1)?);
    Ok(FalsePositive {
        feed: feed.parse().map_err(|_| wrong(0, &feed))?,
        network: network.parse().map_err(|_| wrong(1, &network))?,
        at: Moment::nearest(row.get(2)?),
    })
}

/// Forgets what was found before this time, in seconds since 1970.
pub(super) fn forget(connection: &Connection, before: i64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM false_positives WHERE found_at < ?1", [before]).map(drop)
}

//! Reading hits.

use std::{fmt::Write as _, net::IpAddr, str::FromStr};

use jiff::Timestamp;
use rusqlite::{Connection, Row, params_from_iter, types::Value};
use sekisho_abi::reason::{Reason, Verdict};
use serde::{Serialize, Serializer};

use super::writer::HOUR_MS;

/// Most hits on one page.
pub const LARGEST_PAGE: u32 = 10_000;

/// Which hits are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this subscriber.
    pub subscriber: Option<String>,
    /// Those of this address of a subscriber.
    pub subscriber_address: Option<IpAddr>,
    /// Those of this listed address.
    pub remote: Option<IpAddr>,
    /// Those with a packet at this time or later.
    pub since: Option<Timestamp>,
    /// Those with a packet before this time.
    pub until: Option<Timestamp>,
    /// Most hits to give, at most [`LARGEST_PAGE`].
    pub limit: u32,
    /// Go on where an earlier page ended.
    pub after: Option<Cursor>,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    hour: i64,
    id: i64,
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('.')
            .and_then(|(hour, id)| Some(Self { hour: hour.parse().ok()?, id: id.parse().ok()? }));
        parts.ok_or_else(|| format!("'{text}' is no cursor: expected one from an earlier answer"))
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.hour, self.id)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hits, the latest hour first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The hits.
    pub hits: Vec<StoredHit>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

/// A row of the record: one flow within one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredHit {
    /// As the operator's systems name it; empty unless the attribution is exact.
    pub subscriber: String,
    /// Whose customer; empty if there is but one tenant.
    pub tenant: String,
    /// How sure the attribution is: exact, ambiguous or unknown.
    pub attribution: String,
    /// The subscriber's address.
    pub subscriber_address: String,
    /// The subscriber's port in the first packet; 0 where there is none.
    pub subscriber_port: u16,
    /// The listed address.
    pub remote: String,
    /// Its port; 0 where there is none.
    pub remote_port: u16,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the IANA protocol number.
    pub protocol: String,
    /// Who began: initiated, response or other.
    pub class: String,
    /// outbound or inbound.
    pub direction: String,
    /// observe, drop, reject or sinkhole.
    pub action: &'static str,
    /// Why: the reason as counted by the packet path.
    pub reason: String,
    /// The interface that the packets came in on.
    pub interface: String,
    /// VLAN identifiers, outermost first.
    pub vlans: Vec<u16>,
    /// How many VLAN tags the packets carried.
    pub vlan_tags: u8,
    /// What else they were wrapped in: pppoe, mpls, ipv4-in-ipv6 and so on.
    pub encapsulation: Vec<String>,
    /// The PPPoE session; 0 without one.
    pub pppoe_session: u16,
    /// In a tunnel, the inner address at the subscriber's end, of the first packet; else empty.
    pub inner_subscriber: String,
    /// In a tunnel or around an embedded address, the outer address at the remote's end, of the first
    /// packet; else empty.
    pub outer_remote: String,
    /// Feeds that list the remote, joined by commas.
    pub feed: String,
    /// The malware family that they name; empty if none does.
    pub malware: String,
    /// Generation of the ruleset that matched last.
    pub generation: u32,
    /// Rule that matched last, within that generation.
    pub rule: u16,
    /// TCP flags of the first packet, else 0.
    pub tcp_flags: u8,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Time of the first packet.
    pub first_seen: Timestamp,
    /// Time of the last packet.
    pub last_seen: Timestamp,
}

/// One page of hits.
pub(super) fn page(connection: &Connection, filter: &Filter) -> rusqlite::Result<Page> {
    let limit = filter.limit.clamp(1, LARGEST_PAGE);
    let (sql, values) = statement(filter, limit);
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        let cursor = Cursor { hour: row.get("hour")?, id: row.get("id")? };
        Ok((cursor, stored_hit(row)?))
    })?;
    let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    // One row more was asked for, to know whether there is a next page.
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|(cursor, _)| *cursor);
    Ok(Page { hits: rows.into_iter().map(|(_, hit)| hit).collect(), next })
}

fn statement(filter: &Filter, limit: u32) -> (String, Vec<Value>) {
    let mut conditions = vec!["1"];
    let mut values = Vec::<Value>::new();
    let mut with = |condition: &'static str, bound: &[Value]| {
        conditions.push(condition);
        values.extend_from_slice(bound);
    };
    if let Some(subscriber) = &filter.subscriber {
        with("subscriber = ?", &[subscriber.clone().into()]);
    }
    if let Some(address) = filter.subscriber_address {
        with("subscriber_address = ?", &[address.to_canonical().to_string().into()]);
    }
    if let Some(remote) = filter.remote {
        with("remote = ?", &[remote.to_canonical().to_string().into()]);
    }
    if let Some(since) = filter.since {
        // The hour is in the indices, the last packet's time is exact.
        let since = since.as_millisecond();
        with("hour > ? AND last_seen >= ?", &[since.saturating_sub(HOUR_MS).into(), since.into()]);
    }
    if let Some(until) = filter.until {
        with("first_seen < ?", &[until.as_millisecond().into()]);
    }
    if let Some(Cursor { hour, id }) = filter.after {
        with("(hour, id) < (?, ?)", &[hour.into(), id.into()]);
    }
    let conditions = conditions.join(" AND ");
    let sql = format!(
        "SELECT * FROM hits WHERE {conditions} ORDER BY hour DESC, id DESC LIMIT {}",
        u64::from(limit) + 1
    );
    (sql, values)
}

fn stored_hit(row: &Row<'_>) -> rusqlite::Result<StoredHit> {
    let reason: String = row.get("reason")?;
    let count = |name| row.get::<_, i64>(name).map(i64::unsigned_abs);
    let time = |name| -> rusqlite::Result<Timestamp> {
        let milliseconds = row.get(name)?;
        Ok(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX))
    };
    Ok(StoredHit {
        subscriber: row.get("subscriber")?,
        tenant: row.get("tenant")?,
        attribution: row.get("attribution")?,
        subscriber_address: row.get("subscriber_address")?,
        subscriber_port: row.get("subscriber_port")?,
        remote: row.get("remote")?,
        remote_port: row.get("remote_port")?,
        protocol: protocol_name(row.get("protocol")?),
        class: row.get("class")?,
        direction: row.get("direction")?,
        action: action(&reason),
        reason,
        interface: row.get("interface")?,
        vlans: row.get::<_, String>("vlans")?.split(',').filter_map(|id| id.parse().ok()).collect(),
        vlan_tags: row.get("vlan_tags")?,
        encapsulation: row
            .get::<_, String>("encapsulation")?
            .split(',')
            .filter(|kind| !kind.is_empty())
            .map(str::to_owned)
            .collect(),
        pppoe_session: row.get("pppoe_session")?,
        inner_subscriber: row.get("inner_subscriber")?,
        outer_remote: row.get("outer_remote")?,
        feed: row.get("feeds")?,
        malware: row.get("malware")?,
        generation: row.get("generation")?,
        rule: row.get("rule")?,
        tcp_flags: row.get("tcp_flags")?,
        packets: count("packets")?,
        bytes: count("bytes")?,
        first_seen: time("first_seen")?,
        last_seen: time("last_seen")?,
    })
}

/// What became of packets with a reason.
pub(super) fn action(reason: &str) -> &'static str {
    let known = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
    match known.map(Reason::verdict) {
        Some(Verdict::Drop) => "drop",
        Some(Verdict::Reject) => "reject",
        Some(Verdict::Sinkhole) => "sinkhole",
        Some(Verdict::Pass) | None => "observe",
    }
}

/// The protocol as reports spell it.
pub(super) fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// Values of a column that holds several.
pub(super) fn joined<T: std::fmt::Display>(values: &[T]) -> String {
    let mut text = String::new();
    for value in values {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String can't fail.
        let _ = write!(text, "{comma}{value}");
    }
    text
}

/// How SQLite would look for these hits.
#[cfg(test)]
pub(super) fn plan(connection: &Connection, filter: &Filter) -> String {
    let (sql, values) = statement(filter, 10);
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let rows =
        statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
    rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

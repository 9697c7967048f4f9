//! A record of hits as a provider has it after a month: seeded, and known row by row.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use sekisho::{
    dataplane::DrainId,
    hits::Hit,
    store::{Filter, Store},
    subscribers::Certainty,
};
use tokio::runtime::Runtime;

/// Days that the record covers.
pub const DAYS: i64 = 30;
const HOURS: usize = DAYS as usize * 24;
/// Lines with a bot that is heard of now and then.
const USUAL: usize = 20_000;
/// Lines that are never quiet: every eighth row is one of theirs.
const BUSY: usize = 20;
/// Servers that are called.
const REMOTES: usize = 2_000;
const FAMILIES: [&str; 8] =
    ["Mirai", "Mozi", "Emotet", "QakBot", "Cobalt Strike", "AsyncRAT", "IcedID", ""];
/// Hits that are handed to the store at a time: as under a flood. A month of the daemon's usual
/// seconds would take too long.
const BATCH: usize = 100_000;

/// The record, and what is known of it.
pub struct Record {
    /// Where it is kept.
    pub store: Store,
    /// The end of the time that it covers.
    pub now: Timestamp,
    /// Its rows.
    pub rows: usize,
    /// Rows by subscriber.
    pub by_subscriber: HashMap<Arc<str>, usize>,
    /// Rows by listed address.
    pub by_remote: HashMap<IpAddr, usize>,
    /// How long the store took to write it.
    pub written_in: Duration,
}

impl Record {
    /// Writes so many rows into a folder, in the order of time.
    pub fn write(folder: &Path, rows: usize, runtime: &Runtime) -> Result<Self> {
        let hour = SignedDuration::from_hours(1);
        let now = Timestamp::now().round(jiff::Unit::Hour)?;
        let mut record = Self {
            store: Store::open(folder)?,
            now,
            rows,
            by_subscriber: HashMap::new(),
            by_remote: HashMap::new(),
            written_in: Duration::ZERO,
        };
        let mut random = fastrand::Rng::with_seed(0x5e_c1_50);
        let (mut waiting, mut drain) = (Vec::new(), DrainId::default());
        for past in (1..=HOURS).rev() {
            // What does not divide evenly falls to the last hours.
            let in_hour = rows / HOURS + usize::from(past <= rows % HOURS);
            let begin = now - hour * i32::try_from(past)?;
            waiting.extend(record.hour(&mut random, begin, in_hour));
            if waiting.len() >= BATCH || past == 1 {
                let batch = std::mem::take(&mut waiting);
                let started = Instant::now();
                drain.epoch += 1;
                runtime.block_on(record.store.record(Arc::new(batch), drain))?;
                record.written_in += started.elapsed();
            }
        }
        Ok(record)
    }

    /// Rows of one hour, of which no two are one flow.
    fn hour(&mut self, random: &mut fastrand::Rng, begin: Timestamp, rows: usize) -> Vec<Hit> {
        let (mut seen, mut hits) = (HashSet::new(), Vec::with_capacity(rows));
        while hits.len() < rows {
            let is_busy = random.u8(0..8) == 0;
            let line = random.usize(..if is_busy { BUSY } else { USUAL });
            let line = if is_busy { line } else { BUSY + line };
            let remote = random.usize(..REMOTES);
            if !seen.insert((line, remote)) {
                continue;
            }
            let hit = hit(line, remote, begin + SignedDuration::from_secs(random.i64(0..3_600)));
            *self.by_subscriber.entry(Arc::clone(&hit.subscriber)).or_default() += 1;
            *self.by_remote.entry(hit.remote).or_default() += 1;
            hits.push(hit);
        }
        hits
    }

    /// Subscribers, the busiest first.
    pub fn subscribers(&self) -> Vec<(Arc<str>, usize)> {
        let mut all: Vec<_> =
            self.by_subscriber.iter().map(|(name, rows)| (Arc::clone(name), *rows)).collect();
        all.sort_by(|(one, few), (other, many)| many.cmp(few).then_with(|| one.cmp(other)));
        all
    }

    /// The first page of what is meant: it must hold so many rows.
    pub fn page(&self, filter: &Filter, expected: usize) -> Result<Duration> {
        let begin = Instant::now();
        let page = self.store.hits(filter)?;
        let took = begin.elapsed();
        let found = page.hits.len();
        ensure!(found == expected, "{filter:?}: {found} rows, {expected} expected");
        Ok(took)
    }
}

fn hit(line: usize, remote: usize, last_seen: Timestamp) -> Hit {
    let address = |base: [u8; 4], number: usize| {
        IpAddr::from(Ipv4Addr::from(u32::from_be_bytes(base) + number as u32))
    };
    Hit {
        subscriber: format!("line-{line:05}").into(),
        tenant: "".into(),
        attribution: Certainty::Exact,
        subscriber_address: address([100, 64, 0, 0], line),
        subscriber_port: 40_000,
        remote: address([198, 18, 0, 0], remote),
        remote_port: 443,
        protocol: 6,
        class: "initiated",
        direction: "outbound",
        reason: "dropped",
        interface: "subscribers0".into(),
        vlans: vec![100, 7],
        vlan_tags: 2,
        encapsulation: vec!["pppoe"],
        pppoe_session: 0x77,
        inner_subscriber: None,
        outer_remote: None,
        feeds: vec![format!("feed-{}", remote % 5)],
        malware: FAMILIES[remote % FAMILIES.len()].into(),
        generation: 7,
        rule: 2,
        tcp_flags: 2,
        packets: 3,
        bytes: 180,
        first_seen: last_seen,
        last_seen,
    }
}

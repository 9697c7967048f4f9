//! What lists did, and what a list would have done, to the traffic of the last days.
//!
//! Only the record of hits is asked: there is no other flow record. So a candidate can be judged as
//! far as its entries were listed before, by whatever feed and whether or not that one only observed;
//! of the rest nothing is known, and each answer says how many these are.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    path::Path,
};

use jiff::Timestamp;
use sekisho_rules::{
    demotion::Demotion,
    feed::Action,
    policy::EntryKey,
    table::{Claim, FeedSlot, Table},
};
use serde::Serialize;

use crate::{
    hits::Generations,
    store::{
        StoreError,
        walk::{Met, walk},
    },
};

/// Entries that are told one by one, those that most subscribers met first.
pub const TOLD: usize = 20;

/// Flows and who they were of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Flows, each within one hour.
    pub flows: u64,
    /// Those of them that the subscriber began, as far as TCP tells.
    pub initiated: u64,
    /// Packets.
    pub packets: u64,
    /// Different subscribers.
    pub subscribers: u64,
    #[serde(skip)]
    who: HashSet<u64>,
}

impl Tally {
    fn add(&mut self, met: &Met<'_>, who: u64) {
        self.flows += 1;
        self.initiated += u64::from(met.initiated);
        self.packets += met.packets;
        self.who.insert(who);
        self.subscribers = self.who.len() as u64;
    }
}

impl Tally {
    /// How many different subscribers both are of.
    pub fn with(&self, other: &Self) -> u64 {
        self.who.union(&other.who).count() as u64
    }
}

/// What a list met in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListReport {
    /// What was stopped.
    pub stopped: Tally,
    /// What was let pass and only observed: it would have been stopped, had everything been
    /// enforced.
    pub would_have_stopped: Tally,
}

impl ListReport {
    fn add(&mut self, met: &Met<'_>, who: u64) {
        let tally = if met.stopped { &mut self.stopped } else { &mut self.would_have_stopped };
        tally.add(met, who);
    }
}

/// What all lists met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// From when on the record was asked.
    pub since: Timestamp,
    /// The whole system.
    pub total: ListReport,
    /// By feed; a flow that several name counts for each.
    pub feeds: BTreeMap<String, ListReport>,
    /// What the answer covers.
    pub covers: &'static str,
}

/// What a candidate would have met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The feed or file.
    pub candidate: String,
    /// From when on the record was asked.
    pub since: Timestamp,
    /// Networks with traffic that it lists and that the policy lets act, roll-out and breaker apart.
    pub entries: u64,
    /// Those of them that are in no ruleset now: the record can know nothing of them.
    pub unrecorded: u64,
    /// What they met.
    #[serde(flatten)]
    pub report: ListReport,
    /// Those that most subscribers met.
    pub entries_met: Vec<EntryMet>,
    /// How many more were met.
    pub omitted: u64,
    /// What the answer covers.
    pub covers: String,
}

/// What one entry met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryMet {
    /// The entry: `198.18.0.1:443/tcp`.
    pub entry: String,
    /// What it met.
    #[serde(flatten)]
    pub report: ListReport,
}

/// What the record of hits is.
const COVERS: &str = "the record of hits: flows to and from addresses that some list named at the \
                      time, whether they were stopped or only observed, and no other traffic";

/// Adds up what the lists met since then; blocks.
pub fn report(record: &Path, since: Timestamp) -> Result<Report, StoreError> {
    let hasher = RandomState::new();
    let mut report =
        Report { since, total: ListReport::default(), feeds: BTreeMap::new(), covers: COVERS };
    walk(record, since, |met| {
        let who = hasher.hash_one(met.subscriber);
        report.total.add(met, who);
        for feed in met.feeds.split(',').filter(|feed| !feed.is_empty()) {
            if !report.feeds.contains_key(feed) {
                report.feeds.insert(feed.to_owned(), ListReport::default());
            }
            if let Some(of_feed) = report.feeds.get_mut(feed) {
                of_feed.add(met, who);
            }
        }
    })?;
    Ok(report)
}

/// A list to preview, as part of a table.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name, for the answer.
    pub name: &'a str,
    /// Rulesets, of which the newest has the table.
    pub generations: &'a Generations,
    /// The feed of that table that it is.
    pub feed: FeedSlot,
}

/// Adds up what a candidate would have met since then. `is_listed` says of an entry whether any list
/// names it now. Blocks.
pub fn preview(
    record: &Path,
    since: Timestamp,
    candidate: Candidate<'_>,
    is_listed: impl Fn(EntryKey) -> bool,
) -> Result<Preview, StoreError> {
    let (mut entries, mut unrecorded) = (0, 0);
    if let Some(table) = candidate.generations.newest_table() {
        for entry in acting(table, candidate.feed) {
            entries += 1;
            unrecorded += u64::from(!is_listed(entry));
        }
    }
    let hasher = RandomState::new();
    let mut total = ListReport::default();
    let mut met_entries: HashMap<EntryKey, ListReport> = HashMap::new();
    walk(record, since, |met| {
        let claims = candidate.generations.claims_meant(met.remote, met.protocol, met.remote_port);
        let mut own: Vec<EntryKey> = claims
            .filter(|(_, claim)| is_acting(claim, candidate.feed))
            .map(|(network, claim)| EntryKey { network, traffic: claim.traffic })
            .collect();
        own.dedup();
        let who = hasher.hash_one(met.subscriber);
        if !own.is_empty() {
            total.add(met, who);
        }
        for entry in own {
            met_entries.entry(entry).or_default().add(met, who);
        }
    })?;
    let mut met_entries: Vec<_> = met_entries.into_iter().collect();
    met_entries.sort_by_key(|(entry, report)| {
        let subscribers = report.stopped.subscribers + report.would_have_stopped.subscribers;
        (std::cmp::Reverse(subscribers), *entry)
    });
    let omitted = met_entries.len().saturating_sub(TOLD) as u64;
    let told = met_entries.into_iter().take(TOLD);
    Ok(Preview {
        candidate: candidate.name.to_owned(),
        since,
        entries,
        unrecorded,
        report: total,
        entries_met: told
            .map(|(entry, report)| EntryMet { entry: entry.to_string(), report })
            .collect(),
        omitted,
        covers: covers(entries, unrecorded),
    })
}

fn covers(entries: u64, unrecorded: u64) -> String {
    let known = entries - unrecorded;
    let mut text = format!("{COVERS}. {known} of the {entries} entries are listed now");
    if unrecorded > 0 {
        text.push_str(
            "; of the others nothing is recorded. Enable the feed with the action observe for some \
             days, and ask again",
        );
    }
    text
}

/// The entries of one feed that the policy lets act.
fn acting(table: &Table, feed: FeedSlot) -> impl Iterator<Item = EntryKey> {
    let v4 = table.v4.iter().map(|entry| (entry.network.into(), table.claims_of(entry)));
    let v6 = table.v6.iter().map(|entry| (entry.network.into(), table.claims_of(entry)));
    v4.chain(v6).flat_map(move |(network, claims)| {
        claims
            .iter()
            .filter(move |claim| is_acting(claim, feed))
            .map(move |claim| EntryKey { network, traffic: claim.traffic })
    })
}

/// Whether a claim of the feed would stop packets, were the feed enforced and the claim promoted.
fn is_acting(claim: &Claim, feed: FeedSlot) -> bool {
    let mut demotions = claim.demotions.iter();
    claim.feed == feed && demotions.all(Demotion::is_passing)
}

/// Whether a table names an entry, whatever for.
pub fn names(table: &Table, EntryKey { network, .. }: EntryKey) -> bool {
    let mut claims = table.claims_on(network).iter();
    claims.any(|claim| table.asked(claim).is_some_and(|asked| asked >= Action::Observe))
}

#[cfg(test)]
#[path = "preview_tests.rs"]
mod tests;

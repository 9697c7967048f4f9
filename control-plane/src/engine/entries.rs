//! The operator's own entries: made, ended and told.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use sekisho_rules::{
    feed::{Action, FeedName},
    indicator::Protocol,
    moment::Moment,
    operator::{Decision, EntryError, MAX_ENTRIES, OperatorEntry, check},
    period::Period,
    policy::FalsePositive,
};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::{
    orders::{Change, Done, OrderError},
    service::Service,
};
use crate::store::{Store, StoreError, StoredEntry};

/// An entry that is to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEntry {
    /// What it decides.
    pub decision: Decision,
    /// What a block does. Default: drop.
    #[serde(default)]
    pub action: Action,
    /// An address, or a network without host bits.
    pub network: String,
    /// Only this protocol.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// Only these ports of the remote.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// The feed whose claims are suppressed. Default: every feed's.
    #[serde(default)]
    pub feed: Option<FeedName>,
    /// Why it is made.
    pub reason: String,
    /// Who answers for it. Default: who makes it.
    #[serde(default)]
    pub owner: Option<String>,
    /// When it ends by itself.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// After how long it ends by itself, in place of `until`.
    #[serde(default)]
    pub lasts: Option<Period>,
}

/// An entry, and whether it is in force.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The entry.
    pub entry: StoredEntry,
    /// What came of it.
    #[serde(flatten)]
    pub done: Done,
}

/// Why an entry was not made or ended.
#[derive(Debug, thiserror::Error)]
pub enum EntryFailure {
    /// It says something else than expected, or must not be.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// No entry of that number is in force.
    #[error("no entry {0} is in force")]
    Unknown(u32),
    /// There are too many.
    #[error("{MAX_ENTRIES} entries are in force, and there can be no more")]
    TooMany,
    /// Nothing was compiled yet, so that nobody can say whether it must not be.
    #[error("no ruleset was compiled since the daemon started")]
    NoRuleset,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is kept, and nobody can say yet whether it is in force.
    #[error("the entry is kept, and: {0}")]
    Order(#[from] OrderError),
}

impl NewEntry {
    fn entry(self, by: &str, now: Timestamp) -> Result<OperatorEntry, EntryError> {
        let wrong = |text: String| Err(EntryError::Wrong(text));
        let text = &self.network;
        let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let Ok(network) = parsed else {
            return wrong(format!("network: expected an address or a network, found '{text}'"));
        };
        let lasts = self.lasts.map(|lasts| Moment::from(now).after(lasts));
        let until = match (self.until, lasts) {
            (Some(_), Some(_)) => {
                return wrong("expected 'until' or 'lasts', found both".to_owned());
            }
            (until, lasts) => until.map(Moment::from).or(lasts),
        };
        let mut ports = self.ports;
        ports.sort_unstable();
        ports.dedup();
        Ok(OperatorEntry {
            id: 0,
            decision: self.decision,
            action: self.action,
            network: canonical(network),
            protocol: self.protocol,
            ports,
            feed: self.feed,
            reason: self.reason,
            owner: self.owner.unwrap_or_else(|| by.to_owned()),
            since: now.into(),
            until,
        })
    }
}

/// An IPv4 address that is written as an IPv6 one is an IPv4 address.
fn canonical(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() == 128 => {
            v6.addr().to_ipv4_mapped().map_or(network, |v4| IpNet::from(IpAddr::V4(v4)))
        }
        other => other,
    }
}

impl Service {
    /// The operator's own entries; with those that ended, if they are wanted. Blocks.
    pub fn entries(&self, ended: bool) -> Result<Vec<StoredEntry>, StoreError> {
        let mut entries = self.store().entries()?;
        let now = Timestamp::now().into();
        entries.retain(|row| ended || row.ended_at.is_none() && row.entry.is_in_force(now));
        Ok(entries)
    }

    /// Makes an entry, and waits until it is live.
    pub async fn add_entry(&self, new: NewEntry, by: &str) -> Result<Made, EntryFailure> {
        let now = Timestamp::now();
        let mut entry = new.entry(by, now)?;
        let ruleset = self.ruleset().ok_or(EntryFailure::NoRuleset)?;
        check(&entry, &ruleset.compiled.guards, &self.policy(), now.into())?;
        let is_known = |name: &FeedName| self.feeds().iter().any(|feed| feed.name == *name);
        if let Some(feed) = entry.feed.as_ref().filter(|name| !is_known(name)) {
            return Err(EntryError::Wrong(format!("feed: no feed '{feed}' is enabled")).into());
        }
        if ruleset.compiled.operator.len() >= MAX_ENTRIES {
            return Err(EntryFailure::TooMany);
        }
        entry.id = {
            let (entry, by) = (entry.clone(), by.to_owned());
            self.stored(move |store| store.add_entry(entry, by)).await?
        };
        info!(by, "{entry}");
        let done = self.order(Change::Entry(entry.id), by.to_owned()).await?;
        let entry = StoredEntry { entry, made_by: by.to_owned(), ended_at: None, ended_by: None };
        Ok(Made { entry, done })
    }

    /// Ends an entry, and waits until the ruleset is live without it.
    pub async fn end_entry(&self, id: u32, by: &str) -> Result<Made, EntryFailure> {
        let who = by.to_owned();
        let ended = self.stored(move |store| store.end_entry(id, who, Timestamp::now())).await?;
        let entry = ended.ok_or(EntryFailure::Unknown(id))?;
        info!(by, "ended: {}", entry.entry);
        let done = self.order(Change::Entry(id), by.to_owned()).await?;
        Ok(Made { entry, done })
    }

    /// Keeps what a compilation found feeds to list wrongly. Blocks.
    pub(super) fn keep_found(&self, found: &[FalsePositive]) {
        if found.is_empty() {
            return;
        }
        for FalsePositive { feed, network, .. } in found {
            info!(%feed, %network, "a decision says that the feed should not list it");
        }
        if let Err(failure) = self.store().add_false_positives(found.to_vec()) {
            error!("false positives can't be recorded, and are found anew next time: {failure}");
        }
    }

    /// Has the store do what blocks.
    async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store().clone();
        spawn_blocking(move || work(&store)).await.map_err(|_| StoreError::Stopped)?
    }
}

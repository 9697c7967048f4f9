//! What the daemon can tell of lists and addresses beyond the ruleset: the lists it was compiled of,
//! and the record.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use sekisho_rules::{
    demotion::Demotion,
    explain::{Query, explain},
    feed::{FeedName, FeedSpec},
    overlap::Overlap,
    policy::{Policy, Trust},
    public::{PublicAnswer, public_answer},
    story::{Story, story},
};
use serde::Serialize;

use super::{
    live_answer::{self, LiveAnswer},
    service::{Ruleset, Service},
};
use crate::{
    dataplane::DataplaneError,
    feeds::{FeedStatus, Trouble, hold::HeldStatus},
    preview::{self, Candidate, ListReport, Preview, Report, names},
    rulebook::{ReadList, inputs},
    store::{StoreError, walk::MetOften},
};

/// How many days of the record an explanation goes back, unless hits are kept for less.
const DAYS: i64 = 30;

/// What a ruleset was compiled of.
#[derive(Debug)]
pub(super) struct Sources {
    /// Without the operator's networks.
    pub(super) policy: Policy,
    /// The lists, in the order of the table's feeds.
    pub(super) lists: Vec<(FeedSpec, ReadList)>,
}

/// All that is known of an address.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// What the ruleset makes of it.
    #[serde(flatten)]
    pub explanation: sekisho_rules::explain::Explanation,
    /// Every indicator about it, and what each stage of the policy says.
    #[serde(flatten)]
    pub story: Story,
    /// Number of the ruleset that this is about.
    pub generation: u32,
    /// Since when that ruleset is live.
    pub live_since: Timestamp,
    /// How often the address was met lately.
    pub met: MetOften,
    /// From when on that is counted.
    pub met_since: Timestamp,
    /// What the dataplane says.
    pub live: LiveAnswer,
}

/// What the feeds are worth.
#[derive(Debug, Serialize)]
pub struct FeedsWorth {
    /// From when on the record of hits was asked.
    pub since: Timestamp,
    /// By name.
    pub feeds: Vec<FeedWorth>,
}

/// What one feed is worth.
#[derive(Debug, Serialize)]
pub struct FeedWorth {
    /// Its name.
    pub name: FeedName,
    /// When its source last confirmed its list.
    pub confirmed_at: Option<Timestamp>,
    /// Since when its claims are what they are.
    pub content_from: Option<Timestamp>,
    /// Whether that is longer than it may be.
    pub stale: bool,
    /// Why the last request brought nothing; `None` if it did.
    pub trouble: Option<Trouble>,
    /// The list that waits for somebody's word.
    pub held: Option<HeldStatus>,
    /// How much of it other feeds list as well.
    pub overlap: Overlap,
    /// Claims that do less than it asks for, by stage.
    pub demoted_by_reason: BTreeMap<Demotion, u64>,
    /// What its word counts in the score; `None` if it is in no ruleset.
    pub trust: Option<Trust>,
    /// What it met, stopped or not.
    pub met: MetByFeed,
}

/// What a feed met.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct MetByFeed {
    /// Flows, each within one hour.
    pub flows: u64,
    /// Those of them that the subscriber began, as far as TCP tells: true hits.
    pub initiated: u64,
    /// Different subscribers.
    pub subscribers: u64,
}

/// Why an address can't be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The kernel does not answer.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The record does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// All that is known of an address; `None` before the first ruleset. Blocks.
    pub fn explain(&self, query: Query) -> Result<Option<Explained>, ExplainError> {
        let Some(ruleset) = self.ruleset() else { return Ok(None) };
        let met_since = days_ago(DAYS);
        Ok(Some(Explained {
            explanation: explain(&ruleset.compiled, query),
            story: self.story(&ruleset, query.address),
            generation: ruleset.generation,
            live_since: ruleset.live_since,
            met: self.store().often(query.address, met_since)?,
            met_since,
            live: live_answer::ask(self, query)?,
        }))
    }

    /// What may be told of an address to anybody who asks; `None` before the first ruleset.
    pub fn explain_publicly(&self, query: Query) -> Option<PublicAnswer> {
        let ruleset = self.ruleset()?;
        let explanation = explain(&ruleset.compiled, query);
        let sources = self.sources();
        let lists = sources.iter().flat_map(|sources| &sources.lists);
        let specs: Vec<_> = lists.map(|(spec, _)| spec).collect();
        Some(public_answer(&explanation, query, &specs))
    }

    fn story(&self, ruleset: &Ruleset, address: IpAddr) -> Story {
        let Some(sources) = self.sources() else { return Story::default() };
        let lists: Vec<_> = sources.lists.iter().map(|(spec, list)| (spec, list)).collect();
        let (inputs, at) = (inputs(&lists), ruleset.compiled_at.into());
        story(&inputs, &sources.policy, &ruleset.compiled, address, at)
    }

    /// What the lists met in the last days; blocks.
    pub fn report(&self, days: i64) -> Result<Report, StoreError> {
        preview::report(self.store().path(), days_ago(days))
    }

    /// What the feeds are worth, by the record of the last days; blocks.
    pub fn feeds_worth(&self, days: i64) -> Result<FeedsWorth, StoreError> {
        let met = self.report(days)?;
        let (ruleset, now) = (self.ruleset(), Timestamp::now());
        let worth = |status: FeedStatus| {
            let reports = ruleset.iter().flat_map(|ruleset| &ruleset.compiled.feeds);
            let report = reports.into_iter().find(|report| report.name == status.name);
            let by_feed = met.feeds.get(&*status.name);
            FeedWorth {
                confirmed_at: status.confirmed_at,
                content_from: status.content_from,
                stale: status.is_stale(now),
                overlap: report.map(|report| report.overlap.clone()).unwrap_or_default(),
                demoted_by_reason: report
                    .map(|report| report.demoted_by_reason.clone())
                    .unwrap_or_default(),
                trust: report.map(|report| report.trust),
                met: by_feed.map(MetByFeed::of).unwrap_or_default(),
                trouble: status.trouble,
                held: status.held,
                name: status.name,
            }
        };
        let feeds = self.feeds().into_iter().map(worth).collect();
        Ok(FeedsWorth { since: met.since, feeds })
    }

    /// What a feed that is in force would have stopped in the last days, were it enforced; `None` if
    /// there is no such feed in the ruleset. Blocks.
    pub fn preview(&self, feed: &str, days: i64) -> Result<Option<Preview>, StoreError> {
        let Some(ruleset) = self.ruleset() else { return Ok(None) };
        let table = &ruleset.compiled.table;
        let slot = table.feeds.iter().zip(0..).find(|(known, _)| *known.name == *feed);
        let Some((_, slot)) = slot else { return Ok(None) };
        let generations = self.generations();
        let candidate = Candidate { name: feed, generations: &generations, feed: slot };
        let path = self.store().path();
        preview::preview(path, days_ago(days), candidate, |entry| names(table, entry)).map(Some)
    }
}

impl MetByFeed {
    fn of(ListReport { stopped, would_have_stopped }: &ListReport) -> Self {
        Self {
            flows: stopped.flows + would_have_stopped.flows,
            initiated: stopped.initiated + would_have_stopped.initiated,
            subscribers: stopped.with(would_have_stopped),
        }
    }
}

fn days_ago(days: i64) -> Timestamp {
    let span = SignedDuration::from_hours(days.saturating_mul(24).clamp(0, 366 * 24));
    Timestamp::now().checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// What a publication is compiled of, to be told.
pub(super) fn sources(policy: Policy, lists: &[(&FeedSpec, &ReadList)]) -> Arc<Sources> {
    let lists = lists.iter().map(|(spec, list)| ((*spec).clone(), (*list).clone())).collect();
    Arc::new(Sources { policy, lists })
}

//! What is new is observed before it is enforced: a slip of a feed shows before it hurts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    compile::Compiled,
    demotion::Demotion,
    feed::{Action, FeedSpec},
    moment::Moment,
    period::{Period, Wait},
    seen::{Arrivals, Clock, Seen},
    table::{Claim, TableFeed},
};

/// How what is new comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// How long a network and traffic is only observed after it came; 0 is not at all.
    pub observe_for: Wait,
    /// What becomes of the first list of a feed.
    pub first_list: FirstList,
    /// What comes back within this time after it was listed last is not new.
    pub forget_after: Period,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            observe_for: Wait(Some(Period::hours(1))),
            first_list: FirstList::Enforce,
            forget_after: Period::days(7),
        }
    }
}

/// What becomes of the first list of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstList {
    /// It is enforced at once: whoever adds a feed has looked at it.
    #[default]
    Enforce,
    /// It is new like everything else.
    Observe,
}

/// What came of the stage.
#[derive(Clone, Debug)]
pub struct Staged {
    /// What is in force now, for the next time.
    pub seen: Seen,
    /// When the first claim is promoted, if any waits for that.
    pub next: Option<Moment>,
}

/// Demotes what is new, and notes since when everything is in force. `feeds` are those of the table,
/// in its order, each with whether there is a list of it; the operator's own lists come behind them
/// and are never staged.
pub fn stage(
    compiled: &mut Compiled,
    feeds: &[(&FeedSpec, bool)],
    rollout: &Rollout,
    before: &Seen,
    now: Moment,
) -> Staged {
    let clock = Clock { now, forget_after: rollout.forget_after };
    let mut seen = before.feeds_alone(clock);
    let feed = |(feed, (spec, _)): (&TableFeed, &(&FeedSpec, bool))| StagedFeed {
        wait: spec.observe_for.unwrap_or(rollout.observe_for).0,
        is_first: rollout.first_list == FirstList::Enforce && !seen.knows(&spec.name),
        stops: feed.action != Action::Observe,
        staged: 0,
    };
    let mut stage = Stage {
        feeds: compiled.table.feeds.iter().zip(feeds).map(feed).collect::<Vec<_>>(),
        now,
        next: None,
    };
    for (spec, _) in feeds.iter().filter(|(_, has_list)| *has_list) {
        seen.note(spec.name.shared());
    }
    seen.advance(before, &mut compiled.table, &mut stage, clock);
    for (report, StagedFeed { staged, .. }) in compiled.feeds.iter_mut().zip(&stage.feeds) {
        count(&mut report.demoted_by_reason, *staged);
    }
    Staged { seen, next: stage.next }
}

fn count(demoted: &mut BTreeMap<Demotion, u64>, staged: u64) {
    if staged > 0 {
        demoted.insert(Demotion::New, staged);
    }
}

struct Stage {
    feeds: Vec<StagedFeed>,
    now: Moment,
    next: Option<Moment>,
}

struct StagedFeed {
    wait: Option<Period>,
    is_first: bool,
    /// Whether its entries ask for more than observation.
    stops: bool,
    staged: u64,
}

impl Arrivals for Stage {
    fn is_at_once(&self, claim: &Claim) -> bool {
        self.feeds.get(usize::from(claim.feed)).is_some_and(|feed| feed.is_first)
    }

    fn arrived(&mut self, claim: &mut Claim, since: Moment, at_once: bool) {
        claim.since = Some(since);
        let Some(feed) = self.feeds.get_mut(usize::from(claim.feed)) else { return };
        let due = feed.wait.map(|wait| since.after(wait));
        let Some(due) = due.filter(|due| *due > self.now && feed.stops && !at_once) else { return };
        claim.demotions.insert(Demotion::New);
        feed.staged += 1;
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;

//! Whether a list may take the place of the one in force: whether it is older, or empty, and by how
//! much it grew or shrank.

use std::{cmp::Ordering, collections::HashSet, fmt};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    feed::{Approval, FeedSpec},
    indicator::{Indicator, Traffic},
    moment::Moment,
    parse::Parsed,
    period::Period,
};

/// How much a list may change at once. A change beyond a limit is held until somebody accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest growth, in percent of the list in force.
    pub grow_percent: u32,
    /// Largest growth, in entries.
    pub grow_entries: u64,
    /// Largest shrinkage, in percent of the list in force.
    pub shrink_percent: u32,
    /// Largest shrinkage, in entries.
    pub shrink_entries: u64,
    /// A change of up to so many entries is never beyond a limit in percent: short lists move much.
    pub slack: u64,
}

impl Limits {
    /// Any change is within these.
    const NONE: Self = Self {
        grow_percent: u32::MAX,
        grow_entries: u64::MAX,
        shrink_percent: 100,
        shrink_entries: u64::MAX,
        slack: u64::MAX,
    };
}

/// ThreatFox moved by more than a quarter once in 18,176 hourly updates, when its rules changed.
impl Default for Limits {
    fn default() -> Self {
        Self {
            grow_percent: 50,
            grow_entries: 200_000,
            shrink_percent: 30,
            shrink_entries: 200_000,
            slack: 100,
        }
    }
}

/// Two lists in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Rows with an address of the list in force.
    pub before: u64,
    /// Rows with an address of the other list.
    pub after: u64,
    /// Networks with their traffic that only the other list has.
    pub added: u64,
    /// Networks with their traffic that only the list in force has.
    pub removed: u64,
}

/// `it grew from 5 to 17 entries (12 new, 0 gone)`
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, added, removed } = self;
        let verb = match after.cmp(before) {
            Ordering::Greater => "grew",
            Ordering::Less => "shrank",
            Ordering::Equal => "went",
        };
        write!(f, "it {verb} from {before} to {after} entries ({added} new, {removed} gone)")
    }
}

/// Why a list is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldReason {
    /// It grew by more than it may.
    Growth,
    /// It shrank by more than it may.
    Shrinkage,
    /// Every change of this feed waits for somebody's word.
    Approval,
}

impl HoldReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::Growth, Self::Shrinkage, Self::Approval];

    /// The name in reports and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Growth => "growth",
            Self::Shrinkage => "shrinkage",
            Self::Approval => "approval",
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes the place of the one in force.
    Take,
    /// Nothing is in it, and something was: it is refused.
    Emptied,
    /// By the publisher's own date, it is older than the one in force: it is refused until only
    /// older ones have come for long enough.
    Older(Moment),
    /// It waits until somebody accepts it.
    Hold(HoldReason, Figures),
}

/// How long only older lists must have come until one is taken, of a feed that doesn't say. Spamhaus
/// DROP went back in time 26 times in 447 fetches, by at most 2.7 days.
pub const OLDER_AFTER: Period = Period::hours(72);

/// Judges a list that is to take the place of the one in force; `None` if there is none yet.
/// `older_since` is when the first of those older lists came since which no other one came.
pub fn judge(
    in_force: Option<&Parsed>,
    candidate: &Parsed,
    spec: &FeedSpec,
    older_since: Option<Moment>,
    now: Moment,
) -> Verdict {
    let is_emptied = candidate.is_empty() && in_force.is_some_and(|list| !list.is_empty());
    if is_emptied && !spec.may_be_empty {
        return Verdict::Emptied;
    }
    let known = in_force.and_then(|list| list.stamp);
    if let Some(stamp) = candidate.stamp.filter(|stamp| known.is_some_and(|known| *stamp < known)) {
        let patience = spec.older_after.unwrap_or(OLDER_AFTER);
        if older_since.is_none_or(|since| now < since.after(patience)) {
            return Verdict::Older(stamp);
        }
    }
    let limits = if is_emptied { &Limits::NONE } else { &spec.limits };
    by_size(in_force, candidate, limits, spec.approval)
}

fn by_size(
    in_force: Option<&Parsed>,
    candidate: &Parsed,
    limits: &Limits,
    approval: Approval,
) -> Verdict {
    let reason = in_force.and_then(|list| beyond(list, candidate, limits));
    let waits = || approval == Approval::Required && !says_the_same(in_force, candidate);
    match reason.or_else(|| waits().then_some(HoldReason::Approval)) {
        Some(reason) => Verdict::Hold(reason, compare(in_force, candidate)),
        None => Verdict::Take,
    }
}

/// The limit that the change is beyond.
fn beyond(in_force: &Parsed, candidate: &Parsed, limits: &Limits) -> Option<HoldReason> {
    let (before, after) = (rows(in_force), rows(candidate));
    let is_beyond = |change: u64, percent: u32, entries: u64| {
        let is_large = u128::from(change) * 100 > u128::from(before) * u128::from(percent);
        change > entries || change > limits.slack && is_large
    };
    if is_beyond(after.saturating_sub(before), limits.grow_percent, limits.grow_entries) {
        Some(HoldReason::Growth)
    } else if is_beyond(before.saturating_sub(after), limits.shrink_percent, limits.shrink_entries)
    {
        Some(HoldReason::Shrinkage)
    } else {
        None
    }
}

const fn rows(list: &Parsed) -> u64 {
    list.indicators.len() as u64
}

/// Whether the lists name the same and differ in dates and the like at most.
fn says_the_same(in_force: Option<&Parsed>, candidate: &Parsed) -> bool {
    in_force.is_some_and(|list| names(list) == names(candidate))
}

/// Two lists in figures.
pub fn compare(in_force: Option<&Parsed>, candidate: &Parsed) -> Figures {
    let (known, found) = (in_force.map(names).unwrap_or_default(), names(candidate));
    Figures {
        before: in_force.map_or(0, rows),
        after: rows(candidate),
        added: found.difference(&known).count() as u64,
        removed: known.difference(&found).count() as u64,
    }
}

/// What a list names; a host that was broken into is another thing than one that was not.
fn names(list: &Parsed) -> HashSet<(IpNet, Traffic, bool)> {
    let name = |row: &Indicator| (row.network, row.traffic, row.compromised);
    list.indicators.iter().map(name).collect()
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;

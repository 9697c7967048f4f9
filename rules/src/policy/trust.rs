//! What a feed's word is still worth after false positives were found in its list.
//!
//! A finding is a network that the operator allowed or suppressed, or that the breaker demoted and
//! somebody left so, while the feed listed it. Each counts once for a feed, less as it ages. Whole
//! numbers throughout, as in the score.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    feed::{FeedName, FeedSpec},
    moment::Moment,
    operator::is_reserved,
    period::Period,
};

/// How false positives lower the weight of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustLimits {
    /// So many fresh findings leave half of the weight; 0 is never lowering it.
    pub halved_by: u16,
    /// After so long a finding counts half.
    pub half_life: Period,
    /// Least of the weight that is left, in hundredths, 0 to 100.
    #[serde(deserialize_with = "crate::feed::percentage")]
    pub least_percent: u8,
}

impl Default for TrustLimits {
    fn default() -> Self {
        Self { halved_by: 10, half_life: Period::days(90), least_percent: 25 }
    }
}

/// A network that a feed listed and should not have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FalsePositive {
    /// The feed.
    pub feed: FeedName,
    /// The network that the decision was about.
    pub network: IpNet,
    /// When it was found.
    pub at: Moment,
}

/// What a feed's word is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Trust {
    /// The weight that the catalogue gives, 0 to 100.
    pub given: u8,
    /// The weight that counts in the score.
    pub weight: u8,
    /// How many false positives are known.
    pub false_positives: u32,
}

const WHOLE: u64 = 1_000_000;

impl Trust {
    /// What nothing is known against.
    pub const fn full(given: u8) -> Self {
        Self { given, weight: given, false_positives: 0 }
    }
}

impl TrustLimits {
    /// What is left of a weight after findings of these ages, in seconds.
    pub fn trust(&self, given: u8, ages: impl Iterator<Item = i64>) -> Trust {
        let half_life = self.half_life.as_secs().max(1).unsigned_abs();
        let (mut doubts, mut false_positives) = (0_u64, 0_u32);
        for age in ages {
            let age = age.max(0).unsigned_abs();
            doubts = doubts.saturating_add(WHOLE * half_life / (half_life + age));
            false_positives = false_positives.saturating_add(1);
        }
        let halved_by = u64::from(self.halved_by) * WHOLE;
        let share = match halved_by {
            0 => WHOLE,
            _ => WHOLE.saturating_mul(halved_by) / halved_by.saturating_add(doubts),
        };
        let share = share.max(WHOLE / 100 * u64::from(self.least_percent.min(100)));
        let weight = (u64::from(given) * share + WHOLE / 2) / WHOLE;
        Trust { given, weight: weight as u8, false_positives }
    }
}

/// The findings of each feed by network, the latest of several: what was known before, and what one
/// compilation finds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    by_feed: BTreeMap<FeedName, BTreeMap<IpNet, Moment>>,
    new: Vec<FalsePositive>,
}

impl Findings {
    pub(crate) fn known(past: &[FalsePositive]) -> Self {
        let mut findings = Self::default();
        for FalsePositive { feed, network, at } in past {
            let networks = findings.by_feed.entry(feed.clone()).or_default();
            let known = networks.entry(*network).or_insert(*at);
            *known = (*known).max(*at);
        }
        findings
    }

    /// Notes that a decision about this network met a claim of the feed.
    pub(crate) fn note(&mut self, feed: &FeedName, network: IpNet, now: Moment) {
        if is_reserved(feed) {
            return;
        }
        if self.by_feed.get(feed).is_some_and(|networks| networks.contains_key(&network)) {
            return;
        }
        self.by_feed.entry(feed.clone()).or_default().insert(network, now);
        self.new.push(FalsePositive { feed: feed.clone(), network, at: now });
    }

    /// What that leaves of the feed's weight.
    pub(crate) fn trust(&self, spec: &FeedSpec, limits: &TrustLimits, now: Moment) -> Trust {
        let networks = self.by_feed.get(&spec.name);
        let found = networks.into_iter().flat_map(BTreeMap::values);
        limits.trust(spec.weight, found.map(|at| now.as_second() - at.as_second()))
    }

    /// Those that were not known before.
    pub(crate) fn into_new(self) -> Vec<FalsePositive> {
        self.new
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;

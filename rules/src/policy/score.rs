//! What several feeds together make of a claim: a score from 0 to 100.
//!
//! A feed's word is worth its weight, less by what the host is, how sure the feed is and how long
//! ago it saw it. Words of independent feeds add up as doubts multiply: the score is what is left
//! of 100 when each takes its share of the doubt away. Whole numbers throughout, so that neither
//! machine nor order makes a difference.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::{
    demotion::Demotion,
    feed::{Class, FeedSpec},
    indicator::Traffic,
    moment::Moment,
    operator::is_reserved,
    period::Period,
    table::{Claim, FeedSlot},
};

/// What a score leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, try_from = "Unchecked")]
pub struct ScoreLimits {
    /// A claim with a lower score is only observed, 0 to 100.
    pub block: u8,
    /// A claim with a lower score does nothing, 0 to `block`.
    pub observe: u8,
    /// After so long without being seen by its feed, a claim is worth half.
    pub half_life: Period,
}

impl Default for ScoreLimits {
    fn default() -> Self {
        Self { block: 0, observe: 0, half_life: Period::days(30) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Unchecked {
    block: u8,
    observe: u8,
    half_life: Period,
}

impl Default for Unchecked {
    fn default() -> Self {
        let ScoreLimits { block, observe, half_life } = ScoreLimits::default();
        Self { block, observe, half_life }
    }
}

impl TryFrom<Unchecked> for ScoreLimits {
    type Error = String;

    fn try_from(Unchecked { block, observe, half_life }: Unchecked) -> Result<Self, String> {
        if observe > block || block > FULL {
            return Err(format!(
                "expected 0 <= observe <= block <= {FULL}, found observe {observe} and block {block}"
            ));
        }
        Ok(Self { block, observe, half_life })
    }
}

impl ScoreLimits {
    /// What a score means for a claim.
    pub const fn check(&self, score: u8) -> Option<Demotion> {
        if score < self.observe {
            Some(Demotion::TooLowScore)
        } else if score < self.block {
            Some(Demotion::LowScore)
        } else {
            None
        }
    }
}

/// The highest score.
const FULL: u8 = 100;
/// The whole of a word, and of a doubt.
const WHOLE: u64 = 1_000_000;
/// How sure a feed is taken to be that does not say.
const USUAL_CONFIDENCE: u8 = 75;

/// What a class leaves of a word, in hundredths: what is shared with innocents is worth less.
const fn class_share(class: Class) -> u8 {
    match class {
        Class::Dedicated => 100,
        Class::Unknown => 80,
        Class::Compromised => 60,
        Class::Scanner => 40,
        Class::Sinkhole => 20,
    }
}

/// One feed's part of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// The feed.
    #[serde(skip)]
    pub feed: FeedSlot,
    /// The feed's weight, 0 to 100.
    pub weight: u8,
    /// What the class leaves of it, in hundredths.
    pub class: u8,
    /// What the confidence leaves of it, in hundredths.
    pub confidence: u8,
    /// What the age leaves of it, in hundredths, rounded down.
    pub age: u8,
    /// What comes of all that, in hundredths, rounded down.
    pub worth: u8,
    /// In millionths.
    #[serde(skip)]
    exact: u64,
}

/// What the catalogue says of the feeds of a table, by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scorer {
    voices: Vec<Voice>,
    origins: usize,
    limits: ScoreLimits,
    now: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Voice {
    weight: u8,
    /// Position of its origin among all, by name.
    origin: usize,
    /// Whether it is the operator's own, which no score overrules.
    is_own: bool,
}

impl Scorer {
    /// `weights` are what the feeds' words count, in their order.
    pub(crate) fn new<'a>(
        feeds: impl Iterator<Item = &'a FeedSpec> + Clone,
        weights: impl Iterator<Item = u8>,
        limits: ScoreLimits,
        now: Moment,
    ) -> Self {
        // By name, so that the order of the feeds makes no difference.
        let mut origins: BTreeMap<&str, usize> =
            feeds.clone().map(|feed| (feed.origin(), 0)).collect();
        origins.values_mut().zip(0..).for_each(|(place, at)| *place = at);
        let voice = |(feed, weight): (&FeedSpec, u8)| Voice {
            weight,
            origin: origins.get(feed.origin()).copied().unwrap_or(0),
            is_own: is_reserved(&feed.name),
        };
        Self {
            voices: feeds.zip(weights).map(voice).collect(),
            origins: origins.len(),
            limits,
            now: Some(now),
        }
    }

    /// Gives each claim of an entry its score, and what that means for it.
    pub(crate) fn settle(&self, claims: &mut [Claim]) {
        if let [claim] = claims {
            let doubt = WHOLE - self.word(claim).exact;
            return self.conclude(claim, doubt);
        }
        let best = self.best(claims);
        let mut known = HashMap::new();
        for claim in claims {
            let doubt =
                *known.entry(claim.traffic).or_insert_with(|| self.doubt(claim.traffic, &best));
            self.conclude(claim, doubt);
        }
    }

    /// The words that a claim's score is made of: the best of each origin, by feed.
    pub(crate) fn words(&self, claim: &Claim, claims: &[Claim]) -> Vec<Word> {
        let mut best: Vec<Option<Word>> = vec![None; self.origins];
        for word in claims.iter().filter(|other| speaks_for(other.traffic, claim.traffic)) {
            let word = self.word(word);
            let origin = self.voice(word.feed).origin;
            if let Some(best) = best.get_mut(origin)
                && best.is_none_or(|best| best.exact < word.exact)
            {
                *best = Some(word);
            }
        }
        let mut words: Vec<_> = best.into_iter().flatten().collect();
        words.sort_by_key(|word| word.feed);
        words
    }

    fn conclude(&self, claim: &mut Claim, doubt: u64) {
        claim.score = (u64::from(FULL) * (WHOLE - doubt) / WHOLE) as u8;
        let is_own = self.voice(claim.feed).is_own;
        if let Some(demotion) = self.limits.check(claim.score).filter(|_| !is_own) {
            claim.demotions.insert(demotion);
        }
    }

    fn voice(&self, feed: FeedSlot) -> Voice {
        let silent = Voice { weight: 0, origin: 0, is_own: false };
        self.voices.get(usize::from(feed)).copied().unwrap_or(silent)
    }

    fn word(&self, claim: &Claim) -> Word {
        let Voice { weight, .. } = self.voice(claim.feed);
        let class = class_share(claim.class);
        let confidence = claim.confidence.unwrap_or(USUAL_CONFIDENCE).min(FULL);
        let seen = claim.last_seen.or(self.now).map_or(0, Moment::as_second);
        let since = self.now.map_or(0, |now| now.as_second() - seen).max(0).unsigned_abs();
        let half_life = self.limits.half_life.as_secs().max(1).unsigned_abs();
        let fresh = if since == 0 { WHOLE } else { WHOLE * half_life / (half_life + since) };
        let share = |whole: u64, hundredths: u8| whole * u64::from(hundredths) / 100;
        let exact = share(share(share(fresh, class), confidence), weight.min(FULL));
        let hundredths = |exact: u64| (exact * 100 / WHOLE) as u8;
        let (age, worth) = (hundredths(fresh), hundredths(exact));
        Word { feed: claim.feed, weight, class, confidence, age, worth, exact }
    }

    /// The best word of each origin, by the traffic that it is about.
    fn best(&self, claims: &[Claim]) -> HashMap<Traffic, Vec<u64>> {
        let mut best: HashMap<Traffic, Vec<u64>> = HashMap::new();
        for claim in claims {
            let words = best.entry(claim.traffic).or_insert_with(|| vec![0; self.origins]);
            let word = self.word(claim).exact;
            if let Some(best) = words.get_mut(self.voice(claim.feed).origin) {
                *best = word.max(*best);
            }
        }
        best
    }

    /// What is left of the doubt once every origin that speaks of the traffic has had its word.
    fn doubt(&self, traffic: Traffic, best: &HashMap<Traffic, Vec<u64>>) -> u64 {
        let speaking: Vec<_> =
            wider(traffic).into_iter().flatten().filter_map(|wider| best.get(&wider)).collect();
        let word = |origin: usize| {
            speaking.iter().filter_map(|words| words.get(origin)).copied().max().unwrap_or(0)
        };
        (0..self.origins).fold(WHOLE, |doubt, origin| doubt * (WHOLE - word(origin)) / WHOLE)
    }
}

/// The traffic whose claims also speak of this traffic, itself included.
fn wider(traffic: Traffic) -> [Option<Traffic>; 4] {
    let Traffic { protocol, port } = traffic;
    [
        Some(Traffic::ANY),
        protocol.map(|_| Traffic { protocol, port: None }),
        port.map(|_| Traffic { protocol: None, port }),
        protocol.and(port).map(|_| traffic),
    ]
}

fn speaks_for(one: Traffic, traffic: Traffic) -> bool {
    wider(traffic).contains(&Some(one))
}

#[cfg(test)]
#[path = "score_tests.rs"]
mod tests;

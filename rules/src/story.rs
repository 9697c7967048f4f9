//! The whole story of an address: every indicator that is about it, and what every stage of the
//! policy says of each.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;

use crate::{
    compile::{Compiled, FeedInput, meant},
    demotion::Demotion,
    explain::{demotion_text, false_positives_text, left_out_text},
    feed::{Action, Class, FeedName},
    indicator::Indicator,
    moment::Moment,
    operator,
    policy::{Judge, Policy, Scorer, Trust, Word},
    refusal::{Why, indicator_text},
    table::{Claim, FeedSlot},
};

/// Most indicators that are told one by one.
pub const MAX_TOLD: usize = 100;

/// Every indicator about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Story {
    /// The indicators, by feed and line.
    pub indicators: Vec<Told>,
    /// How many more there are.
    pub omitted: usize,
}

/// What a feed says, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The indicator: `198.18.0.1:443/tcp`.
    pub indicator: String,
    /// Who lists it.
    pub feed: FeedName,
    /// Line of the feed.
    pub line: u32,
    /// When the source last said that this is its list.
    pub confirmed_at: Moment,
    /// The malware family.
    pub malware: Option<Arc<str>>,
    /// When the feed first saw it.
    pub first_seen: Option<Moment>,
    /// When the feed last saw it.
    pub last_seen: Option<Moment>,
    /// The feed's confidence, or what the catalogue says for it.
    pub confidence: Option<u8>,
    /// What the host is.
    pub class: Class,
    /// When the claim lapses.
    pub expires: Moment,
    /// What each stage says, in their order; the first refusal ends the list.
    pub stages: Vec<StageVerdict>,
    /// What is left to be done to packets; `None` is nothing.
    pub left: Option<Action>,
    /// The score, if it got so far.
    pub score: Option<u8>,
    /// The words that the score is made of, one an origin.
    pub words: Vec<NamedWord>,
    /// Since when the network and traffic has been in force, if it is.
    pub since: Option<Moment>,
}

/// One feed's part of a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedWord {
    /// The feed.
    pub feed: Arc<str>,
    /// Its part.
    #[serde(flatten)]
    pub word: Word,
    /// The weight that the catalogue gives it, 0 to 100.
    pub given_weight: u8,
    /// The false positives that lower it.
    pub false_positives: u32,
}

/// The stages, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Ranges of the built-in list, and networks of the operator.
    RefuseList,
    /// The shortest prefix that the feed may list.
    PrefixFloor,
    /// The never-block lists.
    NeverBlock,
    /// What the operator lets pass, or lets count for nothing.
    Operator,
    /// The least confidence.
    Confidence,
    /// The end of the claim.
    Expiry,
    /// Ports of one network, and what all entries cover.
    Limits,
    /// Hosts of defenders.
    Sinkhole,
    /// What all feeds together make of it.
    Score,
    /// The time that what is new is observed.
    Rollout,
    /// Entries that too many subscribers met.
    Breaker,
    /// What the feed asks for.
    Action,
}

/// What a stage did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing.
    Passed,
    /// It took the indicator out.
    Refused,
    /// It leaves observation, or less.
    Demoted,
}

/// What a stage says of an indicator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageVerdict {
    /// The stage.
    pub stage: Stage,
    /// What it did.
    pub outcome: Outcome,
    /// Why, as the second half of a sentence.
    pub text: String,
}

impl StageVerdict {
    fn passed(stage: Stage, text: impl Into<String>) -> Self {
        Self { stage, outcome: Outcome::Passed, text: text.into() }
    }

    fn refused(stage: Stage, why: &Why) -> Self {
        Self { stage, outcome: Outcome::Refused, text: why.to_string() }
    }
}

/// Tells what the lists say of an address, the operator's own among them. `inputs`, `policy` and `now`
/// are those that the table was compiled of.
pub fn story(
    inputs: &[FeedInput<'_>],
    policy: &Policy,
    compiled: &Compiled,
    address: IpAddr,
    now: Moment,
) -> Story {
    let own = operator::lists(&compiled.operator, policy, now);
    let own =
        own.iter().map(|(spec, parsed)| FeedInput { spec, parsed: Ok(parsed), fetched_at: now });
    let inputs: Vec<_> = inputs.iter().copied().chain(own).collect();
    let weights = compiled.feeds.iter().map(|report| report.trust.weight);
    let teller = Teller {
        scorer: Scorer::new(inputs.iter().map(|input| input.spec), weights, policy.score, now),
        policy,
        compiled,
        address: address.to_canonical(),
        now,
    };
    let mut story = Story::default();
    for (input, feed) in inputs.iter().zip(0..) {
        let Ok(parsed) = input.parsed else { continue };
        let judge = Judge::new(&compiled.guards, policy, input.spec, input.fetched_at, now);
        for indicator in &parsed.indicators {
            if !indicator.network.contains(&teller.address) {
                continue;
            }
            if story.indicators.len() < MAX_TOLD {
                story.indicators.push(teller.tell(input, feed, &judge, indicator));
            } else {
                story.omitted += 1;
            }
        }
    }
    story
}

struct Teller<'a> {
    scorer: Scorer,
    policy: &'a Policy,
    compiled: &'a Compiled,
    address: IpAddr,
    now: Moment,
}

impl Teller<'_> {
    fn tell(
        &self,
        input: &FeedInput<'_>,
        feed: FeedSlot,
        judge: &Judge<'_>,
        indicator: &Indicator,
    ) -> Told {
        let spec = input.spec;
        let meant = meant(indicator, spec);
        let mut told = Told {
            indicator: indicator_text(indicator.network, indicator.traffic),
            feed: spec.name.clone(),
            line: indicator.line,
            confirmed_at: input.fetched_at,
            malware: indicator.malware.clone(),
            first_seen: indicator.first_seen,
            last_seen: indicator.last_seen,
            confidence: judge.confidence(indicator),
            class: if indicator.compromised { Class::Compromised } else { spec.class },
            expires: judge.ends(indicator),
            stages: Vec::new(),
            left: None,
            score: None,
            words: Vec::new(),
            since: None,
        };
        for (stage, why) in judge.trail(indicator, meant) {
            let Some(why) = why else {
                told.stages.push(StageVerdict::passed(stage, passed(stage, &told)));
                continue;
            };
            told.stages.push(StageVerdict::refused(stage, &why));
            return told;
        }
        let claims = self.compiled.table.claims_on(indicator.network);
        match claims.iter().find(|claim| (claim.feed, claim.traffic) == (feed, meant)) {
            Some(claim) => {
                told.stages.push(StageVerdict::passed(Stage::Limits, "within them"));
                self.tell_claim(&mut told, indicator, claim, claims);
            }
            None => {
                let kept = self.compiled.refusals.kept.iter();
                let mut own = kept.filter(|r| (&r.feed, r.line) == (&spec.name, indicator.line));
                let text = own.next().map_or_else(
                    || "a limit on the whole keeps it out".to_owned(),
                    |refusal| refusal.why.to_string(),
                );
                let (stage, outcome) = (Stage::Limits, Outcome::Refused);
                told.stages.push(StageVerdict { stage, outcome, text });
            }
        }
        told
    }

    /// The stages that judge what stands.
    fn tell_claim(&self, told: &mut Told, indicator: &Indicator, claim: &Claim, claims: &[Claim]) {
        told.score = Some(claim.score);
        told.since = claim.since;
        let words = self.scorer.words(claim, claims).into_iter();
        told.words = words.map(|word| self.named(word)).collect();
        let words = words_text(&told.words);
        let left_out = self.left_out();
        if let Some(text) = &left_out {
            let stage = told.stages.iter_mut().find(|verdict| verdict.stage == Stage::NeverBlock);
            stage.into_iter().for_each(|verdict| verdict.text.clone_from(text));
        }
        let part = self.compiled.table.observed_part(indicator.network, self.address);
        for (stage, demotions) in DEMOTING {
            let mut demotions = demotions.iter().filter(|demotion| claim.demotions.has(**demotion));
            let demotion = demotions.next().copied();
            let (network, demotion) = match (stage, demotion, part) {
                (Stage::Sinkhole, None, Some(part)) => (part, Some(Demotion::Sinkhole)),
                _ => (indicator.network, demotion),
            };
            told.stages.push(match demotion {
                Some(demotion) => StageVerdict {
                    stage,
                    outcome: Outcome::Demoted,
                    text: demotion_text(self.compiled, network, claim, demotion),
                },
                None => StageVerdict::passed(stage, self.passed(stage, claim, &words)),
            });
        }
        let asked = self.compiled.table.asked(claim);
        let asked = asked.filter(|_| left_out.is_none());
        told.left = asked.map(|asked| part.map_or(asked, |_| Action::Observe));
        let action = self.compiled.table.feeds.get(usize::from(claim.feed)).map(|f| f.action);
        let text = format!("the feed asks to {}", action.unwrap_or(Action::Observe));
        told.stages.push(StageVerdict::passed(Stage::Action, text));
    }

    /// That the address is left out of what is wider, if it is.
    fn left_out(&self) -> Option<String> {
        let part = self.compiled.table.left_out(self.address)?;
        Some(left_out_text(self.compiled, part, "it"))
    }

    fn named(&self, word: Word) -> NamedWord {
        let feed = self.compiled.table.feeds.get(usize::from(word.feed));
        let feed = feed.map_or_else(|| "?".into(), |feed| Arc::clone(&feed.name));
        let report = self.compiled.feeds.get(usize::from(word.feed));
        let trust = report.map_or(Trust::full(word.weight), |report| report.trust);
        let (given_weight, false_positives) = (trust.given, trust.false_positives);
        NamedWord { feed, word, given_weight, false_positives }
    }

    /// What a stage says of a claim that it does not demote.
    fn passed(&self, stage: Stage, claim: &Claim, words: &str) -> String {
        match stage {
            Stage::Sinkhole => "no known sinkhole".to_owned(),
            Stage::Score => {
                let least = self.policy.score.block;
                format!("a score of {} of {words}, and {least} blocks", claim.score)
            }
            Stage::Rollout => match claim.since {
                Some(since) => format!("listed since {since}, now {}", self.now),
                None => "since when it is listed is not known".to_owned(),
            },
            // Who asks lists that are in force nowhere learns nothing of that.
            _ if claim.since.is_none() => "who met it is not known".to_owned(),
            _ => "not met by too many".to_owned(),
        }
    }
}

/// The words of a score, for people: `feed one 60, feed two 12`.
fn words_text(words: &[NamedWord]) -> String {
    let each = words.iter().map(|NamedWord { feed, word, given_weight, false_positives }| {
        let lowered = match false_positives {
            0 => String::new(),
            &count => {
                let found = false_positives_text(count);
                format!(" (weight {} of {given_weight} after {found})", word.weight)
            }
        };
        format!("feed {feed} {}{lowered}", word.worth)
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The stages that demote, and by what.
const DEMOTING: [(Stage, &[Demotion]); 4] = [
    (Stage::Sinkhole, &[Demotion::Sinkhole]),
    (Stage::Score, &[Demotion::TooLowScore, Demotion::LowScore]),
    (Stage::Rollout, &[Demotion::New]),
    (Stage::Breaker, &[Demotion::Breaker]),
];

/// What a stage says of an indicator that it lets through.
fn passed(stage: Stage, told: &Told) -> String {
    match stage {
        Stage::RefuseList => "of the public Internet, and not ours".to_owned(),
        Stage::PrefixFloor => "no wider than the feed may list".to_owned(),
        Stage::NeverBlock => "on no never-block list".to_owned(),
        Stage::Operator => "nothing that the operator decided is against it".to_owned(),
        Stage::Confidence => match told.confidence {
            Some(confidence) => format!("a confidence of {confidence}"),
            None => "the feed says nothing".to_owned(),
        },
        _ => format!("until {}", told.expires),
    }
}

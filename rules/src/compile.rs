//! Many feeds to one table.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    accept::{Accepted, accept},
    catalogue::MAX_LISTS,
    demotion::Demotion,
    feed::{Class, FeedName, FeedSpec, Ports},
    indicator::{Indicator, Traffic},
    merge::{Indicators, Place, Rows},
    moment::Moment,
    operator::{self, OperatorEntry},
    overlap::{Overlap, Overlaps},
    parse::{ParseFailure, Parsed, Rejects},
    policy::{FalsePositive, Findings, Guards, Judge, NeverBlock, Policy, Scorer, Trust, sinkhole},
    refusal::{MAX_KEPT_PER_FEED, Refusal, RefusalReason, Refusals, Why},
    table::{Claim, FeedSlot, Table, TableFeed},
};

/// A feed and what was last read of it.
#[derive(Clone, Copy, Debug)]
pub struct FeedInput<'a> {
    /// The row of the catalogue.
    pub spec: &'a FeedSpec,
    /// Its list, or why there is none.
    pub parsed: Result<&'a Parsed, &'a ParseFailure>,
    /// When the content came: the age of claims that carry no date of their own.
    pub fetched_at: Moment,
}

/// The table, and what became of every indicator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// What may be blocked.
    pub table: Table,
    /// What may not.
    pub refusals: Refusals,
    /// The account of each feed, in the order of the inputs.
    pub feeds: Vec<FeedReport>,
    /// What may never be blocked, for explanations.
    pub guards: Guards,
    /// The operator's own entries in force, for explanations.
    pub operator: Vec<OperatorEntry>,
    /// False positives of feeds that were not known before.
    pub found: Vec<FalsePositive>,
}

/// What people decided besides the lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decided<'a> {
    /// The operator's own entries.
    pub entries: &'a [OperatorEntry],
    /// The false positives that are known.
    pub false_positives: &'a [FalsePositive],
}

/// The account of one feed: `indicators = accepted + refused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedReport {
    /// The feed.
    pub name: FeedName,
    /// Indicators with an address that could be read, duplicates included.
    pub indicators: u64,
    /// Names, URLs and AS numbers that are kept beside them and block nothing.
    pub named: u64,
    /// Those that stand, duplicates included.
    pub accepted: u64,
    /// Lines that could not be read.
    pub rejected: u64,
    /// Indicators that the policy refused.
    pub refused: u64,
    /// Indicators that touch a network of a list of the tier `warn`, whatever became of them.
    pub warned: u64,
    /// The same as `refused`, by reason.
    pub refused_by_reason: BTreeMap<RefusalReason, u64>,
    /// Claims that stand and do less than the feed asks for, by the stage that demotes them.
    pub demoted_by_reason: BTreeMap<Demotion, u64>,
    /// What its word is worth.
    pub trust: Trust,
    /// How its entries and those of the others overlap.
    pub overlap: Overlap,
    /// Well-formed rows that are no indicators.
    pub skipped: u64,
    /// When the publisher made the list.
    pub stamp: Option<Moment>,
    /// Why the whole list was refused.
    pub failure: Option<ParseFailure>,
}

/// Why there is no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More feeds than an entry has bits for.
    #[error("{found} feeds are enabled: a table takes at most {most}")]
    TooManyFeeds {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}

/// Applies the policy to every indicator and merges what stands into one table.
pub fn compile(
    inputs: &[FeedInput<'_>],
    policy: &Policy,
    never_block: &[NeverBlock],
    now: Moment,
) -> Result<Compiled, CompileError> {
    compile_decided(inputs, policy, never_block, Decided::default(), now)
}

/// The same, with what people decided besides.
pub fn compile_decided(
    inputs: &[FeedInput<'_>],
    policy: &Policy,
    never_block: &[NeverBlock],
    Decided { entries, false_positives }: Decided<'_>,
    now: Moment,
) -> Result<Compiled, CompileError> {
    let guards = Guards::new(policy, never_block).with_entries(entries, now);
    let own = operator::lists(entries, policy, now);
    let own =
        own.iter().map(|(spec, parsed)| FeedInput { spec, parsed: Ok(parsed), fetched_at: now });
    let inputs: &[FeedInput<'_>] = &inputs.iter().copied().chain(own).collect::<Vec<_>>();
    if inputs.len() > MAX_LISTS {
        return Err(CompileError::TooManyFeeds { found: inputs.len(), most: MAX_LISTS });
    }
    let judge =
        |input: &FeedInput<'_>| Judge::new(&guards, policy, input.spec, input.fetched_at, now);
    let mut feeds = Feeds {
        inputs,
        guards: &guards,
        judges: inputs.iter().map(judge).collect(),
        refusals: Refusals::default(),
        reports: inputs.iter().map(FeedInput::report).collect(),
        scorer: Scorer::default(),
        findings: Findings::known(false_positives),
        now,
        overlaps: Overlaps::new(inputs.len()),
        remote: inputs.iter().filter(|input| !operator::is_reserved(&input.spec.name)).count(),
    };
    let rows = feeds.accepted();
    feeds.weigh(policy);
    let mut table = Table { feeds: inputs.iter().map(table_feed).collect(), ..Table::default() };
    rows.merge(policy, &mut feeds, &mut table);
    table.never_block = never_blocked_parts(&table, &guards);
    table.observed = sinkhole_parts(&table, &guards);
    let Feeds { refusals, mut reports, overlaps, findings, .. } = feeds;
    overlaps.tell(&mut reports);
    let operator = entries.iter().filter(|entry| entry.is_in_force(now)).cloned().collect();
    let found = findings.into_new();
    Ok(Compiled { table, refusals, feeds: reports, guards, operator, found })
}

impl<'a> FeedInput<'a> {
    pub(crate) fn indicators(&self) -> &'a [Indicator] {
        self.parsed.map_or(&[], |parsed| &parsed.indicators)
    }

    /// The account as it stands before the policy.
    fn report(&self) -> FeedReport {
        let rejects = match self.parsed {
            Ok(parsed) => Some(&parsed.rejects),
            Err(ParseFailure::TooManyRejects { rejects, .. }) => Some(rejects),
            Err(_) => None,
        };
        let indicators = self.indicators().len() as u64;
        FeedReport {
            name: self.spec.name.clone(),
            indicators,
            named: self.parsed.map_or(0, |parsed| parsed.named.len() as u64),
            accepted: indicators,
            rejected: rejects.map_or(0, Rejects::total),
            refused: 0,
            warned: 0,
            refused_by_reason: BTreeMap::new(),
            demoted_by_reason: BTreeMap::new(),
            trust: Trust::full(self.spec.weight),
            overlap: Overlap::default(),
            skipped: self.parsed.map_or(0, Parsed::skipped_total),
            stamp: self.parsed.ok().and_then(|parsed| parsed.stamp),
            failure: self.parsed.err().cloned(),
        }
    }
}

fn table_feed(input: &FeedInput<'_>) -> TableFeed {
    TableFeed { name: input.spec.name.shared(), action: input.spec.action }
}

/// The inputs and what became of them so far.
struct Feeds<'a> {
    inputs: &'a [FeedInput<'a>],
    guards: &'a Guards,
    judges: Vec<Judge<'a>>,
    refusals: Refusals,
    reports: Vec<FeedReport>,
    scorer: Scorer,
    findings: Findings,
    now: Moment,
    overlaps: Overlaps,
    /// How many of the inputs are feeds: the operator's own lists come behind them.
    remote: usize,
}

impl Feeds<'_> {
    /// Every indicator that passes all stages that look at it alone.
    fn accepted(&mut self) -> Rows {
        let pieces = accept(self.inputs, &self.judges, self.guards);
        let mut rows = Rows::with_room_for(pieces.iter().map(|piece| &piece.rows));
        for piece in pieces {
            let Accepted { feed, warned, met, refused, refused_besides, .. } = piece;
            rows.append(piece.rows);
            let report = &mut self.reports[usize::from(feed)];
            report.warned += warned;
            for network in met {
                self.findings.note(&report.name, network, self.now);
            }
            for (place, why) in refused {
                self.refuse(place, why);
            }
            for (reason, count) in refused_besides {
                self.count_refused(feed, reason, count);
            }
        }
        rows
    }

    /// Says what each feed's word counts, once all its false positives are known.
    fn weigh(&mut self, policy: &Policy) {
        for (report, input) in self.reports.iter_mut().zip(self.inputs) {
            report.trust = self.findings.trust(input.spec, &policy.false_positives, self.now);
        }
        let weights = self.reports.iter().map(|report| report.trust.weight);
        let specs = self.inputs.iter().map(|input| input.spec);
        self.scorer = Scorer::new(specs, weights, policy.score, self.now);
    }

    fn count_refused(&mut self, feed: FeedSlot, reason: RefusalReason, count: u64) {
        let report = &mut self.reports[usize::from(feed)];
        report.accepted = report.accepted.saturating_sub(count);
        report.refused += count;
        *report.refused_by_reason.entry(reason).or_default() += count;
        *self.refusals.by_reason.entry(reason).or_default() += count;
    }
}

impl Indicators for Feeds<'_> {
    type Tally = Tally;

    fn get(&self, place: Place) -> &Indicator {
        &self.inputs[usize::from(place.feed)].indicators()[place.at as usize]
    }

    fn ends(&self, feed: FeedSlot, indicator: &Indicator) -> Moment {
        self.judges[usize::from(feed)].ends(indicator)
    }

    fn confidence(&self, feed: FeedSlot, indicator: &Indicator) -> Option<u8> {
        self.judges[usize::from(feed)].confidence(indicator)
    }

    fn class(&self, feed: FeedSlot, indicator: &Indicator) -> Class {
        match indicator.compromised {
            true => Class::Compromised,
            false => self.inputs[usize::from(feed)].spec.class,
        }
    }

    fn tally(&self) -> Tally {
        let feeds = self.inputs.len();
        Tally { overlaps: Overlaps::new(feeds), demoted: vec![BTreeMap::new(); feeds] }
    }

    fn settle(&self, network: IpNet, claims: &mut [Claim], tally: &mut Tally) {
        self.scorer.settle(claims);
        let own = claims.partition_point(|claim| usize::from(claim.feed) < self.remote);
        tally.overlaps.count(claims.get(..own).unwrap_or_default());
        for claim in claims {
            if let Some(demotion) = sinkhole::check(network, claim.class, self.guards) {
                claim.demotions.insert(demotion);
            }
            if claim.demotions.is_empty() {
                continue;
            }
            if let Some(demoted) = tally.demoted.get_mut(usize::from(claim.feed)) {
                for demotion in claim.demotions.iter() {
                    *demoted.entry(demotion).or_default() += 1;
                }
            }
        }
    }

    fn add(&mut self, tally: Tally) {
        self.overlaps.add(&tally.overlaps);
        for (report, demoted) in self.reports.iter_mut().zip(tally.demoted) {
            for (demotion, count) in demoted {
                *report.demoted_by_reason.entry(demotion).or_default() += count;
            }
        }
    }

    fn refuse(&mut self, place: Place, why: Why) {
        self.count_refused(place.feed, why.reason(), 1);
        let report = &self.reports[usize::from(place.feed)];
        if report.refused <= MAX_KEPT_PER_FEED {
            let feed = report.name.clone();
            let &Indicator { network, traffic, line, .. } = self.get(place);
            self.refusals.kept.push(Refusal { network, traffic, feed, line, why });
        }
    }
}

/// What is counted of the networks of one piece of the table.
struct Tally {
    overlaps: Overlaps,
    /// Claims that stand and do less, by feed.
    demoted: Vec<BTreeMap<Demotion, u64>>,
}

/// The traffic that the feed's claim is about, as the catalogue wants it read. Of a host that was
/// broken into, never more than the port.
pub(crate) const fn meant(indicator: &Indicator, spec: &FeedSpec) -> Traffic {
    match spec.ports {
        Ports::Ignore if !indicator.compromised => Traffic::ANY,
        Ports::Ignore | Ports::Keep => indicator.traffic,
    }
}

/// The sinkholes that some entry is wider than.
fn sinkhole_parts(table: &Table, guards: &Guards) -> Vec<IpNet> {
    let v4 = table.v4.iter().map(|entry| IpNet::V4(entry.network));
    let wide = v4.chain(table.v6.iter().map(|entry| IpNet::V6(entry.network)));
    let wide = wide.filter(|net| net.prefix_len() < net.max_prefix_len());
    let is_whole = |network: &IpNet| guards.sinkhole(*network).is_some();
    let inside = |network| guards.sinkholes_inside(network);
    let parts: BTreeSet<_> = wide.filter(|network| !is_whole(network)).flat_map(inside).collect();
    parts.into_iter().collect()
}

/// The never-block networks that some entry is wider than.
fn never_blocked_parts(table: &Table, guards: &Guards) -> Vec<IpNet> {
    let v4 = table.v4.iter().map(|entry| (IpNet::V4(entry.network), table.claims_of(entry)));
    let v6 = table.v6.iter().map(|entry| (IpNet::V6(entry.network), table.claims_of(entry)));
    let wide = v4.chain(v6).filter(|(net, _)| net.prefix_len() < net.max_prefix_len());
    let parts: Vec<_> = wide
        .flat_map(|(network, claims)| {
            guards.never_blocked_inside(network, claims.iter().map(|claim| claim.traffic))
        })
        .collect();
    IpNet::aggregate(&parts)
}

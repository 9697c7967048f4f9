//! What happens to traffic of an address, and why.
//!
//! The same rules as the dataplane's: every claim that covers the address and the traffic counts,
//! the strictest action among them wins, and a never-block network beats them all.

use std::{cmp::Reverse, net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

pub use crate::indicator::Query;
use crate::{
    compile::Compiled,
    demotion::{Demotion, Demotions},
    feed::{Action, Class, FeedName},
    indicator::{Protocol, Traffic},
    moment::Moment,
    operator::{Decision, OperatorEntry},
    policy::Trust,
    refusal::{RefusalReason, indicator_text},
    table::{Claim, Table},
};

/// Most claims and most refusals that an explanation tells one by one.
pub const MAX_FACTS: usize = 100;

/// What happens to a packet, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing.
    Pass,
    /// It is counted and passes.
    Observe,
    /// It is counted and goes to the sinkhole.
    Sinkhole,
    /// It is counted and dropped, and the subscriber is told.
    Reject,
    /// It is counted and dropped.
    Drop,
}

impl From<Action> for Verdict {
    fn from(action: Action) -> Self {
        match action {
            Action::Observe => Self::Observe,
            Action::Sinkhole => Self::Sinkhole,
            Action::Reject => Self::Reject,
            Action::Drop => Self::Drop,
        }
    }
}

/// A verdict and everything that speaks for and against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What happens to the traffic.
    pub verdict: Verdict,
    /// Why, what decides first.
    pub because: Vec<Because>,
    /// Facts beyond [`MAX_FACTS`] that are not told.
    pub omitted: usize,
}

/// One fact about an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Because {
    /// A claim that covers the address and the traffic.
    Entry(ClaimFact),
    /// A claim that covers the address and other traffic.
    OtherPort(ClaimFact),
    /// A never-block network inside a wider entry.
    NeverBlock {
        /// The never-block network.
        network: IpNet,
        /// A full sentence.
        text: String,
    },
    /// An indicator that was refused.
    Refused {
        /// The indicator.
        indicator: String,
        /// The feed that listed it.
        feed: FeedName,
        /// The line of the feed.
        line: u32,
        /// What refused it.
        reason: RefusalReason,
        /// A full sentence.
        text: String,
    },
    /// A never-block list of the tier `warn` speaks of the address.
    Warning {
        /// A full sentence.
        text: String,
    },
    /// An entry of the operator's own that names the address.
    Operator {
        /// Its number.
        entry: u32,
        /// What it decides.
        decision: Decision,
        /// Who answers for it.
        owner: String,
        /// Why it was made.
        reason: String,
        /// When it ends by itself.
        until: Option<Moment>,
        /// A full sentence.
        text: String,
    },
    /// No feed lists the address.
    NotListed {
        /// One or two full sentences.
        text: String,
    },
}

/// A claim of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimFact {
    /// The entry's network.
    pub network: IpNet,
    /// The feed.
    pub feed: Arc<str>,
    /// The malware family.
    pub malware: Option<Arc<str>>,
    /// When the feed first saw it.
    pub first_seen: Option<Moment>,
    /// When the feed last saw it.
    pub last_seen: Option<Moment>,
    /// The feed's confidence.
    pub confidence: Option<u8>,
    /// What the host is.
    pub class: Class,
    /// When the claim lapses.
    pub expires: Moment,
    /// The port that is meant, if not all.
    pub port: Option<u16>,
    /// The protocol that is meant, if not all.
    pub protocol: Option<Protocol>,
    /// What the feed's entries ask for.
    pub action: Action,
    /// What the policy leaves of that; `None` is nothing at all.
    pub left: Option<Action>,
    /// The stages of the policy that take something away.
    pub demotions: Demotions,
    /// What all feeds together make of the claim, 0 to 100.
    pub score: u8,
    /// Since when the network and traffic has been in force, if that is known.
    pub since: Option<Moment>,
    /// Line of the feed.
    pub line: u32,
    /// A full sentence.
    pub text: String,
}

/// Says what the table does with the traffic, and why.
///
/// A query without a port is about all traffic of the address: claims on all traffic decide it, and
/// only if there are none, claims on some port do.
pub fn explain(compiled: &Compiled, query: Query) -> Explanation {
    let query = Query { address: query.address.to_canonical(), ..query };
    let table = &compiled.table;
    let mut covering: Vec<_> = covering(table, query.address).collect();
    let asked = |network, claim| asked(table, network, claim, query.address);
    covering.sort_by_key(|&(network, claim)| {
        (
            Reverse(asked(network, claim)),
            Reverse(network.prefix_len()),
            claim.feed,
            claim.traffic.port,
        )
    });
    let decides = |claim: &Claim| is_meant(claim.traffic, query);
    let is_undecided = query.port.is_none() && !covering.iter().any(|(_, claim)| decides(claim));
    let (entries, others): (Vec<_>, Vec<_>) =
        covering.into_iter().partition(|(_, claim)| is_undecided || decides(claim));

    let never_block = table.left_out(query.address);
    let strictest = entries.iter().filter_map(|&(network, claim)| asked(network, claim)).max();
    let verdict = match (never_block, strictest) {
        (None, Some(action)) => action.into(),
        _ => Verdict::Pass,
    };
    let refusals: Vec<_> = refusals(compiled, query.address).collect();
    let omitted = (entries.len() + others.len()).saturating_sub(MAX_FACTS)
        + refusals.len().saturating_sub(MAX_FACTS);
    let fact = |&(network, claim)| fact(compiled, network, claim, query.address);
    let facts = entries.iter().map(|claim| Because::Entry(fact(claim)));
    let others = others.iter().map(|claim| Because::OtherPort(fact(claim)));
    let mut because: Vec<_> =
        never_block.map(|network| exempt(compiled, network)).into_iter().collect();
    because.extend(facts.chain(others).take(MAX_FACTS));
    because.extend(refusals.into_iter().take(MAX_FACTS));
    if !because.is_empty() {
        because.extend(warning(compiled, query.address));
    }
    if because.is_empty() {
        because.push(not_listed(compiled, query.address));
    }
    let own = compiled.operator.iter().filter(|entry| entry.network.contains(&query.address));
    because.splice(0..0, own.take(MAX_FACTS).map(decided));
    Explanation { verdict, because, omitted }
}

fn decided(entry: &OperatorEntry) -> Because {
    Because::Operator {
        entry: entry.id,
        decision: entry.decision,
        owner: entry.owner.clone(),
        reason: entry.reason.clone(),
        until: entry.until,
        text: entry.to_string(),
    }
}

/// Whether the claim is about the traffic asked about. What the query leaves open matches a claim
/// that names it, except that a claim on one port never stands for all traffic.
fn is_meant(claim: Traffic, query: Query) -> bool {
    let port = claim.port.is_none() || claim.port == query.port;
    let protocol = match (claim.protocol, query.protocol) {
        (Some(claim), Some(query)) => claim == query,
        (Some(_), None) => query.port.is_some(),
        (None, _) => true,
    };
    port && protocol
}

/// Every claim of every entry that covers the address.
fn covering(table: &Table, address: IpAddr) -> impl Iterator<Item = (IpNet, &Claim)> {
    let v4 = (0..=32).filter_map(move |length| {
        let IpAddr::V4(address) = address else { return None };
        let network = Ipv4Net::new(address, length).ok()?.trunc();
        let at = table.v4.binary_search_by(|entry| entry.network.cmp(&network)).ok()?;
        Some((network.into(), table.claims_of(table.v4.get(at)?)))
    });
    let v6 = (0..=128).filter_map(move |length| {
        let IpAddr::V6(address) = address else { return None };
        let network = Ipv6Net::new(address, length).ok()?.trunc();
        let at = table.v6.binary_search_by(|entry| entry.network.cmp(&network)).ok()?;
        Some((network.into(), table.claims_of(table.v6.get(at)?)))
    });
    v4.chain(v6).flat_map(|(network, claims)| claims.iter().map(move |claim| (network, claim)))
}

/// What a claim on a wider or equal network asks for on the address.
fn asked(table: &Table, network: IpNet, claim: &Claim, address: IpAddr) -> Option<Action> {
    let asked = table.asked(claim)?;
    Some(table.observed_part(network, address).map_or(asked, |_| Action::Observe))
}

fn fact(compiled: &Compiled, network: IpNet, claim: &Claim, address: IpAddr) -> ClaimFact {
    let table = &compiled.table;
    let feed = table
        .feeds
        .get(usize::from(claim.feed))
        .map_or_else(|| Arc::from("?"), |feed| Arc::clone(&feed.name));
    let action = table.feeds.get(usize::from(claim.feed)).map_or(Action::Observe, |f| f.action);
    let Traffic { protocol, port } = claim.traffic;
    let traffic = match (port, protocol) {
        (None, None) => "for all traffic".to_owned(),
        (None, Some(protocol)) => format!("for {protocol} only"),
        (Some(port), None) => format!("for port {port} of tcp and udp only"),
        (Some(port), Some(protocol)) => format!("for port {port}/{protocol} only"),
    };
    let malware = claim.malware.as_ref().map_or_else(String::new, |name| format!(" as {name}"));
    let seen = claim.last_seen.map_or_else(String::new, |time| format!(", last seen {time}"));
    let left = asked(table, network, claim, address);
    let held = held_back(compiled, network, claim, address);
    let held = match left {
        _ if held.is_empty() => String::new(),
        None => format!(", but does nothing: {}", held.join("; ")),
        Some(_) => format!(", but only observes: {}", held.join("; ")),
    };
    let text = format!(
        "Feed '{feed}' lists {}{malware} {traffic}{seen}, until {}; its action is {action}{held}.",
        indicator_text(network, Traffic::ANY),
        claim.expires
    );
    ClaimFact {
        network,
        feed,
        malware: claim.malware.clone(),
        first_seen: claim.first_seen,
        last_seen: claim.last_seen,
        confidence: claim.confidence,
        class: claim.class,
        expires: claim.expires,
        port,
        protocol,
        action,
        left,
        demotions: claim.demotions,
        score: claim.score,
        since: claim.since,
        line: claim.line,
        text,
    }
}

/// Why a claim does less than its feed asks for, in the order of the stages.
fn held_back(compiled: &Compiled, network: IpNet, claim: &Claim, address: IpAddr) -> Vec<String> {
    let part = compiled.table.observed_part(network, address);
    let part = part.map(|part| demotion_text(compiled, part, claim, Demotion::Sinkhole));
    let stages = claim.demotions.iter();
    part.into_iter()
        .chain(stages.map(|demotion| demotion_text(compiled, network, claim, demotion)))
        .collect()
}

/// What a stage says of a claim that it demotes.
pub(crate) fn demotion_text(
    compiled: &Compiled,
    network: IpNet,
    claim: &Claim,
    demotion: Demotion,
) -> String {
    let score = claim.score;
    match demotion {
        Demotion::Sinkhole => match compiled.guards.sinkhole(network) {
            Some((list, reason)) => {
                let name = indicator_text(network, Traffic::ANY);
                format!("{name} is on the list '{list}': {reason}")
            }
            None => "the feed says that it is a sinkhole".to_owned(),
        },
        Demotion::LowScore => {
            format!("its score of {score} is below what is blocked{}", lowered(compiled, claim))
        }
        Demotion::TooLowScore => {
            format!("its score of {score} is below what counts{}", lowered(compiled, claim))
        }
        Demotion::New => match claim.since {
            Some(since) => format!("it is new, listed since {since}"),
            None => "it is new".to_owned(),
        },
        Demotion::Breaker => "implausibly many subscribers met it within a minute, and nobody has \
                              decided yet"
            .to_owned(),
    }
}

/// What false positives did to the weight of the feed, if anything.
fn lowered(compiled: &Compiled, claim: &Claim) -> String {
    let report = compiled.feeds.get(usize::from(claim.feed));
    let Some(trust) = report.map(|report| report.trust) else { return String::new() };
    let Trust { given, weight, false_positives } = trust;
    if weight == given {
        return String::new();
    }
    let found = false_positives_text(false_positives);
    format!("; {found} of the feed took its weight from {given} to {weight}")
}

/// How many there are, for people.
pub(crate) fn false_positives_text(count: u32) -> String {
    match count {
        1 => "a false positive".to_owned(),
        count => format!("{count} false positives"),
    }
}

fn exempt(compiled: &Compiled, network: IpNet) -> Because {
    let text = left_out_text(compiled, network, "wider entries");
    Because::NeverBlock { network, text: format!("{text}.") }
}

/// That a network of [`Table::never_block`] is left out of `wider`, and why.
pub(crate) fn left_out_text(compiled: &Compiled, network: IpNet, wider: &str) -> String {
    let why = compiled.guards.check(network).map_or_else(String::new, |why| format!(": {why}"));
    format!("{} is left out of {wider}{why}", indicator_text(network, Traffic::ANY))
}

fn refusals(compiled: &Compiled, address: IpAddr) -> impl Iterator<Item = Because> {
    let kept = compiled.refusals.kept.iter();
    kept.filter(move |refusal| refusal.network.contains(&address)).map(|refusal| Because::Refused {
        indicator: refusal.indicator(),
        feed: refusal.feed.clone(),
        line: refusal.line,
        reason: refusal.why.reason(),
        text: refusal.to_string(),
    })
}

fn warning(compiled: &Compiled, address: IpAddr) -> Option<Because> {
    let (list, reason) = compiled.guards.warning(address.into())?;
    Some(Because::Warning { text: format!("{address} is on the list '{list}': {reason}.") })
}

fn not_listed(compiled: &Compiled, address: IpAddr) -> Because {
    let mut text = format!("No feed lists {address}.");
    if let Some(why) = compiled.guards.check(address.into()) {
        text = format!("{text} It would be refused if one did: {why}.");
    }
    Because::NotListed { text }
}

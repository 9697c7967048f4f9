//! What may be told of an address to anybody: no subscriber, no hit, and no feed whose terms don't ask
//! to be named.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    explain::{Because, ClaimFact, Explanation, Query, Verdict},
    feed::FeedSpec,
    moment::Moment,
    operator::is_reserved,
};

/// An answer for the help desk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicAnswer {
    /// What happens to traffic of the address.
    pub verdict: Verdict,
    /// Full sentences.
    pub text: Vec<String>,
    /// Since when the address is listed, if it is.
    pub since: Option<Moment>,
    /// Whose lists name it, as far as they want to be named.
    pub sources: BTreeSet<String>,
}

/// The answer to a query. `specs` are the feeds that the ruleset was compiled of.
pub fn public_answer(explanation: &Explanation, query: Query, specs: &[&FeedSpec]) -> PublicAnswer {
    let facts = || {
        explanation.because.iter().filter_map(|because| match because {
            Because::Entry(fact) if !is_reserved(&fact.feed) => Some(fact),
            _ => None,
        })
    };
    let credit =
        |fact: &ClaimFact| specs.iter().find(|spec| *spec.name == *fact.feed)?.attribution.clone();
    let since = facts().filter_map(|fact| fact.since).min();
    let mut text = vec![sentence(explanation.verdict, query)];
    let families: BTreeSet<_> = facts().filter_map(|fact| fact.malware.as_deref()).collect();
    if facts().next().is_some() {
        let families = Vec::from_iter(families).join(", ");
        let families = if families.is_empty() { String::new() } else { format!(" of {families}") };
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        text.push(format!(
            "Lists of threats name it{since} as a server that commands infected devices{families}."
        ));
    }
    if explanation.because.iter().any(is_own) {
        text.push("The operator of the network lists it.".to_owned());
    }
    if facts().any(|fact| fact.port.is_some()) {
        text.push("Some of them name certain ports only.".to_owned());
    }
    PublicAnswer {
        verdict: explanation.verdict,
        text,
        since,
        sources: facts().filter_map(credit).collect(),
    }
}

/// Whether this is a claim of the operator's own.
fn is_own(because: &Because) -> bool {
    matches!(because, Because::Entry(fact) if is_reserved(&fact.feed))
}

fn sentence(verdict: Verdict, query: Query) -> String {
    let address = query.address;
    match verdict {
        Verdict::Drop | Verdict::Reject | Verdict::Sinkhole => {
            format!("Traffic to and from {address} is blocked.")
        }
        Verdict::Observe | Verdict::Pass => {
            format!("Traffic to and from {address} is not blocked.")
        }
    }
}

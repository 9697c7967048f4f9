//! What changed from one table to another.

use std::{cmp::Ordering, collections::BTreeSet};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    feed::Action,
    indicator::Traffic,
    refusal::indicator_text,
    table::{Claim, Entry, Table},
};

/// What changed: all of it counted, the first of it told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Indicators that only the later table has.
    pub added: u64,
    /// Indicators that only the earlier table has.
    pub removed: u64,
    /// Indicators of both, by other feeds or with another action: also what was new and is enforced.
    pub changed: u64,
    /// The first changes, by network.
    pub changes: Vec<Change>,
}

/// A network and traffic that is listed otherwise than it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What is listed: `198.18.0.7:443/tcp`.
    pub indicator: String,
    /// How it was listed; `None` if it was not.
    pub before: Option<Listed>,
    /// How it is listed; `None` if it is not.
    pub after: Option<Listed>,
}

/// How something is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// By which feeds, in the order of their names.
    pub feeds: Vec<String>,
    /// The strictest of their actions, as far as the policy leaves it; `None` is nothing at all.
    pub action: Option<Action>,
}

/// Compares two tables, and tells at most so many changes.
pub fn diff(before: &Table, after: &Table, most: usize) -> Diff {
    let mut diff = Diff::default();
    walk(&before.v4, &after.v4, |old, new| {
        compare(claims(before, old).as_ref(), claims(after, new).as_ref(), most, &mut diff);
    });
    walk(&before.v6, &after.v6, |old, new| {
        compare(claims(before, old).as_ref(), claims(after, new).as_ref(), most, &mut diff);
    });
    diff
}

/// Visits each network of two sorted tables once.
fn walk<'a, N: Ord>(
    before: &'a [Entry<N>],
    after: &'a [Entry<N>],
    mut visit: impl FnMut(Option<&'a Entry<N>>, Option<&'a Entry<N>>),
) {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.network.cmp(&new.network),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        visit(old, new);
    }
}

/// A network of one table with its claims.
struct Claims<'a> {
    network: IpNet,
    table: &'a Table,
    claims: &'a [Claim],
}

fn claims<'a, N: Copy + Into<IpNet>>(
    table: &'a Table,
    entry: Option<&'a Entry<N>>,
) -> Option<Claims<'a>> {
    let entry = entry?;
    Some(Claims { network: entry.network.into(), table, claims: table.claims_of(entry) })
}

impl Claims<'_> {
    fn listed(&self, traffic: Traffic) -> Option<Listed> {
        let claims = self.claims.iter().filter(|claim| claim.traffic == traffic);
        let feed = |claim: &Claim| self.table.feeds.get(usize::from(claim.feed));
        let names: BTreeSet<String> =
            claims.clone().filter_map(feed).map(|feed| feed.name.to_string()).collect();
        let action = claims.filter_map(|claim| self.table.asked(claim)).max();
        (!names.is_empty()).then(|| Listed { feeds: names.into_iter().collect(), action })
    }
}

fn compare(before: Option<&Claims<'_>>, after: Option<&Claims<'_>>, most: usize, diff: &mut Diff) {
    let Some(network) = before.or(after).map(|claims| claims.network) else {
        return;
    };
    let both = [before, after].into_iter().flatten();
    let mut traffic: Vec<Traffic> =
        both.flat_map(|claims| claims.claims.iter().map(|claim| claim.traffic)).collect();
    traffic.sort_unstable_by_key(|traffic| (traffic.port, traffic.protocol));
    traffic.dedup();
    for traffic in traffic {
        let listed = |claims: Option<&Claims<'_>>| claims?.listed(traffic);
        let (old, new) = (listed(before), listed(after));
        match (&old, &new) {
            (None, Some(_)) => diff.added += 1,
            (Some(_), None) => diff.removed += 1,
            (Some(old), Some(new)) if old != new => diff.changed += 1,
            _ => continue,
        }
        if diff.changes.len() < most {
            let indicator = indicator_text(network, traffic);
            diff.changes.push(Change { indicator, before: old, after: new });
        }
    }
}

//! What the operator lets pass, and the claims that the operator lets count for nothing.

use ipnet::IpNet;

use super::ranges::{Blocks, Ranges};
use crate::{
    feed::FeedName,
    indicator::Traffic,
    moment::Moment,
    operator::{Decision, OperatorEntry, is_reserved},
    refusal::Why,
};

/// The allows and suppressions in force, ready to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decisions {
    allows: Entries,
    suppressions: Entries,
}

impl Decisions {
    pub(super) fn new(entries: &[OperatorEntry], now: Moment) -> Self {
        let of = |decision| {
            let meant =
                |entry: &&OperatorEntry| entry.decision == decision && entry.is_in_force(now);
            Entries::new(entries.iter().filter(meant).cloned().collect())
        };
        Self { allows: of(Decision::Allow), suppressions: of(Decision::Suppress) }
    }

    /// The IPv4 blocks that any of the entries touches.
    pub(super) const fn blocks(&self) -> [&Blocks; 2] {
        [self.allows.touched.blocks(), self.suppressions.touched.blocks()]
    }

    /// What refuses a claim of this feed.
    pub(super) fn check(&self, feed: &FeedName, network: IpNet, traffic: Traffic) -> Option<Why> {
        self.allowed(network, traffic).or_else(|| {
            let is_meant = |entry: &OperatorEntry| {
                entry.feed.as_ref().is_none_or(|meant| meant == feed) && entry.covers(traffic)
            };
            if is_reserved(feed) {
                return None;
            }
            let entry = self.suppressions.around(network).find(|entry| is_meant(entry))?;
            Some(why(entry, false))
        })
    }

    /// The allow that a claim on this network is against. An address can't be blocked but for some
    /// ports, and so an allow of a port stands against claims on all traffic as well.
    pub(super) fn allowed(&self, network: IpNet, traffic: Traffic) -> Option<Why> {
        let entry = self.allows.around(network).find(|entry| entry.meets(traffic))?;
        Some(why(entry, true))
    }

    /// The allowed parts of the network.
    pub(super) fn inside(
        &self,
        network: IpNet,
        traffic: impl Iterator<Item = Traffic> + Clone,
    ) -> impl Iterator<Item = IpNet> {
        let is_meant =
            move |entry: &&OperatorEntry| traffic.clone().any(|traffic| entry.meets(traffic));
        self.allows.inside(network).filter(is_meant).map(|entry| entry.network)
    }
}

fn why(entry: &OperatorEntry, is_allowed: bool) -> Why {
    Why::Operator {
        entry: entry.id,
        range: entry.network,
        owner: entry.owner.as_str().into(),
        reason: entry.reason.as_str().into(),
        is_allowed,
    }
}

/// Entries, and the networks that they are about: most claims touch none of them, which the ranges
/// tell in a few steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entries {
    touched: Ranges<()>,
    all: Vec<OperatorEntry>,
}

impl Entries {
    fn new(all: Vec<OperatorEntry>) -> Self {
        Self { touched: Ranges::new(all.iter().map(|entry| (entry.network, ()))), all }
    }

    /// Those whose network the network lies in.
    fn around(&self, network: IpNet) -> impl Iterator<Item = &OperatorEntry> {
        let is_touched = self.touched.touching(network).is_some_and(|touch| touch.is_inside);
        let all = if is_touched { &self.all[..] } else { &[] };
        all.iter().filter(move |entry| entry.network.contains(&network))
    }

    /// Those whose network lies in the network.
    fn inside(&self, network: IpNet) -> impl Iterator<Item = &OperatorEntry> {
        let all = if self.touched.touching(network).is_some() { &self.all[..] } else { &[] };
        all.iter().filter(move |entry| network.contains(&entry.network))
    }
}

//! The stages in their order.

use ipnet::IpNet;

use super::{
    NeverBlock, Policy, confidence, decisions::Decisions, embedded::embedded, expiry::Expiry,
    floor::Floor, never_block::NeverBlocked, ranges::Blocks, refuse::Refused,
};
use crate::{
    feed::{FeedName, FeedSpec},
    indicator::{Indicator, Traffic},
    moment::Moment,
    operator::{self, OperatorEntry},
    refusal::Why,
    story::Stage,
};

/// What may never be blocked: the built-in list, the operator's networks, the never-block lists, and
/// what the operator decided besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    refused: Refused,
    never_blocked: NeverBlocked,
    decisions: Decisions,
    /// The IPv4 blocks that any of them touches.
    blocks: Blocks,
}

impl Guards {
    /// The guards of a policy.
    pub fn new(policy: &Policy, never_block: &[NeverBlock]) -> Self {
        let refused = Refused::new(&policy.own_prefixes);
        let never_blocked = NeverBlocked::new(never_block);
        let blocks = Blocks::union(refused.blocks().into_iter().chain(never_blocked.blocks()));
        Self { refused, never_blocked, decisions: Decisions::default(), blocks }
    }

    /// The same, with the allows and suppressions among these entries that are in force.
    pub fn with_entries(self, entries: &[OperatorEntry], now: Moment) -> Self {
        let decisions = Decisions::new(entries, now);
        let blocks = Blocks::union(decisions.blocks().into_iter().chain([&self.blocks]));
        Self { decisions, blocks, ..self }
    }

    /// Whether the network is nowhere near anything that the guards know: they have no word on it.
    fn are_far_from(&self, network: IpNet) -> bool {
        match network {
            IpNet::V4(network) => self.blocks.are_far_from(network),
            IpNet::V6(_) => false,
        }
    }

    /// What would refuse a claim on all traffic of the network, whoever lists it.
    pub fn check(&self, network: IpNet) -> Option<Why> {
        let refused = self.refused(network).map(|(why, _)| why);
        refused
            .or_else(|| self.never_blocked(network, Traffic::ANY))
            .or_else(|| self.decisions.allowed(network, Traffic::ANY))
    }

    /// What of the built-in list and the operator's networks refuses the network, and whether the
    /// network lies wholly inside it.
    fn refused(&self, network: IpNet) -> Option<(Why, bool)> {
        self.refused.check(network).or_else(|| {
            embedded(network).find_map(|(form, inner)| {
                let (why, is_inside) = self.refused.check(inner.into())?;
                Some((Why::Embedded { form, network: inner, why: Box::new(why) }, is_inside))
            })
        })
    }

    /// What of the never-block lists refuses a claim on this traffic of the network.
    fn never_blocked(&self, network: IpNet, traffic: Traffic) -> Option<Why> {
        self.never_blocked.check(network, traffic).or_else(|| {
            embedded(network).find_map(|(form, inner)| {
                let why = self.never_blocked.check_all(inner.into(), traffic)?;
                Some(Why::Embedded { form, network: inner, why: Box::new(why) })
            })
        })
    }

    /// Whether a list of the tier `warn` speaks of the network: the list's name and its reason.
    pub fn warning(&self, network: IpNet) -> Option<(&str, &str)> {
        if self.are_far_from(network) {
            return None;
        }
        self.never_blocked.warning(network).map(|(list, reason)| (&**list, &**reason))
    }

    /// Whether a list of the tier `sinkhole` has the whole network: the list's name and its reason.
    pub fn sinkhole(&self, network: IpNet) -> Option<(&str, &str)> {
        if self.are_far_from(network) {
            return None;
        }
        self.never_blocked.sinkhole(network).map(|(list, reason)| (&**list, &**reason))
    }

    /// The sinkholes inside a wider network.
    pub(crate) fn sinkholes_inside(&self, network: IpNet) -> Vec<IpNet> {
        self.never_blocked.sinkholes_inside(network)
    }

    /// What the operator allows inside the network of a claim on this traffic.
    pub(crate) fn allowed_inside(
        &self,
        network: IpNet,
        traffic: Traffic,
    ) -> impl Iterator<Item = IpNet> {
        self.decisions.inside(network, std::iter::once(traffic))
    }

    /// The parts of the network that are never blocked for claims on this traffic, though it is
    /// listed.
    pub(crate) fn never_blocked_inside(
        &self,
        network: IpNet,
        traffic: impl Iterator<Item = Traffic> + Clone,
    ) -> Vec<IpNet> {
        let mut parts = self.never_blocked.inside(network, traffic.clone());
        parts.extend(self.decisions.inside(network, traffic));
        parts
    }
}

/// All stages for one feed.
pub(crate) struct Judge<'a> {
    guards: &'a Guards,
    feed: FeedName,
    /// Whether it is a list of the operator's own.
    is_own: bool,
    floor: Floor,
    usual_confidence: Option<u8>,
    least_confidence: u8,
    expiry: Expiry,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        guards: &'a Guards,
        policy: &Policy,
        spec: &FeedSpec,
        fetched_at: Moment,
        now: Moment,
    ) -> Self {
        let expire_after = spec.expire_after.unwrap_or(policy.expire_after);
        Self {
            guards,
            feed: spec.name.clone(),
            is_own: operator::is_reserved(&spec.name),
            floor: Floor::new(spec, policy),
            usual_confidence: spec.confidence,
            least_confidence: spec.min_confidence,
            expiry: Expiry { expire_after, max_age: spec.max_age, fetched_at, now },
        }
    }

    /// What refuses the indicator, if anything; `meant` is the traffic that the catalogue takes it
    /// to be about.
    ///
    /// What lies inside a reserved range is told so even if it is too wide besides, while
    /// `0.0.0.0/0` is too wide rather than an overlap with some range.
    pub(crate) fn check(&self, indicator: &Indicator, meant: Traffic) -> Result<(), Why> {
        let network = indicator.network;
        let why = if self.guards.are_far_from(network) {
            self.floor.check(network)
        } else {
            let refused = self.guards.refused(network);
            if let Some((why, true)) = refused {
                return Err(why);
            }
            self.floor
                .check(network)
                .or_else(|| refused.map(|(why, _)| why))
                .or_else(|| self.never_blocked(network, meant))
                .or_else(|| self.guards.decisions.check(&self.feed, network, meant))
        };
        let why = why
            .or_else(|| confidence::check(self.confidence(indicator), self.least_confidence))
            .or_else(|| self.expiry.check(indicator.last_seen, indicator.valid_until).err());
        why.map_or(Ok(()), Err)
    }

    /// What each stage that looks at an indicator alone says of it, in their order.
    pub(crate) fn trail(&self, indicator: &Indicator, meant: Traffic) -> [(Stage, Option<Why>); 6] {
        let network = indicator.network;
        [
            (Stage::RefuseList, self.guards.refused(network).map(|(why, _)| why)),
            (Stage::PrefixFloor, self.floor.check(network)),
            (Stage::NeverBlock, self.never_blocked(network, meant)),
            (Stage::Operator, self.guards.decisions.check(&self.feed, network, meant)),
            (
                Stage::Confidence,
                confidence::check(self.confidence(indicator), self.least_confidence),
            ),
            (Stage::Expiry, self.expiry.check(indicator.last_seen, indicator.valid_until).err()),
        ]
    }

    /// What of the never-block lists refuses the claim. The operator may block a network of many
    /// tenants.
    fn never_blocked(&self, network: IpNet, meant: Traffic) -> Option<Why> {
        self.guards
            .never_blocked(network, meant)
            .or_else(|| (!self.is_own).then(|| self.guards.never_blocked.rented(network)).flatten())
    }

    /// How sure the claim is: as it says itself, or as the feed's claims usually are.
    pub(crate) fn confidence(&self, indicator: &Indicator) -> Option<u8> {
        indicator.confidence.or(self.usual_confidence)
    }

    /// When what the indicator claims ends.
    pub(crate) fn ends(&self, indicator: &Indicator) -> Moment {
        self.expiry.ends(indicator.last_seen, indicator.valid_until)
    }
}

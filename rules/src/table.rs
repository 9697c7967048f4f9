//! The compiled table: what may be blocked, why, and on whose word.

use std::{net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    demotion::Demotions,
    feed::{Action, Class},
    indicator::Traffic,
    moment::Moment,
};

/// Position of a feed in [`Table::feeds`], below 64.
pub type FeedSlot = u8;

/// A feed as the table knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFeed {
    /// The feed's name in the catalogue.
    pub name: Arc<str>,
    /// What the feed's entries ask the dataplane to do.
    pub action: Action,
}

/// One feed's word on one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who says so.
    pub feed: FeedSlot,
    /// Which packets it means.
    pub traffic: Traffic,
    /// The malware family, if named.
    pub malware: Option<Arc<str>>,
    /// When the feed first saw it.
    pub first_seen: Option<Moment>,
    /// When the feed last saw it.
    pub last_seen: Option<Moment>,
    /// How sure the feed is, 0 to 100.
    pub confidence: Option<u8>,
    /// What the host is.
    pub class: Class,
    /// When the claim lapses unless the feed repeats it. Every claim has one.
    pub expires: Moment,
    /// Line of the feed, as in [`crate::indicator::Indicator::line`].
    pub line: u32,
    /// What all feeds together make of it, 0 to 100.
    pub score: u8,
    /// What the policy lets it do less than its feed asks for.
    pub demotions: Demotions,
    /// Since when some claim on this network and traffic has been in force, if that is known.
    pub since: Option<Moment>,
}

impl Claim {
    /// One of which no more is known.
    pub const fn new(feed: FeedSlot, traffic: Traffic, expires: Moment) -> Self {
        Self {
            feed,
            traffic,
            malware: None,
            first_seen: None,
            last_seen: None,
            confidence: None,
            class: Class::Unknown,
            expires,
            line: 0,
            score: 0,
            demotions: Demotions::NONE,
            since: None,
        }
    }
}

/// A row of the table: one network and the claims that stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<Net> {
    /// The listed network, host bits zero.
    pub network: Net,
    /// Where its claims begin in [`Table::claims`].
    pub claims_at: u32,
    /// How many claims it has, at least one.
    pub claims_len: u32,
}

/// What may be blocked. Entries are sorted by network and unique.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// At most 64; the index is the [`FeedSlot`].
    pub feeds: Vec<TableFeed>,
    /// IPv4 entries, sorted.
    pub v4: Vec<Entry<Ipv4Net>>,
    /// IPv6 entries, sorted.
    pub v6: Vec<Entry<Ipv6Net>>,
    /// All claims; an entry's are contiguous.
    pub claims: Vec<Claim>,
    /// Networks that no packet is ever blocked for, although a wider entry covers them. Aggregated
    /// and sorted.
    pub never_block: Vec<IpNet>,
    /// Networks that wider entries only observe: hosts of defenders. Disjoint and sorted.
    pub observed: Vec<IpNet>,
}

impl Table {
    /// The claims of an entry.
    pub fn claims_of<Net>(&self, entry: &Entry<Net>) -> &[Claim] {
        &self.claims[entry.claims_at as usize..][..entry.claims_len as usize]
    }

    /// The claims of the entry of this very network; none if there is no such entry.
    pub fn claims_on(&self, network: IpNet) -> &[Claim] {
        let claims = match network {
            IpNet::V4(network) => {
                let at = self.v4.binary_search_by_key(&network, |entry| entry.network);
                at.ok().and_then(|at| self.v4.get(at)).map(|entry| self.claims_of(entry))
            }
            IpNet::V6(network) => {
                let at = self.v6.binary_search_by_key(&network, |entry| entry.network);
                at.ok().and_then(|at| self.v6.get(at)).map(|entry| self.claims_of(entry))
            }
        };
        claims.unwrap_or_default()
    }

    /// What a claim asks for after the policy; `None` is nothing at all.
    pub fn asked(&self, claim: &Claim) -> Option<Action> {
        let feed = self.feeds.get(usize::from(claim.feed));
        claim.demotions.leave(feed.map_or(Action::Observe, |feed| feed.action))
    }

    /// The one of [`Table::never_block`] that an address is in.
    pub fn left_out(&self, address: IpAddr) -> Option<IpNet> {
        self.never_block.iter().find(|network| network.contains(&address)).copied()
    }

    /// The part of [`Table::observed`] that an address is in, if this network covers it.
    pub fn observed_part(&self, network: IpNet, address: IpAddr) -> Option<IpNet> {
        let part = self.observed.iter().find(|part| part.contains(&address))?;
        Some(*part).filter(|part| part.prefix_len() >= network.prefix_len())
    }

    /// How many IPv4 and IPv6 entries there are.
    pub fn len(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

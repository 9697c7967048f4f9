//! The compiled table: what may be blocked, why, and on whose word.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
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
}

impl Table {
    /// The claims of an entry.
    pub fn claims_of<Net>(&self, entry: &Entry<Net>) -> &[Claim] {
        &self.claims[entry.claims_at as usize..][..entry.claims_len as usize]
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

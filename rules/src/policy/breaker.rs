//! An entry that implausibly many subscribers meet within a minute is no C&C server, whoever lists
//! it: it is observed until somebody decides.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    compile::Compiled,
    demotion::Demotion,
    indicator::Traffic,
    refusal::indicator_text,
    table::{Claim, Entry, Table},
};

/// When an entry is hit by too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerLimits {
    /// Whether anything is demoted for that.
    pub enabled: bool,
    /// So many different subscribers within a minute are too many.
    pub subscribers_per_minute: u32,
    /// So many of a hundred known subscribers are too many, if fewer. Without a file of subscribers,
    /// nobody knows how many there are, and this does not count.
    pub percent_per_minute: u8,
    /// Fewer than this are never too many.
    pub at_least: u32,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self { enabled: true, subscribers_per_minute: 1000, percent_per_minute: 1, at_least: 20 }
    }
}

impl BreakerLimits {
    /// How many subscribers within a minute are too many, if so many are known; never 0.
    pub fn limit(&self, known: usize) -> usize {
        let absolute = self.subscribers_per_minute as usize;
        let share = known.saturating_mul(self.percent_per_minute.into()).div_ceil(100);
        let limit = if known == 0 { absolute } else { absolute.min(share) };
        limit.max(self.at_least as usize).max(1)
    }
}

/// What the breaker demotes: the claims of all feeds on a network and traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey {
    /// The listed network.
    pub network: IpNet,
    /// The packets that are meant.
    pub traffic: Traffic,
}

/// In the notation of indicators: `198.18.0.1:443/tcp`.
impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&indicator_text(self.network, self.traffic))
    }
}

/// Demotes these entries, as far as they are listed.
pub fn demote(compiled: &mut Compiled, broken: impl Iterator<Item = EntryKey>) {
    for EntryKey { network, traffic } in broken {
        let Compiled { table, feeds, .. } = &mut *compiled;
        for claim in claims_on(table, network).iter_mut().filter(|claim| claim.traffic == traffic) {
            claim.demotions.insert(Demotion::Breaker);
            if let Some(report) = feeds.get_mut(usize::from(claim.feed)) {
                *report.demoted_by_reason.entry(Demotion::Breaker).or_default() += 1;
            }
        }
    }
}

/// The claims of the entry of this very network.
fn claims_on(table: &mut Table, network: IpNet) -> &mut [Claim] {
    fn span<N>(entry: Option<&Entry<N>>) -> (usize, usize) {
        entry.map_or((0, 0), |entry| (entry.claims_at as usize, entry.claims_len as usize))
    }
    let (at, len) = match network {
        IpNet::V4(network) => {
            let at = table.v4.binary_search_by_key(&network, |entry| entry.network);
            span(at.ok().and_then(|at| table.v4.get(at)))
        }
        IpNet::V6(network) => {
            let at = table.v6.binary_search_by_key(&network, |entry| entry.network);
            span(at.ok().and_then(|at| table.v6.get(at)))
        }
    };
    table.claims.get_mut(at..at + len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_lower_of_number_and_share_but_for_the_least() {
        let limits = BreakerLimits::default();
        assert_eq!(limits.limit(0), 1000, "nobody knows how many there are");
        assert_eq!(limits.limit(1_000_000), 1000);
        assert_eq!(limits.limit(30_000), 300);
        assert_eq!(limits.limit(30_001), 301, "a share is rounded up");
        assert_eq!(limits.limit(500), 20);
        let none = BreakerLimits { subscribers_per_minute: 0, at_least: 0, ..limits };
        assert_eq!(none.limit(0), 1);
    }
}

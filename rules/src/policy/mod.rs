//! What a feed may not make us block: one stage a file, each a pure function.

mod breaker;
mod confidence;
pub(crate) mod coverage;
mod decisions;
mod embedded;
mod expiry;
mod floor;
mod guards;
mod never_block;
mod ranges;
mod refuse;
mod rollout;
mod score;
pub(crate) mod sinkhole;
mod trust;
mod warninglist;

pub use breaker::{BreakerLimits, EntryKey, demote};
pub use embedded::Form;
pub use guards::Guards;
pub(crate) use guards::Judge;
pub use never_block::{NeverBlock, NeverBlockNet, Tier};
pub use refuse::{RESERVED, Reserved};
pub use rollout::{FirstList, Rollout, Staged, stage};
pub(crate) use score::Scorer;
pub use score::{ScoreLimits, Word};
pub(crate) use trust::Findings;
pub use trust::{FalsePositive, Trust, TrustLimits};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    feed::{SHORTEST_FLOOR_V4, SHORTEST_FLOOR_V6, bounded},
    period::Period,
    yaml::{YamlError, from_yaml},
};

/// Shortest IPv4 prefix of a feed that doesn't set its own.
pub const SHORTEST_UNSET_V4: u8 = 24;
/// Shortest IPv6 prefix of a feed that doesn't set its own.
pub const SHORTEST_UNSET_V6: u8 = 48;

/// The operator's limits on all feeds together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Shortest IPv4 prefix of a feed that sets none, 24 to 32.
    #[serde(deserialize_with = "floor_v4")]
    pub min_prefix_v4: u8,
    /// Shortest IPv6 prefix of a feed that sets none, 48 to 128.
    #[serde(deserialize_with = "floor_v6")]
    pub min_prefix_v6: u8,
    /// How long a claim of a feed that sets nothing stands after it was last seen.
    pub expire_after: Period,
    /// Most IPv4 addresses that all entries together may cover.
    pub max_addresses_v4: u64,
    /// Most IPv6 /48 networks that all entries together may cover.
    pub max_sites_v6: u64,
    /// Most ports of one network that one feed may list one by one; the highest beyond it are
    /// refused. No count of ports ever turns into a claim on all traffic.
    pub max_ports_per_network: u32,
    /// Shortest IPv4 prefix that the operator's own entries may block, 8 to 32.
    #[serde(deserialize_with = "entry_floor_v4")]
    pub entry_min_prefix_v4: u8,
    /// Shortest IPv6 prefix that the operator's own entries may block, 16 to 128.
    #[serde(deserialize_with = "entry_floor_v6")]
    pub entry_min_prefix_v6: u8,
    /// Longest that an entry of the operator's own may last.
    pub longest_entry: Period,
    /// What the score of a claim leads to.
    pub score: ScoreLimits,
    /// How false positives lower what a feed's word counts in it.
    pub false_positives: TrustLimits,
    /// How what is new comes into force.
    pub rollout: Rollout,
    /// When an entry is hit by implausibly many subscribers.
    pub breaker: BreakerLimits,
    /// The operator's own infrastructure and subscribers.
    pub own_prefixes: Vec<OwnPrefix>,
}

/// A network of the operator: no feed may list it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPrefix {
    /// The network; an address alone is that host.
    #[serde(deserialize_with = "never_block::network")]
    pub network: IpNet,
    /// What it is, for reports: `subscribers Osaka`, `core routers`.
    pub name: String,
}

impl Policy {
    /// Reads and checks a policy; `file` only serves the error text.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, YamlError> {
        from_yaml(text, file)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_prefix_v4: 32,
            min_prefix_v6: 128,
            expire_after: Period::days(7),
            max_addresses_v4: 1 << 26,
            max_sites_v6: 1 << 26,
            max_ports_per_network: 4_000,
            entry_min_prefix_v4: 24,
            entry_min_prefix_v6: 48,
            longest_entry: Period::days(90),
            score: ScoreLimits::default(),
            false_positives: TrustLimits::default(),
            rollout: Rollout::default(),
            breaker: BreakerLimits::default(),
            own_prefixes: Vec::new(),
        }
    }
}

fn floor_v4<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    bounded(deserializer, "an IPv4 prefix length", SHORTEST_UNSET_V4, 32)
}

fn floor_v6<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    bounded(deserializer, "an IPv6 prefix length", SHORTEST_UNSET_V6, 128)
}

fn entry_floor_v4<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    bounded(deserializer, "an IPv4 prefix length", SHORTEST_FLOOR_V4, 32)
}

fn entry_floor_v6<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    bounded(deserializer, "an IPv6 prefix length", SHORTEST_FLOOR_V6, 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Policy::from_yaml(text, "policy.yaml").unwrap_err().to_string()
    }

    #[test]
    fn a_policy_reads_back_as_it_is_printed() {
        let text = "{min_prefix_v4: 24, expire_after: 36h, max_addresses_v4: 9,
                     own_prefixes: [{network: 198.18.0.0/20, name: core}, {network: '2001:2::1', name: ns}]}";
        let policy = Policy::from_yaml(text, "policy.yaml").unwrap();
        assert_eq!(policy.own_prefixes[1].network.to_string(), "2001:2::1/128");
        let printed = serde_yaml::to_string(&policy).unwrap();
        assert_eq!(Policy::from_yaml(&printed, "printed").unwrap(), policy);
    }

    #[test]
    fn thresholds_that_contradict_each_other_are_refused_and_a_wait_may_be_none() {
        let error = error("score: {observe: 50, block: 40}\n");
        assert!(error.contains("observe 50 and block 40"), "{error}");
        for text in ["0", "0s", "'0'"] {
            let policy =
                Policy::from_yaml(&format!("rollout: {{observe_for: {text}}}"), "p").unwrap();
            assert_eq!(policy.rollout.observe_for.0, None);
            let printed = serde_yaml::to_string(&policy).unwrap();
            assert_eq!(Policy::from_yaml(&printed, "printed").unwrap(), policy);
        }
    }

    #[test]
    fn errors_point_at_the_place_and_say_what_is_expected() {
        for (text, place, words) in [
            ("min_prefix_v4: 23\n", "policy.yaml:1:1:", &["`23`", "24 to 32"][..]),
            ("min_prefix_v6: 47\n", "policy.yaml:1:1:", &["`47`", "48 to 128"]),
            ("\nmax_adresses: 1\n", "policy.yaml:2:1:", &["max_adresses", "max_addresses_v4"]),
            ("expire_after: 0d\n", "policy.yaml:1:15:", &["'0d'", "7d"]),
            (
                "own_prefixes:\n  - network: 198.18.0.1/20\n    name: core\n",
                "policy.yaml:2:14:",
                &["host bits", "198.18.0.0/20"],
            ),
            ("own_prefixes:\n  - {network: home, name: x}\n", "policy.yaml:2:15:", &["'home'"]),
        ] {
            let error = error(text);
            assert!(error.starts_with(place), "{text}: {error}");
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }
}

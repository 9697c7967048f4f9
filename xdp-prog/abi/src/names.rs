//! Names of maps and where they are pinned.

/// The outer array-of-maps whose only slot holds the live ruleset image.
pub const RULESET: &str = "RULESET";
/// One [`crate::record::Modes`]: written by the operator's mode command only.
pub const MODES: &str = "MODES";
/// One [`crate::record::Lease`]: written by the running daemon only.
pub const LEASE: &str = "LEASE";
/// Per CPU, by port slot: [`crate::record::PortCounters`].
pub const COUNTERS: &str = "COUNTERS";
/// Per CPU, by rule: [`crate::record::RuleTotals`].
pub const RULE_TOTALS: &str = "RULE_TOTALS";
/// Per CPU: the direct-mapped flow slots in front of the flow tables, both epochs in one array.
pub const FLOW_CACHE: &str = "FLOW_CACHE";
/// The flow tables behind the cache, by epoch.
pub const FLOWS: [&str; 2] = ["FLOWS_0", "FLOWS_1"];
/// Per CPU, one [`crate::record::EventCounters`].
pub const EVENT_COUNTERS: &str = "EVENT_COUNTERS";
/// Ring buffer of [`crate::record::HitEvent`].
pub const EVENTS: &str = "EVENTS";

/// Every map that outlives the daemon, [`RULESET`] apart, which is created before the program is
/// loaded because its inner size is a setting.
pub const PINNED: [&str; 9] =
    [MODES, LEASE, COUNTERS, RULE_TOTALS, FLOW_CACHE, FLOWS[0], FLOWS[1], EVENT_COUNTERS, EVENTS];

/// The XDP entry point in the object.
pub const PROGRAM: &str = "sekisho";

/// Constants that the loader sets in the object before the verifier sees it.
pub mod globals {
    /// `u64`: bytes of the ruleset image that may be read.
    pub const IMAGE_BYTES: &str = "IMAGE_BYTES";
    /// `u32`: slot of this interface in the per-port maps, below [`crate::MAX_PORTS`].
    pub const PORT: &str = "PORT";
    /// `u32`: a [`crate::record::Role`].
    pub const ROLE: &str = "ROLE";
}

//! Names of maps and where they are pinned.

/// The outer array-of-maps whose only slot holds the live ruleset image.
pub const RULESET: &str = "RULESET";
/// One [`crate::record::Modes`]: written by the operator's mode command only.
pub const MODES: &str = "MODES";
/// One [`crate::record::Lease`]: written by the running daemon only.
pub const LEASE: &str = "LEASE";
/// Per CPU, by port slot: [`crate::record::PortCounters`].
pub const COUNTERS: &str = "COUNTERS";
/// Per CPU, by rule: the [`crate::record::Count`] of hits that no place of the flow table could hold.
pub const OVERFLOW: &str = "OVERFLOW";
/// The flow table: for each CPU and side as many [`crate::flow::FlowBucket`]s as
/// [`globals::FLOW_BUCKETS`] says; user space maps it.
pub const FLOWS: &str = "FLOWS";
/// The [`crate::flow::FlowRegion`] of each CPU and side.
pub const FLOW_REGIONS: &str = "FLOW_REGIONS";
/// Per CPU, one [`crate::record::EventCounters`].
pub const EVENT_COUNTERS: &str = "EVENT_COUNTERS";
/// Ring buffer of [`crate::flow::FlowSlot`]: the first packet of a flow.
pub const EVENTS: &str = "EVENTS";

/// Array-of-maps whose only slot holds the image of opted-out addresses; see [`crate::opt_out`].
pub const OPT_OUT: &str = "OPT_OUT";
/// Hash of [`crate::opt_out::BlockKey`] to [`crate::opt_out::BlockPorts`].
pub const OPT_OUT_BLOCKS: &str = "OPT_OUT_BLOCKS";
/// Device map: the guarded interfaces by port slot, then the sinkhole's at
/// [`crate::record::SINKHOLE_DEVICE`].
pub const DEVICES: &str = "DEVICES";
/// One [`crate::record::Sinkhole`].
pub const SINKHOLE: &str = "SINKHOLE";

/// Every map that outlives the daemon, [`RULESET`] and [`OPT_OUT`] apart. These, because their inner size is
/// a setting, and those of [`values`] are created before the program is loaded.
pub const PINNED: [&str; 11] = [
    MODES,
    LEASE,
    COUNTERS,
    OVERFLOW,
    FLOWS,
    FLOW_REGIONS,
    EVENT_COUNTERS,
    EVENTS,
    OPT_OUT_BLOCKS,
    DEVICES,
    SINKHOLE,
];

/// Where a larger table of [`OPT_OUT_BLOCKS`] is pinned until it takes the place of the smaller one.
pub const LARGER_OPT_OUT_BLOCKS: &str = "OPT_OUT_BLOCKS_LARGER";

/// The XDP entry point in the object.
pub const PROGRAM: &str = "sekisho";

/// What the program has where the address of a map's value belongs: an instruction that loads one of
/// these numbers of eight bytes. The loader puts the map in its place (`BPF_PSEUDO_MAP_VALUE` of
/// linux/bpf.h). An address takes one instruction of each packet, a lookup ten.
pub mod values {
    /// Of [`super::MODES`].
    pub const MODES: u64 = 0x5ec1_5405_4d4f_4445;
    /// Of [`super::LEASE`].
    pub const LEASE: u64 = 0x5ec1_5406_4c45_4153;
}

/// Constants that the loader sets in the object before the verifier sees it.
pub mod globals {
    /// `u64`: bytes of the ruleset image that may be read.
    pub const IMAGE_BYTES: &str = "IMAGE_BYTES";
    /// `u32`: slot of this interface in the per-port maps, below [`crate::MAX_PORTS`].
    pub const PORT: &str = "PORT";
    /// `u32`: a [`crate::record::Role`].
    pub const ROLE: &str = "ROLE";
    /// `u64`: bytes of the opt-out image that may be read.
    pub const OPT_OUT_BYTES: &str = "OPT_OUT_BYTES";
    /// `u32`: a [`crate::record::Forwarding`].
    pub const FORWARDING: &str = "FORWARDING";
    /// `u32`: slot of the other end of the wire, for [`crate::record::Forwarding::Wire`].
    pub const PEER: &str = "PEER";
    /// `u32`: 1 if the interface is a bond, else 0.
    pub const BOND: &str = "BOND";
    /// `u32`: the [`crate::encapsulation::Encapsulation`]s that are unwrapped.
    pub const UNWRAPPED: &str = "UNWRAPPED";
    /// `u32`: buckets of the flow table for one CPU on one side, a power of two.
    pub const FLOW_BUCKETS: &str = "FLOW_BUCKETS";
    /// [`crate::prefix::Prefixes`] in which IPv4 addresses are embedded (RFC 6052).
    pub const EMBEDDING: &str = "EMBEDDING";
    /// [`crate::prefix::Prefixes`] of the network's own infrastructure.
    pub const INFRASTRUCTURE: &str = "INFRASTRUCTURE";
}

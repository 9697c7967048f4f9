//! Every map and constant of the program. Names are those of [`sekisho_abi::names`].

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, DevMap, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use sekisho_abi::{
    MAX_PORTS,
    image::layout::rule,
    opt_out::{BlockKey, BlockPorts},
    record::{
        EventCounters, FLOW_CACHE_SLOTS, FlowKey, FlowSlot, FlowTotals, HitEvent, Lease, Modes,
        PortCounters, RuleTotals, Sinkhole,
    },
};

/// What the loader replaces by a map with as many bytes as the operator gave the image.
#[repr(C, align(8))]
pub(super) struct ImageBytes([u8; 8]);

#[btf_map]
pub(super) static RULESET: ArrayOfMaps<Array<ImageBytes, 1>, 1> = ArrayOfMaps::new();

#[btf_map]
pub(super) static OPT_OUT: ArrayOfMaps<Array<ImageBytes, 1>, 1> = ArrayOfMaps::new();

/// The loader sets how many rows there may be.
#[btf_map]
static OPT_OUT_BLOCKS: HashMap<BlockKey, BlockPorts, 1> = HashMap::new();

#[btf_map]
pub(super) static DEVICES: DevMap<{ MAX_PORTS + 1 }> = DevMap::new();

#[btf_map]
static SINKHOLE: Array<Sinkhole, 1> = Array::new();

#[btf_map]
static MODES: Array<Modes, 1> = Array::new();

#[btf_map]
static LEASE: Array<Lease, 1> = Array::new();

#[btf_map]
pub(super) static COUNTERS: PerCpuArray<PortCounters, MAX_PORTS> = PerCpuArray::new();

#[btf_map]
pub(super) static RULE_TOTALS: PerCpuArray<RuleTotals, { rule::MAX }> = PerCpuArray::new();

#[btf_map]
pub(super) static FLOW_CACHE: PerCpuArray<FlowSlot, { 2 * FLOW_CACHE_SLOTS as usize }> =
    PerCpuArray::new();

/// The loader sets how many flows a table holds.
#[btf_map]
pub(super) static FLOWS_0: HashMap<FlowKey, FlowTotals, 1> = HashMap::new();

#[btf_map]
pub(super) static FLOWS_1: HashMap<FlowKey, FlowTotals, 1> = HashMap::new();

#[btf_map]
static EVENT_COUNTERS: PerCpuArray<EventCounters, 1> = PerCpuArray::new();

#[btf_map]
pub(super) static EVENTS: RingBuf<HitEvent, { 1 << 20 }> = RingBuf::new();

#[inline(always)]
pub(super) fn modes() -> Option<&'static Modes> {
    MODES.get(0)
}

#[inline(always)]
pub(super) fn lease() -> Option<&'static Lease> {
    LEASE.get(0)
}

/// This CPU's counters of first packets and answers.
#[inline(always)]
pub(super) fn event_counters() -> Option<&'static mut EventCounters> {
    // SAFETY: the pointer is to this CPU's value, which nobody else writes while we run.
    EVENT_COUNTERS.get_ptr_mut(0).map(|counters| unsafe { &mut *counters })
}

#[inline(always)]
pub(super) fn sinkhole() -> Option<&'static Sinkhole> {
    SINKHOLE.get(0)
}

#[inline(always)]
pub(super) fn opted_out_ports(key: &BlockKey) -> BlockPorts {
    // SAFETY: a word, and nobody here holds on to it.
    unsafe { OPT_OUT_BLOCKS.get(key) }.copied().unwrap_or(0)
}

/// Until when the ruleset may drop, by the monotonic clock.
#[inline(always)]
pub(super) fn enforce_until() -> u64 {
    lease().map_or(0, |lease| lease.enforce_until_ns)
}

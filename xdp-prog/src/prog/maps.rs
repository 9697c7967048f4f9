//! Every map and constant of the program. Names are those of [`sekisho_abi::names`].

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use sekisho_abi::{
    MAX_PORTS,
    image::layout::rule,
    record::{
        EventCounters, FLOW_CACHE_SLOTS, FlowKey, FlowSlot, FlowTotals, HitEvent, Lease, Modes,
        PortCounters, RuleTotals,
    },
};

/// What the loader replaces by a map with as many bytes as the operator gave the image.
#[repr(C, align(8))]
pub(super) struct ImageBytes([u8; 8]);

#[btf_map]
pub(super) static RULESET: ArrayOfMaps<Array<ImageBytes, 1>, 1> = ArrayOfMaps::new();

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
pub(super) static EVENT_COUNTERS: PerCpuArray<EventCounters, 1> = PerCpuArray::new();

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

/// Until when the ruleset may drop, by the monotonic clock.
#[inline(always)]
pub(super) fn enforce_until() -> u64 {
    lease().map_or(0, |lease| lease.enforce_until_ns)
}

/// What the loader writes into the object before the verifier sees it, so that the verifier and
/// the compiler of the kernel treat them as constants.
pub(super) mod constant {
    use core::ptr::read_volatile;

    // LLVM lets equal constants share memory, and what the loader writes here would then change the
    // other one too: a `&0` that is a map key lived in PORT once. These values occur nowhere else.
    #[unsafe(no_mangle)]
    static IMAGE_BYTES: u64 = 0x5ec1_5400_0000_0001;
    #[unsafe(no_mangle)]
    static PORT: u32 = 0x5ec1_5402;
    #[unsafe(no_mangle)]
    static ROLE: u32 = 0x5ec1_5403;

    #[inline(always)]
    pub(in crate::prog) fn image_bytes() -> u64 {
        // SAFETY: a static is valid for reads; volatile, as the loader changes it after compiling.
        unsafe { read_volatile(&raw const IMAGE_BYTES) }
    }

    #[inline(always)]
    pub(in crate::prog) fn port() -> u32 {
        // SAFETY: as in `image_bytes`.
        unsafe { read_volatile(&raw const PORT) }
    }

    #[inline(always)]
    pub(in crate::prog) fn role() -> u32 {
        // SAFETY: as in `image_bytes`.
        unsafe { read_volatile(&raw const ROLE) }
    }
}

//! Every map of the program; that of the switch and that of the lease are known by their address alone. Names of those that user space knows are in [`sekisho_abi::names`].

use super::{
    Noted,
    account::FreePlace,
    constant::{self, ONLY},
};
use core::arch::asm;

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, DevMap, HashMap, PerCpuArray, RingBuf},
    helpers::bpf_map_lookup_elem,
    macros::btf_map,
};
use sekisho_abi::{
    MAX_PORTS,
    flow::{FlowBucket, FlowRegion, FlowSlot},
    image::layout::rule,
    names::values,
    opt_out::{BlockKey, BlockPorts},
    record::{Count, EventCounters, Lease, Modes, PortCounters, Sinkhole},
};

/// User space may map the value: `BPF_F_MMAPABLE` of linux/bpf.h.
const MMAPABLE: usize = 1 << 10;

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
static COUNTERS: PerCpuArray<PortCounters, MAX_PORTS> = PerCpuArray::new();

#[btf_map]
pub(super) static OVERFLOW: PerCpuArray<Count, { rule::MAX }> = PerCpuArray::new();

/// The loader sets how many buckets there are, and how many regions.
#[btf_map]
pub(super) static FLOWS: Array<FlowBucket, 1, MMAPABLE> = Array::new();

#[btf_map]
pub(super) static FLOW_REGIONS: Array<FlowRegion, 1> = Array::new();

#[btf_map]
static EVENT_COUNTERS: PerCpuArray<EventCounters, 1> = PerCpuArray::new();

/// Memory for a [`Noted`] or a [`FreePlace`]; each program has its own.
#[repr(C, align(8))]
pub(super) struct Notes([u8; 384]);

#[btf_map]
static MATCHED: PerCpuArray<Notes, 1> = PerCpuArray::new();

/// As many bytes as are read at a time.
pub(super) const BEYOND_BYTES: usize = 40;

/// Bytes of a packet that do not lie in its first buffer.
#[btf_map]
static BEYOND: PerCpuArray<[u8; BEYOND_BYTES], 1> = PerCpuArray::new();

#[btf_map]
static FREE_PLACE: PerCpuArray<Notes, 1> = PerCpuArray::new();

const _: () = assert!(size_of::<Noted>() <= size_of::<Notes>());
const _: () = assert!(size_of::<FreePlace>() <= size_of::<Notes>());

#[btf_map]
pub(super) static EVENTS: RingBuf<FlowSlot, { 1 << 20 }> = RingBuf::new();

/// The only value of a map, or the one of this port.
///
/// A key on the stack would have to be written and read back for every packet. The map must have keys
/// of four bytes and values of this type.
macro_rules! at {
    ($map:ident, $key:expr, $value:ty) => {{
        let key: *const u32 = $key;
        bpf_map_lookup_elem((&raw const $map).cast_mut().cast(), key.cast()).cast::<$value>()
    }};
}

/// The only value of the only map in a map.
#[inline(always)]
pub(super) fn inside(slot: &'static ArrayOfMaps<Array<ImageBytes, 1>, 1>) -> Option<*const u8> {
    let outer = core::ptr::from_ref(slot).cast_mut().cast();
    // SAFETY: both maps have keys of four bytes; what the first call gives is a map or null.
    let value = unsafe {
        let inner = bpf_map_lookup_elem(outer, (&raw const ONLY).cast());
        if inner.is_null() {
            return None;
        }
        bpf_map_lookup_elem(inner, (&raw const ONLY).cast()).cast::<u8>()
    };
    (!value.is_null()).then_some(value.cast_const())
}

/// The only value of a map that the loader knows by this number.
///
/// # Safety
///
/// The map must have values of this type.
#[inline(always)]
unsafe fn value<T, const NUMBER: u64>() -> &'static T {
    let address: usize;
    // SAFETY: the instruction changes nothing but the register.
    unsafe {
        asm!("{0} = {1} ll", out(reg) address, const NUMBER, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: by what the caller says, and the value lives as long as the map.
    unsafe { &*(address as *const T) }
}

#[inline(always)]
pub(super) fn modes() -> &'static Modes {
    // SAFETY: the map is made for this type.
    unsafe { value::<Modes, { values::MODES }>() }
}

#[inline(always)]
pub(super) fn lease() -> &'static Lease {
    // SAFETY: as above.
    unsafe { value::<Lease, { values::LEASE }>() }
}

/// This CPU's memory for what is read of a packet's later buffers.
#[inline(always)]
pub(super) fn beyond() -> Option<&'static mut [u8; BEYOND_BYTES]> {
    // SAFETY: as for the counters.
    unsafe { at!(BEYOND, &raw const ONLY, [u8; BEYOND_BYTES]).as_mut() }
}

/// This CPU's counters of this port.
#[inline(always)]
pub(super) fn counters() -> Option<&'static mut PortCounters> {
    // SAFETY: null, or a value that lives as long as the map, and nobody else writes this CPU's while we
    // run.
    unsafe { at!(COUNTERS, constant::port_key(), PortCounters).as_mut() }
}

/// This CPU's counters of first packets and answers.
#[inline(always)]
pub(super) fn event_counters() -> Option<&'static mut EventCounters> {
    // SAFETY: the pointer is to this CPU's value, which nobody else writes while we run.
    EVENT_COUNTERS.get_ptr_mut(0).map(|counters| unsafe { &mut *counters })
}

/// This CPU's memory for a match.
#[inline(always)]
pub(super) fn matched() -> Option<&'static mut Noted> {
    // SAFETY: null, or memory that is long and aligned enough; any bits make one.
    unsafe { at!(MATCHED, &raw const ONLY, Noted).as_mut() }
}

/// This CPU's note of a free place, all zero before the first.
#[inline(always)]
pub(super) fn free_place() -> Option<&'static mut FreePlace> {
    // SAFETY: as above, and every bit pattern makes one.
    unsafe { at!(FREE_PLACE, &raw const ONLY, FreePlace).as_mut() }
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

//! The tracer, the packet generator, empty programs, and the same question put to three tables.

mod image;

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    btf_maps::{Array, DevMap, HashMap, LpmTrie, PerCpuArray, ProgramArray, lpm_trie::Key},
    helpers::bpf_redirect,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use sekisho_abi::image::{find_v4, find_v6};
use sekisho_bench_prog::{DESTINATION, ROWS, TRACE_WORDS, WORDS_V4, WORDS_V6};

/// `BPF_F_MMAPABLE` of linux/bpf.h.
const MMAPABLE: usize = 1 << 10;

#[repr(C)]
pub struct Trace([u64; TRACE_WORDS]);

/// User space maps this and writes the packets into it.
#[btf_map]
static TRACE: Array<Trace, 1, MMAPABLE> = Array::new();

/// The row that comes next.
#[btf_map]
static CURSOR: Array<u32, 1> = Array::new();

/// The program under test.
#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();

/// The interface that the generator sends to.
#[btf_map]
static SEND_TO: Array<u32, 1> = Array::new();

/// The interface that frames are redirected to by the program that does nothing else.
#[btf_map]
static WAY_OUT: DevMap<1> = DevMap::new();

/// Frames that came out at a far end.
#[btf_map]
static COUNTED: PerCpuArray<u64, 1> = PerCpuArray::new();

#[btf_map]
static LPM_V4: LpmTrie<[u8; 4], u32, 1> = LpmTrie::new();

#[btf_map]
static LPM_V6: LpmTrie<[u8; 16], u32, 1> = LpmTrie::new();

#[btf_map]
static HASH_V4: HashMap<[u8; 4], u32, 1> = HashMap::new();

#[btf_map]
static HASH_V6: HashMap<[u8; 16], u32, 1> = HashMap::new();

// What the loader overwrites starts out with values that occur nowhere else, as the compiler takes
// equal constants for one and the same.

/// Where in the frame a row is written.
#[unsafe(no_mangle)]
static ROW_AT: u32 = 0xbe_c4_00_01;
/// Whether frames and rows are IPv6.
#[unsafe(no_mangle)]
static IS_V6: u32 = 0xbe_c4_00_02;

#[inline(always)]
fn constant(of: &'static u32) -> u32 {
    // SAFETY: a static is valid for reads; volatile, as the loader changes it after compiling.
    unsafe { read_volatile(of) }
}

/// Puts the next packet of the trace into the frame and runs the program under test on it.
#[xdp(frags)]
fn trace(ctx: XdpContext) -> u32 {
    if write_next(&ctx).is_none() {
        return XDP_ABORTED;
    }
    // SAFETY: the context is the one the kernel passed in.
    unsafe { TARGET.tail_call(&ctx, 0) };
    XDP_ABORTED
}

/// Sends the next packet of the trace to an interface.
#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    if write_next(&ctx).is_none() {
        return XDP_ABORTED;
    }
    let Some(&interface) = SEND_TO.get(0) else { return XDP_ABORTED };
    // SAFETY: the helper takes numbers only.
    unsafe { bpf_redirect(interface, 0) as u32 }
}

/// Nothing but a verdict: what every other program is compared with.
#[xdp(frags)]
fn empty_drop(_: XdpContext) -> u32 {
    XDP_DROP
}

/// The other verdict.
#[xdp(frags)]
fn empty_pass(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Nothing but the way out of another interface.
#[xdp(frags)]
fn empty_redirect(_: XdpContext) -> u32 {
    WAY_OUT.redirect(0, XDP_ABORTED.into()).unwrap_or(XDP_ABORTED)
}

/// Nothing but the way back.
#[xdp(frags)]
fn empty_tx(_: XdpContext) -> u32 {
    XDP_TX
}

/// Counts what comes out at a far end.
#[xdp(frags)]
fn count_drop(_: XdpContext) -> u32 {
    if let Some(count) = COUNTED.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's value, which nobody else writes meanwhile.
        unsafe { *count += 1 };
    }
    XDP_DROP
}

/// Looks the destination up in the live ruleset image.
#[xdp(frags)]
fn lookup_image(ctx: XdpContext) -> u32 {
    verdict(is_in_image(&ctx))
}

/// Looks the destination up in a trie of the kernel.
#[xdp(frags)]
fn lookup_lpm(ctx: XdpContext) -> u32 {
    verdict(if constant(&IS_V6) == 0 {
        destination(&ctx).map(|address| LPM_V4.get(&Key::new(32, address)).is_some())
    } else {
        destination(&ctx).map(|address| LPM_V6.get(&Key::new(128, address)).is_some())
    })
}

/// Looks the destination up in a hash table of the kernel.
#[xdp(frags)]
fn lookup_hash(ctx: XdpContext) -> u32 {
    verdict(if constant(&IS_V6) == 0 {
        destination(&ctx).map(|address| HASH_V4.get_ptr(&address).is_some())
    } else {
        destination(&ctx).map(|address| HASH_V6.get_ptr(&address).is_some())
    })
}

#[inline(always)]
fn is_in_image(ctx: &XdpContext) -> Option<bool> {
    let image = image::live()?;
    Some(if constant(&IS_V6) == 0 {
        find_v4(&image, u32::from_be_bytes(destination(ctx)?)).is_some()
    } else {
        let address = u128::from_be_bytes(destination(ctx)?);
        find_v6(&image, (address >> 64) as u64, address as u64).is_some()
    })
}

#[inline(always)]
fn verdict(is_listed: Option<bool>) -> u32 {
    match is_listed {
        Some(true) => XDP_DROP,
        Some(false) => XDP_PASS,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn destination<const N: usize>(ctx: &XdpContext) -> Option<[u8; N]> {
    let at = ctx.data() + constant(&ROW_AT) as usize + DESTINATION;
    if at + N > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes up to `data_end` belong to the packet, and N of them begin at `at`.
    Some(unsafe { (at as *const [u8; N]).read_unaligned() })
}

#[inline(always)]
fn write_next(ctx: &XdpContext) -> Option<()> {
    let cursor = CURSOR.get_ptr_mut(0)?;
    // SAFETY: a live value of a map; one CPU at a time runs a trace.
    let row = unsafe {
        let row = *cursor as usize & (ROWS - 1);
        *cursor = row as u32 + 1;
        row
    };
    let rows = TRACE.get_ptr(0)?.cast::<u64>();
    let at = ctx.data() + constant(&ROW_AT) as usize;
    if constant(&IS_V6) == 0 {
        if at + 12 > ctx.data_end() {
            return None;
        }
        // SAFETY: twelve bytes of the packet begin at `at`; the row is one of the map's.
        unsafe {
            let from = rows.add(row * WORDS_V4);
            (at as *mut u64).write_unaligned(*from);
            ((at + 8) as *mut u32).write_unaligned(*from.add(1).cast());
        }
    } else {
        if at + 24 > ctx.data_end() {
            return None;
        }
        // SAFETY: as above, with 24 bytes.
        unsafe {
            let from = rows.add(row * WORDS_V6);
            (at as *mut u64).write_unaligned(*from);
            ((at + 8) as *mut u64).write_unaligned(*from.add(1));
            ((at + 16) as *mut u64).write_unaligned(*from.add(2));
        }
    }
    Some(())
}

//! What the loader writes into the object before the verifier sees it, so that the verifier and
//! the compiler of the kernel treat them as constants: what is not in use costs nothing.

use core::ptr::read_volatile;

use sekisho_abi::{
    encapsulation::Encapsulation,
    prefix::{MAX_PREFIXES, Prefix, Prefixes},
    record::{Forwarding, Role},
};
use sekisho_xdp::site::PrefixSet;

// LLVM lets equal constants share memory, and what the loader writes here would then change the
// other one too: a `&0` that is a map key lived in PORT once. These values occur nowhere else.
#[unsafe(no_mangle)]
static IMAGE_BYTES: u64 = 0x5ec1_5400_0000_0001;
#[unsafe(no_mangle)]
static OPT_OUT_BYTES: u64 = 0x5ec1_5400_0000_0002;
#[unsafe(no_mangle)]
static PORT: u32 = 0x5ec1_5402;
#[unsafe(no_mangle)]
static ROLE: u32 = 0x5ec1_5403;
#[unsafe(no_mangle)]
static FORWARDING: u32 = 0x5ec1_5404;
#[unsafe(no_mangle)]
static PEER: u32 = 0x5ec1_5405;
#[unsafe(no_mangle)]
static UNWRAPPED: u32 = 0x5ec1_5406;
#[unsafe(no_mangle)]
static FLOW_BUCKETS: u32 = 0x5ec1_5407;
#[unsafe(no_mangle)]
static BOND: u32 = 0x5ec1_5408;
#[unsafe(no_mangle)]
static EMBEDDING: Prefixes = prefixes(0x5ec1_5400_0000_0003);
#[unsafe(no_mangle)]
static INFRASTRUCTURE: Prefixes = prefixes(0x5ec1_5400_0000_0004);

/// The key of a map's only value. It has to stay 0, and is not among what the loader changes.
#[unsafe(no_mangle)]
pub(super) static ONLY: u32 = 0;

const fn prefixes(value: u64) -> Prefixes {
    Prefixes {
        count: value,
        each: [Prefix { high: value, low: value, length: value }; MAX_PREFIXES],
    }
}

macro_rules! read {
    ($constant:expr) => {
        // SAFETY: a static is valid for reads; volatile, as the loader changes it after compiling.
        unsafe { read_volatile(&raw const $constant) }
    };
}

#[inline(always)]
pub(super) fn image_bytes() -> u64 {
    read!(IMAGE_BYTES)
}

#[inline(always)]
pub(super) fn opt_out_bytes() -> u64 {
    read!(OPT_OUT_BYTES)
}

#[inline(always)]
pub(super) fn port() -> u32 {
    read!(PORT)
}

/// The port slot where a map can take it for a key.
#[inline(always)]
pub(super) fn port_key() -> *const u32 {
    &raw const PORT
}

#[inline(always)]
pub(super) fn peer() -> u32 {
    read!(PEER)
}

/// A power of two.
#[inline(always)]
pub(super) fn flow_buckets() -> u32 {
    read!(FLOW_BUCKETS)
}

#[inline(always)]
pub(super) fn role() -> Role {
    match read!(ROLE) {
        0 => Role::Subscriber,
        1 => Role::Uplink,
        _ => Role::Both,
    }
}

#[inline(always)]
pub(super) fn forwarding() -> Forwarding {
    match read!(FORWARDING) {
        1 => Forwarding::Wire,
        2 => Forwarding::Tap,
        _ => Forwarding::Kernel,
    }
}

#[inline(always)]
pub(super) fn is_bond() -> bool {
    read!(BOND) != 0
}

#[inline(always)]
pub(super) fn unwrapped() -> Encapsulation {
    Encapsulation(read!(UNWRAPPED) as u8)
}

#[inline(always)]
pub(super) fn embedding() -> Constant {
    Constant(&EMBEDDING)
}

#[inline(always)]
pub(super) fn infrastructure() -> Constant {
    Constant(&INFRASTRUCTURE)
}

/// Prefixes that the loader wrote.
pub(super) struct Constant(&'static Prefixes);

impl PrefixSet for Constant {
    #[inline(always)]
    fn count(&self) -> usize {
        read!(self.0.count) as usize
    }

    #[inline(always)]
    fn get(&self, at: usize) -> Option<Prefix> {
        let prefix = self.0.each.get(at)?;
        Some(Prefix {
            high: read!(prefix.high),
            low: read!(prefix.low),
            length: read!(prefix.length),
        })
    }
}

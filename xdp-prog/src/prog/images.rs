//! Reading images: the other place with bounds that the verifier must believe.

use core::marker::PhantomData;

use aya_ebpf::btf_maps::{Array, ArrayOfMaps};
use sekisho_abi::image::{
    Bytes,
    layout::{DYNAMIC, header},
};

use super::{
    constant,
    maps::{self, ImageBytes},
    verifier::opaque,
};

/// A slot with an image in it, and the bytes that its image has at least.
pub(super) struct Slot {
    map: &'static ArrayOfMaps<Array<ImageBytes, 1>, 1>,
    bytes: fn() -> u64,
}

/// The ruleset.
pub(super) const RULES: Slot = Slot { map: &maps::RULESET, bytes: constant::image_bytes };
/// Those who opted out.
pub(super) const OPT_OUTS: Slot = Slot { map: &maps::OPT_OUT, bytes: constant::opt_out_bytes };

/// A live image. What is replaced meanwhile stays until this packet is done.
pub(super) struct LiveImage {
    base: *const u8,
    bytes: fn() -> u64,
    marker: PhantomData<&'static [u8]>,
}

#[inline(always)]
pub(super) fn live(slot: &Slot) -> Option<LiveImage> {
    let base = maps::inside(slot.map)?;
    Some(LiveImage { base, bytes: slot.bytes, marker: PhantomData })
}

impl LiveImage {
    #[inline(always)]
    pub(super) fn generation(&self) -> u32 {
        // SAFETY: the map's value has all of the header. Everything in an image is aligned.
        unsafe { self.base.add(header::GENERATION).cast::<u32>().read() }
    }

    /// What begins at an offset, in an image of so many bytes.
    #[inline(always)]
    fn at<T: Copy>(&self, offset: u64, bytes: u64) -> Option<T> {
        let offset = opaque(offset);
        if offset > bytes - size_of::<T>() as u64 {
            return None;
        }
        // SAFETY: the loader gives the map's value no less than `bytes`, so a `T` that begins at or
        // below the difference lies inside. Everything in an image is aligned.
        Some(unsafe { self.base.add(offset as usize).cast::<T>().read() })
    }
}

impl Bytes for LiveImage {
    #[inline(always)]
    fn u32(&self, offset: u64) -> Option<u32> {
        self.at(offset, (self.bytes)())
    }

    #[inline(always)]
    fn u64(&self, offset: u64) -> Option<u64> {
        self.at(offset, (self.bytes)())
    }

    #[inline(always)]
    fn fixed_u32(&self, offset: u64) -> Option<u32> {
        self.at(offset, DYNAMIC as u64)
    }

    #[inline(always)]
    fn fixed_u64(&self, offset: u64) -> Option<u64> {
        self.at(offset, DYNAMIC as u64)
    }
}

//! The live ruleset image of a dataplane that is loaded, read the way the product reads it.

use core::ptr::read_volatile;

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps},
    macros::btf_map,
};
use sekisho_abi::image::Bytes;

/// What the loader replaces by the image of the dataplane that is loaded.
#[repr(C, align(8))]
pub struct ImageBytes([u8; 8]);

#[btf_map]
static RULESET: ArrayOfMaps<Array<ImageBytes, 1>, 1> = ArrayOfMaps::new();

/// Bytes of the map's value.
#[unsafe(no_mangle)]
static IMAGE_BYTES: u64 = 0xbe_c4_00_04;

pub(super) struct LiveImage(*const u8);

#[inline(always)]
pub(super) fn live() -> Option<LiveImage> {
    RULESET.get_value(0, &0).map(|bytes| LiveImage(core::ptr::from_ref(bytes).cast()))
}

impl LiveImage {
    #[inline(always)]
    fn at<T: Copy>(&self, offset: u64) -> Option<T> {
        // SAFETY: a static is valid for reads; volatile, as the loader changes it.
        let bytes = unsafe { read_volatile(&raw const IMAGE_BYTES) };
        if offset > bytes - size_of::<T>() as u64 {
            return None;
        }
        // SAFETY: a `T` that begins at or below the difference lies inside the map's value.
        Some(unsafe { self.0.add(offset as usize).cast::<T>().read() })
    }
}

impl Bytes for LiveImage {
    #[inline(always)]
    fn u32(&self, offset: u64) -> Option<u32> {
        self.at(offset)
    }

    #[inline(always)]
    fn u64(&self, offset: u64) -> Option<u64> {
        self.at(offset)
    }
}

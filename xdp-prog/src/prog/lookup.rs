//! Reading the packet and the image: the two places with bounds that the verifier must believe.

use core::{arch::asm, marker::PhantomData};

use aya_ebpf::{helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use sekisho_abi::image::{Bytes, layout::header};
use sekisho_xdp::frame::Frame;

use super::maps::{RULESET, constant};

/// The packet as XDP hands it over: what lies in its first buffer.
pub(super) struct Packet<'a> {
    ctx: &'a XdpContext,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    pub(super) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// Bytes of the whole frame, all buffers.
    #[inline(always)]
    pub(super) fn length(&self) -> u64 {
        // SAFETY: the context is the one the kernel passed in.
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) }
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let at = self.ctx.data() + offset;
        if at + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the bytes up to `data_end` belong to the packet, and it was checked that N of
        // them begin at `at`.
        Some(unsafe { (at as *const [u8; N]).read_unaligned() })
    }
}

/// The live ruleset image. What is replaced meanwhile stays until this packet is done.
pub(super) struct LiveImage {
    base: *const u8,
    marker: PhantomData<&'static [u8]>,
}

#[inline(always)]
pub(super) fn live_image() -> Option<LiveImage> {
    let bytes = RULESET.get_value(0, &0)?;
    Some(LiveImage { base: core::ptr::from_ref(bytes).cast(), marker: PhantomData })
}

impl LiveImage {
    #[inline(always)]
    pub(super) fn generation(&self) -> u32 {
        self.u32(header::GENERATION as u64).unwrap_or(0)
    }

    #[inline(always)]
    fn at<T: Copy>(&self, offset: u64) -> Option<T> {
        let offset = opaque(offset);
        if offset > constant::image_bytes() - size_of::<T>() as u64 {
            return None;
        }
        // SAFETY: the loader sets `image_bytes` to the size of the map's value, so a `T` that
        // begins at or below the difference lies inside. Everything in an image is aligned.
        Some(unsafe { self.base.add(offset as usize).cast::<T>().read() })
    }
}

/// The same number, but the compiler no longer knows where it comes from.
///
/// It then keeps a bounds check that it could prove needless, and tests the very register that it
/// uses: the verifier cannot follow such proofs, and that of kernel 6.1 does not see that a copy on
/// the stack is bounded too.
#[inline(always)]
pub(super) fn opaque(mut number: u64) -> u64 {
    // SAFETY: the instruction changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
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

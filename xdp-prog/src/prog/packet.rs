//! Reading and changing the packet: one of the two places with bounds that the verifier must
//! believe.

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use sekisho_xdp::frame::Frame;

use super::verifier::{forgotten, opaque};

/// The packet as XDP hands it over: what lies in its first buffer.
pub(super) struct Packet<'a> {
    ctx: &'a XdpContext,
    length: u64,
}

/// The first buffer of a frame that has several is at least so long.
const SHORTEST_FIRST_BUFFER: u64 = 1024;

/// A part of the packet that is known to be there, to be written.
#[derive(Clone, Copy)]
pub(super) struct Part(usize);

impl<'a> Packet<'a> {
    #[inline(always)]
    pub(super) fn new(ctx: &'a XdpContext) -> Self {
        let mut length = (ctx.data_end() - ctx.data()) as u64;
        // No driver ends the first of several buffers that early, and most packets spare the call.
        if length >= SHORTEST_FIRST_BUFFER {
            // SAFETY: the context is the one the kernel passed in.
            length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
        }
        Self { ctx, length }
    }

    /// Moves the beginning of the frame, forwards if positive. What was read before is void.
    #[inline(always)]
    pub(super) fn move_head(&self, by: i32) -> Option<()> {
        // SAFETY: the context is the one the kernel passed in.
        let error = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, by) };
        (error == 0).then_some(())
    }

    /// Moves the end of the frame. What was read before is void.
    #[inline(always)]
    pub(super) fn move_tail(&self, by: i32) -> Option<()> {
        // SAFETY: the context is the one the kernel passed in.
        let error = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, by) };
        (error == 0).then_some(())
    }

    /// `N` bytes from an offset.
    #[inline(always)]
    pub(super) fn part<const N: usize>(&self, offset: usize) -> Option<Part> {
        let at = self.ctx.data() + offset;
        (at + N <= self.ctx.data_end()).then_some(Part(at))
    }
}

impl Part {
    /// The number at this offset of the part, as it stands there.
    ///
    /// # Safety
    ///
    /// It must lie in the `N` bytes that the part was asked for.
    #[inline(always)]
    pub(super) unsafe fn get<T: Copy>(self, offset: usize) -> T {
        // SAFETY: as the caller says.
        unsafe { ((self.0 + offset) as *const T).read_unaligned() }
    }

    /// Writes a number at this offset of the part.
    ///
    /// # Safety
    ///
    /// As with `get`.
    #[inline(always)]
    pub(super) unsafe fn put<T: Copy>(self, offset: usize, value: T) {
        // SAFETY: as the caller says.
        unsafe { ((self.0 + offset) as *mut T).write_unaligned(value) };
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let at = self.ctx.data() + offset;
        // Of a single byte the compiler asks whether `at` is below the end, from which the verifier
        // learns nothing.
        let end = if N == 1 { opaque(at as u64 + 1) as usize } else { at + N };
        if end > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the bytes up to `data_end` belong to the packet, and it was checked that N of
        // them begin at `at`.
        Some(unsafe { (at as *const [u8; N]).read_unaligned() })
    }

    /// As it came, all buffers.
    #[inline(always)]
    fn length(&self) -> u64 {
        self.length
    }

    #[inline(always)]
    fn forget(&self, number: u64) -> u64 {
        forgotten(number, self.length)
    }

    #[inline(always)]
    fn opaque(&self, number: u64) -> u64 {
        opaque(number)
    }
}

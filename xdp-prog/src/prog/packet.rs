//! Reading and changing the packet: one of the two places with bounds that the verifier must
//! believe.

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use sekisho_xdp::frame::Frame;

use super::{
    maps,
    verifier::{forgotten, opaque},
};

/// The packet as XDP hands it over: what lies in its first buffer.
pub(super) struct Packet<'a> {
    ctx: &'a XdpContext,
    length: u64,
}

/// The same packet with what lies in its other buffers, at the price of a call where that is read.
pub(super) struct Whole<'a>(pub(super) &'a Packet<'a>);

/// A first buffer that is shorter is most often the only one.
const SHORTEST_FIRST_BUFFER: u64 = 1024;

/// A part of the packet that is known to be there, to be written.
#[derive(Clone, Copy)]
pub(super) struct Part(usize);

impl<'a> Packet<'a> {
    #[inline(always)]
    pub(super) fn new(ctx: &'a XdpContext) -> Self {
        let length = (ctx.data_end() - ctx.data()) as u64;
        // Most packets spare the call. The first of several buffers may be shorter, but then it does not
        // hold the whole IP packet, which the short way asks for.
        if length >= SHORTEST_FIRST_BUFFER { Self::new_whole(ctx) } else { Self { ctx, length } }
    }

    /// With the length of all buffers, however short the first one is.
    #[inline(always)]
    pub(super) fn new_whole(ctx: &'a XdpContext) -> Self {
        // SAFETY: the context is the one the kernel passed in.
        let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
        Self { ctx, length }
    }

    /// Bytes of the first buffer, which are all that can be written.
    #[inline(always)]
    pub(super) fn in_first_buffer(&self) -> u64 {
        (self.ctx.data_end() - self.ctx.data()) as u64
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

/// `N` bytes from an offset of what lies between `data` and `data_end`.
#[inline(always)]
fn read<const N: usize>(data: usize, data_end: usize, offset: usize) -> Option<[u8; N]> {
    let at = data + offset;
    // Of a single byte the compiler asks whether `at` is below the end, from which the verifier
    // learns nothing.
    let end = if N == 1 { opaque(at as u64 + 1) as usize } else { at + N };
    if end > data_end {
        return None;
    }
    // SAFETY: the bytes up to `data_end` belong to the packet, and it was checked that N of
    // them begin at `at`.
    Some(unsafe { (at as *const [u8; N]).read_unaligned() })
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        read(self.ctx.data(), self.ctx.data_end(), offset)
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

impl Frame for Whole<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let ctx = self.0.ctx.ctx;
        // Anew each time: the compiler would copy what it keeps as the numbers of 32 bits that they are
        // declared to be, and such a copy is no pointer to the verifier.
        // SAFETY: the context is the one the kernel passed in.
        let (data, data_end) = unsafe {
            ((&raw const (*ctx).data).read_volatile(), (&raw const (*ctx).data_end).read_volatile())
        };
        read(data as usize, data_end as usize, offset).or_else(|| self.read_beyond(offset))
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        self.0.length()
    }

    #[inline(always)]
    fn forget(&self, number: u64) -> u64 {
        self.0.forget(number)
    }

    #[inline(always)]
    fn opaque(&self, number: u64) -> u64 {
        self.0.opaque(number)
    }
}

impl Whole<'_> {
    /// `N` bytes that do not lie in the first buffer, or not all of them.
    #[inline(always)]
    fn read_beyond<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let beyond = maps::beyond()?;
        // SAFETY: the context is the one the kernel passed in, and there is room for N bytes.
        let error = unsafe {
            bpf_xdp_load_bytes(
                self.0.ctx.ctx,
                offset as u32,
                beyond.as_mut_ptr().cast(),
                const { Self::fits(N) } as u32,
            )
        };
        if error != 0 {
            return None;
        }
        beyond.first_chunk().copied()
    }

    const fn fits(bytes: usize) -> usize {
        assert!(bytes <= maps::BEYOND_BYTES, "more than there is room for");
        bytes
    }
}

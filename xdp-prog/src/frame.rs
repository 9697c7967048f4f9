//! Reading bytes of a packet.

/// A frame whose bytes can be read, never past its end.
pub trait Frame {
    /// `N` bytes from an offset, or `None` if the frame ends before.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Bytes of the whole frame, which may go on in buffers that can't be read.
    fn length(&self) -> u64;

    /// The same number, of which the verifier knows nothing.
    ///
    /// Ways through the parser that meet again differ in what the verifier knows of them, and it
    /// follows each further unless it can't tell them apart.
    #[inline(always)]
    fn forget(&self, number: u64) -> u64 {
        number
    }

    /// The same number, of which the compiler knows nothing: a check of it stays, however needless.
    #[inline(always)]
    fn opaque(&self, number: u64) -> u64 {
        number
    }

    /// The same offset, of which the verifier knows no more than that it is at most [`FURTHEST`].
    #[inline(always)]
    fn forget_offset(&self, offset: usize) -> usize {
        self.forget(offset as u64) as usize & FURTHEST
    }
}

/// No offset that the parser reaches is larger.
pub const FURTHEST: usize = 0x7fff;

impl Frame for [u8] {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    fn length(&self) -> u64 {
        self.len() as u64
    }
}

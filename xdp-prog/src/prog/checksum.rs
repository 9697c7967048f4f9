//! The Internet checksum (RFC 1071).

/// A sum of 16-bit words that is not folded yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// With a 64-bit number in host byte order: its four words.
    #[inline(always)]
    pub(super) fn u64(self, number: u64) -> Self {
        self.u32((number >> 32) as u32).u32(number as u32)
    }

    /// With a 32-bit number in host byte order: its two words.
    #[inline(always)]
    pub(super) fn u32(self, number: u32) -> Self {
        Self(self.0 + u64::from(number >> 16) + u64::from(number & 0xffff))
    }

    /// What goes into the checksum field, host byte order.
    #[inline(always)]
    pub(super) fn checksum(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        let twice = (once & 0xffff) + (once >> 16);
        !((twice & 0xffff) + (twice >> 16)) as u16
    }
}

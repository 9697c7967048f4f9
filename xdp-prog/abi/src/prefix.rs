//! Small sets of prefixes, which the loader writes into the program as constants.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many prefixes a [`Prefixes`] holds.
pub const MAX_PREFIXES: usize = 16;

/// A few prefixes, as constants of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefixes {
    /// How many there are, at most [`MAX_PREFIXES`].
    pub count: u64,
    /// The first `count` are in use.
    pub each: [Prefix; MAX_PREFIXES],
}

/// A prefix, IPv4 as `::ffff:a.b.c.d` with 96 more bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefix {
    /// Upper half of the address, host byte order.
    pub high: u64,
    /// Lower half.
    pub low: u64,
    /// Bits that count, 0 to 128.
    pub length: u64,
}

impl Prefix {
    /// Of this many bits of an address; what is beyond 128 is 128.
    pub const fn new(high: u64, low: u64, length: u8) -> Self {
        let (high_mask, low_mask) = masks(if length < 128 { length as u64 } else { 128 });
        Self { high: high & high_mask, low: low & low_mask, length: length as u64 }
    }

    /// Whether an address is in it.
    #[inline(always)]
    pub const fn contains(self, high: u64, low: u64) -> bool {
        let (high_mask, low_mask) = masks(self.length);
        (self.high ^ high) & high_mask == 0 && (self.low ^ low) & low_mask == 0
    }
}

/// The masks of a prefix length, by half.
#[inline(always)]
const fn masks(length: u64) -> (u64, u64) {
    if length <= 64 { (leading(length), 0) } else { (u64::MAX, leading(length - 64)) }
}

/// A word with this many ones in front.
#[inline(always)]
const fn leading(ones: u64) -> u64 {
    if ones == 0 { 0 } else { u64::MAX << (64_u64.wrapping_sub(ones) & 63) }
}

impl Prefixes {
    /// None.
    pub const NONE: Self =
        Self { count: 0, each: [Prefix { high: 0, low: 0, length: 0 }; MAX_PREFIXES] };

    /// These, or `None` if they are too many.
    pub fn of(prefixes: &[Prefix]) -> Option<Self> {
        let mut all = Self::NONE;
        all.each.get_mut(..prefixes.len())?.copy_from_slice(prefixes);
        all.count = prefixes.len() as u64;
        Some(all)
    }
}

#[cfg(feature = "aya")]
mod pod {
    // SAFETY: the record derives FromBytes and IntoBytes: every bit pattern is valid and it has no
    // padding.
    unsafe impl aya::Pod for super::Prefixes {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_agrees_in_its_bits() {
        let all = Prefix::new(7, 7, 0);
        assert!(all.contains(u64::MAX, 0));
        let nat64 = Prefix::new(0x0064_ff9b_0000_0000, 0, 96);
        assert!(nat64.contains(0x0064_ff9b_0000_0000, 0xc612_0001));
        assert!(!nat64.contains(0x0064_ff9b_0000_0000, 1 << 32));
        let host = Prefix::new(1, 2, 128);
        assert!(host.contains(1, 2) && !host.contains(1, 3));
        let half = Prefix::new(1, 9, 64);
        assert!(half.contains(1, 0) && !half.contains(0, 9));
    }
}

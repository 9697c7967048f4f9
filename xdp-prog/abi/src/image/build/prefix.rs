//! Prefixes of both families as bits from the left.

use std::fmt;

/// 2000::/3, all global unicast addresses; keys go without the bits that they share.
pub(super) const GLOBAL_UNICAST: u128 = 0x2000 << 112;
pub(super) const SHARED_BITS: u8 = 3;

/// The number of an item that allows, and the selector of a range that is allowed.
pub(super) const ALLOW: u32 = u32::MAX;

/// Bits from the left: an IPv4 address, or an IPv6 address without its first three bits.
pub(super) trait Key: Copy + Ord + fmt::Debug {
    /// Bits that an address has.
    const BITS: u8;
    /// The bits as the upper part of a `u128`.
    fn left(self) -> u128;
    /// All but the first `length` bits zero.
    fn masked(self, length: u8) -> Self;
    /// The half, without this key, of the prefix of `length` bits that the key is in.
    fn other_half(self, length: u8) -> Self;
}

impl Key for u32 {
    const BITS: u8 = 32;

    fn left(self) -> u128 {
        u128::from(self) << 96
    }

    fn masked(self, length: u8) -> Self {
        self & Self::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
    }

    fn other_half(self, length: u8) -> Self {
        (self ^ 1 << (31 - length)).masked(length + 1)
    }
}

impl Key for u128 {
    const BITS: u8 = 125;

    fn left(self) -> u128 {
        self
    }

    fn masked(self, length: u8) -> Self {
        self & Self::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }

    fn other_half(self, length: u8) -> Self {
        (self ^ 1 << (127 - length)).masked(length + 1)
    }
}

/// One prefix and what is said of it: the number of a claim while entries are collected, that of a
/// selector once they are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item<K> {
    pub(super) key: K,
    pub(super) length: u8,
    pub(super) number: u32,
}

impl<K: Key> Item<K> {
    pub(super) fn new(key: K, length: u8, number: u32) -> Self {
        Self { key: key.masked(length), length, number }
    }

    /// `width` bits of the key from bit `depth` on.
    pub(super) fn bits(&self, depth: u32, width: u32) -> u32 {
        (self.key.left() << depth >> (128 - width)) as u32
    }
}

/// Has each item that covers a key cover all but that key.
pub(super) fn part_around<K: Key>(items: &mut Vec<Item<K>>, key: K) {
    let covers = |item: &mut Item<K>| item.key == key.masked(item.length);
    for whole in items.extract_if(.., covers).collect::<Vec<_>>() {
        let halves = (whole.length..K::BITS).map(|length| Item {
            key: key.other_half(length),
            length: length + 1,
            number: whole.number,
        });
        items.extend(halves);
    }
}

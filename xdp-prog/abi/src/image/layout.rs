//! Where things are in an image. All numbers are little-endian, all offsets count bytes from the
//! start of the image unless they say words (of four bytes).

/// First eight bytes of every image.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SEKISHO\x01");

/// Bytes of the header; everything else follows page-aligned.
pub const HEADER_BYTES: usize = 4096;

/// Offsets of the header's fields.
///
/// Magic, generation and the names of lists stay where they are and as they are, whatever else
/// changes: a daemon of another layout reads them to know which lists its switch speaks of.
pub mod header {
    /// `u64`: [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// `u32`: [`crate::ABI_VERSION`].
    pub const ABI: usize = 8;
    /// `u32`: generation of the ruleset.
    pub const GENERATION: usize = 12;
    /// `u64`: bytes of the image in use.
    pub const BYTES: usize = 16;
    /// `u32`: CRC-32 (ISO-HDLC) of everything after the header.
    pub const CHECKSUM: usize = 24;
    /// `u32`: IPv4 prefixes that were listed.
    pub const PREFIXES_V4: usize = 28;
    /// `u32`: IPv6 prefixes that were listed.
    pub const PREFIXES_V6: usize = 32;
    /// `u32`: word offset of the pool that holds nodes and leaves.
    pub const POOL: usize = 36;
    /// `u32`: word offset of the selectors.
    pub const SELECTORS: usize = 40;
    /// `u32`: word offset of the port conditions.
    pub const PORTS: usize = 44;
    /// `u32`: word offset of the rules.
    pub const RULES: usize = 48;
    /// `u32`: how many rules there are, rule 0 (no rule) included.
    pub const RULE_COUNT: usize = 52;
    /// 64 names of [`super::LIST_NAME_BYTES`], padded with zeros.
    pub const LISTS: usize = 64;
}

/// Longest name of a list, in bytes.
pub const LIST_NAME_BYTES: usize = 40;

/// Bits of the key that choose a slot.
pub const SLOT_BITS: u32 = 24;
/// How many slots a family has.
pub const SLOTS: usize = 1 << SLOT_BITS;

/// A block of slots: which of them are set and where their words are, next to each other, so that a
/// listed address takes one memory access less.
pub mod block {
    /// `u32`: the word offset of the first set slot's word.
    pub const FIRST: usize = 0;
    /// `u32`: a Bloom filter of what is listed in the slots, of which [`bit_of`] is each bit. Of most
    /// addresses that are not listed beside one that is, it says so without another memory access.
    pub const FILTER: usize = 4;
    /// Three `u64`: the bits of the slots, bit 0 first.
    pub const BITS: usize = 8;
    /// How many `u64` there are.
    pub const GROUPS: u32 = 3;
    /// Size.
    pub const BYTES: usize = 32;

    /// The bit of the filter for the number of a slot and the next eight bits of a key.
    #[inline(always)]
    pub const fn bit_of(slot_and_next: u32) -> u32 {
        slot_and_next.wrapping_mul(0x9e37_79b1) >> 27
    }

    /// The block of a group of 64 slots, one of 2^18, and which of its three it is.
    #[inline(always)]
    pub const fn of_group(group: u32) -> (u32, u32) {
        // A division by three, exact for all of them; BPF's own takes longer.
        let block = ((group as u64 * 0xa_aaab) >> 21) as u32;
        (block, group - block * GROUPS)
    }
}

/// How many blocks a family has.
pub const BLOCKS: usize = (SLOTS / 64).div_ceil(block::GROUPS as usize);
const BLOCKS_BYTES: usize = (BLOCKS * block::BYTES).next_multiple_of(HEADER_BYTES);

/// The blocks of the IPv4 slots.
pub const BLOCKS_V4: usize = HEADER_BYTES;
/// The blocks of the IPv6 slots.
pub const BLOCKS_V6: usize = BLOCKS_V4 + BLOCKS_BYTES;
/// Where the parts of changing size begin: slot words, pool, selectors, ports, rules.
pub const DYNAMIC: usize = BLOCKS_V6 + BLOCKS_BYTES;

/// What a slot word, or a child word of a node, stands for; the two highest bits.
pub mod tag {
    /// Payload: a selector, 0 for "not listed".
    pub const SELECTOR: u32 = 0;
    /// Payload: word offset into the pool of a node.
    pub const NODE: u32 = 1;
    /// Payload: the last eight bits of the address (22..30), a selector (0..22). IPv4 slots only.
    pub const HOST: u32 = 2;
    /// Payload: the next four bits of the key (26..30), half the word offset into the pool of the leaf
    /// (0..26) that says what is listed in the slot, all of it with these bits. IPv6 slots only.
    pub const FAR: u32 = 2;
    /// Payload: word offset into the pool of a leaf. IPv6 only.
    pub const LEAF: u32 = 3;
    /// Where the tag begins.
    pub const SHIFT: u32 = 30;
    /// Bits of the payload.
    pub const PAYLOAD: u32 = (1 << SHIFT) - 1;
    /// Where the last eight bits of a host begin.
    pub const HOST_SHIFT: u32 = 22;
    /// Where the four bits of a far leaf begin.
    pub const FAR_SHIFT: u32 = 26;
    /// Bits of half its offset.
    pub const FAR_MASK: u32 = (1 << FAR_SHIFT) - 1;
    /// Bits of a selector.
    pub const SELECTOR_MASK: u32 = (1 << HOST_SHIFT) - 1;
}

/// A node: 256 bits, then these, all from the start of the node.
pub mod node {
    /// Four `u64`: which of the next eight bits' values have a word of their own.
    pub const BITS: usize = 0;
    /// `u32`: word offset into the pool of the first child word.
    pub const CHILDREN: usize = 32;
    /// `u32`: the selector of the values without a word.
    pub const OTHERWISE: usize = 36;
    /// `u32`: bits set before the second, third and fourth `u64`, a byte each from the lowest on.
    pub const RANKS: usize = 40;
    /// Size, a multiple of eight.
    pub const BYTES: usize = 48;
}

/// A leaf of the IPv6 tree, from its start.
pub mod leaf {
    /// `u64`: upper half of the key.
    pub const HIGH: usize = 0;
    /// `u64`: lower half of the key.
    pub const LOW: usize = 8;
    /// `u32`: bits of the key that count, 25 to 125.
    pub const LENGTH: usize = 16;
    /// `u32`: the selector of keys that match.
    pub const SELECTOR: usize = 20;
    /// `u32`: the selector of keys that don't.
    pub const OTHERWISE: usize = 24;
    /// Size, a multiple of eight.
    pub const BYTES: usize = 32;
}

/// A selector, from its start. Selector 0 is "not listed".
pub mod selector {
    /// `u16`: the rule for every packet that no port condition matches; 0 is none.
    pub const ANY: usize = 0;
    /// `u8`: how many places of the port table a search may have to look at; 0 without a table.
    pub const PROBES: usize = 2;
    /// `u8`: binary logarithm of how many places a search may begin at.
    pub const SIZE_LOG2: usize = 3;
    /// `u32`: index of the first place of the port table.
    pub const FIRST: usize = 4;
    /// Size.
    pub const BYTES: usize = 8;
    /// How many selectors an image can hold.
    pub const MAX: usize = 1 << super::tag::HOST_SHIFT;
    /// How many port conditions one selector can hold.
    pub const MAX_PORTS: usize = u16::MAX as usize;
}

/// A place of a port table: `u32` key, protocol above port and never 0 unless the place is empty,
/// then the `u32` rule. Port 0 stands for every port of the protocol.
///
/// A table is a hash table with linear probing that does not wrap around: a search begins at
/// [`port::place`] and looks at [`selector::PROBES`] places.
pub mod port {
    /// Size.
    pub const BYTES: usize = 8;
    /// Most places that a search looks at, whatever the table.
    pub const MAX_PROBES: u32 = 8;

    /// The key of a protocol and a port.
    #[inline(always)]
    pub const fn key(protocol: u8, port: u16) -> u32 {
        (protocol as u32) << 16 | port as u32
    }

    /// Where the search for a key begins in a table of this size.
    #[inline(always)]
    pub const fn place(key: u32, size_log2: u8) -> u32 {
        let mixed = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed as u32 & ((1 << (size_log2 & 31)) - 1)
    }
}

/// A rule: the lists that name the entry, as bits, by what they ask for. Rule 0 is empty.
pub mod rule {
    /// `u64`: lists that observe.
    pub const OBSERVE: usize = 0;
    /// `u64`: lists that drop.
    pub const DROP: usize = 8;
    /// `u64`: lists that reject.
    pub const REJECT: usize = 16;
    /// `u64`: lists that sinkhole.
    pub const SINKHOLE: usize = 24;
    /// Size.
    pub const BYTES: usize = 32;
    /// How many rules an image can hold: the per-rule totals are an array of this length.
    pub const MAX: usize = 4096;
}

/// IPv6 prefixes shorter than this cannot be listed: it is where the IANA hands out space to
/// regional registries.
pub const SHORTEST_V6: u8 = 12;
/// IPv4 prefixes shorter than this cannot be listed: the IANA hands out nothing larger.
pub const SHORTEST_V4: u8 = 8;

//! The image's bytes.

use super::{BuildError, Image, Limit, List, full, selectors::Tables};
use crate::{
    ABI_VERSION,
    image::{
        Lists,
        layout::{
            BLOCKS, BLOCKS_V4, BLOCKS_V6, DYNAMIC, LIST_NAME_BYTES, MAGIC, block, header, leaf,
            node, port, rule, selector, tag,
        },
        lookup,
    },
};

pub(super) fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// Everything an image is written from.
pub(super) struct Parts<'a> {
    pub(super) generation: u32,
    pub(super) lists: &'a [List],
    pub(super) prefixes_v4: u32,
    pub(super) prefixes_v6: u32,
    pub(super) slots_v4: Vec<(u32, u32)>,
    pub(super) slots_v6: Vec<(u32, u32)>,
    pub(super) pool: Vec<u32>,
}

impl Parts<'_> {
    pub(super) fn write(self, tables: Tables, capacity: usize) -> Result<Image, BuildError> {
        let even = |words: usize| words + words % 2;
        let slots_v4 = DYNAMIC / 4;
        let slots_v6 = slots_v4 + self.slots_v4.len();
        let pool = even(slots_v6 + self.slots_v6.len());
        let selectors = even(pool + self.pool.len());
        let ports = selectors + tables.selectors.len() * selector::BYTES / 4;
        let rules = ports + tables.ports.len() * port::BYTES / 4;
        let total = (rules + tables.rules.len() * rule::BYTES / 4) * 4;
        if total > capacity {
            return Err(full(Limit::Bytes, total, capacity));
        }
        let mut out = Writer { bytes: vec![0; total] };
        out.slots(&self.slots_v4, &self.pool, BLOCKS_V4, slots_v4);
        out.slots(&self.slots_v6, &self.pool, BLOCKS_V6, slots_v6);
        out.words(pool, self.pool.iter().copied());
        out.words(selectors, tables.selectors.iter().flat_map(|&(shape, first)| [shape, first]));
        out.words(ports, tables.ports.iter().flat_map(|&(key, rule)| [key, rule]));
        // In the order of a rule's fields.
        let by_action =
            |lists: &Lists| [lists.observe, lists.drop, lists.reject, lists.sinkhole].map(halves);
        out.words(rules, tables.rules.iter().flat_map(by_action).flatten());
        for (slot, list) in self.lists.iter().enumerate() {
            out.put(header::LISTS + slot * LIST_NAME_BYTES, list.name.as_bytes());
        }
        out.put(header::MAGIC, &MAGIC.to_le_bytes());
        out.put(header::BYTES, &(total as u64).to_le_bytes());
        for (at, value) in [
            (header::ABI, ABI_VERSION),
            (header::GENERATION, self.generation),
            (header::PREFIXES_V4, self.prefixes_v4),
            (header::PREFIXES_V6, self.prefixes_v6),
            (header::POOL, pool as u32),
            (header::SELECTORS, selectors as u32),
            (header::PORTS, ports as u32),
            (header::RULES, rules as u32),
            (header::RULE_COUNT, tables.rules.len() as u32),
            (header::CHECKSUM, lookup::checksum(&out.bytes)),
        ] {
            out.put(at, &value.to_le_bytes());
        }
        Ok(Image { bytes: out.bytes, rules: tables.rules })
    }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn words(&mut self, at: usize, words: impl Iterator<Item = u32>) {
        for (place, word) in self.bytes[at * 4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// A family's blocks and slot words, the words beginning at this word offset.
    fn slots(&mut self, slots: &[(u32, u32)], pool: &[u32], blocks: usize, words: usize) {
        let mut first = words as u32;
        let mut rest = slots.iter().peekable();
        for block in 0..BLOCKS as u32 {
            let mut bits = [0_u64; block::GROUPS as usize];
            let mut filter = 0;
            while let Some((slot, word)) =
                rest.next_if(|(slot, _)| block::of_group(slot >> 6).0 == block)
            {
                bits[block::of_group(slot >> 6).1 as usize] |= 1 << (slot & 63);
                filter |= filter_of(*slot, *word, blocks, pool);
            }
            let at = blocks + block as usize * block::BYTES;
            self.put(at + block::FIRST, &first.to_le_bytes());
            self.put(at + block::FILTER, &filter.to_le_bytes());
            self.words((at + block::BITS) / 4, bits.into_iter().flat_map(halves));
            first += bits.map(u64::count_ones).iter().sum::<u32>();
        }
        self.words(words, slots.iter().map(|(_, word)| *word));
    }
}

/// The bits of a block's filter for what is listed in a slot.
fn filter_of(slot: u32, word: u32, blocks: usize, pool: &[u32]) -> u32 {
    const ALL: u32 = u32::MAX;
    let bit = |next: u32| 1 << block::bit_of(slot << 8 | next);
    let payload = word & tag::PAYLOAD;
    let leaf = |at: u32| {
        let field = |field: usize| pool[at as usize + field / 4];
        let key = u32::from(field(leaf::HIGH + 4) as u8);
        let is_one = field(leaf::LENGTH) >= 32 && field(leaf::OTHERWISE) == 0;
        if is_one { bit(key) } else { ALL }
    };
    match word >> tag::SHIFT {
        tag::HOST if blocks == BLOCKS_V4 => bit(payload >> tag::HOST_SHIFT),
        tag::FAR => leaf((payload & tag::FAR_MASK) << 1),
        tag::LEAF => leaf(payload),
        tag::NODE if pool[payload as usize + node::OTHERWISE / 4] == 0 => {
            let set = |next: &u32| {
                pool[(payload + next / 32) as usize + node::BITS / 4] >> (next % 32) & 1 != 0
            };
            (0..256).filter(set).map(bit).fold(0, |filter, bit| filter | bit)
        }
        _ => ALL,
    }
}

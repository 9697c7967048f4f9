//! Looking an address up. The kernel and the host run these very functions.

use core::num::NonZeroU32;

use super::layout::{
    BLOCKS_V4, BLOCKS_V6, HEADER_BYTES, LIST_NAME_BYTES, MAGIC, block, header as at, leaf, node,
    port, rule, selector, tag,
};
use crate::MAX_LISTS;
#[cfg(any(feature = "build", test))]
use crate::canary;

/// Something that an image can be read from. An offset outside of it gives `None`, which every
/// lookup takes for "not listed".
pub trait Bytes {
    /// The `u32` at this byte offset.
    fn u32(&self, offset: u64) -> Option<u32>;
    /// The `u64` at this byte offset.
    fn u64(&self, offset: u64) -> Option<u64>;

    /// The `u32` at this byte offset below [`DYNAMIC`](super::layout::DYNAMIC), which every image has.
    #[inline(always)]
    fn fixed_u32(&self, offset: u64) -> Option<u32> {
        self.u32(offset)
    }

    /// The `u64` at this byte offset below [`DYNAMIC`](super::layout::DYNAMIC), which every image has.
    #[inline(always)]
    fn fixed_u64(&self, offset: u64) -> Option<u64> {
        self.u64(offset)
    }
}

impl Bytes for [u8] {
    fn u32(&self, offset: u64) -> Option<u32> {
        let bytes = self.get(usize::try_from(offset).ok()?..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(&self, offset: u64) -> Option<u64> {
        let bytes = self.get(usize::try_from(offset).ok()?..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }
}

impl<B: Bytes + ?Sized> Bytes for &B {
    #[inline(always)]
    fn u32(&self, offset: u64) -> Option<u32> {
        (**self).u32(offset)
    }

    #[inline(always)]
    fn u64(&self, offset: u64) -> Option<u64> {
        (**self).u64(offset)
    }

    #[inline(always)]
    fn fixed_u32(&self, offset: u64) -> Option<u32> {
        (**self).fixed_u32(offset)
    }

    #[inline(always)]
    fn fixed_u64(&self, offset: u64) -> Option<u64> {
        (**self).fixed_u64(offset)
    }
}

/// What a network's entries ask for, by protocol and port. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector(NonZeroU32);

/// Lists, as bits, by what they ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lists {
    /// Lists that only observe.
    pub observe: u64,
    /// Lists that drop.
    pub drop: u64,
    /// Lists that drop and answer the subscriber.
    pub reject: u64,
    /// Lists that divert to the sinkhole.
    pub sinkhole: u64,
}

impl Lists {
    /// Every list, whatever it asks for.
    pub const fn all(self) -> u64 {
        self.observe | self.drop | self.reject | self.sinkhole
    }
}

/// The selector of an IPv4 address in host byte order, if anything lists it.
#[inline(always)]
pub fn find_v4<B: Bytes + ?Sized>(image: &B, address: u32) -> Option<Selector> {
    let word = slot_word(image, BLOCKS_V4, address)?;
    let payload = word & tag::PAYLOAD;
    let found = match word >> tag::SHIFT {
        tag::SELECTOR => payload,
        tag::HOST if payload >> tag::HOST_SHIFT == address & 0xff => payload & tag::SELECTOR_MASK,
        tag::NODE => {
            let pool = pool(image)?;
            match child(image, pool, payload, (address & 0xff) as u8)? {
                Child::Word(word) => word & tag::SELECTOR_MASK,
                Child::Otherwise(selector) => selector,
            }
        }
        _ => 0,
    };
    listed(found)
}

/// Most levels that a tree can have below its slots: eight bits each, up to a /128.
const LEVELS_V6: u32 = (125 - 24_u32).div_ceil(8);

/// The selector of an IPv6 address, as its two halves in host byte order, if anything lists it.
#[inline(always)]
pub fn find_v6<B: Bytes + ?Sized>(image: &B, high: u64, low: u64) -> Option<Selector> {
    if high >> 61 != 1 {
        return None;
    }
    let (high, low) = (high << 3 | low >> 61, low << 3);
    let mut word = near_leaf(slot_word(image, BLOCKS_V6, (high >> 32) as u32)?, high)?;
    let pool = pool(image)?;
    let (mut next, mut rest) = (high << 24 | low >> 40, low << 24);
    for _ in 0..=LEVELS_V6 {
        let payload = word & tag::PAYLOAD;
        match word >> tag::SHIFT {
            tag::SELECTOR => return listed(payload),
            tag::NODE => match child(image, pool, payload, (next >> 56) as u8)? {
                Child::Word(below) => {
                    word = below;
                    next = next << 8 | rest >> 56;
                    rest <<= 8;
                }
                Child::Otherwise(selector) => return listed(selector),
            },
            tag::LEAF => return listed(at_leaf(image, pool, payload, high, low)?),
            _ => return None,
        }
    }
    None
}

/// Whether an IPv4 address in host byte order may be listed, as far as one memory access tells.
#[inline(always)]
pub fn may_hold_v4<B: Bytes + ?Sized>(image: &B, address: u32) -> bool {
    Slot::of(BLOCKS_V4, address).may_hold(image).unwrap_or(false)
}

/// The same, and that is not one other host. What this says of most addresses that are not listed takes
/// one memory access.
#[inline(always)]
pub fn may_be_v4<B: Bytes + ?Sized>(image: &B, address: u32) -> bool {
    let Some(word) = slot_word(image, BLOCKS_V4, address) else { return false };
    let is_of_host = word >> tag::HOST_SHIFT == tag::HOST << 8 | address & 0xff;
    is_of_host || word >> tag::SHIFT != tag::HOST
}

/// Whether an IPv6 address, as its two halves in host byte order, may be listed. What this says of most
/// addresses that are not takes one memory access.
#[inline(always)]
pub fn may_hold_v6<B: Bytes + ?Sized>(image: &B, high: u64, low: u64) -> bool {
    if high >> 61 != 1 {
        return false;
    }
    let (high, low) = (high << 3 | low >> 61, low << 3);
    let Some(word) = slot_word(image, BLOCKS_V6, (high >> 32) as u32) else { return false };
    let Some(word) = near_leaf(word, high) else { return false };
    if word >> tag::SHIFT != tag::LEAF {
        return true;
    }
    // All that is listed in this slot is one prefix.
    let Some(pool) = pool(image) else { return true };
    at_leaf(image, pool, word & tag::PAYLOAD, high, low) != Some(0)
}

/// The word of an IPv6 slot, that of a far leaf as any leaf's. `None` if the upper half of a key shows that
/// the leaf is of others.
#[inline(always)]
fn near_leaf(word: u32, high: u64) -> Option<u32> {
    if word >> tag::SHIFT != tag::FAR {
        return Some(word);
    }
    let differs = (word >> tag::FAR_SHIFT ^ (high >> 36) as u32) & 0xf;
    (differs == 0).then_some(tag::LEAF << tag::SHIFT | (word & tag::FAR_MASK) << 1)
}

/// Where a slot's bit is.
struct Slot {
    block: u64,
    group: u64,
    bit: u32,
    filter_bit: u32,
}

impl Slot {
    /// Of a slot's number and the next eight bits of a key.
    #[inline(always)]
    fn of(blocks: usize, slot_and_next: u32) -> Self {
        let slot = slot_and_next >> 8;
        let (block, group) = block::of_group(slot >> 6);
        Self {
            block: blocks as u64 + u64::from(block) * block::BYTES as u64,
            group: u64::from(group),
            bit: slot & 63,
            filter_bit: block::bit_of(slot_and_next),
        }
    }

    /// Whether the key may be listed.
    #[inline(always)]
    fn may_hold<B: Bytes + ?Sized>(&self, image: &B) -> Option<bool> {
        let bits = image.fixed_u64(self.block + block::BITS as u64 + self.group * 8)?;
        let filter = u64::from(image.fixed_u32(self.block + block::FILTER as u64)?);
        Some((bits >> self.bit) & (filter >> self.filter_bit) & 1 != 0)
    }

    /// How many slots of its block are set before it.
    #[inline(always)]
    fn before<B: Bytes + ?Sized>(&self, image: &B) -> Option<u64> {
        let group = |number: u64| {
            let bits = image.fixed_u64(self.block + block::BITS as u64 + number * 8)?;
            let before = if number < self.group { u64::MAX } else { (1 << self.bit) - 1 };
            Some(if number > self.group { 0 } else { bits & before })
        };
        Some(ones([group(0)?, group(1)?, group(2)?]))
    }
}

/// The word of the slot of a key, given with the next eight bits behind it, if the key may be listed.
#[inline(always)]
fn slot_word<B: Bytes + ?Sized>(image: &B, blocks: usize, slot_and_next: u32) -> Option<u32> {
    let slot = Slot::of(blocks, slot_and_next);
    if !slot.may_hold(image)? {
        return None;
    }
    let first = u64::from(image.fixed_u32(slot.block + block::FIRST as u64)?);
    image.u32((first + slot.before(image)?) * 4)
}

enum Child {
    Word(u32),
    Otherwise(u32),
}

/// What a node holds for the next eight bits of a key.
#[inline(always)]
fn child<B: Bytes + ?Sized>(image: &B, pool: u64, at: u32, byte: u8) -> Option<Child> {
    let node = (pool + u64::from(at)) * 4;
    let quarter = u64::from(byte >> 6);
    let bits = image.u64(node + node::BITS as u64 + quarter * 8)?;
    let bit = 1_u64 << (byte & 63);
    if bits & bit == 0 {
        return Some(Child::Otherwise(image.u32(node + node::OTHERWISE as u64)?));
    }
    let ranks = u64::from(image.u32(node + node::RANKS as u64)?);
    // The first quarter's rank, 0, is not stored: shift it in.
    let before = (ranks << 8) >> (quarter * 8) & 0xff;
    let children = u64::from(image.u32(node + node::CHILDREN as u64)?);
    image.u32((pool + children + before + ones([bits & (bit - 1)])) * 4).map(Child::Word)
}

/// The selector that a leaf holds for a key.
#[inline(always)]
fn at_leaf<B: Bytes + ?Sized>(image: &B, pool: u64, at: u32, high: u64, low: u64) -> Option<u32> {
    let leaf = (pool + u64::from(at)) * 4;
    let length = image.u32(leaf + leaf::LENGTH as u64)?;
    let differs_high = image.u64(leaf + leaf::HIGH as u64)? ^ high;
    let differs_low = image.u64(leaf + leaf::LOW as u64)? ^ low;
    let differs = if length <= 64 {
        differs_high >> (64_u32.wrapping_sub(length) & 63)
    } else {
        differs_high | differs_low >> (128_u32.wrapping_sub(length) & 63)
    };
    let field = if differs == 0 { leaf::SELECTOR } else { leaf::OTHERWISE };
    image.u32(leaf + field as u64)
}

/// The rule of a selector for this protocol and port; 0 is none.
///
/// `port` is `None` where the packet shows none: only what applies to all packets, or to all of
/// the protocol, is found then.
#[inline(always)]
pub fn resolve<B: Bytes + ?Sized>(
    image: &B,
    selector: Selector,
    protocol: u8,
    port: Option<u16>,
) -> Option<u16> {
    let packed = packed(image, selector)?;
    let any = packed as u16;
    let table = Table {
        probes: u32::from((packed >> (selector::PROBES * 8)) as u8),
        size_log2: (packed >> (selector::SIZE_LOG2 * 8)) as u8,
        first: packed >> (selector::FIRST * 8),
    };
    if table.probes == 0 {
        return Some(any);
    }
    let exact = match port {
        Some(port) => table.search(image, port::key(protocol, port))?,
        None => 0,
    };
    if exact != 0 {
        return Some(exact);
    }
    let every = table.search(image, port::key(protocol, 0))?;
    Some(if every != 0 { every } else { any })
}

/// The rule of a selector that is the same for all protocols and ports, never 0.
#[inline(always)]
pub fn rule_of_all<B: Bytes + ?Sized>(image: &B, selector: Selector) -> Option<u16> {
    let packed = packed(image, selector)?;
    let probes = (packed >> (selector::PROBES * 8)) as u8;
    let any = packed as u16;
    (probes == 0 && any != 0).then_some(any)
}

#[inline(always)]
fn packed<B: Bytes + ?Sized>(image: &B, selector: Selector) -> Option<u64> {
    let selectors = u64::from(image.u32(at::SELECTORS as u64)?) * 4;
    image.u64(selectors + u64::from(selector.0.get()) * selector::BYTES as u64)
}

/// A selector's port table.
struct Table {
    probes: u32,
    size_log2: u8,
    first: u64,
}

impl Table {
    /// The rule of this key, or 0.
    #[inline(always)]
    fn search<B: Bytes + ?Sized>(&self, image: &B, key: u32) -> Option<u16> {
        let ports = u64::from(image.u32(at::PORTS as u64)?) * 4;
        let place = self.first + u64::from(port::place(key, self.size_log2));
        for probe in 0..port::MAX_PROBES {
            if probe >= self.probes {
                break;
            }
            let condition = image.u64(ports + (place + u64::from(probe)) * port::BYTES as u64)?;
            if condition as u32 == key {
                return Some((condition >> 32) as u16);
            }
        }
        Some(0)
    }
}

/// The lists behind a rule.
#[inline(always)]
pub fn lists_of<B: Bytes + ?Sized>(image: &B, rule: u16) -> Option<Lists> {
    let rules = u64::from(image.u32(at::RULES as u64)?) * 4;
    let rule = rules + u64::from(rule) * rule::BYTES as u64;
    Some(Lists {
        observe: image.u64(rule + rule::OBSERVE as u64)?,
        drop: image.u64(rule + rule::DROP as u64)?,
        reject: image.u64(rule + rule::REJECT as u64)?,
        sinkhole: image.u64(rule + rule::SINKHOLE as u64)?,
    })
}

#[inline(always)]
fn pool<B: Bytes + ?Sized>(image: &B) -> Option<u64> {
    image.u32(at::POOL as u64).map(u64::from)
}

#[inline(always)]
fn listed(selector: u32) -> Option<Selector> {
    NonZeroU32::new(selector).map(Selector)
}

/// Bits set in at most three words, in arithmetic that BPF has.
#[inline(always)]
fn ones<const N: usize>(words: [u64; N]) -> u64 {
    const { assert!(N <= 3, "the sum of four bits of each needs to fit four bits") };
    let in_fours = words.into_iter().fold(0, |sum, bits| {
        let bits = bits - (bits >> 1 & 0x5555_5555_5555_5555);
        sum + (bits & 0x3333_3333_3333_3333) + (bits >> 2 & 0x3333_3333_3333_3333)
    });
    let in_bytes = (in_fours & 0x0f0f_0f0f_0f0f_0f0f) + (in_fours >> 4 & 0x0f0f_0f0f_0f0f_0f0f);
    in_bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56
}

/// The lists behind a rule that ask for a drop.
#[inline(always)]
pub fn dropping<B: Bytes + ?Sized>(image: &B, rule: u16) -> Option<u64> {
    let rules = u64::from(image.u32(at::RULES as u64)?) * 4;
    image.u64(rules + u64::from(rule) * rule::BYTES as u64 + rule::DROP as u64)
}

/// What an image says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Layout version; see [`crate::ABI_VERSION`].
    pub abi: u32,
    /// Generation of the ruleset.
    pub generation: u32,
    /// Bytes in use, header included.
    pub bytes: u64,
    /// CRC-32 of what follows the header.
    pub checksum: u32,
    /// IPv4 prefixes listed.
    pub prefixes_v4: u32,
    /// IPv6 prefixes listed.
    pub prefixes_v6: u32,
    /// Rules, rule 0 included.
    pub rules: u32,
}

/// Reads the header; `None` if this is no image.
pub fn header<B: Bytes + ?Sized>(image: &B) -> Option<Header> {
    if image.u64(at::MAGIC as u64)? != MAGIC {
        return None;
    }
    Some(Header {
        abi: image.u32(at::ABI as u64)?,
        generation: image.u32(at::GENERATION as u64)?,
        bytes: image.u64(at::BYTES as u64)?,
        checksum: image.u32(at::CHECKSUM as u64)?,
        prefixes_v4: image.u32(at::PREFIXES_V4 as u64)?,
        prefixes_v6: image.u32(at::PREFIXES_V6 as u64)?,
        rules: image.u32(at::RULE_COUNT as u64)?,
    })
}

const _: () = assert!(at::LISTS + MAX_LISTS * LIST_NAME_BYTES <= HEADER_BYTES);

/// CRC-32 of everything after the header, as far as the image is in use.
#[cfg(any(feature = "build", test))]
pub fn checksum(image: &[u8]) -> u32 {
    let used = header(image).map_or(image.len(), |header| header.bytes as usize);
    crc32fast::hash(image.get(HEADER_BYTES..used.min(image.len())).unwrap_or_default())
}

/// Names of the feeds' lists, by slot, without the unused slots at the end; the [`canary`]'s is none.
#[cfg(any(feature = "build", test))]
pub fn list_names(image: &[u8]) -> Vec<String> {
    let name = |slot: usize| {
        let at = at::LISTS + slot * LIST_NAME_BYTES;
        let bytes = image.get(at..at + LIST_NAME_BYTES).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let mut names: Vec<String> = (0..canary::LIST).map(name).collect();
    while names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    names
}

/// The lists behind each rule, by rule.
#[cfg(any(feature = "build", test))]
pub fn rule_lists(image: &[u8]) -> Vec<Lists> {
    let count = header(image).map_or(0, |header| header.rules.min(rule::MAX as u32));
    (0..count).map(|rule| lists_of(image, rule as u16).unwrap_or_default()).collect()
}

/// The lists that match an address for a protocol (IANA number) and port.
#[cfg(any(feature = "build", test))]
pub fn ask(image: &[u8], remote: core::net::IpAddr, protocol: u8, port: Option<u16>) -> Lists {
    let selector = match remote {
        core::net::IpAddr::V4(v4) => find_v4(image, v4.into()),
        core::net::IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            find_v6(image, (bits >> 64) as u64, bits as u64)
        }
    };
    selector
        .and_then(|selector| resolve(image, selector, protocol, port))
        .and_then(|rule| lists_of(image, rule))
        .unwrap_or_default()
}

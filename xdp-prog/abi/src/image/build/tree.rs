//! The words of the slots: what is listed alike, single hosts and prefixes, and nodes below.

use super::{
    BuildError, Limit, full,
    prefix::{ALLOW, Item, Key},
    selectors::Selectors,
    write::halves,
};
use crate::image::layout::{DYNAMIC, SLOT_BITS, leaf, node, selector, tag};

/// The word of a slot that nothing lists, where its surroundings are listed.
const NOT_LISTED: u32 = tag::SELECTOR << tag::SHIFT;

/// What is known of a range of slots before its own longer prefixes are looked at.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u32,
    last: u32,
    selector: u32,
}

/// Builds the slot words of both families into one pool.
pub(super) struct Trees {
    pub(super) pool: Vec<u32>,
    pub(super) selectors: Selectors,
    /// Words that may be used, a rough bound checked while building so that memory stays bounded.
    pub(super) room: usize,
    pub(super) error: Option<BuildError>,
}

impl Trees {
    /// The words of a family's slots, sorted by slot.
    pub(super) fn slots<K: Key>(&mut self, items: &[Item<K>]) -> Vec<(u32, u32)> {
        self.level(items, 0, SLOT_BITS, 0)
    }

    /// The words of all values of the next `width` bits whose word differs from what they inherit.
    fn level<K: Key>(
        &mut self,
        items: &[Item<K>],
        depth: u32,
        width: u32,
        inherited: u32,
    ) -> Vec<(u32, u32)> {
        let ends_here = |item: &Item<K>| u32::from(item.length) <= depth + width;
        let ranges =
            self.ranges(items.iter().filter(|item| ends_here(item)), depth, width, inherited);
        let mut longer = items.iter().enumerate().filter(|(_, item)| !ends_here(item)).peekable();
        let mut words = Vec::new();
        let mut ranges = ranges.into_iter().peekable();
        let mut slot = 0_u32;
        loop {
            let next_longer = longer.peek().map(|(_, item)| item.bits(depth, width));
            while ranges.next_if(|range| range.last < slot).is_some() {}
            let next_range = ranges.peek().map(|range| range.first.max(slot));
            let Some(at) = next_longer.into_iter().chain(next_range).min() else { break };
            if words.len() + self.pool.len() > self.room {
                self.error.get_or_insert(full(
                    Limit::Bytes,
                    DYNAMIC + (words.len() + self.pool.len()) * 4,
                    DYNAMIC + self.room * 4,
                ));
                return Vec::new();
            }
            let selector = match ranges.peek() {
                Some(range) if range.first <= at => range.selector,
                _ => inherited,
            };
            let selector = if selector == ALLOW { None } else { Some(selector) };
            let word = if next_longer == Some(at) {
                // Sorted as they are, the longer prefixes of one slot are neighbours.
                let (begin, mut end) = (longer.peek().map_or(0, |(at, _)| *at), 0);
                while let Some((index, _)) =
                    longer.next_if(|(_, item)| item.bits(depth, width) == at)
                {
                    end = index + 1;
                }
                selector.and_then(|selector| {
                    let word = self.below(&items[begin..end], depth + width, selector);
                    word.or_else(|| self.alike(selector, inherited))
                })
            } else {
                selector.and_then(|selector| self.alike(selector, inherited))
            };
            // What is allowed inside of something listed needs a word that says so.
            let allowed = (selector.is_none() && inherited != 0).then_some(NOT_LISTED);
            words.extend(word.or(allowed).map(|word| (at, word)));
            match at.checked_add(1) {
                Some(next) if next >> width == 0 => slot = next,
                _ => break,
            }
        }
        words
    }

    /// Disjoint, sorted ranges of slots that prefixes ending on this level cover.
    fn ranges<'a, K: Key + 'a>(
        &mut self,
        items: impl Iterator<Item = &'a Item<K>>,
        depth: u32,
        width: u32,
        inherited: u32,
    ) -> Vec<Range> {
        let mut done: Vec<Range> = Vec::new();
        let mut open: Vec<Range> = Vec::new();
        let close = |range: Range, done: &mut Vec<Range>, open: &mut Vec<Range>| {
            let after = range.last.checked_add(1);
            if range.first <= range.last {
                done.push(range);
            }
            // The enclosing range goes on behind the one that ended.
            if let (Some(outer), Some(after)) = (open.last_mut(), after) {
                outer.first = after;
            }
        };
        for item in items {
            let first = item.bits(depth, width);
            let free = depth + width - u32::from(item.length).max(depth);
            let last = first + ((1_u64 << free) - 1) as u32;
            while let Some(range) = open.pop_if(|range| range.last < first) {
                close(range, &mut done, &mut open);
            }
            let around = open.last().map_or(inherited, |range| range.selector);
            let selector = match (around, item.number) {
                (ALLOW, _) | (_, ALLOW) => ALLOW,
                (around, own) => self.selectors.union(around, own),
            };
            match open.last_mut() {
                Some(same) if same.first == first && same.last == last => same.selector = selector,
                Some(outer) if outer.first < first => {
                    done.push(Range { last: first - 1, ..*outer });
                    open.push(Range { first, last, selector });
                }
                _ => open.push(Range { first, last, selector }),
            }
        }
        while let Some(range) = open.pop() {
            close(range, &mut done, &mut open);
        }
        done
    }

    /// The word of a slot that is listed alike, unless that is what it inherits.
    fn alike(&mut self, selector: u32, inherited: u32) -> Option<u32> {
        let differs = selector != inherited;
        differs.then(|| tag::SELECTOR << tag::SHIFT | self.selectors.place(selector))
    }

    /// The word of a slot that has longer prefixes; `None` if they change nothing.
    fn below<K: Key>(&mut self, items: &[Item<K>], depth: u32, inherited: u32) -> Option<u32> {
        if let [item] = items
            && item.number != ALLOW
        {
            let selector = self.selectors.union(inherited, item.number);
            if K::BITS != 32 {
                let at = self.leaf(item, selector, inherited);
                let is_far = depth == SLOT_BITS && item.length >= 28 && inherited == 0;
                return Some(match (at / 2) as u32 {
                    half if is_far && half <= tag::FAR_MASK => {
                        let next = item.bits(depth, 4);
                        tag::FAR << tag::SHIFT | next << tag::FAR_SHIFT | half
                    }
                    _ => tag::LEAF << tag::SHIFT | at as u32,
                });
            }
            let place = self.selectors.place(selector);
            if item.length == 32 && inherited == 0 && (place as usize) < selector::MAX {
                let host = item.bits(24, 8);
                return Some(tag::HOST << tag::SHIFT | host << tag::HOST_SHIFT | place);
            }
        }
        let words = self.level(items, depth, 8, inherited);
        (!words.is_empty()).then(|| self.node(&words, inherited))
    }

    /// The word offset of a new leaf, an even number.
    fn leaf<K: Key>(&mut self, item: &Item<K>, selector: u32, otherwise: u32) -> usize {
        let at = self.aligned();
        let (selector, otherwise) =
            (self.selectors.place(selector), self.selectors.place(otherwise));
        let key = item.key.left();
        self.pool.extend(halves((key >> 64) as u64));
        self.pool.extend(halves(key as u64));
        self.pool.extend([u32::from(item.length), selector, otherwise, 0]);
        debug_assert_eq!(self.pool.len() - at, leaf::BYTES / 4);
        at
    }

    fn node(&mut self, words: &[(u32, u32)], otherwise: u32) -> u32 {
        let otherwise = self.selectors.place(otherwise);
        let children = self.pool.len();
        self.pool.extend(words.iter().map(|(_, word)| word));
        let at = self.aligned();
        let mut bits = [0_u64; 4];
        for (value, _) in words {
            bits[(value >> 6) as usize] |= 1 << (value & 63);
        }
        let mut ranks = 0_u32;
        let mut before = 0;
        for (quarter, bits) in bits[..3].iter().enumerate() {
            before += bits.count_ones();
            ranks |= before << (8 * quarter);
        }
        self.pool.extend(bits.iter().flat_map(|bits| halves(*bits)));
        self.pool.extend([children as u32, otherwise, ranks, 0]);
        debug_assert_eq!(self.pool.len() - at, node::BYTES / 4);
        tag::NODE << tag::SHIFT | at as u32
    }

    /// The next word offset that a `u64` may stand at.
    fn aligned(&mut self) -> usize {
        if self.pool.len() % 2 == 1 {
            self.pool.push(0);
        }
        self.pool.len()
    }
}

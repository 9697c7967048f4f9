//! What a program knows of the interface that it guards.

use sekisho_abi::{
    encapsulation::Encapsulation,
    image::Bytes,
    opt_out::BlockKey,
    prefix::{MAX_PREFIXES, Prefix, Prefixes},
    record::Role,
};

/// The settings of an interface, and who opted out.
pub trait Site {
    /// Which end of a packet is the subscriber's.
    fn role(&self) -> Role;
    /// What is unwrapped.
    fn unwrapped(&self) -> Encapsulation;
    /// The prefixes in which IPv4 addresses are embedded.
    fn embedding(&self) -> impl PrefixSet;
    /// The network's own infrastructure; empty if nobody said.
    fn infrastructure(&self) -> impl PrefixSet;
    /// The image of those who opted out, while there are any.
    fn opt_outs(&self) -> Option<impl Bytes>;
    /// Which of the sixteen ports of a row opted out.
    fn opted_out_ports(&self, key: &BlockKey) -> u64;
}

/// A few prefixes.
pub trait PrefixSet {
    /// How many there are, at most [`MAX_PREFIXES`].
    fn count(&self) -> usize;
    /// One of them.
    fn get(&self, at: usize) -> Option<Prefix>;

    /// The first that an address (halves in host byte order) is in.
    #[inline(always)]
    fn find(&self, (high, low): (u64, u64)) -> Option<Prefix> {
        let count = self.count();
        for at in 0..MAX_PREFIXES {
            if at >= count {
                break;
            }
            let prefix = self.get(at)?;
            if prefix.contains(high, low) {
                return Some(prefix);
            }
        }
        None
    }
}

impl PrefixSet for &Prefixes {
    fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    fn get(&self, at: usize) -> Option<Prefix> {
        self.each.get(at).copied()
    }
}

//! Who opted out: an image of addresses and prefixes, and a table of port blocks.
//!
//! The image is of the kind that holds a ruleset, with two lists: [`WHOLE`] names those whose
//! traffic passes unseen, [`BLOCKS`] the public addresses of which only some ports belong to
//! somebody who opted out. Those ports are in a hash table, sixteen a row, which suits both port
//! blocks of a carrier-grade NAT and the scattered port sets of MAP-E (RFC 7597, 5.1).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The list of addresses that opted out with all their ports, as a bit.
pub const WHOLE: u64 = 1;
/// The list of addresses of which a port block opted out, as a bit.
pub const BLOCKS: u64 = 2;

/// Sixteen neighbouring ports of a public IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockKey {
    /// The address, host byte order.
    pub address: u32,
    /// The upper twelve bits of the ports.
    pub ports: u32,
}

impl BlockKey {
    /// The row of a port, and its bit in there.
    #[inline(always)]
    pub const fn of(address: u32, port: u16) -> (Self, u64) {
        (Self { address, ports: port as u32 >> 4 }, 1 << (port & 15))
    }
}

/// Which of sixteen ports opted out, as bits.
pub type BlockPorts = u64;

#[cfg(feature = "aya")]
mod pod {
    // SAFETY: the record derives FromBytes and IntoBytes: every bit pattern is valid and it has no
    // padding.
    unsafe impl aya::Pod for super::BlockKey {}
}

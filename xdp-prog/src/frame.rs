//! Reading bytes of a packet.

/// A packet from its Ethernet header on.
pub trait Frame {
    /// The `N` bytes at `offset`, by value; `None` if the packet ends before.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Frame for [u8] {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}

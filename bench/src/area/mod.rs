//! What is measured, one area a module.

pub mod hits;
pub mod host;
pub mod live;
pub mod lookup;
pub mod packet;
pub mod publish;

use crate::trace::Layout;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Run {
    /// How often everything is measured, in turn.
    pub rounds: usize,
    /// Packets of one sample of packets that are not listed.
    pub packets: u32,
    /// Sizes of lists.
    pub sizes: Vec<usize>,
    /// Packets of one sample of packets that are: each is accounted, which takes longer.
    pub packets_of_hits: u32,
    /// Packets of one sample of a table that is tens of times slower.
    pub packets_of_peer: u32,
    /// Entries of the clustered list; 0 for none.
    pub clustered: usize,
}

/// The frames that packets come in.
fn layouts() -> [Layout; 4] {
    [(false, false), (false, true), (true, false), (true, true)]
        .map(|(is_v6, is_qinq)| Layout { is_v6, is_qinq })
}

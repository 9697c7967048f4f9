//! What is measured, one area a module.

pub mod api;
pub mod hits;
pub mod host;
pub mod live;
pub mod lookup;
pub mod packet;
pub mod publish;
pub mod store;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Run {
    /// Whether there are but some minutes.
    pub is_quick: bool,
    /// How often everything is measured that takes long.
    pub rounds: usize,
    /// How often everything is measured that takes moments.
    pub turns: usize,
    /// Sizes of lists, the smallest first.
    pub sizes: Vec<usize>,
}

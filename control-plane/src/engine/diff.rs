//! What changed from one version to another.

use std::io;

use sekisho_rules::diff::{Diff, diff};
use serde::Serialize;

use super::service::Service;
use crate::history::{History, Version};

/// Most changes that are told one by one.
pub const MOST_CHANGES: usize = 10_000;

/// Two versions, and what changed.
#[derive(Debug, Serialize)]
pub struct VersionDiff {
    /// The earlier one.
    pub from: Version,
    /// The later one.
    pub to: Version,
    /// What changed.
    #[serde(flatten)]
    pub diff: Diff,
}

/// Why two versions can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// There is no such version.
    #[error("version {0} is not kept: `sekisho history` tells which are")]
    NoVersion(u32),
    /// It can't be read.
    #[error("the history can't be read: {0}")]
    History(#[from] io::Error),
}

impl Service {
    /// The rulesets that were live, the latest first; blocks.
    pub fn versions(&self) -> io::Result<Vec<Version>> {
        self.history().map_or_else(|| Ok(Vec::new()), History::versions)
    }

    /// What changed from one version to another, at most so many changes one by one; blocks.
    pub fn diff(&self, from: u32, to: u32, most: usize) -> Result<VersionDiff, DiffError> {
        let load = |number| {
            let history = self.history().ok_or(DiffError::NoVersion(number))?;
            history.load(number)?.ok_or(DiffError::NoVersion(number))
        };
        let ((from, before), (to, after)) = (load(from)?, load(to)?);
        let diff = diff(&before, &after, most.min(MOST_CHANGES));
        Ok(VersionDiff { from, to, diff })
    }
}

//! A feed as the catalogue describes it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is to happen to a packet that an entry matches, the mildest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Count it and let it pass.
    Observe,
    /// Count it and drop it.
    #[default]
    Drop,
}

impl Action {
    /// The name in configuration and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

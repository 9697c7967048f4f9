//! What is said of a version beside its table.

use std::fmt;

use jiff::Timestamp;
use sekisho_rules::feed::FeedName;
use serde::{Deserialize, Serialize};

/// A ruleset that was made live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number, which is the generation of the ruleset.
    pub number: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// Why, and by whom.
    pub causes: Vec<Cause>,
    /// IPv4 entries.
    pub entries_v4: u32,
    /// IPv6 entries.
    pub entries_v6: u32,
    /// Checksum of the image.
    pub checksum: u32,
    /// Indicators of each feed that stand.
    pub feeds: Vec<FeedCount>,
    /// The operator's own entries that were in force, by number.
    pub operator: Vec<u32>,
    /// The version that it goes back to, while one was pinned.
    pub pinned_to: Option<u32>,
}

/// How many indicators of a feed stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedCount {
    /// The feed.
    pub feed: FeedName,
    /// How many.
    pub accepted: u64,
}

/// Why a ruleset was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What happened.
    #[serde(flatten)]
    pub what: What,
    /// Who did it; `daemon` if nobody else.
    pub by: String,
}

/// What makes a ruleset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// The daemon started.
    Start,
    /// A list of a feed changed, or the feed was heard of for the first time.
    Feed {
        /// The feed.
        feed: FeedName,
    },
    /// A held list was accepted.
    Accepted {
        /// The feed.
        feed: FeedName,
    },
    /// An entry of the operator's own was made or ended.
    Entry {
        /// Its number.
        entry: u32,
    },
    /// Too many subscribers met an entry, or somebody decided about that.
    Breaker {
        /// The entry: `198.18.0.1:443/tcp`.
        entry: String,
    },
    /// A claim or an entry lapsed, a source fell silent, or what was new is enforced.
    Lapse,
    /// The operator's files were read again.
    Reload,
    /// What was live was not what should have been.
    Repair,
    /// Somebody went back to an earlier version.
    Rollback {
        /// That version.
        to: u32,
    },
    /// Somebody ended that.
    Resume,
}

impl Cause {
    /// Something that nobody did.
    pub fn own(what: What) -> Self {
        Self { what, by: "daemon".to_owned() }
    }
}

/// A few words: `list of feed 'one'`, `entry 7 by alice`.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Start => f.write_str("start"),
            What::Feed { feed } => write!(f, "list of feed '{feed}'"),
            What::Accepted { feed } => write!(f, "held list of feed '{feed}' accepted"),
            What::Entry { entry } => write!(f, "entry {entry}"),
            What::Breaker { entry } => write!(f, "breaker on {entry}"),
            What::Lapse => f.write_str("lapse"),
            What::Reload => f.write_str("reload"),
            What::Repair => f.write_str("repair"),
            What::Rollback { to } => write!(f, "rollback to {to}"),
            What::Resume => f.write_str("resume"),
        }?;
        if self.by == "daemon" { Ok(()) } else { write!(f, " by {}", self.by) }
    }
}

//! The catalogue: which feeds there are.

use serde::{Deserialize, Serialize};

use crate::{
    feed::FeedSpec,
    yaml::{YamlError, from_yaml},
};

/// Most enabled feeds at a time: the ruleset image has 64 bits of feeds in an entry.
pub const MAX_ENABLED: usize = 64;

/// The feeds of a catalogue file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Names are unique, and at most [`MAX_ENABLED`] are enabled.
    pub feeds: Vec<FeedSpec>,
}

impl Catalogue {
    /// Reads and checks a catalogue; `file` only serves the error text.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, YamlError> {
        from_yaml(text, file)
    }

    /// The feeds that are in use.
    pub fn enabled(&self) -> impl Iterator<Item = &FeedSpec> {
        self.feeds.iter().filter(|feed| feed.enabled)
    }
}

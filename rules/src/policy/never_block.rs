//! Lists of networks that are never blocked, whatever a feed says.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::yaml::{YamlError, from_yaml};

/// A list of networks that are never blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeverBlock {
    /// Names the list in reports.
    pub name: String,
    /// When it was made, or the publisher's number.
    pub version: String,
    /// Where it comes from.
    pub source: String,
    /// The licence it comes under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The networks.
    pub networks: Vec<NeverBlockNet>,
}

/// A network that is never blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeverBlockNet {
    /// The network.
    pub network: IpNet,
    /// What it is and why it must stay reachable.
    pub reason: String,
}

impl NeverBlock {
    /// Reads and checks a list; `file` only serves the error text.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, YamlError> {
        from_yaml(text, file)
    }
}

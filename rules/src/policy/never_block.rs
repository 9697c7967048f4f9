//! Lists of networks that are never blocked, whatever a feed says.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::ranges::{Ranges, Touch};
use crate::{
    refusal::Why,
    yaml::{YamlError, from_yaml},
};

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
    /// The network; an address alone is that host.
    #[serde(deserialize_with = "network")]
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

/// Reads a network without host bits, or an address.
pub(super) fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    let text = String::deserialize(deserializer)?;
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| {
        D::Error::custom(format!("'{text}' is no network: expected one such as 198.18.0.0/15"))
    })?;
    if network == network.trunc() {
        Ok(network)
    } else {
        let whole = network.trunc();
        Err(D::Error::custom(format!("'{text}' has host bits: expected {whole} or a single host")))
    }
}

/// All never-block lists together, ready to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NeverBlocked(Ranges<(Arc<str>, Arc<str>)>);

impl NeverBlocked {
    pub(super) fn new(lists: &[NeverBlock]) -> Self {
        let rows = lists.iter().flat_map(|list| {
            let name: Arc<str> = list.name.as_str().into();
            list.networks.iter().map(move |row| {
                (row.network, (Arc::clone(&name), Arc::<str>::from(row.reason.as_str())))
            })
        });
        Self(Ranges::new(rows))
    }

    /// What refuses the network. One that is wider than a never-block network is not refused: that
    /// part is taken out of it.
    pub(super) fn check(&self, network: IpNet) -> Option<Why> {
        let Touch { range, value: (list, reason), is_inside } = self.0.touching(network)?;
        is_inside.then(|| Why::NeverBlock {
            list: Arc::clone(list),
            range,
            reason: Arc::clone(reason),
        })
    }

    /// The parts of the network that are never blocked.
    pub(super) fn inside(&self, network: IpNet) -> Vec<IpNet> {
        self.0.inside(network)
    }
}

//! Lists of networks that are never blocked, whatever a feed says.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    ranges::{Blocks, Ranges, Touch},
    warninglist,
};
use crate::{
    indicator::Traffic,
    refusal::Why,
    yaml::{YamlError, from_yaml},
};

/// A list of networks that are never blocked, or not lightly.
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
    /// How far it goes.
    #[serde(default)]
    pub tier: Tier,
    /// Why its networks must stay reachable, for those that give no reason of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The networks.
    pub networks: Vec<NeverBlockNet>,
}

/// How far a never-block list goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// No claim on its networks stands.
    #[default]
    Never,
    /// A claim on a port stands, unless it is a port of the web: many innocent services share each
    /// address, and the web ports are what they share.
    PortExact,
    /// Claims stand and are only observed: defenders run these hosts, and who calls them is infected.
    Sinkhole,
    /// Claims on hosts stand and are counted; wider ones don't: anybody can rent an address there.
    Warn,
}

/// A network that is never blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeverBlockNet {
    /// The network; an address alone is that host.
    #[serde(deserialize_with = "network")]
    pub network: IpNet,
    /// What it is and why it must stay reachable. Unset, the list's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl NeverBlock {
    /// Reads and checks a list; `file` only serves the error text.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, YamlError> {
        from_yaml(text, file)
    }

    /// Reads a MISP warninglist of networks, `list.json`; `file` only serves the error text.
    pub fn from_warninglist(text: &str, file: &str) -> Result<Self, YamlError> {
        warninglist::read(text, file)
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

/// Prefix length of one tenant's host.
const HOST_V4: u8 = 32;
/// The same: a tenant has no less than a /64 of its own.
const HOST_V6: u8 = 64;
/// The ports that all sites of a shared address answer on.
const WEB_PORTS: [u16; 2] = [80, 443];

/// All never-block lists together, ready to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NeverBlocked {
    never: Listed,
    port_exact: Listed,
    sinkhole: Listed,
    warn: Listed,
}

/// The networks of one tier, with the list's name and the reason.
type Listed = Ranges<(Arc<str>, Arc<str>)>;

impl NeverBlocked {
    pub(super) fn new(lists: &[NeverBlock]) -> Self {
        let of = |tier| {
            let lists = lists.iter().filter(move |list| list.tier == tier);
            Ranges::new(lists.flat_map(|list| {
                let name: Arc<str> = list.name.as_str().into();
                let common: Arc<str> = list.reason.as_deref().unwrap_or(&list.name).into();
                list.networks.iter().map(move |row| {
                    let reason =
                        row.reason.as_deref().map_or_else(|| Arc::clone(&common), Into::into);
                    (row.network, (Arc::clone(&name), reason))
                })
            }))
        };
        Self {
            never: of(Tier::Never),
            port_exact: of(Tier::PortExact),
            sinkhole: of(Tier::Sinkhole),
            warn: of(Tier::Warn),
        }
    }

    /// The IPv4 blocks that any of the networks touches.
    pub(super) fn blocks(&self) -> [&Blocks; 4] {
        [&self.never, &self.port_exact, &self.sinkhole, &self.warn].map(Ranges::blocks)
    }

    /// What refuses the claim. One on a network that is wider than a never-block network is not
    /// refused: that part is taken out of it.
    pub(super) fn check(&self, network: IpNet, traffic: Traffic) -> Option<Why> {
        let why = |touch: Touch<'_, (Arc<str>, Arc<str>)>, is_shared| {
            let (list, reason) = touch.value;
            Why::NeverBlock {
                list: Arc::clone(list),
                range: touch.range,
                reason: Arc::clone(reason),
                is_shared,
            }
        };
        let never = self.never.touching(network).filter(|touch| touch.is_inside);
        if let Some(touch) = never {
            return Some(why(touch, false));
        }
        let shared = self.port_exact.touching(network).filter(|touch| touch.is_inside);
        shared.filter(|_| !is_exact(traffic)).map(|touch| why(touch, true))
    }

    /// What refuses a claim on a network that only stands for this one: there are no parts of it to
    /// take out.
    pub(super) fn check_all(&self, network: IpNet, traffic: Traffic) -> Option<Why> {
        let part = self.inside(network, std::iter::once(traffic)).first().copied();
        self.check(part.unwrap_or(network), traffic)
    }

    /// What refuses a claim on more than one host of a network of many tenants. Nothing is taken out
    /// of it instead, since that would take from the claims on single hosts there as well.
    pub(super) fn rented(&self, network: IpNet) -> Option<Why> {
        let longest_wide = match network {
            IpNet::V4(_) => HOST_V4 - 1,
            IpNet::V6(_) => HOST_V6 - 1,
        };
        if network.prefix_len() > longest_wide {
            return None;
        }
        let Touch { range, value: (list, reason), .. } = self.warn.touching(network)?;
        Some(Why::Rented { list: Arc::clone(list), range, reason: Arc::clone(reason) })
    }

    /// The list of sinkholes that has the whole network: its name and its reason.
    pub(super) fn sinkhole(&self, network: IpNet) -> Option<&(Arc<str>, Arc<str>)> {
        self.sinkhole.touching(network).filter(|touch| touch.is_inside).map(|touch| touch.value)
    }

    /// The sinkholes inside the network.
    pub(super) fn sinkholes_inside(&self, network: IpNet) -> Vec<IpNet> {
        self.sinkhole.inside(network)
    }

    /// The list that warns of the network: its name and its reason.
    pub(super) fn warning(&self, network: IpNet) -> Option<&(Arc<str>, Arc<str>)> {
        self.warn.touching(network).map(|touch| touch.value)
    }

    /// The parts of the network that claims on this traffic must not block.
    pub(super) fn inside(
        &self,
        network: IpNet,
        mut traffic: impl Iterator<Item = Traffic>,
    ) -> Vec<IpNet> {
        let mut parts = self.never.inside(network);
        if traffic.any(|traffic| !is_exact(traffic)) {
            parts.extend(self.port_exact.inside(network));
        }
        parts
    }
}

/// Whether the claim is on a port that a shared address need not have in common with its
/// neighbours.
fn is_exact(traffic: Traffic) -> bool {
    traffic.port.is_some_and(|port| !WEB_PORTS.contains(&port))
}

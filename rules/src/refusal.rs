//! Indicators that the policy did not let into the table, and why.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::{feed::FeedName, indicator::Traffic, moment::Moment, policy::Form};

/// Most refusals of one feed that are kept one by one; all are counted.
pub const MAX_KEPT_PER_FEED: u64 = 4_096;

/// The kinds of refusal: the name in reports and the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// Overlaps a range of the built-in list.
    Reserved,
    /// Overlaps a network of the operator.
    OwnPrefix,
    /// Shorter prefix than the feed may list.
    TooWide,
    /// Inside a never-block network.
    NeverBlock,
    /// Inside a network whose addresses many share, and not on a port of its own.
    SharedAddress,
    /// Wider than a host, and touches a network where anybody can rent an address.
    RentedNetwork,
    /// The operator lets it pass.
    Allowed,
    /// The operator lets the claim count for nothing.
    Suppressed,
    /// The feed is not sure enough.
    LowConfidence,
    /// Not seen for longer than the feed's claims last.
    Expired,
    /// The feed lists too many ports of the network.
    TooManyPorts,
    /// The table would cover more of the Internet than the policy allows.
    Coverage,
}

impl RefusalReason {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::Reserved,
        Self::OwnPrefix,
        Self::TooWide,
        Self::NeverBlock,
        Self::SharedAddress,
        Self::RentedNetwork,
        Self::Allowed,
        Self::Suppressed,
        Self::LowConfidence,
        Self::Expired,
        Self::TooManyPorts,
        Self::Coverage,
    ];

    /// The name in reports and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::OwnPrefix => "own_prefix",
            Self::TooWide => "too_wide",
            Self::NeverBlock => "never_block",
            Self::SharedAddress => "shared_address",
            Self::RentedNetwork => "rented_network",
            Self::Allowed => "allowed",
            Self::Suppressed => "suppressed",
            Self::LowConfidence => "low_confidence",
            Self::Expired => "expired",
            Self::TooManyPorts => "too_many_ports",
            Self::Coverage => "coverage",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What refused an indicator, with the facts of the case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A range of the built-in list.
    Reserved {
        /// The range.
        range: IpNet,
        /// What it is.
        name: &'static str,
        /// The document that reserves it.
        reference: &'static str,
    },
    /// A network of the operator.
    OwnPrefix {
        /// The network.
        range: IpNet,
        /// The operator's name for it.
        name: Arc<str>,
    },
    /// The prefix floor.
    TooWide {
        /// Shortest prefix that the feed may list.
        floor: u8,
    },
    /// A never-block list.
    NeverBlock {
        /// The list's name.
        list: Arc<str>,
        /// The network of the list.
        range: IpNet,
        /// Why it must stay reachable.
        reason: Arc<str>,
        /// Whether the list lets claims on a port stand that is no port of the web.
        is_shared: bool,
    },
    /// A never-block list of the tier `warn`, of a claim on more than one host.
    Rented {
        /// The list's name.
        list: Arc<str>,
        /// The network of the list.
        range: IpNet,
        /// What the list says of it.
        reason: Arc<str>,
    },
    /// The IPv4 network that an IPv6 one stands for is refused.
    Embedded {
        /// How it stands for it.
        form: Form,
        /// The IPv4 network.
        network: Ipv4Net,
        /// What refuses that.
        why: Box<Why>,
    },
    /// An entry of the operator's own.
    Operator {
        /// Its number.
        entry: u32,
        /// The network that it names.
        range: IpNet,
        /// Who answers for it.
        owner: Arc<str>,
        /// Why it was made.
        reason: Arc<str>,
        /// Whether it lets the network pass, rather than suppressing claims on it.
        is_allowed: bool,
    },
    /// The confidence.
    LowConfidence {
        /// The feed's confidence.
        confidence: u8,
        /// The least that counts.
        least: u8,
    },
    /// The expiry.
    Expired {
        /// When the claim lapsed.
        at: Moment,
    },
    /// The limit on ports.
    TooManyPorts {
        /// Most ports of one network that are kept.
        most: u32,
    },
    /// The cap on what all entries together cover.
    Coverage {
        /// Shortest prefix of the feed that still fits.
        floor: u8,
        /// The cap.
        most: u64,
        /// What the cap counts.
        unit: &'static str,
    },
}

impl Why {
    /// The kind.
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::Reserved { .. } => RefusalReason::Reserved,
            Self::OwnPrefix { .. } => RefusalReason::OwnPrefix,
            Self::TooWide { .. } => RefusalReason::TooWide,
            Self::NeverBlock { is_shared: false, .. } => RefusalReason::NeverBlock,
            Self::NeverBlock { is_shared: true, .. } => RefusalReason::SharedAddress,
            Self::Rented { .. } => RefusalReason::RentedNetwork,
            Self::Embedded { why, .. } => why.reason(),
            Self::Operator { is_allowed: true, .. } => RefusalReason::Allowed,
            Self::Operator { is_allowed: false, .. } => RefusalReason::Suppressed,
            Self::LowConfidence { .. } => RefusalReason::LowConfidence,
            Self::Expired { .. } => RefusalReason::Expired,
            Self::TooManyPorts { .. } => RefusalReason::TooManyPorts,
            Self::Coverage { .. } => RefusalReason::Coverage,
        }
    }
}

/// The second half of a sentence whose first half names the indicator.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved { range, name, reference } => {
                write!(f, "it overlaps {range}, {name} ({reference}), which is never blocked")
            }
            Self::OwnPrefix { range, name } => {
                write!(f, "it overlaps {range}, our own network '{name}'")
            }
            Self::TooWide { floor } => {
                write!(f, "the feed may list nothing wider than a /{floor}")
            }
            Self::NeverBlock { list, range, reason, is_shared: false } => {
                write!(f, "{range} is on the never-block list '{list}': {reason}")
            }
            Self::NeverBlock { list, range, reason, is_shared: true } => write!(
                f,
                "{range} is on the list '{list}', where only ports other than 80 and 443 are \
                 blocked: {reason}"
            ),
            Self::Rented { list, range, reason } => {
                write!(f, "{range} is on the list '{list}', where only hosts are blocked: {reason}")
            }
            Self::Embedded { form, network, why } => {
                let network = indicator_text((*network).into(), Traffic::ANY);
                write!(f, "it is {form} {network}, and {why}")
            }
            Self::Operator { entry, range, owner, reason, is_allowed: true } => {
                write!(f, "entry {entry} of {owner} lets {range} pass: {reason}")
            }
            Self::Operator { entry, range, owner, reason, is_allowed: false } => {
                write!(f, "entry {entry} of {owner} suppresses claims on {range}: {reason}")
            }
            Self::LowConfidence { confidence, least } => {
                write!(f, "the feed's confidence is {confidence}, and {least} is the least")
            }
            Self::Expired { at } => write!(f, "the claim lapsed at {at}"),
            Self::TooManyPorts { most } => {
                write!(f, "the feed lists more than {most} ports of the same network")
            }
            Self::Coverage { floor, most, unit } => write!(
                f,
                "all entries together may cover {most} {unit}, and of this feed only a /{floor} or \
                 longer fits"
            ),
        }
    }
}

/// An indicator that did not get into the table.
///
/// Serialises to `indicator`, `feed`, `line`, `reason` and `text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the feed listed.
    pub network: IpNet,
    /// Which packets it meant.
    pub traffic: Traffic,
    /// The feed.
    pub feed: FeedName,
    /// The line of the feed.
    pub line: u32,
    /// What refused it.
    pub why: Why,
}

impl Refusal {
    /// The indicator as text: `10.0.0.0/8`, `8.8.8.8:53/udp`, `[2001:db8::1]:443/tcp`.
    pub fn indicator(&self) -> String {
        indicator_text(self.network, self.traffic)
    }
}

/// A full sentence.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of feed '{}' (line {}) is refused: {}.",
            self.indicator(),
            self.feed,
            self.line,
            self.why
        )
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Refusal", 5)?;
        row.serialize_field("indicator", &self.indicator())?;
        row.serialize_field("feed", &self.feed)?;
        row.serialize_field("line", &self.line)?;
        row.serialize_field("reason", &self.why.reason())?;
        row.serialize_field("text", &self.to_string())?;
        row.end()
    }
}

/// The refusals of a compilation: all counted, the first ones kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refusals {
    /// How many, by reason.
    pub by_reason: BTreeMap<RefusalReason, u64>,
    /// The first of them, at most [`MAX_KEPT_PER_FEED`] of each feed.
    pub kept: Vec<Refusal>,
}

impl Refusals {
    /// How many indicators were refused.
    pub fn total(&self) -> u64 {
        self.by_reason.values().sum()
    }
}

/// A network and the packets that are meant, in the notation of [`crate::explain::Query`].
pub fn indicator_text(network: IpNet, traffic: Traffic) -> String {
    let is_host = network.prefix_len() == network.max_prefix_len();
    let mut text = match (is_host, traffic.port, network) {
        (true, Some(_), IpNet::V6(v6)) => format!("[{}]", v6.addr()),
        (true, ..) => network.addr().to_string(),
        (false, ..) => network.to_string(),
    };
    if let Some(port) = traffic.port {
        text = format!("{text}:{port}");
    }
    if let Some(protocol) = traffic.protocol {
        text = format!("{text}/{protocol}");
    }
    text
}

//! A feed as the catalogue describes it.

use std::{fmt, ops::Deref, path::PathBuf, str::FromStr, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Error as _, Unexpected, Visitor},
};

pub use crate::source::Source;
use crate::{
    access::{Auth, CrowdsecSpec, Login, Proxy, TaxiiSpec},
    change::Limits,
    mapping::Mapping,
    period::{Period, Wait},
};

/// Shortest IPv4 prefix that any configuration may allow a feed.
pub const SHORTEST_FLOOR_V4: u8 = 8;
/// Shortest IPv6 prefix that any configuration may allow a feed.
pub const SHORTEST_FLOOR_V6: u8 = 16;
/// How long the claims of a feed that comes over HTTP may stay as they are, unless it says.
const USUAL_CONTENT_AGE: Period = Period::days(30);

/// A row of the catalogue: where a list comes from, how it is read and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedSpec {
    /// Names the feed in reports, metrics and the store.
    pub name: FeedName,
    /// Where the list is.
    pub source: Source,
    /// How its bytes are read.
    pub format: Format,
    /// Where a generic format has what; the formats `csv`, `json` and `json-lines` need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// What happens to packets that its entries match.
    #[serde(default)]
    pub action: Action,
    /// Whether the feed is used at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Shortest IPv4 prefix that it may list, 8 to 32; 32 is single hosts only. Unset, the
    /// policy's, or 24 for a format that lists networks.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "floor_v4")]
    pub min_prefix_v4: Option<u8>,
    /// Shortest IPv6 prefix that it may list, 16 to 128. Unset, the policy's, or 48 for a format
    /// that lists networks.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "floor_v6")]
    pub min_prefix_v6: Option<u8>,
    /// How long a claim stands after the feed last listed it. Unset, the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_after: Option<Period>,
    /// Claims that the feed itself last saw longer ago are refused, if it says when. Unset, no
    /// claim is too old as long as the feed lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Period>,
    /// What the hosts are that it lists, where it does not say so of each.
    #[serde(default)]
    pub class: Class,
    /// Whether the ports that the feed names are kept.
    #[serde(default)]
    pub ports: Ports,
    /// How sure a claim is that names no confidence of its own, 0 to 100.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "some_percentage"
    )]
    pub confidence: Option<u8>,
    /// Claims with a lower confidence are refused; a claim without confidence passes. 0 to 100.
    #[serde(default, deserialize_with = "percentage")]
    pub min_confidence: u8,
    /// What its word counts in the score, 0 to 100. Default: 100.
    #[serde(default = "full", deserialize_with = "percentage")]
    pub weight: u8,
    /// Whose findings it repeats: feeds of the same origin count once in the score. Unset, its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// How long its new entries only observe. Unset, as the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe_for: Option<Wait>,
    /// How often the source is asked for news; at least five minutes over HTTP, ten seconds of a
    /// CrowdSec LAPI.
    #[serde(default = "an_hour")]
    pub refresh: Period,
    /// The shortest `refresh` that the publisher allows. Who asks more often is locked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_refresh: Option<Period>,
    /// How long the claims of the feed may stay as they are before it counts as stale: many feeds
    /// die and go on answering. Unset, 30 days for what comes over HTTP, and for ever for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_content_age: Option<Period>,
    /// How the feed shows who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Through what requests go. Unset, as `fetch.proxy` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Who asks that proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_login: Option<Login>,
    /// Certificates (PEM) of those who may vouch for the server, and nobody else may. Unset, as
    /// `fetch.ca_file` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// What is read of a TAXII server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxii: Option<TaxiiSpec>,
    /// What is read of a CrowdSec LAPI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowdsec: Option<CrowdsecSpec>,
    /// Largest list that is read, in bytes. Unset, the reader's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// How much the list may change at once.
    #[serde(default)]
    pub limits: Limits,
    /// Whether a list without anything in it is a list, where something was in it before.
    #[serde(default)]
    pub may_be_empty: bool,
    /// Whether somebody has to accept each change.
    #[serde(default)]
    pub approval: Approval,
    /// How long only lists that are older than the one in force must have come, by the publisher's
    /// own date, until one of them is taken. Unset, 72 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_after: Option<Period>,
    /// The licence or terms the list comes under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// What has to be said wherever the data is shown or passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
    /// A page for people about the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// Anything an operator should know of the feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl FeedSpec {
    /// Whose findings it repeats, if not its own.
    pub fn origin(&self) -> &str {
        self.origin.as_deref().unwrap_or(&self.name)
    }

    /// How long its claims may stay as they are before it counts as stale; `None` is for ever.
    pub fn content_lifetime(&self) -> Option<Period> {
        self.max_content_age.or_else(|| self.source.is_http().then_some(USUAL_CONTENT_AGE))
    }
}

/// Whether changes of a feed wait for somebody's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A change within the limits is taken.
    #[default]
    None,
    /// Every change is held until it is accepted.
    Required,
}

/// What a listed host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Nobody says.
    #[default]
    Unknown,
    /// Run for the botnet and nothing else.
    Dedicated,
    /// A legitimate host that was broken into.
    Compromised,
    /// Run by defenders, who took the botnet over.
    Sinkhole,
    /// It scans or attacks others, and commands nothing.
    Scanner,
}

/// A feed's name: 1 to 40 letters, digits, `-`, `_` and `.`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FeedName(Arc<str>);

impl FeedName {
    /// A name of our own, which is known to be one.
    pub(crate) fn reserved(name: &str) -> Self {
        Self(name.into())
    }

    /// The shared text.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Deref for FeedName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FeedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits =
            (1..=40).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain);
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "'{text}' is no feed name: expected 1 to 40 letters, digits, '-', '_' and '.'"
            ))
        }
    }
}

impl<'de> Deserialize<'de> for FeedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The formats that lists come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One address, network or address with port a line.
    Plain,
    /// Hosts-file syntax: an address a line, with comments; names are never resolved.
    Hosts,
    /// abuse.ch Feodo Tracker `ipblocklist.csv`.
    FeodoCsv,
    /// abuse.ch Feodo Tracker `ipblocklist.json`.
    FeodoJson,
    /// abuse.ch ThreatFox CSV export.
    ThreatfoxCsv,
    /// abuse.ch SSL blacklist `sslipblacklist.csv`.
    SslblCsv,
    /// Spamhaus DROP `drop_v4.json`, `drop_v6.json`, and ASN-DROP `asndrop.json`: JSON lines.
    SpamhausDropJson,
    /// Spamhaus DROP `drop.txt`, `dropv6.txt`.
    SpamhausDropText,
    /// abuse.ch ThreatFox JSON: the export, and the answer of its API.
    ThreatfoxJson,
    /// abuse.ch URLhaus CSV: URLs, which are kept and never blocked.
    UrlhausCsv,
    /// FireHOL `*.netset` and `*.ipset`.
    FireholNetset,
    /// Rules of Suricata or Snort that are about addresses and ports alone, as ET botcc.
    SuricataRules,
    /// C2IntelFeeds `IPC2s.csv`, `domainC2s.csv`.
    C2intelCsv,
    /// A report in the columns of Shadowserver, found by name.
    ShadowserverCsv,
    /// A MISP event or several, `to_ids` attributes only.
    Misp,
    /// A STIX 2.1 bundle, or the envelope of a TAXII 2.1 server.
    Stix,
    /// Decisions of a CrowdSec LAPI, as its client keeps them.
    Crowdsec,
    /// Any CSV, by a mapping.
    Csv,
    /// Any JSON document, by a mapping.
    Json,
    /// JSON lines, by a mapping.
    JsonLines,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 20] = [
        Self::Plain,
        Self::Hosts,
        Self::FeodoCsv,
        Self::FeodoJson,
        Self::ThreatfoxCsv,
        Self::SslblCsv,
        Self::SpamhausDropJson,
        Self::SpamhausDropText,
        Self::ThreatfoxJson,
        Self::UrlhausCsv,
        Self::FireholNetset,
        Self::SuricataRules,
        Self::C2intelCsv,
        Self::ShadowserverCsv,
        Self::Misp,
        Self::Stix,
        Self::Crowdsec,
        Self::Csv,
        Self::Json,
        Self::JsonLines,
    ];

    /// The name in the catalogue.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Hosts => "hosts",
            Self::FeodoCsv => "feodo-csv",
            Self::FeodoJson => "feodo-json",
            Self::ThreatfoxCsv => "threatfox-csv",
            Self::SslblCsv => "sslbl-csv",
            Self::SpamhausDropJson => "spamhaus-drop-json",
            Self::SpamhausDropText => "spamhaus-drop-text",
            Self::ThreatfoxJson => "threatfox-json",
            Self::UrlhausCsv => "urlhaus-csv",
            Self::FireholNetset => "firehol-netset",
            Self::SuricataRules => "suricata-rules",
            Self::C2intelCsv => "c2intel-csv",
            Self::ShadowserverCsv => "shadowserver-csv",
            Self::Misp => "misp",
            Self::Stix => "stix",
            Self::Crowdsec => "crowdsec",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::JsonLines => "json-lines",
        }
    }

    /// Whether the rows are networks by the publisher's intent, rather than hosts.
    pub const fn lists_networks(self) -> bool {
        matches!(self, Self::SpamhausDropJson | Self::SpamhausDropText | Self::FireholNetset)
    }

    /// Whether the catalogue has to say where the list has what.
    pub const fn needs_mapping(self) -> bool {
        matches!(self, Self::Csv | Self::Json | Self::JsonLines)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is to happen to a packet that an entry matches, the mildest first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Count it and let it pass.
    Observe,
    /// Count it and send it to the sinkhole; without one, drop it.
    Sinkhole,
    /// Count it, drop it and tell the subscriber: TCP RST, or ICMP "administratively prohibited".
    Reject,
    /// Count it and drop it.
    #[default]
    Drop,
}

impl Action {
    /// The name in configuration and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Sinkhole => "sinkhole",
            Self::Reject => "reject",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of the ports that a feed names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ports {
    /// A claim on a port blocks that port only.
    #[default]
    Keep,
    /// A claim on a port blocks the whole address.
    Ignore,
}

const fn yes() -> bool {
    true
}

const fn full() -> u8 {
    100
}

const fn an_hour() -> Period {
    Period::hours(1)
}

fn floor_v4<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    bounded(deserializer, "an IPv4 prefix length", SHORTEST_FLOOR_V4, 32).map(Some)
}

fn floor_v6<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    bounded(deserializer, "an IPv6 prefix length", SHORTEST_FLOOR_V6, 128).map(Some)
}

fn some_percentage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    percentage(deserializer).map(Some)
}

pub(crate) fn percentage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    bounded(deserializer, "a percentage", 0, 100)
}

/// Reads a whole number within bounds.
pub(crate) fn bounded<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    least: u8,
    most: u8,
) -> Result<u8, D::Error> {
    deserializer.deserialize_any(Bounded { what, least, most })
}

struct Bounded {
    what: &'static str,
    least: u8,
    most: u8,
}

impl Visitor<'_> for Bounded {
    type Value = u8;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.what, self.least, self.most)
    }

    fn visit_i64<E: de::Error>(self, found: i64) -> Result<u8, E> {
        match u8::try_from(found) {
            Ok(value) if (self.least..=self.most).contains(&value) => Ok(value),
            _ => Err(E::invalid_value(Unexpected::Signed(found), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, found: u64) -> Result<u8, E> {
        self.visit_i64(i64::try_from(found).unwrap_or(i64::MAX))
    }
}

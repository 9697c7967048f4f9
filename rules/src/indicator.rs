//! What a feed claims: one network, perhaps one port, and what it says about it.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IANA protocol 6.
    Tcp,
    /// IANA protocol 17.
    Udp,
}

impl Protocol {
    /// The IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The name as written in reports and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            other => Err(format!("'{other}' is no protocol: expected tcp or udp")),
        }
    }
}

/// Which packets to or from a listed network are meant.
///
/// `port` without `protocol` means that port of TCP and of UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Traffic {
    /// Only this protocol; `None` is any, ICMP included.
    pub protocol: Option<Protocol>,
    /// Only this port of the remote; `None` is any. Never 0.
    pub port: Option<u16>,
}

impl Traffic {
    /// Every packet.
    pub const ANY: Self = Self { protocol: None, port: None };
}

/// One claim of one feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indicator {
    /// Host bits are zero.
    pub network: IpNet,
    /// What the feed lists of that network.
    pub traffic: Traffic,
    /// The malware family, as the feed spells it; shared between the indicators that name it.
    pub malware: Option<Arc<str>>,
    /// When the feed first saw it.
    pub first_seen: Option<Moment>,
    /// When the feed last saw it.
    pub last_seen: Option<Moment>,
    /// How sure the feed is, 0 to 100.
    pub confidence: Option<u8>,
    /// When the feed itself says that the claim ends.
    pub valid_until: Option<Moment>,
    /// Whether the host is a legitimate one that was broken into, so that only the port listed may
    /// ever be blocked.
    pub compromised: bool,
    /// Line of the feed (1-based; for JSON that is no JSON lines, the element), for error reports.
    pub line: u32,
}

impl Indicator {
    /// One that says nothing but what it is about.
    pub(crate) const fn bare(network: IpNet, traffic: Traffic, line: u32) -> Self {
        Self {
            network,
            traffic,
            malware: None,
            first_seen: None,
            last_seen: None,
            confidence: None,
            valid_until: None,
            compromised: false,
            line,
        }
    }

    /// Whether it says nothing but what it is about.
    pub(crate) const fn is_bare(&self) -> bool {
        let Self { malware, first_seen, last_seen, confidence, valid_until, compromised, .. } =
            self;
        malware.is_none()
            && first_seen.is_none()
            && last_seen.is_none()
            && confidence.is_none()
            && valid_until.is_none()
            && !*compromised
    }
}

/// One claim of one feed about what has no address of its own.
///
/// It is kept for reports and exports. The compiler takes no such claim, so that a name never
/// becomes a block of whatever it resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What the feed lists.
    pub subject: Subject,
    /// The malware family, as the feed spells it; shared between the claims that name it.
    pub malware: Option<Arc<str>>,
    /// When the feed first saw it.
    pub first_seen: Option<Moment>,
    /// When the feed last saw it.
    pub last_seen: Option<Moment>,
    /// How sure the feed is, 0 to 100.
    pub confidence: Option<u8>,
    /// When the feed itself says that the claim ends.
    pub valid_until: Option<Moment>,
    /// Whether it is a legitimate one that was broken into.
    pub compromised: bool,
    /// Line of the feed, as in [`Indicator::line`].
    pub line: u32,
}

/// What a claim without an address is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A host name in lower case, without the dot at its end.
    Domain(Box<str>),
    /// An absolute URL, as the feed spells it.
    Url(Box<str>),
    /// The number of an autonomous system.
    Asn(u32),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(text) | Self::Url(text) => f.write_str(text),
            Self::Asn(number) => write!(f, "AS{number}"),
        }
    }
}

/// What one is asking about: an address, perhaps with port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Query {
    /// The remote address.
    pub address: IpAddr,
    /// The remote port; `None` asks about traffic whose port is not known.
    pub port: Option<u16>,
    /// The protocol; `None` with a port asks about TCP and UDP alike.
    pub protocol: Option<Protocol>,
}

impl FromStr for Query {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| format!("'{text}': {why}");
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((_, length)) if length.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(refuse("expected one address, found a network"));
            }
            Some((rest, protocol)) => (rest, Some(protocol.parse::<Protocol>()?)),
            None => (text, None),
        };
        let (address, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (address, after) = inner.split_once(']').ok_or_else(|| refuse("']' is missing"))?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or_else(|| refuse("expected ':PORT'"))?),
            };
            (address, port)
        } else {
            match rest.split_once(':') {
                Some((address, port)) if !port.contains(':') => (address, Some(port)),
                _ => (rest, None),
            }
        };
        let address = address.parse().map_err(|_| refuse("expected an IPv4 or IPv6 address"))?;
        let digits = |port: &&str| port.bytes().all(|b| b.is_ascii_digit());
        let number = |port: &str| port.parse::<u16>().ok().filter(|&port| port != 0);
        let port = match port {
            Some(port) => Some(
                Some(port)
                    .filter(digits)
                    .and_then(number)
                    .ok_or_else(|| refuse("expected a port from 1 to 65535"))?,
            ),
            None => None,
        };
        if protocol.is_some() && port.is_none() {
            return Err(refuse("a protocol needs a port: expected ADDRESS[:PORT[/tcp|udp]]"));
        }
        Ok(Self { address, port, protocol })
    }
}

//! Where a list is, and by which protocol it comes.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::period::Period;

/// What stands for the key in the address of a list.
pub const KEY: &str = "{key}";

/// Shortest time between two requests to the same web server; abuse.ch names it as the least.
const SHORTEST_REFRESH: Period = Period::minutes(5);
/// The same for a LAPI, which is the operator's own; its own bouncers ask as often.
const SHORTEST_CROWDSEC_REFRESH: Period = Period::seconds(10);

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An `http://` or `https://` address.
    Url(String),
    /// A file; a relative path starts at the folder of the catalogue.
    File(PathBuf),
    /// A TAXII 2.1 server: the address of its discovery, written behind `taxii+`.
    Taxii(String),
    /// A CrowdSec LAPI: its address, written behind `crowdsec+`.
    Crowdsec(String),
}

impl Source {
    /// The address, if the list comes over HTTP.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Url(url) | Self::Taxii(url) | Self::Crowdsec(url) => Some(url),
            Self::File(_) => None,
        }
    }

    /// Whether the list is fetched over HTTP.
    pub fn is_http(&self) -> bool {
        self.url().is_some()
    }

    /// The shortest time between two requests; files may be looked at as often as one likes.
    pub const fn shortest_refresh(&self) -> Option<Period> {
        match self {
            Self::Url(_) | Self::Taxii(_) => Some(SHORTEST_REFRESH),
            Self::Crowdsec(_) => Some(SHORTEST_CROWDSEC_REFRESH),
            Self::File(_) => None,
        }
    }

    /// What stands before the scheme of an address to name the protocol.
    const fn prefix(&self) -> &'static str {
        match self {
            Self::Url(_) | Self::File(_) => "",
            Self::Taxii(_) => "taxii+",
            Self::Crowdsec(_) => "crowdsec+",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) | Self::Taxii(url) | Self::Crowdsec(url) => {
                write!(f, "{}{url}", self.prefix())
            }
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("'{text}' is no source: {why}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.trim().is_empty() {
                refuse("expected an http(s) URL or a file path")
            } else {
                Ok(Self::File(text.into()))
            };
        };
        let (source, scheme): (fn(String) -> Self, &str) = match scheme.split_once('+') {
            None => (Self::Url, scheme),
            Some(("taxii", scheme)) => (Self::Taxii, scheme),
            Some(("crowdsec", scheme)) => (Self::Crowdsec, scheme),
            Some(_) => return refuse("expected http://, taxii+http:// or crowdsec+http://"),
        };
        match scheme {
            "http" | "https" if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) => {
                refuse("the URL has no host")
            }
            "http" | "https" if text.bytes().any(|b| b <= b' ' || b == 0x7f) => {
                refuse("the URL has a blank or control character in it")
            }
            "http" | "https" => Ok(source(format!("{scheme}://{rest}"))),
            _ => refuse("expected http://, https:// or a file path"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_prefix_and_is_printed_with_it() {
        let https = || "https://x.example/taxii2/".to_owned();
        for (text, expected) in [
            ("https://x.example/taxii2/", Source::Url(https())),
            ("taxii+https://x.example/taxii2/", Source::Taxii(https())),
            ("crowdsec+https://x.example/taxii2/", Source::Crowdsec(https())),
            ("lists/c2.txt", Source::File("lists/c2.txt".into())),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source, expected);
            assert_eq!(source.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in [
            "",
            "ftp://x/",
            "misp+https://x/",
            "taxii+ftp://x/",
            "crowdsec+http:///x",
            "http://x y",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}

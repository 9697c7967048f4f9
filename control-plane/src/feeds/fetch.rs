//! What a request for a list brings, or why it brings none.

use std::time::Duration;

use reqwest::Url;
use sekisho_rules::source::{KEY, Source};
use serde::{Deserialize, Serialize};

use super::taxii::Position;

/// What a server said to recognise its list by (RFC 9110, 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// As sent.
    pub etag: Option<String>,
    /// As sent.
    pub last_modified: Option<String>,
    /// How far a TAXII server was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxii: Option<Position>,
}

/// What a request brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The list is the one that we have.
    NotModified,
    /// A list.
    List {
        /// Its content, decompressed.
        bytes: Vec<u8>,
        /// What to recognise it by.
        validators: Validators,
        /// Whether the source took back by name what is no longer in it, so that it may be empty.
        withdrawn: bool,
    },
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// Why a request failed; the name is the metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FetchErrorKind {
            $($(#[$doc])+ $name,)+
        }

        impl FetchErrorKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name in status and as a metric label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

kinds! {
    /// No connection: name, route or refusal.
    Connect = "connect",
    /// TLS could not be agreed on, or the certificate is not to be trusted.
    Tls = "tls",
    /// It took too long.
    Timeout = "timeout",
    /// Too many redirects, or one from https to http.
    Redirect = "redirect",
    /// The server wants a key (401, 403, 407).
    Denied = "denied",
    /// There is no such list (404, 410).
    NotFound = "not_found",
    /// We ask too often (429), or the server is overloaded (503).
    Throttled = "throttled",
    /// Any other status than success.
    Status = "status",
    /// More than the feed may have.
    TooLarge = "too_large",
    /// The transfer broke off, or its compression is damaged.
    Interrupted = "interrupted",
    /// The file can't be read.
    Unreadable = "unreadable",
    /// The key of the feed is missing or can't be read; nobody was asked.
    Secret = "secret",
    /// The proxy or the certificates that the configuration names are not usable; nobody was asked.
    Setup = "setup",
    /// The answer is not of the protocol.
    Protocol = "protocol",
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// The kind.
    pub kind: FetchErrorKind,
    /// In words, without credentials.
    pub detail: String,
    /// How long the server asks us to wait.
    pub retry_after: Option<Duration>,
}

impl FetchError {
    /// An error without Retry-After.
    pub fn new(kind: FetchErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None }
    }
}

/// Where a list is, fit for logs and status.
pub fn shown_source(source: &Source) -> String {
    match source.url() {
        Some(url) => source.to_string().replace(url, &redacted(url)),
        None => source.to_string(),
    }
}

/// An address fit for logs and status: without user, password, query and fragment, and without path
/// segments that look like keys.
pub fn redacted(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "(no URL)".to_owned() };
    // These fail only for URLs without a host, which have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some("..."));
    }
    url.set_fragment(None);
    let segments: Vec<&str> = url
        .path()
        .split('/')
        .map(|segment| if looks_like_a_key(segment) { "..." } else { segment })
        .collect();
    let path = segments.join("/");
    url.set_path(&path);
    String::from(url).replace("%7Bkey%7D", KEY)
}

/// abuse.ch puts its Auth-Key, 48 hex digits, into the path.
fn looks_like_a_key(segment: &str) -> bool {
    segment.len() >= 20
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && segment.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_address_stay_out_of_the_log() {
        let cases = [
            (
                "https://user:secret@example.net/list?auth-key=secret#secret",
                "https://example.net/list?...",
            ),
            (
                "https://threatfox-api.abuse.ch/v2/files/exports/\
                 0123456789abcdef0123456789abcdef0123456789abcdef/recent.csv",
                "https://threatfox-api.abuse.ch/v2/files/exports/.../recent.csv",
            ),
            (
                "https://www.spamhaus.org/drop/drop_v4.json",
                "https://www.spamhaus.org/drop/drop_v4.json",
            ),
            (
                "https://threatfox-api.abuse.ch/v2/files/exports/{key}/recent.csv",
                "https://threatfox-api.abuse.ch/v2/files/exports/{key}/recent.csv",
            ),
            ("not a URL with secret", "(no URL)"),
        ];
        for (url, expected) in cases {
            assert_eq!(redacted(url), expected);
        }
    }

    #[test]
    fn a_source_is_shown_with_its_protocol() {
        for (source, expected) in [
            ("taxii+https://user:secret@example.net/taxii2/", "taxii+https://example.net/taxii2/"),
            ("crowdsec+http://127.0.0.1:8080/", "crowdsec+http://127.0.0.1:8080/"),
            ("lists/c2.txt", "lists/c2.txt"),
        ] {
            assert_eq!(shown_source(&source.parse().unwrap()), expected);
        }
    }
}

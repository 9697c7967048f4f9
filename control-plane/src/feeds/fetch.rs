//! One request for a list over HTTP.

use std::{error::Error as _, sync::Once, time::Duration};

use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{
        ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER,
    },
    redirect,
};
use serde::{Deserialize, Serialize};

use crate::config::FetchConfig;

/// Redirects that are followed for one list.
const MOST_REDIRECTS: usize = 5;

/// Makes `ring` the TLS implementation of this process; once is enough.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only if somebody installed another one, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// What a server said to recognise its list by (RFC 9110, 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// As sent.
    pub etag: Option<String>,
    /// As sent.
    pub last_modified: Option<String>,
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

/// Requests lists.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
}

impl Fetcher {
    /// One for all feeds.
    pub fn new(config: &FetchConfig) -> Result<Self, FetchError> {
        install_tls();
        let client = Client::builder()
            .user_agent(user_agent(config.contact.as_deref()))
            .connect_timeout(config.connect_timeout.unsigned())
            .timeout(config.timeout.unsigned())
            .redirect(redirect::Policy::custom(follow))
            .referer(false)
            .build()
            .map_err(|error| FetchError::new(FetchErrorKind::Tls, innermost(&error)))?;
        Ok(Self { client })
    }

    /// Asks for a list that differs from the one that `have` recognises; at most `most` bytes.
    pub async fn fetch(
        &self,
        url: &str,
        have: &Validators,
        most: usize,
        now: Timestamp,
    ) -> Result<Fetched, FetchError> {
        let mut request = self.client.get(url);
        if let Some(etag) = &have.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(last_modified) = &have.last_modified {
            request = request.header(IF_MODIFIED_SINCE, last_modified);
        }
        let response = request.send().await.map_err(|error| failure(&error))?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(Fetched::NotModified),
            StatusCode::OK => {
                let validators = validators(response.headers());
                Ok(Fetched::List { bytes: body(response, most).await?, validators })
            }
            status => Err(refusal(status, response.headers(), now)),
        }
    }
}

fn user_agent(contact: Option<&str>) -> String {
    let product = concat!("sekisho/", env!("CARGO_PKG_VERSION"));
    // A header takes visible ASCII only.
    let contact: String =
        contact.unwrap_or_default().chars().filter(|c| matches!(c, ' '..='~')).collect();
    if contact.is_empty() { product.to_owned() } else { format!("{product} ({contact})") }
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from_https = attempt.previous().last().is_some_and(|from| from.scheme() == "https");
    if from_https && attempt.url().scheme() != "https" {
        attempt.error("it leads from https to http")
    } else if attempt.previous().len() > MOST_REDIRECTS {
        attempt.error("there are more than 5")
    } else {
        attempt.follow()
    }
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
    Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
}

/// The decompressed body, as long as it is no longer than allowed.
async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if bytes.len() + chunk.len() > most {
            let detail = format!("the list has more than {most} bytes");
            return Err(FetchError::new(FetchErrorKind::TooLarge, detail));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn refusal(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> FetchError {
    let kind = match status.as_u16() {
        401 | 403 | 407 => FetchErrorKind::Denied,
        404 | 410 => FetchErrorKind::NotFound,
        429 | 503 => FetchErrorKind::Throttled,
        _ => FetchErrorKind::Status,
    };
    let retry_after =
        headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
    FetchError { kind, detail: format!("the server answers {status}"), retry_after }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = PARSER.parse_timestamp(text.trim()).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

fn failure(error: &reqwest::Error) -> FetchError {
    let cause = innermost(error);
    let kind = if error.is_timeout() {
        FetchErrorKind::Timeout
    } else if error.is_redirect() {
        FetchErrorKind::Redirect
    } else if is_tls(error) {
        FetchErrorKind::Tls
    } else if error.is_connect() {
        FetchErrorKind::Connect
    } else {
        FetchErrorKind::Interrupted
    };
    let detail = match kind {
        FetchErrorKind::Timeout => "it took too long".to_owned(),
        FetchErrorKind::Redirect => format!("a redirect is not followed: {cause}"),
        FetchErrorKind::Tls => format!("TLS: {cause}"),
        FetchErrorKind::Connect => format!("no connection: {cause}"),
        _ => format!("the transfer broke off: {cause}"),
    };
    FetchError::new(kind, detail)
}

fn is_tls(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An I/O error hides its cause from `source`.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref())
            && inner.is::<rustls::Error>()
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The innermost cause; the outer ones repeat the URL, which may hold a key.
fn innermost(error: &reqwest::Error) -> String {
    let Some(mut cause) = error.source() else {
        return "unknown cause".to_owned();
    };
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
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
    url.into()
}

/// abuse.ch puts its Auth-Key, 48 hex digits, into the path.
fn looks_like_a_key(segment: &str) -> bool {
    segment.len() >= 20
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && segment.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;

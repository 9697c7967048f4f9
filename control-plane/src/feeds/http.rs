//! Requests over HTTP: one client for each asking of a feed, with that feed's key, proxy and
//! certificates, all read anew.

use std::{error::Error as _, net::IpAddr, path::Path, sync::Once, time::Duration};

use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use reqwest::{
    Certificate, Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url,
    header::{
        AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        LAST_MODIFIED, LOCATION, RETRY_AFTER,
    },
    redirect,
};
use sekisho_rules::{
    access::{Auth, HeaderKey, Login, Proxy},
    feed::FeedSpec,
    source::KEY,
};

use super::{
    fetch::{FetchError, FetchErrorKind, Fetched, Validators},
    secret::Secret,
};
use crate::config::FetchConfig;

/// Redirects that are followed for one list.
const MOST_REDIRECTS: usize = 5;
/// Largest file of certificates; a whole system's has about 200 kB.
const LARGEST_CA_FILE: u64 = 4 << 20;

/// Makes `ring` the TLS implementation of this process; once is enough.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only if somebody installed another one, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// What all feeds have in common.
#[derive(Clone, Debug)]
pub struct Fetcher {
    config: FetchConfig,
}

/// A client for one asking of one feed.
#[derive(Debug)]
pub struct Session {
    client: Client,
    timeout: Duration,
    credentials: Credentials,
    /// What is wrong with the way keys are kept.
    pub warnings: Vec<String>,
}

/// An answer with a body.
#[derive(Debug)]
pub struct Answer {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, decompressed.
    pub bytes: Vec<u8>,
}

impl Fetcher {
    /// One for all feeds; blocks. It fails if the proxy or the certificates of all are not usable.
    pub fn new(config: &FetchConfig) -> Result<Self, FetchError> {
        let fetcher = Self { config: config.clone() };
        let login = config.proxy_login.as_ref();
        fetcher.client(config.proxy.as_ref(), login, config.ca_file.as_deref(), &mut Vec::new())?;
        Ok(fetcher)
    }

    /// Reads the feed's key and makes a client; blocks.
    pub fn session(&self, spec: &FeedSpec) -> Result<Session, FetchError> {
        let mut warnings = Vec::new();
        let credentials = Credentials::read(spec.auth.as_ref(), &mut warnings)?;
        let ca_file = spec.ca_file.as_ref().or(self.config.ca_file.as_ref());
        let (proxy, login) = match &spec.proxy {
            Some(proxy) => (Some(proxy), spec.proxy_login.as_ref()),
            None => (self.config.proxy.as_ref(), self.config.proxy_login.as_ref()),
        };
        let client = self.client(proxy, login, ca_file.map(|path| &**path), &mut warnings)?;
        if spec.auth.is_some() && spec.source.url().is_some_and(is_overheard) {
            warnings.push("its key goes over http:// and can be read on the way: use https".into());
        }
        Ok(Session { client, timeout: self.config.timeout.unsigned(), credentials, warnings })
    }

    fn client(
        &self,
        proxy: Option<&Proxy>,
        login: Option<&Login>,
        ca_file: Option<&Path>,
        warnings: &mut Vec<String>,
    ) -> Result<Client, FetchError> {
        install_tls();
        let mut builder = Client::builder()
            .user_agent(user_agent(self.config.contact.as_deref()))
            .connect_timeout(self.config.connect_timeout.unsigned())
            // Followed by hand, because a key must not follow to another host.
            .redirect(redirect::Policy::none())
            .referer(false);
        if let Some(path) = ca_file {
            builder = builder.tls_certs_only(certificates(path)?);
        }
        builder = through(builder, proxy, login, warnings)?;
        builder.build().map_err(|error| FetchError::new(FetchErrorKind::Setup, innermost(&error)))
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, FetchError> {
    let refuse = |why: String| {
        let detail = format!("the certificates of ca_file {} {why}", path.display());
        FetchError::new(FetchErrorKind::Setup, detail)
    };
    let size =
        std::fs::metadata(path).map_err(|error| refuse(format!("can't be read: {error}")))?;
    if !size.is_file() || size.len() > LARGEST_CA_FILE {
        return Err(refuse("are no file of at most 4 MiB".to_owned()));
    }
    let pem = std::fs::read(path).map_err(|error| refuse(format!("can't be read: {error}")))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(refuse("are none: expected PEM".to_owned())),
    }
}

/// Whether others than this machine can see what goes to this address.
fn is_overheard(source: &str) -> bool {
    let Ok(url) = Url::parse(source) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_local =
        host.parse::<IpAddr>().map_or(host == "localhost", |address| address.is_loopback());
    url.scheme() == "http" && !is_local
}

/// Without a word of the configuration, the usual variables of the environment hold.
fn through(
    builder: ClientBuilder,
    proxy: Option<&Proxy>,
    login: Option<&Login>,
    warnings: &mut Vec<String>,
) -> Result<ClientBuilder, FetchError> {
    let url = match proxy {
        None => return Ok(builder),
        Some(Proxy::Direct) => return Ok(builder.no_proxy()),
        Some(Proxy::Through(url)) => url,
    };
    let mut proxy = reqwest::Proxy::all(url).map_err(|_| {
        FetchError::new(FetchErrorKind::Setup, format!("the proxy '{url}' is no address"))
    })?;
    if let Some(Login { user, password }) = login {
        let found = Secret::read(password)?;
        warnings.extend(found.warning);
        proxy = proxy.basic_auth(user, found.secret.expose());
    }
    Ok(builder.proxy(proxy))
}

/// What shows the server who asks.
#[derive(Debug, Default)]
struct Credentials {
    header: Option<(HeaderName, HeaderValue)>,
    /// User and password.
    login: Option<(String, Secret)>,
    /// The key as it was read.
    secret: Option<Secret>,
    /// The same, as it goes into a URL; there only if it does.
    url_key: Option<Secret>,
}

impl Credentials {
    fn read(auth: Option<&Auth>, warnings: &mut Vec<String>) -> Result<Self, FetchError> {
        let Some(auth) = auth else { return Ok(Self::default()) };
        let found = Secret::read(auth.secret())?;
        warnings.extend(found.warning);
        let secret = found.secret;
        let mut credentials = Self { secret: Some(secret.clone()), ..Self::default() };
        match auth {
            Auth::Header(HeaderKey { name, .. }) => {
                let name = HeaderName::try_from(name).map_err(|_| {
                    FetchError::new(FetchErrorKind::Setup, format!("'{name}' is no header"))
                })?;
                credentials.header = Some((name, hidden(secret.expose(), auth)?));
            }
            Auth::Bearer(_) => {
                let value = hidden(&format!("Bearer {}", secret.expose()), auth)?;
                credentials.header = Some((AUTHORIZATION, value));
            }
            Auth::Basic(Login { user, .. }) => credentials.login = Some((user.clone(), secret)),
            Auth::UrlKey(_) => credentials.url_key = Some(secret.url_encoded()),
        }
        Ok(credentials)
    }

    fn on(&self, request: RequestBuilder) -> RequestBuilder {
        let request = match &self.header {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password.expose())),
            None => request,
        }
    }

    fn are_in(&self, url: &Url) -> bool {
        let held = |secret: &Secret| url.as_str().contains(secret.expose());
        self.secret.as_ref().is_some_and(held) || self.url_key.as_ref().is_some_and(held)
    }
}

fn hidden(text: &str, auth: &Auth) -> Result<HeaderValue, FetchError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        let detail = format!("the key in {} has letters that no header can hold", auth.secret());
        FetchError::new(FetchErrorKind::Secret, detail)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Session {
    /// The address that a source means, its key put in. It must not be shown.
    pub fn url(&self, source: &str) -> Result<Url, FetchError> {
        let key = self.credentials.url_key.as_ref();
        let full = key.map(|key| source.replace(KEY, key.expose()));
        Url::parse(full.as_deref().unwrap_or(source))
            .map_err(|_| FetchError::new(FetchErrorKind::Setup, "the source is no URL"))
    }

    /// The key that was used, if the feed has one.
    pub const fn secret(&self) -> Option<&Secret> {
        self.credentials.secret.as_ref()
    }

    /// The same error without the key, which a server may repeat in its answer.
    pub fn scrubbed(&self, mut error: FetchError) -> FetchError {
        let keys = [&self.credentials.secret, &self.credentials.url_key];
        for key in keys.into_iter().flatten() {
            error.detail = error.detail.replace(key.expose(), &key.to_string());
        }
        error
    }

    /// Asks for a list that differs from the one that `have` recognises; at most `most` bytes.
    pub async fn fetch(
        &self,
        url: &Url,
        have: &Validators,
        most: usize,
        now: Timestamp,
    ) -> Result<Fetched, FetchError> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(IF_NONE_MATCH, &have.etag), (IF_MODIFIED_SINCE, &have.last_modified)]
        {
            if let Some(value) = value.as_ref().and_then(|text| HeaderValue::from_str(text).ok()) {
                headers.insert(name, value);
            }
        }
        let Some(Answer { headers, bytes }) = self.get(url, &headers, most, now).await? else {
            return Ok(Fetched::NotModified);
        };
        Ok(Fetched::List { bytes, validators: validators(&headers), withdrawn: false })
    }

    /// Asks for a page; `None` if it did not change. Nothing that it waits for takes longer than the
    /// configured time.
    pub async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<Answer>, FetchError> {
        let asked = tokio::time::timeout(self.timeout, async {
            let response = self.follow(url, headers).await?;
            match response.status() {
                StatusCode::NOT_MODIFIED => Ok(None),
                StatusCode::OK => {
                    let headers = response.headers().clone();
                    Ok(Some(Answer { headers, bytes: body(response, most).await? }))
                }
                status => Err(refusal(status, response.headers(), now)),
            }
        });
        asked
            .await
            .unwrap_or_else(|_| Err(FetchError::new(FetchErrorKind::Timeout, "it took too long")))
    }

    /// Sends the request, and again wherever the server points to.
    async fn follow(&self, first: &Url, headers: &HeaderMap) -> Result<Response, FetchError> {
        let mut url = first.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.client.get(url.clone()).headers(headers.clone());
            if is_same_origin(&url, first) {
                request = self.credentials.on(request);
            }
            let response = request.send().await.map_err(|error| failure(&error))?;
            let Some(next) = next_stop(&response) else { return Ok(response) };
            let next = url.join(&next).map_err(|_| astray("it leads to no URL"))?;
            self.check_redirect(first, &url, &next)?;
            url = next;
        }
        Err(astray("there are more than 5"))
    }

    fn check_redirect(&self, first: &Url, from: &Url, to: &Url) -> Result<(), FetchError> {
        match to.scheme() {
            "https" => {}
            "http" if from.scheme() == "http" => {}
            "http" => return Err(astray("it leads from https to http")),
            _ => return Err(astray("it leads to no web server")),
        }
        if !is_same_origin(first, to) && self.credentials.are_in(to) {
            return Err(astray("it would take the key to another host"));
        }
        Ok(())
    }
}

fn is_same_origin(a: &Url, b: &Url) -> bool {
    let of = |url: &Url| {
        let host = url.host_str().map(str::to_owned);
        (url.scheme().to_owned(), host, url.port_or_known_default())
    };
    of(a) == of(b)
}

fn astray(why: &str) -> FetchError {
    FetchError::new(FetchErrorKind::Redirect, format!("a redirect is not followed: {why}"))
}

/// Where the server points to, if it does.
fn next_stop(response: &Response) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

fn user_agent(contact: Option<&str>) -> String {
    let product = concat!("sekisho/", env!("CARGO_PKG_VERSION"));
    // A header takes visible ASCII only.
    let contact: String =
        contact.unwrap_or_default().chars().filter(|c| matches!(c, ' '..='~')).collect();
    if contact.is_empty() { product.to_owned() } else { format!("{product} ({contact})") }
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
    Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED), taxii: None }
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
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::try_from(date(text)?.duration_since(now)).unwrap_or_default())
}

/// A date in a header (RFC 9110, 5.6.7).
pub(super) fn date(text: &str) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(text.trim()).ok()
}

fn failure(error: &reqwest::Error) -> FetchError {
    let cause = innermost(error);
    let kind = if error.is_timeout() {
        FetchErrorKind::Timeout
    } else if is_tls(error) {
        FetchErrorKind::Tls
    } else if error.is_connect() {
        FetchErrorKind::Connect
    } else {
        FetchErrorKind::Interrupted
    };
    let detail = match kind {
        FetchErrorKind::Timeout => "it took too long".to_owned(),
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
        let hidden = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        cause = match hidden {
            Some(inner) => Some(inner),
            None => error.source(),
        };
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

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;

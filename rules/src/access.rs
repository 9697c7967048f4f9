//! How a feed's server is reached: credentials, proxy, certificates, and what its protocol asks.
//!
//! The catalogue names where a secret is; none is ever written into it.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::{
    feed::{FeedSpec, Format},
    period::Period,
    source::{KEY, Source},
};

/// Where a secret is: it is read anew for each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretRef {
    /// The content of a file, without the blanks and line ends around it. A relative path starts at
    /// the folder of the file that names it.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Env(name) => write!(f, "the environment variable {name}"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretRefVisitor)
    }
}

/// Written by hand, because a derived one repeats in its error what somebody wrote in place of the
/// reference: the secret itself.
struct SecretRefVisitor;

impl SecretRefVisitor {
    const EXPECTED: &str = "'{file: PATH}' or '{env: NAME}': where the secret is, not what it is";
}

impl<'de> Visitor<'de> for SecretRefVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<SecretRef, E> {
        Err(E::custom(format!("expected {}", Self::EXPECTED)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let wrong = || A::Error::custom(format!("expected {}", Self::EXPECTED));
        let Some(key) = map.next_key::<String>()? else { return Err(wrong()) };
        let value: String = map.next_value()?;
        if value.is_empty() || map.next_key::<String>()?.is_some() {
            return Err(wrong());
        }
        match &*key {
            "file" => Ok(SecretRef::File(value.into())),
            "env" => Ok(SecretRef::Env(value)),
            _ => Err(wrong()),
        }
    }
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The name, which is no secret.
    pub user: String,
    /// Where the password is.
    pub password: SecretRef,
}

/// A header of the server's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderKey {
    /// Name of the header: `Auth-Key`, `X-Api-Key`.
    pub name: String,
    /// Where its value is.
    pub value: SecretRef,
}

/// How the feed shows who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// By a key in a header.
    Header(HeaderKey),
    /// By a token (RFC 6750).
    Bearer(SecretRef),
    /// By user and password (RFC 7617).
    Basic(Login),
    /// By a key that takes the place of `{key}` in the source.
    UrlKey(SecretRef),
}

impl Auth {
    /// Where its secret is.
    pub const fn secret(&self) -> &SecretRef {
        match self {
            Self::Header(HeaderKey { value: secret, .. })
            | Self::Basic(Login { password: secret, .. })
            | Self::Bearer(secret)
            | Self::UrlKey(secret) => secret,
        }
    }

    /// The same, to change.
    pub const fn secret_mut(&mut self) -> &mut SecretRef {
        match self {
            Self::Header(HeaderKey { value: secret, .. })
            | Self::Basic(Login { password: secret, .. })
            | Self::Bearer(secret)
            | Self::UrlKey(secret) => secret,
        }
    }
}

/// Through what requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Nothing, whatever the environment says.
    Direct,
    /// The HTTP proxy at this `http://` or `https://` address.
    Through(String),
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Through(url) => f.write_str(url),
        }
    }
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("'{text}' is no proxy: {why}"));
        if text == "direct" {
            return Ok(Self::Direct);
        }
        match text.split_once("://") {
            Some(("http" | "https", rest)) if rest.contains('@') => {
                Err("a proxy's user and password go into `proxy_login`, not into its address"
                    .to_owned())
            }
            Some(("http" | "https", rest)) if !rest.is_empty() && !rest.starts_with(['/', ':']) => {
                Ok(Self::Through(text.to_owned()))
            }
            _ => refuse("expected an http(s) URL, or 'direct'"),
        }
    }
}

impl Serialize for Proxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What is read of a TAXII 2.1 server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaxiiSpec {
    /// The API root. Unset, the one that the server names as its default; many name a host that
    /// only they can reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_root: Option<String>,
    /// Ids, aliases or titles of the collections. Default: all that may be read.
    pub collections: Vec<String>,
    /// Objects that are asked for at a time. Default: 1000.
    pub page_size: u32,
    /// How often everything is read again in place of what was added. Default: 24h.
    pub resync: Period,
}

impl Default for TaxiiSpec {
    fn default() -> Self {
        Self { api_root: None, collections: Vec::new(), page_size: 1000, resync: Period::hours(24) }
    }
}

/// What is read of a CrowdSec LAPI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CrowdsecSpec {
    /// Where decisions have to come from: `crowdsec`, `cscli`, `CAPI`, `lists`. Default: all.
    pub origins: Vec<String>,
    /// How often all decisions are read again in place of the changes. Default: 1h.
    pub resync: Period,
}

impl Default for CrowdsecSpec {
    fn default() -> Self {
        Self { origins: Vec::new(), resync: Period::hours(1) }
    }
}

/// Whether source, format and access of a feed fit together.
pub(crate) fn check(spec: &FeedSpec) -> Result<(), String> {
    check_auth(spec)?;
    check_protocol(spec)
}

fn check_auth(spec: &FeedSpec) -> Result<(), String> {
    let FeedSpec { source, auth, proxy, proxy_login, ca_file, .. } = spec;
    let has_access = auth.is_some() || proxy.is_some() || ca_file.is_some();
    if !source.is_http() && has_access {
        return Err("'auth', 'proxy' and 'ca_file' are for sources over HTTP only".to_owned());
    }
    if proxy_login.is_some() && !matches!(proxy, Some(Proxy::Through(_))) {
        return Err("'proxy_login' needs the address of a 'proxy' beside it".to_owned());
    }
    let has_place = source.url().is_some_and(|url| url.contains(KEY));
    match (auth, has_place) {
        (Some(Auth::UrlKey(_)), false) => {
            Err(format!("'auth.url_key' needs a '{KEY}' in the source"))
        }
        (Some(Auth::UrlKey(_)), true) => Ok(()),
        (_, true) => Err(format!("the '{KEY}' in the source needs an 'auth.url_key'")),
        (Some(Auth::Header(header)), false) => check_header(&header.name),
        (Some(Auth::Basic(login)), false) if login.user.contains([':', '\r', '\n']) => {
            Err("'auth.basic.user' has a colon or line end in it".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_protocol(spec: &FeedSpec) -> Result<(), String> {
    let FeedSpec { source, format, auth, taxii, crowdsec, .. } = spec;
    let is_taxii = matches!(source, Source::Taxii(_));
    let is_crowdsec = matches!(source, Source::Crowdsec(_));
    let why = match taxii {
        Some(_) if !is_taxii => "'taxii' needs a source that begins with 'taxii+'",
        Some(TaxiiSpec { page_size: 0, .. }) => "'taxii.page_size' is 0: expected at least 1",
        Some(TaxiiSpec { api_root: Some(root), .. })
            if !matches!(root.parse(), Ok(Source::Url(_))) =>
        {
            return Err(format!("'taxii.api_root' is '{root}': expected an http(s) URL"));
        }
        _ if is_taxii && *format != Format::Stix => {
            "a TAXII server sends STIX: expected 'format: stix'"
        }
        _ if crowdsec.is_some() && !is_crowdsec => {
            "'crowdsec' needs a source that begins with 'crowdsec+'"
        }
        _ if is_crowdsec && *format != Format::Crowdsec => {
            "a LAPI sends decisions: expected 'format: crowdsec'"
        }
        _ if is_crowdsec && auth.is_none() => {
            "a LAPI wants the key of a bouncer: expected 'auth: {header: {name: X-Api-Key, value: \
             {file: ...}}}'"
        }
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// A name that HTTP allows (RFC 9110, 5.1), and none that the request has anyway.
fn check_header(name: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("'{name}' is no name of a header"));
    }
    let own = ["host", "content-length", "transfer-encoding", "connection", "user-agent"];
    if own.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(format!("the header '{name}' can't hold a key"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::catalogue::Catalogue;

    fn row(source: &str, format: &str, extra: &str) -> String {
        format!("feeds:\n  - name: a\n    source: '{source}'\n    format: {format}\n{extra}")
    }

    #[test]
    fn access_reads_back_as_it_is_printed() {
        let good = [
            row("https://a.example/{key}/x", "plain", "    auth: {url_key: {file: keys/a}}\n"),
            row(
                "https://a.example/",
                "plain",
                "    auth: {bearer: {env: TOKEN}}\n    proxy: direct\n",
            ),
            row(
                "taxii+https://a.example/taxii2/",
                "stix",
                "    auth: {basic: {user: a, password: {file: b}}}\n    ca_file: ca.pem\n    taxii: \
                 {api_root: 'https://a.example/r/', collections: [c], page_size: 5, resync: 2h}\n    \
                 max_content_age: 30d\n",
            ),
            row(
                "crowdsec+http://127.0.0.1:8080",
                "crowdsec",
                "    auth: {header: {name: X-Api-Key, value: {file: k}}}\n    refresh: 10s\n    \
                 crowdsec: {origins: [cscli], resync: 1h}\n    proxy: 'http://p.example:3128'\n    \
                 proxy_login: {user: u, password: {env: P}}\n",
            ),
        ];
        for text in good {
            let catalogue = Catalogue::from_yaml(&text, "feeds.yaml").unwrap();
            let printed = serde_yaml::to_string(&catalogue).unwrap();
            assert_eq!(Catalogue::from_yaml(&printed, "printed").unwrap(), catalogue, "{printed}");
        }
    }

    #[test]
    fn what_does_not_fit_its_source_is_refused_and_a_secret_never_repeated() {
        let crowdsec = "    auth: {header: {name: X-Api-Key, value: {file: k}}}\n";
        for (source, format, extra, words) in [
            ("a.txt", "plain", "    auth: {bearer: {env: X}}\n", "over HTTP only"),
            ("http://a.example/{key}", "plain", "", "needs an 'auth.url_key'"),
            ("http://a.example/", "plain", "    auth: {url_key: {env: X}}\n", "needs a '{key}'"),
            ("http://a.example/", "plain", "    auth: {bearer: hunter2}\n", "'{file: PATH}'"),
            ("http://a.example/", "plain", "    auth: {bearer: {key: hunter2}}\n", "'{env: NAME}'"),
            (
                "http://a.example/",
                "plain",
                "    auth: {header: {name: 'a b', value: {env: X}}}\n",
                "'a b' is no name",
            ),
            (
                "http://a.example/",
                "plain",
                "    auth: {header: {name: Host, value: {env: X}}}\n",
                "can't hold a key",
            ),
            ("http://a.example/", "plain", "    proxy: 'socks5://p'\n", "expected an http(s) URL"),
            ("http://a.example/", "plain", "    proxy: 'http://u:p@p'\n", "proxy_login"),
            (
                "http://a.example/",
                "plain",
                "    proxy_login: {user: u, password: {env: P}}\n",
                "needs the address",
            ),
            ("http://a.example/", "stix", "    taxii: {}\n", "begins with 'taxii+'"),
            ("taxii+http://a.example/", "plain", "", "'format: stix'"),
            ("taxii+http://a.example/", "stix", "    taxii: {page_size: 0}\n", "at least 1"),
            ("taxii+http://a.example/", "stix", "    taxii: {api_root: r1}\n", "'r1'"),
            ("taxii+http://a.example/", "stix", "    refresh: 4m\n", "at least 5m"),
            ("crowdsec+http://a.example/", "crowdsec", "", "X-Api-Key"),
            ("crowdsec+http://a.example/", "plain", crowdsec, "'format: crowdsec'"),
            ("http://a.example/", "crowdsec", "    crowdsec: {}\n", "begins with 'crowdsec+'"),
            (
                "crowdsec+http://a.example/",
                "crowdsec",
                "    auth: {header: {name: X-Api-Key, value: {file: k}}}\n    refresh: 9s\n",
                "at least 10s",
            ),
        ] {
            let text = row(source, format, extra);
            let error = Catalogue::from_yaml(&text, "feeds.yaml").unwrap_err().to_string();
            assert!(error.contains(words), "{source} {extra}: {error}");
            assert!(!error.contains("hunter2"), "what may be the secret is not repeated: {error}");
        }
    }
}

//! Asking the running daemon over its API.

use std::{
    env,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::Value;

use super::Failure;
use crate::{
    config::{ApiConfig, Config},
    feeds::http::install_tls,
    tokens,
};

/// Longest wait for an answer of the daemon.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Header that names the person behind a token.
const BY: &str = "x-sekisho-by";

/// Where the daemon answers.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Where the daemon's API listens
    #[arg(long, value_name = "URL", env = "SEKISHO_API", default_value = "http://127.0.0.1:9320")]
    api: String,
}

impl Args {
    /// Asks for a path below /api/v1.
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        let request = Request { query, ..Request::new(Method::GET, path) };
        request.send(&self.api).map_err(Failure::failed)
    }
}

/// Where the daemon answers, and what it knows us by.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct ChangeArgs {
    /// Configuration file of the daemon, which says where it listens and where the token is
    #[arg(short, long, value_name = "FILE", env = "SEKISHO_CONFIG")]
    config: Option<PathBuf>,
    /// Where the daemon's API listens, if not where the configuration says
    #[arg(long, value_name = "URL", env = "SEKISHO_API")]
    api: Option<String>,
    /// File with the token, if not the one that the configuration names
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ChangeArgs {
    /// Sends a change to a path below /api/v1.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Request { body: Some(body), ..Request::new(Method::POST, path) })
    }

    /// Deletes what is at a path below /api/v1.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.send(Request::new(Method::DELETE, path))
    }

    fn send(&self, request: Request<'_>) -> Result<Value, Failure> {
        let config = match &self.config {
            Some(path) => Config::read(path).map_err(Failure::usage)?.api,
            None => ApiConfig::default(),
        };
        let api = self.api.clone().unwrap_or_else(|| format!("http://{}", near(config.listen)));
        // Without one, the daemon says what is missing.
        let token = match self.token_file.as_ref().or(config.token_file.as_ref()) {
            Some(file) => {
                let tokens = tokens::read(file)
                    .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
                tokens.into_iter().next().map(|token| token.secret)
            }
            None => None,
        };
        Request { token, by: person(), ..request }.send(&api).map_err(Failure::failed)
    }
}

/// What the daemon is asked.
struct Request<'a> {
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    body: Option<&'a Value>,
    token: Option<String>,
    /// Who sits at the terminal.
    by: Option<String>,
}

impl<'a> Request<'a> {
    const fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, query: &[], body: None, token: None, by: None }
    }

    fn send(self, api: &str) -> Result<Value, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(self.ask(api))
    }

    async fn ask(self, api: &str) -> Result<Value, String> {
        install_tls();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        let base = format!("{}/api/v1/{}", api.trim_end_matches('/'), self.path);
        let url = reqwest::Url::parse_with_params(&base, self.query).map_err(|e| e.to_string())?;
        let mut request = client.request(self.method, url);
        if let Some(body) = self.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        if let Some(person) = self.by {
            request = request.header(BY, person);
        }
        let silent = |error: reqwest::Error| {
            let advice = if error.is_connect() {
                "; is `sekisho run` running? --api URL names another address"
            } else {
                ""
            };
            format!("the daemon at {api} does not answer: {}{advice}", root_cause(&error))
        };
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let body = response.bytes().await.map_err(silent)?;
        let value: Value = serde_json::from_slice(&body).map_err(|_| {
            format!("what listens at {api} answers {status} and no JSON: is this Sekisho?")
        })?;
        if status.is_success() {
            Ok(value)
        } else {
            Err(value["error"]["message"].as_str().unwrap_or(status.as_str()).to_owned())
        }
    }
}

/// An address that can be connected to.
fn near(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

/// Who sits at the terminal.
fn person() -> Option<String> {
    let named = |name| env::var(name).ok().filter(|name| !name.is_empty() && name.is_ascii());
    named("SUDO_USER").or_else(|| named("USER"))
}

/// The innermost cause says what happened; the outer ones repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

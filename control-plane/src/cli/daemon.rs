//! Asking the running daemon over its API.

use std::{
    env,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use reqwest::{Client, RequestBuilder, header};
use serde_json::Value;

use super::Failure;
use crate::{
    config::{ApiConfig, Config},
    feeds::fetch::install_tls,
    tokens,
};

/// Header that names the person behind a token.
const BY: &str = "x-sekisho-by";

/// Longest wait for an answer of the daemon.
const TIMEOUT: Duration = Duration::from_secs(30);

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
        runtime()?.block_on(self.ask(path, query)).map_err(|error| {
            Failure::failed(format!("the daemon at {} does not answer: {error}", self.api))
        })
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = reqwest::Url::parse_with_params(&address(&self.api, path), query);
        let url = url.map_err(|error| error.to_string())?;
        answer(client()?.get(url)).await
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
        self.send(|client, api| {
            let json = header::HeaderValue::from_static("application/json");
            client
                .post(address(api, path))
                .header(header::CONTENT_TYPE, json)
                .body(body.to_string())
        })
    }

    /// Deletes what is at a path below /api/v1.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.send(|client, api| client.delete(address(api, path)))
    }

    fn send(&self, request: impl Fn(&Client, &str) -> RequestBuilder) -> Result<Value, Failure> {
        let config = match &self.config {
            Some(path) => Config::read(path).map_err(Failure::usage)?.api,
            None => ApiConfig::default(),
        };
        let api = self.api.clone().unwrap_or_else(|| format!("http://{}", near(config.listen)));
        let mut request = request(&client().map_err(Failure::failed)?, &api);
        // Without one, the daemon says what is missing.
        if let Some(file) = self.token_file.as_ref().or(config.token_file.as_ref()) {
            let tokens = tokens::read(file)
                .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
            request = request.bearer_auth(tokens.first().map_or("", |token| &token.secret));
        }
        if let Some(person) = person() {
            request = request.header(BY, person);
        }
        runtime()?.block_on(answer(request)).map_err(Failure::failed)
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

fn address(api: &str, path: &str) -> String {
    format!("{}/api/v1/{path}", api.trim_end_matches('/'))
}

fn client() -> Result<Client, String> {
    install_tls();
    let client = Client::builder().timeout(TIMEOUT).no_proxy().build();
    client.map_err(|error| error.to_string())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)
}

async fn answer(request: RequestBuilder) -> Result<Value, String> {
    let response = request.send().await.map_err(|error| root_cause(&error))?;
    let status = response.status();
    let body = response.bytes().await.map_err(|error| root_cause(&error))?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|_| format!("status {status}, and no JSON: is this Sekisho?"))?;
    if status.is_success() {
        Ok(value)
    } else {
        Err(value["error"]["message"].as_str().unwrap_or(status.as_str()).to_owned())
    }
}

/// The innermost cause says what happened; the outer ones repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

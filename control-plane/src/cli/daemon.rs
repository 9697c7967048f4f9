//! Asking the running daemon over its API.

use std::time::Duration;

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::Value;

use super::Failure;
use crate::feeds::http::install_tls;

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
        self.send(Method::GET, path, query, None)
    }

    /// Sends JSON to a path below /api/v1.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, &[], Some(body))
    }

    /// Deletes what is at a path below /api/v1.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::DELETE, path, &[], None)
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::failed)?;
        runtime.block_on(self.ask(method, path, query, body)).map_err(|error| {
            Failure::failed(format!("the daemon at {} does not answer: {error}", self.api))
        })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, String> {
        install_tls();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        let base = format!("{}/api/v1/{path}", self.api.trim_end_matches('/'));
        let url = reqwest::Url::parse_with_params(&base, query).map_err(|e| e.to_string())?;
        let mut request = client.request(method, url);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
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
}

/// The innermost cause says what happened; the outer ones repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

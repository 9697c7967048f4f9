//! One function a route.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use sekisho_rules::explain;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::ApiError;
use crate::{
    engine::{
        diff::{DiffError, VersionDiff},
        service::Service,
        status::{RulesetReport, Status},
        told::ExplainError,
    },
    feeds::FeedStatus,
    health::Health,
    history::Version,
    store::{Cursor, Filter, LARGEST_PAGE, Page, StoredEntry},
};

/// Hits on a page of a request that names no limit.
const USUAL_PAGE: u32 = 100;
/// Changes that a request without a limit is told one by one.
const USUAL_CHANGES: usize = 100;

pub(super) type Answer<T> = Result<Json<T>, ApiError>;

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    service: Arc<Service>,
    work: impl FnOnce(&Service) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let stopped = |error| ApiError::internal("internal", &error);
    spawn_blocking(move || work(&service)).await.map_err(stopped)?
}

pub(super) async fn status(State(service): State<Arc<Service>>) -> Answer<Status> {
    let status = |service: &Service| {
        service.status().map_err(|error| ApiError::internal("dataplane", &error))
    };
    blocking(service, status).await.map(Json)
}

#[derive(Serialize)]
pub(super) struct Feeds {
    feeds: Vec<FeedStatus>,
}

pub(super) async fn feeds(State(service): State<Arc<Service>>) -> Json<Feeds> {
    Json(Feeds { feeds: service.feeds() })
}

pub(super) async fn ruleset(State(service): State<Arc<Service>>) -> Answer<RulesetReport> {
    service.ruleset_report().map(Json).ok_or_else(no_ruleset)
}

pub(super) fn no_ruleset() -> ApiError {
    let message = "no ruleset was compiled since the daemon started";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_ruleset", message)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HitsQuery {
    subscriber: Option<String>,
    subscriber_address: Option<String>,
    remote: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn hits(
    State(service): State<Arc<Service>>,
    query: Result<Query<HitsQuery>, QueryRejection>,
) -> Answer<Page> {
    let filter = filter(read(query)?)?;
    let hits = move |service: &Service| {
        service.hits(&filter).map_err(|error| ApiError::internal("store", &error))
    };
    blocking(service, hits).await.map(Json)
}

fn filter(query: HitsQuery) -> Result<Filter, ApiError> {
    let limit = field("limit", "a number", query.limit)?.unwrap_or(USUAL_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(ApiError::bad_query(format!("limit: expected 1 to {LARGEST_PAGE}")));
    }
    let time = "a time such as 2026-01-31T23:59:59Z";
    Ok(Filter {
        subscriber: query.subscriber,
        subscriber_address: field::<IpAddr>(
            "subscriber_address",
            "an address",
            query.subscriber_address,
        )?,
        remote: field::<IpAddr>("remote", "an address", query.remote)?,
        since: field::<Timestamp>("since", time, query.since)?,
        until: field::<Timestamp>("until", time, query.until)?,
        limit,
        after: field::<Cursor>("cursor", "the 'next' of an earlier answer", query.cursor)?,
    })
}

fn field<T: FromStr>(
    name: &str,
    expected: &str,
    text: Option<String>,
) -> Result<Option<T>, ApiError> {
    let wrong = |text| ApiError::bad_query(format!("{name}: expected {expected}, found '{text}'"));
    text.map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    address: String,
    /// Whether the answer is for anybody.
    #[serde(default)]
    public: bool,
}

pub(super) async fn explain(
    State(service): State<Arc<Service>>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let ExplainQuery { address, public } = read(query)?;
    let query: explain::Query = address.parse().map_err(ApiError::bad_query)?;
    let explain = move |service: &Service| {
        if public {
            return Ok(
                Json(service.explain_publicly(query).ok_or_else(no_ruleset)?).into_response()
            );
        }
        let explained = service.explain(query).map_err(|error| match &error {
            ExplainError::Dataplane(_) => ApiError::internal("dataplane", &error),
            ExplainError::Store(_) => ApiError::internal("store", &error),
        })?;
        Ok(Json(explained.ok_or_else(no_ruleset)?).into_response())
    };
    blocking(service, explain).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntriesQuery {
    ended: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Entries {
    entries: Vec<StoredEntry>,
}

pub(super) async fn entries(
    State(service): State<Arc<Service>>,
    query: Result<Query<EntriesQuery>, QueryRejection>,
) -> Answer<Entries> {
    let ended = field("ended", "true or false", read(query)?.ended)?.unwrap_or(false);
    let entries = move |service: &Service| {
        service.entries(ended).map_err(|error| ApiError::internal("store", &error))
    };
    blocking(service, entries).await.map(|entries| Json(Entries { entries }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    limit: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Versions {
    versions: Vec<Version>,
}

pub(super) async fn history(
    State(service): State<Arc<Service>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Answer<Versions> {
    let limit = field("limit", "a number", read(query)?.limit)?.unwrap_or(usize::MAX);
    let versions = move |service: &Service| {
        let versions = service.versions().map_err(|error| ApiError::internal("history", &error));
        versions.map(|versions| versions.into_iter().take(limit).collect())
    };
    blocking(service, versions).await.map(|versions| Json(Versions { versions }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiffQuery {
    from: String,
    to: String,
    limit: Option<String>,
}

pub(super) async fn diff(
    State(service): State<Arc<Service>>,
    query: Result<Query<DiffQuery>, QueryRejection>,
) -> Answer<VersionDiff> {
    let query = read(query)?;
    let number = |name, text: String| {
        let wrong = |_| ApiError::bad_query(format!("{name}: '{text}' is no version"));
        text.parse::<u32>().map_err(wrong)
    };
    let (from, to) = (number("from", query.from.clone())?, number("to", query.to.clone())?);
    let limit = field("limit", "a number", query.limit)?.unwrap_or(USUAL_CHANGES);
    let diff = move |service: &Service| {
        service.diff(from, to, limit).map_err(|error| match error {
            DiffError::NoVersion(_) => {
                ApiError::new(StatusCode::NOT_FOUND, "not_found", error.to_string())
            }
            DiffError::History(error) => ApiError::internal("history", &error),
        })
    };
    blocking(service, diff).await.map(Json)
}

pub(super) fn read<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(ApiError::bad_query(rejection.body_text())),
    }
}

pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, ApiError> {
    let metrics = |service: &Service| {
        service.metrics(Timestamp::now()).map_err(|error| ApiError::internal("dataplane", &error))
    };
    let text = blocking(service, metrics).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

pub(super) async fn healthz(
    State(service): State<Arc<Service>>,
) -> Result<(StatusCode, Json<Health>), ApiError> {
    let health = blocking(service, |service| Ok(service.check_health())).await?;
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(health)))
}

pub(super) async fn not_found(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

pub(super) async fn method_not_allowed() -> ApiError {
    let message = "this path takes another method";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

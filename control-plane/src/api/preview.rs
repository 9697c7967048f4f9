//! What the last days come to: all hits, what lists did to the traffic, and what one would have done.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    ApiError,
    routes::{Answer, blocking, read},
};
use crate::{
    engine::{service::Service, told::FeedsWorth},
    store::Overview,
};

/// How many days are asked for, unless the request says.
const USUAL_DAYS: i64 = 7;
/// How many days an overview has, unless the request says.
const OVERVIEW_DAYS: i64 = 30;
/// Most days: hits are kept for no longer.
const MOST_DAYS: i64 = 180;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewQuery {
    feed: Option<String>,
    #[serde(default = "usual_days")]
    days: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DaysQuery {
    #[serde(default = "usual_days")]
    days: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OverviewQuery {
    #[serde(default = "overview_days")]
    days: i64,
}

const fn overview_days() -> i64 {
    OVERVIEW_DAYS
}

const fn usual_days() -> i64 {
    USUAL_DAYS
}

/// What the hits of the last days come to.
pub(super) async fn overview(
    State(service): State<Arc<Service>>,
    query: Result<Query<OverviewQuery>, QueryRejection>,
) -> Answer<Overview> {
    let days = checked(read(query)?.days)?.unsigned_abs() as u32;
    let overview = move |service: &Service| {
        let overview = service.overview(days, Timestamp::now());
        overview.map_err(|error| ApiError::internal("store", &error))
    };
    blocking(service, overview).await.map(Json)
}

/// How the feeds are, and what they met.
pub(super) async fn worth(
    State(service): State<Arc<Service>>,
    query: Result<Query<DaysQuery>, QueryRejection>,
) -> Answer<FeedsWorth> {
    let days = checked(read(query)?.days)?;
    let worth = move |service: &Service| {
        service.feeds_worth(days).map_err(|error| ApiError::internal("store", &error))
    };
    blocking(service, worth).await.map(Json)
}

fn checked(days: i64) -> Result<i64, ApiError> {
    let wrong = || ApiError::bad_query(format!("days: expected 1 to {MOST_DAYS}"));
    Some(days).filter(|days| (1..=MOST_DAYS).contains(days)).ok_or_else(wrong)
}

/// Of one feed, or of all.
pub(super) async fn preview(
    State(service): State<Arc<Service>>,
    query: Result<Query<PreviewQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let PreviewQuery { feed, days } = read(query)?;
    let days = checked(days)?;
    let preview = move |service: &Service| {
        let store = |error| ApiError::internal("store", &error);
        let Some(feed) = feed else {
            return Ok(Json(service.report(days).map_err(store)?).into_response());
        };
        let preview = service.preview(&feed, days).map_err(store)?.ok_or_else(|| {
            let message = format!("no feed '{feed}' is in the ruleset");
            ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
        })?;
        Ok(Json(preview).into_response())
    };
    blocking(service, preview).await
}

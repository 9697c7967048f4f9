//! What the breaker demoted, and what becomes of it.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};

use super::{
    ApiError,
    changes::{Body, Who, read},
    routes::{Answer, blocking},
};
use crate::{
    breaker::{Broken, Decision},
    engine::service::Service,
};

#[derive(Serialize)]
pub(super) struct Listed {
    entries: Vec<Broken>,
}

pub(super) async fn list(State(service): State<Arc<Service>>) -> Json<Listed> {
    Json(Listed { entries: service.breaker().all() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decided {
    decision: Decision,
}

pub(super) async fn decide(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Who>,
    id: Result<Path<i64>, PathRejection>,
    decided: Body<Decided>,
) -> Answer<Broken> {
    let Decided { decision } = read(decided)?;
    answer(service, who, id, Some(decision)).await
}

pub(super) async fn forget(
    State(service): State<Arc<Service>>,
    Extension(who): Extension<Who>,
    id: Result<Path<i64>, PathRejection>,
) -> Answer<Broken> {
    answer(service, who, id, None).await
}

async fn answer(
    service: Arc<Service>,
    Who(who): Who,
    id: Result<Path<i64>, PathRejection>,
    decision: Option<Decision>,
) -> Answer<Broken> {
    let Path(id) = id.map_err(|rejection| ApiError::bad_query(rejection.body_text()))?;
    let decide = move |service: &Service| {
        let decided = service.decide(id, decision, &who);
        decided.map_err(|error| ApiError::internal("store", &error))?.ok_or_else(|| {
            let message = format!("the breaker has no entry {id}");
            ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
        })
    };
    blocking(service, decide).await.map(Json)
}

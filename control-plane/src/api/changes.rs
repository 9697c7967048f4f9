//! What programs can change: each route behind a token.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Extension, Json, Router,
    extract::{self, Request, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{delete, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::task::spawn_blocking;

use super::{ApiError, breaker, routes::Answer};
use crate::{
    engine::{
        entries::{EntryFailure, Made, NewEntry},
        orders::{Change, Done, OrderError},
        service::Service,
    },
    tokens,
};

/// Header that may name the person behind a token.
const BY: &str = "x-sekisho-by";
/// Longest such name, in bytes.
const LONGEST_BY: usize = 64;

pub(super) type Body<T> = Result<Json<T>, JsonRejection>;

/// Who changes something.
#[derive(Clone, Debug)]
pub(super) struct Who(pub(super) String);

/// The routes that change something. Without a file of tokens nobody may.
pub(super) fn routes(token_file: Option<PathBuf>) -> Router<Arc<Service>> {
    let token_file: Option<Arc<Path>> = token_file.map(Into::into);
    Router::new()
        .route("/entries", post(add_entry))
        .route("/entries/{id}", delete(end_entry))
        .route("/breaker/{id}", post(breaker::decide).delete(breaker::forget))
        .route("/feeds/{name}/accept", post(accept))
        .route("/feeds/{name}/reject", post(reject))
        .route("/history/{number}/rollback", post(rollback))
        .route("/history/resume", post(resume))
        .route_layer(middleware::from_fn(move |request, next| {
            authorised(token_file.clone(), request, next)
        }))
}

/// Lets those pass who hold a token.
async fn authorised(
    token_file: Option<Arc<Path>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(file) = token_file else {
        let message = "nothing can be changed through the API: set api.token_file in the \
                       configuration to a file with a token";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "no_token_file", message));
    };
    let secret = bearer(request.headers()).unwrap_or_default().to_owned();
    let read = spawn_blocking(move || tokens::read(&file).map_err(|error| (file, error)));
    let read = read.await.map_err(|error| ApiError::internal("internal", &error))?;
    let tokens = read.map_err(|(file, error)| {
        tracing::error!("api.token_file {}: {error}", file.display());
        let message = "the file that api.token_file names can't be used; the daemon's log says why";
        ApiError::new(StatusCode::FORBIDDEN, "no_token_file", message)
    })?;
    let holder = tokens::holder(&tokens, &secret).ok_or_else(|| {
        let message = "expected a header 'Authorization: Bearer TOKEN' with a token of the file \
                       that api.token_file names";
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    })?;
    let who = match person(request.headers()) {
        Some(person) => format!("{person} ({holder})"),
        None => holder.to_owned(),
    };
    request.extensions_mut().insert(Who(who));
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
}

fn person(headers: &HeaderMap) -> Option<&str> {
    let name = headers.get(BY)?.to_str().ok()?.trim();
    (!name.is_empty() && name.len() <= LONGEST_BY).then_some(name)
}

/// What a request says. It has to be JSON: no form of a web page can send that.
pub(super) fn read<T: DeserializeOwned>(body: Body<T>) -> Result<T, ApiError> {
    let Json(value) = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "payload too large")
        }
        _ => ApiError::new(StatusCode::BAD_REQUEST, "bad_request", rejection.body_text()),
    })?;
    Ok(value)
}

async fn add_entry(
    State(service): State<Arc<Service>>,
    Extension(Who(who)): Extension<Who>,
    body: Body<NewEntry>,
) -> Result<(StatusCode, Json<Made>), ApiError> {
    let made = service.add_entry(read(body)?, &who).await.map_err(entry_failure)?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn end_entry(
    State(service): State<Arc<Service>>,
    Extension(Who(who)): Extension<Who>,
    extract::Path(id): extract::Path<String>,
) -> Answer<Made> {
    let number = id.parse().map_err(|_| ApiError::bad_query(format!("'{id}' is no number")))?;
    service.end_entry(number, &who).await.map(Json).map_err(entry_failure)
}

/// Which held list is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldList {
    /// Its name; without one, whichever is held.
    #[serde(default)]
    list: Option<String>,
}

async fn accept(
    service: State<Arc<Service>>,
    who: Extension<Who>,
    name: extract::Path<String>,
    body: Body<HeldList>,
) -> Answer<Done> {
    word(service, who, name, body, true).await
}

async fn reject(
    service: State<Arc<Service>>,
    who: Extension<Who>,
    name: extract::Path<String>,
    body: Body<HeldList>,
) -> Answer<Done> {
    word(service, who, name, body, false).await
}

async fn word(
    State(service): State<Arc<Service>>,
    Extension(Who(who)): Extension<Who>,
    extract::Path(name): extract::Path<String>,
    body: Body<HeldList>,
    accepts: bool,
) -> Answer<Done> {
    let feed = name.parse().map_err(ApiError::bad_query)?;
    let HeldList { list } = read(body)?;
    let done = service.order(Change::Word { feed, accepts, list }, who).await;
    done.map(Json).map_err(|error| order_error(&error, error.to_string()))
}

async fn rollback(
    State(service): State<Arc<Service>>,
    Extension(Who(who)): Extension<Who>,
    extract::Path(number): extract::Path<String>,
) -> Answer<Done> {
    let number =
        number.parse().map_err(|_| ApiError::bad_query(format!("'{number}' is no number")))?;
    let done = service.order(Change::Rollback(number), who).await;
    done.map(Json).map_err(|error| order_error(&error, error.to_string()))
}

async fn resume(
    State(service): State<Arc<Service>>,
    Extension(Who(who)): Extension<Who>,
) -> Answer<Done> {
    let done = service.order(Change::Resume, who).await;
    done.map(Json).map_err(|error| order_error(&error, error.to_string()))
}

fn entry_failure(failure: EntryFailure) -> ApiError {
    use sekisho_rules::operator::EntryError;
    let text = failure.to_string();
    let (status, code) = match failure {
        EntryFailure::Entry(EntryError::Wrong(_)) => (StatusCode::BAD_REQUEST, "bad_request"),
        EntryFailure::Entry(EntryError::Refused { .. }) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "refused")
        }
        EntryFailure::Unknown(_) => (StatusCode::NOT_FOUND, "not_found"),
        EntryFailure::TooMany => (StatusCode::UNPROCESSABLE_ENTITY, "too_many"),
        EntryFailure::NoRuleset => (StatusCode::SERVICE_UNAVAILABLE, "no_ruleset"),
        EntryFailure::Store(error) => return ApiError::internal("store", &error),
        EntryFailure::Order(error) => return order_error(&error, text),
    };
    ApiError::new(status, code, text)
}

fn order_error(error: &OrderError, text: String) -> ApiError {
    let (status, code) = match error {
        OrderError::Away | OrderError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        OrderError::NoFeed(_) | OrderError::NoVersion(_) => (StatusCode::NOT_FOUND, "not_found"),
        OrderError::Word(_) | OrderError::NotPinned => (StatusCode::CONFLICT, "conflict"),
        OrderError::History(_) => (StatusCode::INTERNAL_SERVER_ERROR, "history"),
        OrderError::NotLive(_) => (StatusCode::INTERNAL_SERVER_ERROR, "dataplane"),
    };
    ApiError::new(status, code, text)
}

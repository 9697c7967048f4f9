//! Errors of the API: `{"error":{"code":"…","message":"…"}}`, whatever went wrong.

use std::any::Any;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An answer that says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    /// `code` is stable and for programs, `message` for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The query says something else than expected.
    pub fn bad_query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_query", message)
    }

    /// Something of ours failed; the log has the details.
    pub fn internal(code: &'static str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(code, "a request failed: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, "the daemon's log says why")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        (self.status, Json(body)).into_response()
    }
}

/// The answer to a request whose handler panicked: no word of the panic leaves the daemon.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::internal("internal", &"a handler panicked").into_response()
}

/// Gives errors that were made below us, such as that of a body that is too large, our shape.
pub(super) async fn in_json(response: Response) -> Response {
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        _ if status.is_client_error() => "bad_request",
        _ => "internal",
    };
    let message = status.canonical_reason().unwrap_or("the request can't be answered");
    ApiError::new(status, code, message.to_lowercase()).into_response()
}

//! What programs can ask the daemon, over HTTP.
//!
//! Whoever reaches it may read, and therefore it listens on the loopback interface unless the operator
//! says otherwise. Who wants to change something needs a token.

mod breaker;
mod changes;
mod connections;
mod error;
mod preview;
mod routes;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tokio::{net::TcpListener, sync::Semaphore, sync::watch};
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer};
use tracing::{info, warn};

pub use error::ApiError;

use crate::{config::ApiConfig, engine::service::Service, shutdown::stopped};

/// Longest that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest that a connection may take to send the header of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that are answered at a time; more are turned away.
const AT_ONCE: usize = 32;
/// Largest body of a request: few have one.
const LARGEST_BODY: usize = 4096;

/// The API; inert until it runs.
pub struct Api {
    config: ApiConfig,
    service: Arc<Service>,
}

impl Api {
    /// One that does not listen yet.
    pub const fn new(config: ApiConfig, service: Arc<Service>) -> Self {
        Self { config, service }
    }

    /// Takes the address.
    pub async fn bind(self) -> io::Result<Listening> {
        let listen = self.config.listen;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            io::Error::new(error.kind(), format!("api.listen {listen}: {error}"))
        })?;
        let address = listener.local_addr()?;
        if address.ip().is_loopback() {
            info!(%address, "API listens");
        } else {
            warn!(%address, "API listens where others can reach it, and to read needs no authentication");
        }
        Ok(Listening {
            listener,
            address,
            service: self.service,
            token_file: self.config.token_file,
        })
    }
}

/// The API with an address.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    token_file: Option<PathBuf>,
}

impl Listening {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let stop = async move {
            // A sender that is gone means the same.
            let () = stopped(&mut shutdown).await;
        };
        let router = router(self.service, self.address, self.token_file);
        connections::serve(self.listener, router, PATIENCE, stop).await;
    }
}

/// All routes, with their limits. `address` is where they are to be reached.
pub fn router(service: Arc<Service>, address: SocketAddr, token_file: Option<PathBuf>) -> Router {
    let v1 = Router::new()
        .route("/status", get(routes::status))
        .route("/feeds", get(routes::feeds))
        .route("/ruleset", get(routes::ruleset))
        .route("/hits", get(routes::hits))
        .route("/overview", get(preview::overview))
        .route("/explain", get(routes::explain))
        .route("/entries", get(routes::entries))
        .route("/history", get(routes::history))
        .route("/history/diff", get(routes::diff))
        .route("/feeds/worth", get(preview::worth))
        .route("/preview", get(preview::preview))
        .route("/breaker", get(breaker::list))
        .merge(changes::routes(token_file));
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    Router::new()
        .nest("/api/v1", v1)
        .route("/metrics", get(routes::metrics))
        .route("/healthz", get(routes::healthz))
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .with_state(service)
        .layer(middleware::from_fn(move |request, next| {
            bounded(Arc::clone(&permits), request, next)
        }))
        .layer(RequestBodyLimitLayer::new(LARGEST_BODY))
        .layer(middleware::from_fn(move |request, next| addressed(address, request, next)))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::map_response(error::in_json))
}

/// Few requests at a time, and none for ever.
async fn bounded(
    permits: Arc<Semaphore>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Ok(_permit) = permits.try_acquire() else {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            format!("{AT_ONCE} requests are being answered; try again"),
        ));
    };
    tokio::time::timeout(TIMEOUT, next.run(request)).await.map_err(|_| {
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "the answer took too long")
    })
}

/// Refuses what was sent to a name that is not ours: a web page whose name was pointed at this
/// address (DNS rebinding) could otherwise read hits through a browser that runs here.
async fn addressed(
    address: SocketAddr,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let header = request.headers().get(header::HOST).map(HeaderValue::to_str);
    let host = match (header, request.uri().host()) {
        (Some(Ok(host)), _) => host,
        (None, Some(host)) => host,
        _ => "",
    };
    if is_ours(host, address) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "wrong_host",
        format!("the Host header must be localhost, a loopback address or {address}"),
    ))
}

/// Whether a Host header names the loopback interface or the address that the API listens on; of
/// an API that listens everywhere, any address, since no name can be rebound to a number.
fn is_ours(host: &str, listen: SocketAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let Ok(address) = name.parse::<IpAddr>() else { return false };
    let address = address.to_canonical();
    address.is_loopback()
        || address == listen.ip().to_canonical()
        || listen.ip().to_canonical().is_unspecified()
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;

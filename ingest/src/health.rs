//! `/livez` and `/readyz` for whoever runs this service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, http::Uri};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde_json::json;
use shared::lifecycle::Lifecycle;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::mqtt::status::BrokerStatus;

/// Connections waiting to be accepted; the kernel may have a lower limit.
const BACKLOG: u32 = 1024;
/// Connections answered at the same time; further ones wait in the backlog.
const CONNECTIONS: usize = 64;
/// What one request may take from its connection to its answer.
const REQUEST: Duration = Duration::from_secs(10);

/// How something we depend on stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DependencyStatus {
    pub(crate) ok: bool,
    /// Since it was last known to work: 0 while it does, `null` if it never did.
    pub(crate) age_ms: Option<u64>,
}

impl DependencyStatus {
    /// Works now, or worked last `age` ago, or never did.
    pub(crate) fn new(ok: bool, age: Option<Duration>) -> Self {
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self {
            ok,
            age_ms: age.map(millis),
        }
    }
}

#[derive(Clone)]
struct Health {
    link: BrokerStatus,
    redis: Arc<dyn Fn() -> DependencyStatus + Send + Sync>,
    draining: CancellationToken,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    dependencies: Dependencies,
}

#[derive(Serialize)]
struct Dependencies {
    redis: DependencyStatus,
    broker: DependencyStatus,
}

/// The routes. `redis` tells how Redis stands, at once.
pub(crate) fn router(
    link: BrokerStatus,
    redis: impl Fn() -> DependencyStatus + Send + Sync + 'static,
    lifecycle: &Lifecycle,
) -> Router {
    let health = Health {
        link,
        redis: Arc::new(redis),
        draining: lifecycle.soft().clone(),
    };
    Router::new()
        .route("/livez", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> Response {
    let redis = (health.redis)();
    let broker = broker_status(&health.link);
    let ready = redis.ok && broker.ok && !health.draining.is_cancelled();
    let (code, status) = if ready {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unready")
    };
    let dependencies = Dependencies { redis, broker };
    (
        code,
        Json(Readiness {
            status,
            dependencies,
        }),
    )
        .into_response()
}

fn broker_status(link: &BrokerStatus) -> DependencyStatus {
    if link.is_subscribed() {
        return DependencyStatus::new(true, Some(Duration::ZERO));
    }
    DependencyStatus::new(false, link.last_subscribed().map(|moment| moment.elapsed()))
}

async fn not_found(uri: Uri) -> Response {
    let text = format!("no such path: {}", uri.path());
    let body = Json(json!({"error": text, "error_message": text}));
    (StatusCode::NOT_FOUND, body).into_response()
}

/// Opens the port.
///
/// # Errors
/// The address is taken or not ours.
pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let open = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().with_context(|| format!("cannot listen on `{address}`"))
}

/// Answers until the drain begins, one request per connection.
pub(crate) fn serve(listener: TcpListener, router: Router, lifecycle: &Lifecycle) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = lifecycle.clone();
    lifecycle.spawn("health", async move {
        loop {
            let permit = Arc::clone(&connections).acquire_owned();
            let accepted = async {
                let permit = permit.await.context("the semaphore is never closed")?;
                anyhow::Ok((permit, listener.accept().await))
            };
            let (permit, accepted) = tokio::select! {
                () = tasks.soft().cancelled() => return Ok(()),
                accepted = accepted => accepted?,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, or the peer is gone again: there is nothing to do but go on, not at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let router = router.clone();
            let soft = tasks.soft().clone();
            tasks.spawn_short("health connection", async move {
                tokio::select! {
                    () = soft.cancelled() => {}
                    () = answer(stream, router) => {}
                }
                drop(permit);
            });
        }
    });
}

async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whatever goes wrong is between the peer and its connection: it asks again.
    timeout(REQUEST, connection).await.ok();
}

#[cfg(test)]
mod tests;

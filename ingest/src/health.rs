//! The HTTP server: `/livez` and `/readyz` for the platform that runs this service. The caller adds `/metrics`.

mod idle_queue;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::map_request;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, http::Uri};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde_json::json;
use shared::clock::millis;
use shared::lifecycle::Lifecycle;
use shared::store::PlacesLeft;
use shared::visible_text::clean;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::idle_queue::{IdleQueue, PendingRequest};
use crate::mqtt::status::BrokerStatus;

/// Maximum number of connections that wait to be accepted. The kernel may have a lower limit.
const BACKLOG: u32 = 1024;
/// Maximum number of connections served at the same time. When all are taken, the oldest one that has sent no request makes room
/// for the next: a platform kills a process whose probe waits in the backlog.
const MAX_CONNECTIONS: usize = 64;
/// Time limit of a request, from accepting its connection to the end of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a dependency works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DependencyStatus {
    pub(crate) ok: bool,
    /// Milliseconds since it last worked: 0 while it works, `null` if it never did.
    pub(crate) age_ms: Option<i64>,
    /// Why it does not work, or a warning while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Cow<'static, str>>,
}

impl DependencyStatus {
    /// Creates a status. `age` is the time since the dependency last worked; `None` if it never did.
    pub(crate) fn new(ok: bool, age: Option<Duration>) -> Self {
        Self {
            ok,
            age_ms: age.map(millis),
            reason: None,
        }
    }

    pub(crate) fn with_reason(self, reason: Option<impl Into<Cow<'static, str>>>) -> Self {
        let reason = reason.map(Into::into);
        Self { reason, ..self }
    }

    /// Adds a reason to the one that it may have.
    fn with_more(self, more: &'static str) -> Self {
        let reason = match self.reason {
            Some(reason) => Cow::Owned(format!("{reason}; {more}")),
            None => Cow::Borrowed(more),
        };
        Self {
            reason: Some(reason),
            ..self
        }
    }
}

#[derive(Clone)]
struct ReadinessSources {
    broker: BrokerStatus,
    redis: Arc<dyn Fn() -> DependencyStatus + Send + Sync>,
    warning: Arc<dyn Fn() -> Warning + Send + Sync>,
    draining: CancellationToken,
}

#[derive(Serialize)]
struct ReadinessBody {
    status: &'static str,
    dependencies: DependencyStatuses,
}

#[derive(Serialize)]
struct DependencyStatuses {
    redis: DependencyStatus,
    broker: DependencyStatus,
}

/// What an operator must know although everything works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The subscription brings nothing although devices are known.
    pub(crate) is_quiet: bool,
    /// Which unknown devices are accepted.
    pub(crate) places: PlacesLeft,
}

impl Warning {
    /// Returns what is said of a Redis that works.
    fn of_places(self) -> Option<&'static str> {
        match self.places {
            PlacesLeft::ForAll => None,
            PlacesLeft::ForDanger => Some(PLACES_FOR_DANGER),
            PlacesLeft::NoneLeft => Some(NO_PLACES),
            PlacesLeft::Uncounted => Some(PLACES_UNUSABLE),
        }
    }
}

/// The reason of a broker that works and brings nothing.
const QUIET: &str = "subscribed, but no message for --quiet-after";
const PLACES_FOR_DANGER: &str = "--max-devices is reached: messages of unknown detectors become dead letters, unless they show a danger: \
     --alarm-reserve has places";
const NO_PLACES: &str = "--max-devices and --alarm-reserve are used up: messages of unknown detectors become dead letters, \
     also those that show a danger";
const PLACES_UNUSABLE: &str = "the key st:{admitted}:devices cannot be used: messages of unknown detectors become dead letters";

/// Returns the router with all routes. `redis` returns the last known status of Redis, without a request to Redis.
pub(crate) fn router(
    broker: BrokerStatus,
    redis: impl Fn() -> DependencyStatus + Send + Sync + 'static,
    warning: impl Fn() -> Warning + Send + Sync + 'static,
    lifecycle: &Lifecycle,
) -> Router {
    let sources = ReadinessSources {
        broker,
        redis: Arc::new(redis),
        warning: Arc::new(warning),
        draining: lifecycle.soft().clone(),
    };
    Router::new()
        .route("/livez", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .with_state(sources)
}

async fn readyz(State(sources): State<ReadinessSources>) -> Response {
    let mut redis = (sources.redis)();
    let mut broker = broker_status(&sources.broker);
    let ready = redis.ok && broker.ok && !sources.draining.is_cancelled();
    let warning = (sources.warning)();
    if warning.is_quiet && broker.ok {
        broker = broker.with_reason(Some(QUIET));
    }
    if let Some(reason) = warning.of_places()
        && redis.ok
    {
        redis = redis.with_more(reason);
    }
    let (code, status) = if ready {
        // Redis has a reason while its memory is full, too.
        let is_degraded = warning != Warning::default() || redis.reason.is_some();
        (StatusCode::OK, if is_degraded { "degraded" } else { "ok" })
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unready")
    };
    let dependencies = DependencyStatuses { redis, broker };
    (
        code,
        Json(ReadinessBody {
            status,
            dependencies,
        }),
    )
        .into_response()
}

fn broker_status(broker: &BrokerStatus) -> DependencyStatus {
    if broker.is_subscribed() {
        return DependencyStatus::new(true, Some(Duration::ZERO));
    }
    DependencyStatus::new(
        false,
        broker.last_subscribed().map(|ended_at| ended_at.elapsed()),
    )
    .with_reason(broker.last_error())
}

async fn not_found(uri: Uri) -> Response {
    let text = format!("no such path: {}", clean(uri.path()));
    let body = Json(json!({"error": text, "error_message": text}));
    (StatusCode::NOT_FOUND, body).into_response()
}

/// Opens the port.
///
/// # Errors
/// The address is in use, or is not an address of this machine.
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

/// Serves one request per connection, until the drain begins.
pub(crate) fn serve(listener: TcpListener, router: Router, lifecycle: &Lifecycle) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = lifecycle.clone();
    lifecycle.spawn("health", async move {
        let mut idle = IdleQueue::default();
        loop {
            let accepted = async {
                let permit = loop {
                    let permit = Arc::clone(&connections).acquire_owned();
                    tokio::select! {
                        biased;
                        permit = permit => break permit.context("the semaphore is closed")?,
                        () = idle.close_oldest() => {}
                    }
                };
                anyhow::Ok((permit, listener.accept().await))
            };
            let (permit, accepted) = tokio::select! {
                () = tasks.soft().cancelled() => return Ok(()),
                accepted = accepted => accepted?,
            };
            let Ok((stream, _)) = accepted else {
                // No file descriptor is free, or the client has disconnected. Pause, to avoid a busy loop.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let router = router.clone();
            let soft = tasks.soft().clone();
            let pending = idle.add();
            tasks.spawn_short("health connection", async move {
                tokio::select! {
                    () = soft.cancelled() => {}
                    () = pending.closed() => {}
                    () = answer(stream, router, &pending) => {}
                }
                drop(permit);
            });
        }
    });
}

async fn answer(stream: TcpStream, router: Router, pending: &PendingRequest) {
    let received = pending.clone();
    let router = router.layer(map_request(move |request: Request| {
        received.record();
        std::future::ready(request)
    }));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // An error affects only this client, which can ask again.
    timeout(REQUEST_TIMEOUT, connection).await.ok();
}

#[cfg(test)]
mod tests;

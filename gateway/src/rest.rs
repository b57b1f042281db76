//! REST: contract paths and shapes. Every route is on this screen; `rest/` has one file per resource.

mod alarm_log;
mod alerts;
mod analytics;
mod body;
pub(crate) mod cors;
mod devices;
pub(crate) mod edge;
mod health;
mod history;
mod path;
mod query;
pub(crate) mod reply;
mod settings;
mod telemetry;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post};
use shared::alarm::Change;
use shared::alarm_log_lines::AlarmLogLines;
use shared::clock::{Clock, Time};
use shared::device::DeviceId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower_http::normalize_path::NormalizePath;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::openapi;
use crate::origins::{OriginError, Origins};
use crate::snapshot::Reads;
use crate::state::AppState;
use crate::status::StatusHandle;
use cors::Cors;

// One line each, whatever its length.
#[rustfmt::skip]
fn routes() -> Vec<(Method, &'static str, MethodRouter<Rest>)> {
    use Method as M;
    vec![
        (M::GET, "/devices/{deviceId}/subtronics/telemetry/latest", get(telemetry::latest)),
        (M::GET, "/devices/{deviceId}/subtronics/alerts", get(alerts::list)),
        (M::POST, "/devices/{deviceId}/subtronics/alerts/{alertId}/acknowledge", post(alerts::acknowledge)),
        (M::GET, "/devices/{deviceId}/alarm-logs", get(alarm_log::of_device)),
        (M::GET, "/alarm-logs", get(alarm_log::of_all)),
        (M::GET, "/alarm-logs/statistics", get(alarm_log::statistics)),
        (M::GET, "/api/devices", get(devices::list)),
        (M::GET, "/api/devices/{deviceId}", get(devices::one)),
        (M::DELETE, "/api/devices/{deviceId}", delete(devices::retire)),
        (M::GET, "/api/devices/{deviceId}/history", get(history::samples)),
        (M::GET, "/api/analytics/connections", get(analytics::connections)),
        (M::GET, "/health", get(health::health)),
        (M::GET, "/livez", get(health::livez)),
        (M::GET, "/readyz", get(health::readyz)),
        (M::GET, "/metrics", get(health::metrics)),
        (M::GET, "/config", get(settings::show)),
        (M::GET, "/openapi.json", get(openapi::document)),
    ]
}

/// Methods that front ends call on routes which have others: they are unknown (contract 4.4), not forbidden.
fn unserved() -> [(&'static str, MethodRouter<Rest>); 1] {
    [("/api/devices", post(unknown_route))]
}

/// The REST service: everything but `/socket.io`.
///
/// Fails on allowed origins that `Config::validate` would have refused.
pub fn router(state: AppState) -> Result<Router, OriginError> {
    let origins = Origins::from_config(&state.config.allowed_origins)?;
    let cors = Cors::new(
        origins.clone(),
        Arc::clone(&state.clock),
        Arc::clone(&state.metrics),
    );
    let metrics = Arc::clone(&state.metrics);
    let rest = Rest::new(state, &origins);
    let mut inner = Router::new();
    for (_, path, handler) in routes() {
        inner = inner.route(path, handler);
    }
    for (path, handler) in unserved() {
        inner = inner.route(path, handler);
    }
    let inner = inner
        .method_not_allowed_fallback(async || ApiError::WrongMethod)
        .fallback(unknown_route)
        .layer(DefaultBodyLimit::max(edge::MAX_BODY_BYTES))
        .with_state(rest);
    let inner = edge::passed(inner, metrics);
    // A trailing slash matches every route, so it has to be gone before a route is looked for.
    let outer = Router::new()
        .fallback_service(NormalizePath::trim_trailing_slash(inner))
        .layer(from_fn(edge::complete))
        .layer(from_fn_with_state(cors, cors::guard));
    Ok(outer)
}

/// What probes and the collection of metrics ask, also of a replica that is full.
const FOR_OPERATORS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Whether this path is one of those that must be answered as long as the process lives.
pub(crate) fn is_for_operators(path: &str) -> bool {
    FOR_OPERATORS.contains(&path)
}

async fn unknown_route() -> ApiError {
    ApiError::UnknownRoute
}

/// Requests that read much (all devices, all logs) and may do so at the same time; the next ones wait their turn.
const LARGE_READS: usize = 4;
/// How long they wait.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct Rest {
    reads: Reads,
    status: StatusHandle,
    clock: Arc<dyn Clock>,
    alerts_bound: usize,
    origin_texts: Arc<[String]>,
    large_reads: Arc<Semaphore>,
    /// Number of devices when Redis last told it.
    devices: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    lines: Arc<AlarmLogLines>,
}

impl Rest {
    /// Metric and log lines of what somebody changed. By whom stands in the alarm log alone.
    fn tell_changes(&self, device: &DeviceId, changes: &[Change]) {
        for change in changes {
            self.metrics.alarm_changes.increment(change.kind.code());
        }
        self.lines
            .log_changes(device, changes, None, self.clock.now());
    }

    fn new(state: AppState, origins: &Origins) -> Self {
        Self {
            reads: Reads {
                store: state.store,
                deadline: state.config.redis.redis_timeout,
            },
            status: state.status,
            clock: state.clock,
            alerts_bound: state.config.alerts_bound,
            origin_texts: origins.to_texts().into(),
            large_reads: Arc::new(Semaphore::new(LARGE_READS)),
            devices: Arc::default(),
            metrics: state.metrics,
            lines: Arc::default(),
        }
    }

    /// The moment at which something is shown.
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn is_serving(&self) -> bool {
        self.status.current().is_serving
    }

    fn origin_texts(&self) -> Vec<String> {
        self.origin_texts.to_vec()
    }

    fn remember_devices(&self, count: usize) {
        self.devices.store(count, Ordering::Relaxed);
    }

    fn last_known_devices(&self) -> usize {
        self.devices.load(Ordering::Relaxed)
    }

    /// Waits until one more large read may run.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        match tokio::time::timeout(MAX_WAIT, self.large_reads.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ApiError::TooSlow),
        }
    }
}

#[cfg(test)]
mod tests;

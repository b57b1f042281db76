//! Whether this gateway lives, may get traffic, and what its data path is like.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use serde::Serialize;
use shared::clock::Time;
use shared::event::iso;
use shared::metrics::TEXT_FORMAT;
use shared::store::IngestStatus;

use crate::rest::{Rest, reply};

/// The original's keys, telling the truth (contract D14).
#[derive(Serialize)]
struct Health {
    status: &'static str,
    mqtt_connected: bool,
    mongodb_connected: bool,
    devices_count: usize,
    subtronics_devices: usize,
    pending_commands: u8,
    allowed_origins: Vec<String>,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
}

/// `GET /health`: degraded is still 200, since every replica shares an outage of Redis or of the ingests.
pub(crate) async fn health(State(rest): State<Rest>) -> Response {
    // Together, so that a Redis that hangs costs one deadline: hosting platforms give up early.
    let (devices, ingest) = tokio::join!(
        rest.reads.within(rest.reads.store.devices()),
        rest.reads.within(rest.reads.store.ingest_status()),
    );
    if let Ok(devices) = &devices {
        rest.remember_devices(devices.len());
    }
    let mqtt_connected = ingest.as_ref().is_ok_and(IngestStatus::is_listening);
    let mongodb_connected = devices.is_ok() && ingest.is_ok();
    let (code, status) = match (rest.is_serving(), mqtt_connected && mongodb_connected) {
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
        (true, true) => (StatusCode::OK, "healthy"),
        (true, false) => (StatusCode::OK, "degraded"),
    };
    let devices_count = rest.last_known_devices();
    let health = Health {
        status,
        mqtt_connected,
        mongodb_connected,
        devices_count,
        subtronics_devices: devices_count,
        pending_commands: 0,
        allowed_origins: rest.origin_texts(),
        timestamp: rest.now(),
    };
    reply::json(code, &health)
}

/// `GET /livez`: the process answers. Never touches Redis.
pub(crate) async fn livez() -> Response {
    reply::ok(&Alive { status: "ok" })
}

/// `GET /metrics`: Prometheus' text format.
pub(crate) async fn metrics(State(rest): State<Rest>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, TEXT_FORMAT)], rest.metrics.read())
}

/// `GET /readyz`: each dependency and its age.
pub(crate) async fn readyz(State(rest): State<Rest>) -> Response {
    let status = rest.status.current();
    let code = StatusCode::from_u16(status.http_status());
    reply::json(code.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), &status)
}

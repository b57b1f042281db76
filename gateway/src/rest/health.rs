//! The endpoints `/health`, `/livez`, `/readyz` and `/metrics`.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use serde::Serialize;
use shared::clock::Time;
use shared::event::iso;
use shared::metrics::TEXT_FORMAT;

use super::context::RestContext;
use super::reply;
use crate::status::Readiness;

/// The keys are those of the replaced system, which always reported "healthy". The values here are the actual state.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// An ingest reports an active subscription at the broker.
    mqtt_connected: bool,
    /// Redis answers. The key still names `MongoDB`, which only the replaced system used.
    mongodb_connected: bool,
    devices_count: usize,
    subtronics_devices: usize,
    /// Always 0: there are no commands.
    pending_commands: u8,
    allowed_origins: Vec<String>,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
}

/// `GET /health`: `degraded` whenever `/readyz` is. A degraded gateway answers 200. An outage of Redis or of ingest affects every
/// replica, so a restart would not help.
pub(crate) async fn health(State(context): State<RestContext>) -> Response {
    let redis = context.redis_health.current(&context.reader).await;
    if let Some(devices) = redis.devices {
        context.remember_device_count(usize::try_from(devices).unwrap_or(usize::MAX));
    }
    let (mqtt_connected, mongodb_connected) = (redis.is_listening, redis.answers);
    // Whatever makes `/readyz` say so counts here too, such as a full Redis.
    let has_no_problem = context.status.current().status == Readiness::Ok;
    let is_healthy = mqtt_connected && mongodb_connected && has_no_problem;
    let (code, status) = match (context.is_serving(), is_healthy) {
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
        (true, true) => (StatusCode::OK, "healthy"),
        (true, false) => (StatusCode::OK, "degraded"),
    };
    let devices_count = context.last_device_count();
    let health = Health {
        status,
        mqtt_connected,
        mongodb_connected,
        devices_count,
        subtronics_devices: devices_count,
        pending_commands: 0,
        allowed_origins: context.origin_texts(),
        timestamp: context.now(),
    };
    reply::json(code, &health)
}

/// `GET /livez`: the process answers. Never reads Redis.
pub(crate) async fn livez() -> Response {
    reply::ok(&Alive { status: "ok" })
}

/// `GET /metrics`: Prometheus' text format.
pub(crate) async fn metrics(
    State(context): State<RestContext>,
) -> ([(HeaderName, &'static str); 1], String) {
    let text = context.metrics.to_text();
    ([(CONTENT_TYPE, TEXT_FORMAT)], text)
}

/// `GET /readyz`: the state and age of each part of the data path.
pub(crate) async fn readyz(State(context): State<RestContext>) -> Response {
    let status = context.status.current();
    let code = StatusCode::from_u16(status.http_status());
    reply::json(code.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), &status)
}

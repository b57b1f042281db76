//! The REST API. Every route is listed here; `rest/` has one file per resource. `openapi.json` describes requests and answers.

mod alarm_log;
mod alerts;
mod analytics;
mod body;
mod context;
mod devices;
mod edge;
mod health;
mod history;
pub(crate) mod operator_paths;
mod path;
mod query;
pub(crate) mod reply;
pub(crate) mod request_telemetry;
mod settings;
mod telemetry;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post};
use tower_http::normalize_path::NormalizePath;

use crate::error::ApiError;
use crate::openapi;
use crate::origins::Origins;
use crate::state::AppState;
use context::RestContext;

// One line per route, even if it is long.
#[rustfmt::skip]
fn routes() -> Vec<(Method, &'static str, MethodRouter<RestContext>)> {
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

/// Whether the route answers with data of detectors that is stored in Redis.
fn answers_with_stored_data(path: &str) -> bool {
    ["/devices/", "/alarm-logs", "/api/"]
        .iter()
        .any(|start| path.starts_with(start))
}

/// Methods that existing front ends call on a path that serves only other methods. The answer is 404, as for an unknown route,
/// and not 405.
fn methods_answered_404() -> [(&'static str, MethodRouter<RestContext>); 1] {
    [("/api/devices", post(unknown_route))]
}

/// Builds the service for every path except `/socket.io`. The caller must have checked the origin of a request.
pub(crate) fn router(state: AppState, origins: &Origins) -> Router {
    let metrics = Arc::clone(&state.metrics.rest);
    let status = state.status.clone();
    let context = RestContext::new(state, origins);
    let mut inner = Router::new();
    for (_, path, mut handler) in routes() {
        if answers_with_stored_data(path) {
            handler = handler.layer(from_fn_with_state(status.clone(), edge::tell_age));
        }
        inner = inner.route(path, handler);
    }
    for (path, handler) in methods_answered_404() {
        inner = inner.route(path, handler);
    }
    let inner = inner
        .method_not_allowed_fallback(async || ApiError::WrongMethod)
        .fallback(unknown_route)
        .layer(DefaultBodyLimit::max(edge::MAX_BODY_BYTES))
        .with_state(context);
    let inner = edge::bound_and_observe(inner, metrics);
    // A trailing slash matches every route, so it must be removed before the route is chosen.
    Router::new()
        .fallback_service(NormalizePath::trim_trailing_slash(inner))
        .layer(from_fn(edge::complete))
}

async fn unknown_route() -> ApiError {
    ApiError::UnknownRoute
}

#[cfg(test)]
mod tests;

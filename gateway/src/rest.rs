//! The REST API. Every route is listed here; `rest/` has one file per resource. `openapi.json` describes requests and answers.
//!
//! With `--ops-port`, the routes for operators are on that port alone: nothing on the main port can keep them busy, and nobody
//! who reaches only the main port can retire a device.

mod alarm_log;
mod alerts;
mod analytics;
mod answers;
mod body;
mod compression;
mod context;
mod device_item;
pub(crate) mod device_list;
mod devices;
mod edge;
mod health;
mod history;
pub(crate) mod operator_paths;
mod path;
mod query;
mod rate;
pub(crate) mod reply;
pub(crate) mod request_telemetry;
mod settings;
mod telemetry;
mod turns;

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post};
use tower_http::normalize_path::NormalizePath;

use crate::admission::Admission;
use crate::error::ApiError;
use crate::openapi;
use crate::origins::Origins;
use crate::state::AppState;
use context::RestContext;
use device_list::renderer::ListRenderer;

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
        // The main port refuses it, see `operator_routes`.
        (M::DELETE, "/api/devices/{deviceId}", delete(devices::refuse_to_retire)),
        (M::GET, "/api/devices/{deviceId}/history", get(history::samples)),
        (M::GET, "/api/analytics/connections", get(analytics::connections)),
        (M::GET, "/health", get(health::health)),
        (M::GET, "/config", get(settings::show)),
        (M::GET, "/openapi.json", get(openapi::document)),
    ]
}

/// The routes that are always answered. On the main port without `--ops-port`, else on that port.
fn probe_routes() -> Vec<(Method, &'static str, MethodRouter<RestContext>)> {
    vec![
        (Method::GET, "/livez", get(health::livez)),
        (Method::GET, "/readyz", get(health::readyz)),
        (Method::GET, "/metrics", get(health::metrics)),
    ]
}

/// The routes that are only on the port for operators. There is no authentication yet: whoever reaches that port is one.
fn operator_routes() -> Vec<(Method, &'static str, MethodRouter<RestContext>)> {
    vec![(
        Method::DELETE,
        "/api/devices/{deviceId}",
        delete(devices::retire),
    )]
}

/// Methods that existing front ends call on a path that serves only other methods. The answer is 404, as for an unknown route,
/// and not 405.
fn methods_answered_404() -> [(&'static str, MethodRouter<RestContext>); 1] {
    [("/api/devices", post(unknown_route))]
}

/// The services of both ports. The caller must have checked host and origin of a request.
pub(crate) struct Routers {
    /// Every path of the main port except `/socket.io`.
    pub(crate) main: Router,
    /// The port for operators.
    pub(crate) operators: Router,
    /// Must run for as long as requests are answered.
    pub(crate) lists: ListRenderer,
}

/// Builds the services of both ports.
pub(crate) fn routers(state: AppState, origins: &Origins) -> Routers {
    let has_operator_port = state.config.ops_port.is_some();
    let compresses = state.config.compress;
    let admission = state.admission.clone();
    let (context, lists) = RestContext::new(state, origins);
    let mut main = routes();
    if !has_operator_port {
        main.extend(probe_routes());
    }
    let mut main = router(main);
    for (path, handler) in methods_answered_404() {
        main = main.route(path, handler);
    }
    let operators = router(
        probe_routes()
            .into_iter()
            .chain(operator_routes())
            .collect(),
    );
    Routers {
        main: complete(main, context.clone(), compresses, Some(admission)),
        // Nothing that clients do may keep operators from their port.
        operators: complete(operators, context, compresses, None),
        lists,
    }
}

fn router(routes: Vec<(Method, &'static str, MethodRouter<RestContext>)>) -> Router<RestContext> {
    let routes = routes.into_iter();
    routes.fold(Router::new(), |router, (_, path, handler)| {
        router.route(path, handler)
    })
}

/// Adds what every route needs. Without `admission`, requests may come at any rate.
fn complete(
    inner: Router<RestContext>,
    context: RestContext,
    compresses: bool,
    admission: Option<Admission>,
) -> Router {
    let metrics = Arc::clone(&context.metrics.rest);
    let answers = context.answers.clone();
    let inner = inner
        .route_layer(from_fn_with_state(context.status.clone(), edge::add_age))
        .method_not_allowed_fallback(async || ApiError::WrongMethod)
        .fallback(unknown_route)
        .with_state(context);
    let inner = edge::bound_and_observe(inner, answers.clone(), admission, metrics);
    // A trailing slash matches every route, so it must be removed before the route is chosen.
    let complete = Router::new()
        .fallback_service(NormalizePath::trim_trailing_slash(inner))
        .layer(from_fn(edge::complete));
    if compresses {
        complete.layer(from_fn_with_state(answers, compression::compress))
    } else {
        complete
    }
}

async fn unknown_route() -> ApiError {
    ApiError::UnknownRoute
}

#[cfg(test)]
mod tests;

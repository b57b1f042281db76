//! The REST API. Every route is listed here; `rest/` has one file per resource. `openapi.json` describes requests and answers.
//!
//! Each route names what a request needs. `access_check` refuses others before anything is read.
//!
//! With `--ops-port`, the routes for probes and metrics are on that port alone: nothing on the main port can keep them busy.

mod accepted_coding;
mod access_check;
mod alarm_log;
mod alarm_page;
mod alerts;
mod analytics;
mod answers;
mod audit;
mod auth;
mod body;
mod compression;
mod context;
pub(crate) mod dashboard;
mod dead_letters;
mod device_item;
pub(crate) mod device_list;
mod devices;
mod edge;
mod health;
mod history;
mod memory_file;
mod open_alarms;
pub(crate) mod operator_paths;
mod path;
mod profile;
mod query;
mod rate;
mod redis_health;
pub(crate) mod reply;
pub(crate) mod request_telemetry;
mod settings;
pub(crate) mod site_plans;
mod telemetry;
mod turns;

#[cfg(any(test, fuzzing))]
pub(crate) use alarm_log::fuzz::check as fuzz_query;

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post, put};
use tower_http::normalize_path::NormalizePath;

use crate::access::permission::Verb;
use crate::admission::Admission;
use crate::error::ApiError;
use crate::openapi;
use crate::origins::Origins;
use crate::state::AppState;
use access_check::{AccessCheck, Needs};
use context::RestContext;
use device_list::renderer::ListRenderer;

/// A route: its method, its path, what a request needs, and what answers it.
type Route = (Method, &'static str, Needs, MethodRouter<RestContext>);

// One line per route, even if it is long.
#[rustfmt::skip]
fn routes() -> Vec<Route> {
    use Method as M;
    const SEE: Needs = Needs::Device(Verb::Read);
    const ACK: Needs = Needs::Device(Verb::Ack);
    vec![
        (M::GET, "/devices/{deviceId}/subtronics/telemetry/latest", SEE, get(telemetry::latest)),
        (M::GET, "/devices/{deviceId}/subtronics/alerts", SEE, get(alerts::list)),
        (M::POST, "/devices/{deviceId}/subtronics/alerts/{alertId}/acknowledge", ACK, post(alerts::acknowledge)),
        (M::GET, "/devices/{deviceId}/alarm-logs", SEE, get(alarm_log::of_device)),
        (M::GET, "/alarm-logs", Needs::Read, get(alarm_log::of_all)),
        (M::GET, "/alarm-logs/statistics", Needs::Read, get(alarm_log::statistics)),
        (M::GET, "/api/devices", Needs::Read, get(devices::list)),
        (M::GET, "/api/devices/{deviceId}", SEE, get(devices::one)),
        (M::GET, "/api/devices/{deviceId}/history", SEE, get(history::samples)),
        (M::GET, "/api/devices/{deviceId}/history.csv", SEE, get(history::table)),
        (M::GET, PROFILE, SEE, get(profile::show)),
        (M::GET, "/api/alarms", Needs::Read, get(alarm_page::alarms)),
        (M::GET, "/api/alarms/history/log", Needs::Read, get(alarm_page::history)),
        (M::GET, "/api/alarms/open", Needs::Read, get(open_alarms::list)),
        (M::GET, "/api/analytics/connections", Needs::ReadsAllOrAdmin, get(analytics::connections)),
        (M::GET, "/api/audit", Needs::Administrator, get(audit::list)),
        (M::GET, "/api/dead-letters", Needs::ReadsAll, get(dead_letters::list)),
        (M::GET, "/api/site-plans", Needs::Read, get(site_plans::list)),
        (M::GET, "/api/site-plans/{planId}/image", Needs::Read, get(site_plans::image)),
        (M::GET, "/auth/login", Needs::Nothing, get(auth::login)),
        (M::GET, "/auth/callback", Needs::Nothing, get(auth::callback)),
        (M::GET, "/auth/session", Needs::Holder, get(auth::session)),
        (M::POST, "/auth/logout", Needs::Holder, post(auth::logout)),
        (M::GET, "/health", Needs::Nothing, get(health::health)),
        (M::GET, "/config", Needs::Read, get(settings::show)),
        (M::GET, "/openapi.json", Needs::Nothing, get(openapi::document)),
    ]
}

/// The routes for programs that watch this service, which are always answered. On the main port without `--ops-port`, else on that
/// port, where nothing but the network protects them.
fn probe_routes(metrics: Needs) -> Vec<Route> {
    vec![
        (Method::GET, "/livez", Needs::Nothing, get(health::livez)),
        (Method::GET, "/readyz", Needs::Nothing, get(health::readyz)),
        (Method::GET, "/metrics", metrics, get(health::metrics)),
    ]
}

const RETIRE: &str = "/api/devices/{deviceId}";
const PROFILE: &str = "/api/devices/{deviceId}/profile";

/// The route that retires a device. With tokens or people who sign in, whoever may operate the device retires it, at both ports. Without
/// them, whoever reaches the port for operators does, and nobody else.
fn retire_route(has_credentials: bool, is_for_operators: bool) -> Route {
    let (needs, handler) = match (has_credentials, is_for_operators) {
        (true, _) => (Needs::Device(Verb::Operate), delete(devices::retire)),
        (false, true) => (Needs::Nothing, delete(devices::retire)),
        (false, false) => (Needs::Nothing, delete(devices::refuse_to_retire)),
    };
    (Method::DELETE, RETIRE, needs, handler)
}

/// The route that changes what operators say about a device. For whom it is there is as for [`retire_route`].
fn profile_route(has_credentials: bool, is_for_operators: bool) -> Route {
    let (needs, handler) = match (has_credentials, is_for_operators) {
        (true, _) => (Needs::Device(Verb::Operate), put(profile::change)),
        (false, true) => (Needs::Nothing, put(profile::change)),
        (false, false) => (Needs::Nothing, put(profile::refuse_to_change)),
    };
    (Method::PUT, PROFILE, needs, handler)
}

/// Methods that existing front ends call on a path that serves only other methods. The answer is 404, as for an unknown route,
/// and not 405.
fn methods_answered_404() -> [(&'static str, MethodRouter<RestContext>); 2] {
    let alarms = post(unknown_route).delete(unknown_route);
    [
        ("/api/devices", post(unknown_route)),
        ("/api/alarms", alarms),
    ]
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
    let access = state.access.clone();
    let has_credentials = access.has_credentials();
    let admission = state.admission.clone();
    let dashboard = state.dashboard.clone();
    let (context, lists) = RestContext::new(state, origins);
    let check = |needs, admission| AccessCheck {
        access: access.clone(),
        refused: context.metrics.rest.access_refused.clone(),
        audit: context.audit.clone(),
        admission,
        needs,
    };
    let mut main = routes();
    main.push(retire_route(has_credentials, false));
    main.push(profile_route(has_credentials, false));
    if !has_operator_port {
        main.extend(probe_routes(Needs::ReadsAllOrAdmin));
    }
    let mut main = router(main, |needs| check(needs, Some(admission.clone())));
    for (path, handler) in methods_answered_404() {
        main = main.route(path, handler);
    }
    if let Some(files) = dashboard {
        main = main.merge(dashboard::router(files));
    }
    let mut operators = probe_routes(Needs::Nothing);
    operators.push(retire_route(has_credentials, true));
    operators.push(profile_route(has_credentials, true));
    let operators = router(operators, |needs| check(needs, None));
    Routers {
        main: complete(main, context.clone(), compresses, Some(admission)),
        // Nothing that clients do may keep operators from their port.
        operators: complete(operators, context, compresses, None),
        lists,
    }
}

fn router(routes: Vec<Route>, check: impl Fn(Needs) -> AccessCheck) -> Router<RestContext> {
    let routes = routes.into_iter();
    routes.fold(Router::new(), |router, (_, path, needs, handler)| {
        let check = from_fn_with_state(check(needs), access_check::check);
        router.route(path, handler.route_layer(check))
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

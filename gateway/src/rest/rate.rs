//! Refuses clients that ask for too much, before anything is read for them.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::operator_paths::is_always_answered;
use crate::admission::caller::Caller;
use crate::admission::limited::Limited;
use crate::admission::{Admission, Purpose};
use crate::client_address::ClientAddress;
use crate::error::ApiError;

/// The route that acknowledges an alarm.
pub(super) const ACKNOWLEDGE: &str = "/devices/{deviceId}/subtronics/alerts/{alertId}/acknowledge";

/// What a request costs that reads one device, or nothing.
const USUAL: u32 = 1;

/// The routes that read more than one device, with what a request costs.
pub(super) const HEAVY: [(&str, u32); 13] = [
    ("/api/devices/{deviceId}/history", 5),
    ("/api/devices/{deviceId}/history.csv", 10),
    ("/api/analytics/connections", 5),
    ("/devices/{deviceId}/alarm-logs", 10),
    ("/alarm-logs", 10),
    ("/api/audit", 10),
    ("/api/dead-letters", 15),
    ("/api/site-plans/{planId}/image", 5),
    ("/alarm-logs/statistics", 20),
    ("/api/alarms", 20),
    ("/api/alarms/history/log", 15),
    ("/api/alarms/open", 20),
    ("/api/devices", 20),
];

/// Middleware. Counts every request except probes and the collection of metrics.
pub(super) async fn admit(
    State(admission): State<Admission>,
    address: ClientAddress,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    // A token costs more than the answer to a probe, and so does the cookie of a session.
    let headers = request.headers();
    let has_credential = headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE);
    if is_always_answered(route) && !has_credential {
        return next.run(request).await;
    }
    match count(
        &admission,
        Caller::Address(address),
        route,
        request.method(),
    ) {
        Ok(()) => next.run(request).await,
        Err(limited) => ApiError::Limited(limited).into_response(),
    }
}

/// Counts a request of this caller for this route.
///
/// # Errors
/// The caller has sent too many.
pub(super) fn count(
    admission: &Admission,
    caller: Caller,
    route: &str,
    method: &Method,
) -> Result<(), Limited> {
    let purpose = if route == ACKNOWLEDGE && method == Method::POST {
        Purpose::Acknowledge
    } else {
        Purpose::Other
    };
    admission.begin_request(caller, cost(route), purpose, Instant::now())
}

fn cost(route: &str) -> u32 {
    let mut heavy = HEAVY.into_iter();
    let found = heavy.find(|(path, _)| *path == route);
    found.map_or(USUAL, |(_, cost)| cost)
}

#[cfg(test)]
mod tests;

//! Counts requests that are refused before any part of the service handles them.

use axum::extract::Request;
use shared::metrics::Count;

use crate::metrics::{HandshakesRefused, Metrics};
use crate::rest::request_telemetry;
use crate::socket::request::{is_socket_io, session_of};

/// Counts a refused request: a handshake under `reason`, a REST request under its status. Requests of open Socket.IO sessions
/// are not counted.
pub(crate) fn count(
    metrics: &Metrics,
    request: &Request,
    reason: fn(&HandshakesRefused) -> &Count,
    status: u16,
) {
    if !is_socket_io(request.uri()) {
        request_telemetry::record_refused(&metrics.rest, request, status);
    } else if session_of(request.uri()).is_none() {
        reason(&metrics.socket.handshakes_refused).increment();
    }
}

//! What every request passes, whatever its route: bounds on size and time, a span, and errors that are always JSON.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use tracing::field::Empty;

use crate::error::{ApiError, ErrorBody};
use crate::metrics::Metrics;
use crate::rest::reply;

/// The largest body of a request (contract section 4).
pub(crate) const MAX_BODY_BYTES: usize = 100 * 1024;
/// Front ends give up after 30 s: whoever waits longer than this reads nobody's answer.
const MAX_DURATION: Duration = Duration::from_secs(25);
/// A longer request id is not repeated in errors.
const MAX_REQUEST_ID: usize = 128;

/// The outermost layer but CORS: bounds the request and completes the answer.
pub(crate) async fn complete(request: Request, next: Next) -> Response {
    let request_id = request_id(request.headers());
    let mut response = if is_too_large(request.headers()) {
        ApiError::TooLarge.into_response()
    } else {
        let answer = tokio::time::timeout(MAX_DURATION, next.run(request)).await;
        answer.unwrap_or_else(|_| ApiError::TooSlow.into_response())
    };
    if let (Some(id), Some(body)) = (request_id, response.extensions_mut().remove::<ErrorBody>()) {
        let (old, _) = response.into_parts();
        response = reply::json(
            old.status,
            &ErrorBody {
                request_id: Some(id),
                ..body
            },
        );
        // What an error answer says beside its body: `Allow` of a wrong method.
        for (name, value) in &old.headers {
            if !response.headers().contains_key(name) && name != CONTENT_LENGTH {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    // A cached reading would be shown as a present one.
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The server span of a request: named after its route, never after a device.
pub(crate) async fn trace(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let route = route.to_owned();
    let method = method(request.method());
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = %route,
        http.response.status_code = Empty,
    );
    let recorded = span.clone();
    let response = next.run(request).instrument(span).await;
    let status = response.status().as_u16();
    recorded.record("http.response.status_code", status);
    metrics.answered(method, &route, status, began.elapsed());
    response
}

/// The method as a word of a bounded set: anybody can invent one.
fn method(method: &Method) -> &'static str {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    let found = known.into_iter().find(|known| *known == method.as_str());
    found.unwrap_or("_OTHER")
}

/// The answer where a handler panicked.
pub(crate) fn after_panic(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::Bug.into_response()
}

fn is_too_large(headers: &HeaderMap) -> bool {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    let length: Option<u64> = length.and_then(|length| length.parse().ok());
    length.is_some_and(|length| length > MAX_BODY_BYTES as u64)
}

/// The client's own id, if it is plain. One that has `p` and `x` side by side is left out: the front end takes any text
/// with that pair for something else than JSON (contract section 5).
fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let plain = |c: char| c.is_ascii_graphic();
    let usable = !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.chars().all(plain);
    (usable && !id.contains("px")).then(|| id.to_owned())
}

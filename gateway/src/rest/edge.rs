//! What every request passes, whatever its route: bounds on size and time, a span, and errors that are always JSON.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_semantic_conventions::attribute::{
    HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE,
};
use shared::telemetry;
use shared::trace::{ALWAYS, Done, SLOW, Traces};
use tracing::field::Empty;
use tracing::{Instrument, Span};

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
    // What changes an alarm is told whatever the share of the samples is.
    let always = (!matches!(method, "GET" | "HEAD" | "OPTIONS")).then_some(true);
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        { ALWAYS } = always,
        { HTTP_REQUEST_METHOD } = method,
        { HTTP_ROUTE } = %route,
        { HTTP_RESPONSE_STATUS_CODE } = Empty,
    );
    let recorded = span.clone();
    let response = next.run(request).instrument(span).await;
    let status = response.status().as_u16();
    recorded.record(HTTP_RESPONSE_STATUS_CODE, status);
    if status >= 500 {
        recorded.record("otel.status_code", "ERROR");
    }
    let took = began.elapsed();
    metrics.answered(method, &route, status, took);
    let is_probe = matches!(
        route.as_str(),
        "/livez" | "/readyz" | "/health" | "/metrics"
    );
    if !is_probe && (status >= 500 || took > SLOW) {
        tell_anyway(&recorded, method, &route, status, took);
    }
    response
}

/// Errors and slow answers are told, too, where the share of the samples had left them out.
fn tell_anyway(span: &Span, method: &'static str, route: &str, status: u16, took: Duration) {
    let trace = telemetry::of_span(span).filter(|trace| !trace.is_sampled());
    let Some(trace) = trace else { return };
    Traces::none().tell(Done {
        trace: trace.sampled(),
        origin: None,
        links: &[],
        name: format!("{method} {route}").into(),
        kind: SpanKind::Server,
        took,
        attributes: vec![
            KeyValue::new(HTTP_REQUEST_METHOD, method),
            KeyValue::new(HTTP_ROUTE, route.to_owned()),
            KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(status)),
        ],
        error: (status >= 500).then(|| status.to_string()),
    });
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

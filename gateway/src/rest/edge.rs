//! What every request passes, whatever its route: bounds on size and time, a span, and errors that are always JSON.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, URL_PATH, URL_SCHEME,
};
use shared::telemetry;
use shared::trace::{CompletedSpan, SLOW, SpanRecorder};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::error::{ApiError, ErrorBody};
use crate::metrics::Metrics;
use crate::rest::reply;

/// The largest body of a request (contract section 4).
pub(crate) const MAX_BODY_BYTES: usize = 100 * 1024;
/// Front ends give up after 30 s: whoever waits longer than this reads nobody's answer.
const MAX_DURATION: Duration = Duration::from_secs(25);
/// What a span keeps of a path.
const MAX_PATH_CHARS: usize = 256;
/// What we speak; whoever ends TLS in front of us speaks `https`.
pub(crate) const SCHEME: &str = "http";
/// Nobody waited for the answer: not one of the conventions' words, which know none for it.
const GIVEN_UP: &str = "given_up";
/// A longer request id is not repeated in errors.
const MAX_REQUEST_ID: usize = 128;

/// The outermost layer but CORS: completes the answer, whoever gave it.
pub(crate) async fn complete(request: Request, next: Next) -> Response {
    let request_id = request_id(request.headers());
    let mut response = next.run(request).await;
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

/// What every request passes whose route is known, or known to be none. Within the span: what panics or takes too long is
/// counted and told like everything else.
pub(crate) fn passed(handlers: Router, metrics: Arc<Metrics>) -> Router {
    handlers
        .layer(from_fn(bound))
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(from_fn_with_state(metrics, trace))
}

/// Bounds the request: its size as it is announced, and the time of its answer.
async fn bound(request: Request, next: Next) -> Response {
    if is_too_large(request.headers()) {
        return ApiError::TooLarge.into_response();
    }
    let answer = tokio::time::timeout(MAX_DURATION, next.run(request)).await;
    answer.unwrap_or_else(|_| ApiError::TooSlow.into_response())
}

/// The server span of a request, named after its route, never after a device; and its metric.
async fn trace(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let asked = Asked {
        method: method(request.method()),
        route: route.as_ref().map(MatchedPath::as_str),
        path: request.uri().path().chars().take(MAX_PATH_CHARS).collect(),
    };
    let span = tracing::info_span!(
        "request",
        otel.name = asked.name(),
        otel.kind = "server",
        otel.status_code = Empty,
        { HTTP_REQUEST_METHOD } = asked.method,
        { HTTP_ROUTE } = asked.route,
        { URL_PATH } = asked.path,
        { URL_SCHEME } = SCHEME,
        { HTTP_RESPONSE_STATUS_CODE } = Empty,
        { ERROR_TYPE } = Empty,
    );
    let mut measured = Measured {
        metrics: &metrics,
        asked,
        span: span.clone(),
        began: Instant::now(),
        status: None,
    };
    let response = next.run(request).instrument(span).await;
    measured.status = Some(response.status().as_u16());
    response
}

/// Tells what became of a request when it is dropped: also of one whose client gave up, which is dropped half-way.
struct Measured<'a> {
    metrics: &'a Metrics,
    asked: Asked<'a>,
    span: Span,
    began: Instant,
    /// `None` until it is answered.
    status: Option<u16>,
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let error = error_of(self.status);
        if let Some(status) = self.status {
            self.span.record(HTTP_RESPONSE_STATUS_CODE, status);
        }
        if let Some(error) = &error {
            self.span.record("otel.status_code", "ERROR");
            self.span.record(ERROR_TYPE, error.as_ref());
        }
        let Asked { method, route, .. } = self.asked;
        self.metrics.answered(method, route, self.status, took);
        self.asked.tell_anyway(&self.span, self.status, error, took);
    }
}

/// Why a request failed, as the conventions tell it; `status`: `None` where nobody waited for the answer.
pub(crate) fn error_of(status: Option<u16>) -> Option<Cow<'static, str>> {
    match status {
        None => Some(Cow::Borrowed(GIVEN_UP)),
        Some(status) => (status >= 500).then(|| Cow::Owned(status.to_string())),
    }
}

/// What was asked for, in the words of the conventions.
struct Asked<'a> {
    method: &'static str,
    route: Option<&'a str>,
    path: String,
}

impl Asked<'_> {
    fn name(&self) -> String {
        match self.route {
            Some(route) => format!("{} {route}", self.method),
            None => self.method.to_owned(),
        }
    }

    /// What changed something, or may have, failed or was slow is told, too, where the share of the samples had left it out.
    fn tell_anyway(
        &self,
        span: &Span,
        status: Option<u16>,
        error: Option<Cow<'static, str>>,
        took: Duration,
    ) {
        let is_probe = self
            .route
            .is_some_and(|route| route == "/health" || super::is_for_operators(route));
        let may_change = matches!(self.method, "POST" | "DELETE");
        let may_have_changed = may_change && status.is_none_or(|status| status < 300);
        let has_failed = status.is_some() && error.is_some();
        let is_worth_it = has_failed || took > SLOW;
        if !may_have_changed && (is_probe || !is_worth_it) {
            return;
        }
        let trace = telemetry::trace_of(span).filter(|trace| !trace.is_sampled());
        let Some(trace) = trace else { return };
        let mut attributes = vec![
            KeyValue::new(HTTP_REQUEST_METHOD, self.method),
            KeyValue::new(URL_PATH, self.path.clone()),
            KeyValue::new(URL_SCHEME, SCHEME),
        ];
        let route = self.route.map(str::to_owned);
        attributes.extend(route.map(|route| KeyValue::new(HTTP_ROUTE, route)));
        let status = status.map(i64::from);
        attributes.extend(status.map(|status| KeyValue::new(HTTP_RESPONSE_STATUS_CODE, status)));
        let error = error.map(Cow::into_owned);
        attributes.extend(error.clone().map(|error| KeyValue::new(ERROR_TYPE, error)));
        SpanRecorder::disabled().record(CompletedSpan {
            trace: trace.sampled(),
            remote: None,
            links: &[],
            name: self.name().into(),
            kind: SpanKind::Server,
            took,
            attributes,
            error,
        });
    }
}

/// The method as a word of a bounded set: anybody can invent one.
pub(crate) fn method(method: &Method) -> &'static str {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    let found = known.into_iter().find(|known| *known == method.as_str());
    found.unwrap_or("_OTHER")
}

/// The answer where a handler panicked.
fn after_panic(_: Box<dyn Any + Send + 'static>) -> Response {
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

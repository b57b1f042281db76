//! The span and the metric of each request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, URL_PATH, URL_SCHEME,
};
use shared::telemetry;
use shared::trace::{CompletedSpan, SLOW, SpanRecorder};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::operator_paths::is_probe;
use crate::listener::connection::ConnectionHandle;
use crate::metrics::RestMetrics;

/// Maximum number of characters of a path in a span. The rest is cut off.
const MAX_PATH_CHARS: usize = 256;
/// `error.type` if the client disconnected before it was answered. The semantic conventions define no value for that.
const GIVEN_UP: &str = "given_up";

/// Middleware. Creates the server span of a request and records its metric. The span is named after the route,
/// so its name never contains a device id.
pub(super) async fn observe(
    State(metrics): State<Arc<RestMetrics>>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let info = RequestInfo {
        method: method(request.method()),
        route: route.as_ref().map(MatchedPath::as_str),
        path: request.uri().path().chars().take(MAX_PATH_CHARS).collect(),
        scheme: scheme(&request),
    };
    let span = tracing::info_span!(
        "request",
        otel.name = info.name(),
        otel.kind = "server",
        otel.status_code = Empty,
        { HTTP_REQUEST_METHOD } = info.method,
        { HTTP_ROUTE } = info.route,
        { URL_PATH } = info.path,
        { URL_SCHEME } = info.scheme,
        { HTTP_RESPONSE_STATUS_CODE } = Empty,
        { ERROR_TYPE } = Empty,
    );
    let mut request_record = RequestRecord {
        metrics: &metrics,
        info,
        span: span.clone(),
        began: Instant::now(),
        status: None,
    };
    let response = next.run(request).instrument(span).await;
    request_record.status = Some(response.status().as_u16());
    response
}

/// Records the metric of a request that was refused before routing.
pub(crate) fn record_refused(metrics: &RestMetrics, request: &Request, status: u16) {
    let info = RequestInfo {
        method: method(request.method()),
        route: None,
        path: String::new(),
        scheme: scheme(request),
    };
    record(metrics, &info, Some(status), Duration::ZERO);
}

/// Records the metric of a request. `status` is `None` if the client disconnected before it was answered.
fn record(metrics: &RestMetrics, info: &RequestInfo<'_>, status: Option<u16>, took: Duration) {
    let mut labels = vec![
        KeyValue::new(HTTP_REQUEST_METHOD, info.method),
        KeyValue::new(URL_SCHEME, info.scheme),
    ];
    labels.extend(status_label(status));
    labels.extend(route_label(info.route));
    labels.extend(error_label(error_of(status)));
    metrics.requests.record_with(took, &labels);
}

/// A request being answered. Its end is recorded on drop: if the client disconnects, axum drops the handler before it
/// returns, and that request must be recorded too.
struct RequestRecord<'a> {
    metrics: &'a RestMetrics,
    info: RequestInfo<'a>,
    span: Span,
    began: Instant,
    /// `None` until the request is answered.
    status: Option<u16>,
}

impl Drop for RequestRecord<'_> {
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
        let info = &self.info;
        record(self.metrics, info, self.status, took);
        info.record_span_if_notable(&self.span, self.status, error, took);
    }
}

/// The attributes of a request, as the semantic conventions define them.
struct RequestInfo<'a> {
    method: &'static str,
    route: Option<&'a str>,
    path: String,
    scheme: &'static str,
}

impl RequestInfo<'_> {
    fn name(&self) -> String {
        match self.route {
            Some(route) => format!("{} {route}", self.method),
            None => self.method.to_owned(),
        }
    }

    /// Records the span of an unsampled request that may have changed something, failed or was slow. Unsampled probes are
    /// not recorded.
    fn record_span_if_notable(
        &self,
        span: &Span,
        status: Option<u16>,
        error: Option<Cow<'static, str>>,
        took: Duration,
    ) {
        let is_probe = self.route.is_some_and(is_probe);
        let may_change = matches!(self.method, "POST" | "DELETE");
        let may_have_changed = may_change && status.is_none_or(|status| status < 300);
        let has_failed = status.is_some() && error.is_some();
        let is_notable = has_failed || took > SLOW;
        if !may_have_changed && (is_probe || !is_notable) {
            return;
        }
        let trace = telemetry::trace_of(span).filter(|trace| !trace.is_sampled());
        let Some(trace) = trace else { return };
        let mut attributes = vec![
            KeyValue::new(HTTP_REQUEST_METHOD, self.method),
            KeyValue::new(URL_PATH, self.path.clone()),
            KeyValue::new(URL_SCHEME, self.scheme),
        ];
        attributes.extend(route_label(self.route));
        attributes.extend(status_label(status));
        attributes.extend(error_label(error.clone()));
        // A disabled recorder starts no traces, but it records spans of existing traces.
        SpanRecorder::disabled().record(CompletedSpan {
            trace: trace.sampled(),
            remote: None,
            links: &[],
            name: self.name().into(),
            kind: SpanKind::Server,
            took,
            attributes,
            error: error.map(Cow::into_owned),
        });
    }
}

/// Returns the error type of a request; `None` if it did not fail. `status` is `None` if the client disconnected before it
/// was answered.
fn error_of(status: Option<u16>) -> Option<Cow<'static, str>> {
    match status {
        None => Some(Cow::Borrowed(GIVEN_UP)),
        Some(status) => (status >= 500).then(|| Cow::Owned(status.to_string())),
    }
}

fn status_label(status: Option<u16>) -> Option<KeyValue> {
    status.map(|status| KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(status)))
}

fn route_label(route: Option<&str>) -> Option<KeyValue> {
    route.map(|route| KeyValue::new(HTTP_ROUTE, route.to_owned()))
}

fn error_label(error: Option<Cow<'static, str>>) -> Option<KeyValue> {
    error.map(|error| KeyValue::new(ERROR_TYPE, error))
}

fn scheme(request: &Request) -> &'static str {
    let connection = request.extensions().get::<Arc<ConnectionHandle>>();
    connection.map_or("http", |connection| connection.scheme())
}

/// Returns the method as a metric label. A client can send any text, so unknown methods become `_OTHER`.
fn method(method: &Method) -> &'static str {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    let found = known.into_iter().find(|known| *known == method.as_str());
    found.unwrap_or("_OTHER")
}

//! Layers around every route: bounds on size and time, and errors that are always JSON.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use super::answers::{self, AnswerLimits};
use super::rate;
use super::reply;
use super::request_telemetry::observe;
use crate::admission::Admission;
use crate::error::{ApiError, ErrorBody};
use crate::metrics::RestMetrics;
use crate::status::StatusHandle;

/// The largest body of a request, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 100 * 1024;
/// The longest time an answer may take. Front ends give up after 30 s, so a later answer would reach no client.
const MAX_DURATION: Duration = Duration::from_secs(25);
/// The longest request id that is repeated in errors, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Completes every answer. This is the outermost layer except the check of origins.
pub(super) async fn complete(request: Request, next: Next) -> Response {
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
        // Keep the other headers of the error, such as `Allow`.
        for (name, value) in &old.headers {
            if !response.headers().contains_key(name) && name != CONTENT_LENGTH {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    // A reading from a cache would be shown as a current one. Only files that were read at the start say something else.
    response
        .headers_mut()
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether the path leads to data of detectors that is stored in Redis.
fn leads_to_stored_data(path: &str) -> bool {
    let begins_with = |start: &&str| path.starts_with(*start);
    ["/devices/", "/alarm-logs", "/api/"]
        .iter()
        .any(begins_with)
        && !path.starts_with("/api/site-plans")
}

/// Adds the header `Age` to an answer with stored data while the data path does not work: nothing newer is stored since then.
pub(super) async fn add_age(
    State(status): State<StatusHandle>,
    request: Request,
    next: Next,
) -> Response {
    let is_read = (request.method() == Method::GET || request.method() == Method::HEAD)
        && leads_to_stored_data(request.uri().path());
    let mut response = next.run(request).await;
    if is_read
        && response.status().is_success()
        && let Some(age) = status.data_age(Instant::now())
    {
        response.headers_mut().insert(AGE, age.as_secs().into());
    }
    response
}

/// Adds the layers around all routes, the rate of requests only with `admission`. The telemetry layer is the outermost, so that requests whose handler panics or takes
/// too long are counted and recorded too.
pub(super) fn bound_and_observe(
    handlers: Router,
    answers: AnswerLimits,
    admission: Option<Admission>,
    metrics: Arc<RestMetrics>,
) -> Router {
    let bounded = handlers
        .layer(from_fn_with_state(answers, answers::limit))
        .layer(from_fn(bound));
    let limited = match admission {
        Some(admission) => bounded.layer(from_fn_with_state(admission, rate::admit)),
        None => bounded,
    };
    limited
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(from_fn_with_state(metrics, observe))
}

/// Bounds a request: its size as announced, and the time of its answer.
async fn bound(request: Request, next: Next) -> Response {
    if is_too_large(request.headers()) {
        return ApiError::TooLarge.into_response();
    }
    let answer = tokio::time::timeout(MAX_DURATION, next.run(request)).await;
    answer.unwrap_or_else(|_| ApiError::TooSlow.into_response())
}

/// Renders the answer if a handler panicked.
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

/// Returns the client's request id, if it can be repeated in an error. An id with `px` in it is left out: the existing front
/// end does not parse JSON that contains these two letters.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let is_plain = |c: char| c.is_ascii_graphic();
    let is_usable = !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.chars().all(is_plain);
    (is_usable && !id.contains("px")).then(|| id.to_owned())
}

//! Checks origins and answers CORS preflights, for REST and Socket.IO alike.
//!
//! An allowed origin is echoed, with credentials allowed. Any other origin is refused with 403 before a handler runs;
//! `tower-http` has no layer that refuses. The README describes which origins are allowed.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HOST,
    HeaderName, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::clock::Clock;
use shared::rate_limit::RateLimit;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::origins::Origins;
use crate::refused_request;

const METHODS: &str = "GET, POST, PUT, DELETE, OPTIONS, PATCH";
const HEADERS: &str = "Content-Type, Authorization, Accept, If-Match, If-None-Match, X-Request-ID, X-Internal-Request-ID";
/// What pages may read of an answer: what to send with the next request, how far back a table reaches, and when to try again.
const EXPOSED: &str = "ETag, Reaches-From, Retry-After, WWW-Authenticate, X-Request-ID";
/// Seconds for which a browser may remember a preflight. Browsers have their own limits (two hours in Chromium). Long, as
/// the existing front end sends a preflight before every GET.
const MAX_AGE: &str = "7200";

/// The context of the origin check. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cors {
    origins: Arc<Origins>,
    clock: Arc<dyn Clock>,
    /// Limits the log lines about refusals, which any web page can cause.
    refusals: Arc<RateLimit>,
    metrics: Arc<Metrics>,
}

/// Refuses other origins, answers preflights, and adds the headers to all other answers.
pub(crate) async fn check(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    let origin = match read_origin(request.headers()) {
        Ok(Some(origin)) if !cors.allows(&origin, request.headers()) => {
            cors.log_refusal(&origin);
            return cors.refuse(&request);
        }
        Ok(origin) => origin,
        Err(SeveralOrigins) => return cors.refuse(&request),
    };
    let is_preflight = request.method() == Method::OPTIONS;
    let mut response = if is_preflight {
        // On unknown routes too: without an answer to the preflight, a browser would hide our 404.
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    vary_by_origin(headers);
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        set(headers, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        if is_preflight {
            set(headers, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            set(headers, ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            set(headers, ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        } else {
            set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
    response
}

impl Cors {
    pub(crate) fn new(origins: Origins, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            origins: Arc::new(origins),
            clock,
            refusals: Arc::new(RateLimit::one_per_ten_seconds()),
            metrics,
        }
    }

    fn allows(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let origin = origin.to_str().ok();
        origin.is_some_and(|origin| self.origins.allows(origin, host))
    }

    fn refuse(&self, request: &Request) -> Response {
        let status = StatusCode::FORBIDDEN.as_u16();
        refused_request::count(&self.metrics, request, |refused| &refused.origin, status);
        let mut response = ApiError::RefusedOrigin.into_response();
        vary_by_origin(response.headers_mut());
        response
    }

    fn log_refusal(&self, origin: &HeaderValue) {
        if let Some(suppressed) = self.refusals.allow(self.clock.now()) {
            tracing::warn!(?origin, held_back = suppressed, "CORS blocked origin");
        }
    }
}

/// The request has more than one `Origin` header. No browser sends that.
struct SeveralOrigins;

fn read_origin(headers: &HeaderMap) -> Result<Option<HeaderValue>, SeveralOrigins> {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (origin, None) => Ok(origin.cloned()),
        (_, Some(_)) => Err(SeveralOrigins),
    }
}

fn vary_by_origin(headers: &mut HeaderMap) {
    let origin = HeaderValue::from_static("Origin");
    if !headers.get_all(VARY).iter().any(|value| *value == origin) {
        headers.append(VARY, origin);
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

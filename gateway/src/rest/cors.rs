//! CORS (contract section 6, D19): an allowed origin is echoed with credentials, any other is refused before a
//! handler runs. `tower-http` has no layer that refuses, only ones that leave the headers out.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, HOST, HeaderName, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::clock::Clock;
use shared::rate_limit::RateLimit;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::origins::Origins;

const METHODS: &str = "GET, POST, PUT, DELETE, OPTIONS, PATCH";
const HEADERS: &str = "Content-Type, Authorization, Accept, X-Request-ID, X-Internal-Request-ID";
/// Browsers cut it to what they allow (two hours in Chromium): every GET of the front end is preflighted.
const MAX_AGE: &str = "7200";

/// Who may talk to us, and when a refusal was last told.
#[derive(Clone)]
pub(crate) struct Cors {
    origins: Origins,
    clock: Arc<dyn Clock>,
    refusals: Arc<RateLimit>,
    metrics: Arc<Metrics>,
}

impl Cors {
    pub(crate) fn new(origins: Origins, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            origins,
            clock,
            metrics,
            refusals: Arc::new(RateLimit::one_per_ten_seconds()),
        }
    }
}

/// Refuses, answers preflights, and marks the answers of handlers.
pub(crate) async fn guard(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    let origin = match read_origin(request.headers()) {
        Ok(Some(origin)) if !cors.allows(&origin, request.headers()) => {
            cors.metrics.turned_away(&request, "origin", 403);
            cors.tell_refusal(&origin);
            return refuse();
        }
        Ok(origin) => origin,
        Err(Twice) => {
            cors.metrics.turned_away(&request, "origin", 403);
            return refuse();
        }
    };
    let is_preflight = request.method() == Method::OPTIONS;
    let mut response = if is_preflight {
        // On every route, unknown ones included: a browser that gets no preflight shows no error of ours either.
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
        }
    }
    response
}

/// More than one `Origin`: no browser sends that.
struct Twice;

fn read_origin(headers: &HeaderMap) -> Result<Option<HeaderValue>, Twice> {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (origin, None) => Ok(origin.cloned()),
        (_, Some(_)) => Err(Twice),
    }
}

fn refuse() -> Response {
    let mut response = ApiError::RefusedOrigin.into_response();
    vary_by_origin(response.headers_mut());
    response
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

impl Cors {
    fn allows(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let origin = origin.to_str().ok();
        origin.is_some_and(|origin| self.origins.allows(origin, host))
    }

    fn tell_refusal(&self, origin: &HeaderValue) {
        // Any page can cause them.
        if let Some(held_back) = self.refusals.allow(self.clock.now()) {
            tracing::warn!(?origin, held_back, "CORS blocked origin");
        }
    }
}

//! Refuses requests that name a foreign host, and requests that another server on the way could read differently.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::clock::Clock;
use shared::rate_limit::RateLimit;

use crate::error::ApiError;
use crate::hosts::{Hosts, NamedHost};
use crate::metrics::Metrics;
use crate::refused_request;
use crate::rest::operator_paths::is_always_answered;

/// The context of the check. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HostCheck {
    hosts: Arc<Hosts>,
    clock: Arc<dyn Clock>,
    /// Limits the log lines about refusals, which anybody can cause.
    refusals: Arc<RateLimit>,
    metrics: Arc<Metrics>,
}

impl HostCheck {
    pub(crate) fn new(hosts: Hosts, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            hosts: Arc::new(hosts),
            clock,
            refusals: Arc::new(RateLimit::one_per_ten_seconds()),
            metrics,
        }
    }

    fn refuse_ambiguous(&self, request: &Request, problem: &'static str) -> Response {
        let status = StatusCode::BAD_REQUEST.as_u16();
        refused_request::count(&self.metrics, request, |refused| &refused.invalid, status);
        ApiError::Ambiguous { problem }.into_response()
    }

    fn refuse_host(&self, request: &Request) -> Response {
        let status = StatusCode::FORBIDDEN.as_u16();
        refused_request::count(&self.metrics, request, |refused| &refused.host, status);
        if let Some(suppressed) = self.refusals.allow(self.clock.now()) {
            let host = request.headers().get(HOST);
            tracing::warn!(
                ?host,
                held_back = suppressed,
                "refused a host that --allowed-hosts does not list"
            );
        }
        ApiError::RefusedHost.into_response()
    }
}

/// Checks every request of the main port.
pub(crate) async fn check(
    State(context): State<HostCheck>,
    request: Request,
    next: Next,
) -> Response {
    match named_host(&request) {
        Err(problem) => context.refuse_ambiguous(&request, problem),
        Ok(Some(host)) if !context.hosts.allow(&host) => context.refuse_host(&request),
        Ok(_) => next.run(request).await,
    }
}

/// Checks every request of the port for operators. Probes may name any host, as they change nothing and platforms choose
/// their names. Everything else is for operators and never for pages, whatever their origin.
pub(crate) async fn check_operator(
    State(context): State<HostCheck>,
    request: Request,
    next: Next,
) -> Response {
    if !is_always_answered(request.uri().path().trim_end_matches('/')) {
        if request.headers().contains_key(ORIGIN) {
            let status = StatusCode::FORBIDDEN.as_u16();
            let metrics = &context.metrics;
            refused_request::count(metrics, &request, |refused| &refused.origin, status);
            return ApiError::RefusedOrigin.into_response();
        }
        return check(State(context), request, next).await;
    }
    match named_host(&request) {
        Err(problem) => context.refuse_ambiguous(&request, problem),
        Ok(_) => next.run(request).await,
    }
}

/// Returns the host that a request names. `None` only for a probe of a load balancer that sends no host.
fn named_host(request: &Request) -> Result<Option<NamedHost>, &'static str> {
    // hyper reads the body by `Transfer-Encoding` and removes a `Content-Length` beside it, so a request with both looks like
    // one with the first alone. Browsers and proxies that know the length send no `Transfer-Encoding`.
    if request.headers().contains_key(TRANSFER_ENCODING) {
        return Err("send the body with `Content-Length`, not with `Transfer-Encoding`");
    }
    let Some(value) = only_host(request.headers())? else {
        // HTTP/1.0 needs no host, and no browser speaks it.
        let is_old = request.version() == Version::HTTP_10;
        if is_old && is_always_answered(request.uri().path()) {
            return Ok(None);
        }
        return Err("the request has no `Host`");
    };
    let text = value.to_str().unwrap_or_default();
    let host = NamedHost::parse(text).ok_or("`Host` is not a host")?;
    // A request line may name a host too.
    let in_line = request.uri().authority();
    if in_line.is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(text)) {
        return Err("the request names two hosts");
    }
    Ok(Some(host))
}

fn only_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, &'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (host, None) => Ok(host),
        (_, Some(_)) => Err("the request has more than one `Host`"),
    }
}

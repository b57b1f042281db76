//! Chooses the part of the service that answers a request, after its host and origin were checked.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use shared::clock::Clock;
use shared::rate_limit::RateLimit;
use tower::ServiceExt;

use crate::admission::enforcement::Enforcement;
use crate::admission::limit::Limit;
use crate::client_address::TrustedProxies;
use crate::config::Config;
use crate::cors::{self, Cors};
use crate::error::ApiError;
use crate::host_check::{self, HostCheck};
use crate::hosts::{HostRule, Hosts};
use crate::listener::connection::ConnectionHandle;
use crate::metrics::Metrics;
use crate::origins::Origins;
use crate::refused_request;
use crate::rest;
use crate::rest::device_list::renderer::ListRenderer;
use crate::rest::operator_paths::is_always_answered;
use crate::socket::Sockets;
use crate::socket::request::is_socket_io;
use crate::state::AppState;

/// The parts of the service.
#[derive(Clone)]
struct Parts {
    sockets: Sockets,
    rest: Router,
    full: Arc<Full>,
    enforcement: Enforcement,
    trusted_proxies: Arc<TrustedProxies>,
}

/// The services of both ports.
pub(crate) struct Services {
    pub(crate) main: Router,
    pub(crate) operators: Router,
    /// Must run for as long as requests are answered.
    pub(crate) lists: ListRenderer,
}

/// Builds the services of both ports.
///
/// # Errors
/// The configured origins or hosts cannot be used. `Config::validate` would have refused them.
pub(crate) fn services(state: &AppState, sockets: Sockets) -> anyhow::Result<Services> {
    let (origins, hosts) = allowed(&state.config)?;
    let (clock, metrics) = (&state.clock, &state.metrics);
    let rest = rest::routers(state.clone(), &origins);
    let parts = Parts {
        sockets,
        rest: rest.main,
        enforcement: state.admission.enforcement().clone(),
        trusted_proxies: Arc::new(state.config.proxies()?),
        full: Arc::new(Full {
            clock: Arc::clone(clock),
            log_limit: RateLimit::one_per_ten_seconds(),
            metrics: Arc::clone(metrics),
        }),
    };
    let cors = Cors::new(origins, Arc::clone(clock), Arc::clone(metrics));
    let hosts = HostCheck::new(hosts, Arc::clone(clock), Arc::clone(metrics));
    let main = Router::new()
        .fallback(async move |request: Request| parts.answer(request).await)
        .layer(from_fn_with_state(cors, cors::check))
        // Before the origin is checked: a foreign host makes every origin look like our own.
        .layer(from_fn_with_state(hosts.clone(), host_check::check));
    let operators = rest
        .operators
        .layer(from_fn_with_state(hosts, host_check::check_operator));
    Ok(Services {
        main,
        operators,
        lists: rest.lists,
    })
}

/// Returns the origins and hosts that the settings allow.
fn allowed(config: &Config) -> anyhow::Result<(Origins, Hosts)> {
    let entries = HostRule::parse_all(&config.allowed_hosts)?;
    let origins = Origins::from_config(
        &config.allowed_origins,
        !config.no_default_origins,
        entries.clone(),
    )?;
    let public = config.sign_in.public_url.iter();
    let public = public.map(|url| HostRule::Exact(url.host().to_owned()));
    let hosts = Hosts::new(origins.hosts().chain(public), &entries);
    Ok((origins, hosts))
}

impl Parts {
    async fn answer(&self, mut request: Request) -> Response<Body> {
        let connection = request.extensions().get::<Arc<ConnectionHandle>>();
        let is_full = connection.is_some_and(|connection| connection.exceeds_places());
        let is_counted = connection.is_some_and(|connection| connection.is_counted());
        let peer = connection.map(|connection| connection.peer());
        if let Some(peer) = peer {
            let client = self.trusted_proxies.client(peer, request.headers());
            request.extensions_mut().insert(client);
        }
        if is_full && self.sockets.has_session(request.uri()) {
            // The session has a place, which this connection uses.
            if let Some(connection) = request.extensions().get::<Arc<ConnectionHandle>>() {
                connection.keep();
            }
        } else if is_full
            && !is_always_answered(request.uri().path())
            && (is_counted || self.enforcement.refuses(Limit::MaxConnections, None))
        {
            return self.full.refuse(&request, is_counted);
        }
        if is_socket_io(request.uri()) {
            return self.sockets.answer(request).await;
        }
        let Ok(response) = self.rest.clone().oneshot(request).await;
        response
    }
}

/// Refuses requests while every connection is taken, or those of an address.
struct Full {
    clock: Arc<dyn Clock>,
    log_limit: RateLimit,
    metrics: Arc<Metrics>,
}

impl Full {
    /// `is_counted`: only the connections of the peer's address are taken, which was counted and logged already.
    fn refuse(&self, request: &Request, is_counted: bool) -> Response<Body> {
        if is_counted {
            refused_request::count(&self.metrics, request, |refused| &refused.limited, 503);
            return ApiError::Full.into_response();
        }
        refused_request::count(&self.metrics, request, |refused| &refused.full, 503);
        if let Some(suppressed) = self.log_limit.allow(self.clock.now()) {
            tracing::warn!(
                held_back = suppressed,
                "all connections are taken, refusing requests"
            );
        }
        ApiError::Full.into_response()
    }
}

#[cfg(test)]
mod tests;

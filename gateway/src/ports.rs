//! The main port and the port for operators.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use shared::lifecycle::Lifecycle;
use shared::metrics::Meters;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::admission::limit::Limit;
use crate::config::Config;
use crate::listener::address_limit::AddressLimit;
use crate::listener::certificate::ServerCertificate;
use crate::listener::preamble::Preamble;
use crate::listener::proxy_protocol::ProxyProtocol;
use crate::listener::{self, ListenerConfig};
use crate::shutdown_tokens::ShutdownTokens;
use crate::socket;
use crate::state::AppState;

/// Maximum number of connections at the port for operators, besides those that get one answer each. A few probes and one
/// collection of metrics.
pub(crate) const OPERATOR_CONNECTIONS: usize = 32;

/// Reads the certificate of the main port, if it has one, and starts the task that reads it again when it changes.
pub(crate) fn open_certificate(
    state: &AppState,
    lifecycle: &Lifecycle,
) -> anyhow::Result<Option<Arc<ServerCertificate>>> {
    let files = state
        .config
        .certificate_files()
        .map_err(anyhow::Error::msg)?;
    let Some(files) = files else { return Ok(None) };
    let metrics = Arc::clone(&state.metrics.tls);
    let certificate = ServerCertificate::open(files, metrics).map_err(anyhow::Error::msg)?;
    let certificate = Arc::new(certificate);
    let looking = Arc::clone(&certificate).keep_current(lifecycle.soft().clone());
    lifecycle.spawn("certificate", looking);
    Ok(Some(certificate))
}

/// Opens the port for operators, if there is one.
pub(crate) fn bind_operators(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(port) = config.ops_port else {
        return Ok(None);
    };
    let address = SocketAddr::new(config.listen_address, port);
    let listener = listener::bind(address);
    let listener = listener.with_context(|| format!("--ops-port: cannot listen on `{address}`"));
    listener.map(Some)
}

/// Returns the settings of the port for operators. Its connections are its own, so clients cannot take them.
pub(crate) fn operator_port(config: &Config) -> ListenerConfig {
    ListenerConfig {
        user_timeout: config.tcp_user_timeout,
        places: Arc::new(Semaphore::new(OPERATOR_CONNECTIONS)),
        serves_excess: false,
        address_limit: None,
        is_websocket: |_| false,
        preamble: Preamble::default(),
    }
}

/// Returns the settings of the main port.
pub(crate) fn main_port(
    state: &AppState,
    places: Arc<Semaphore>,
    certificate: Option<Arc<ServerCertificate>>,
    meters: &Meters,
) -> anyhow::Result<ListenerConfig> {
    let limit = AddressLimit {
        admission: state.admission.clone(),
        proxies: Arc::new(state.config.proxies()?),
    };
    let enforcement = state.admission.enforcement();
    Ok(ListenerConfig {
        user_timeout: state.config.tcp_user_timeout,
        places,
        serves_excess: enforcement.tries_out(Limit::MaxConnections),
        is_websocket: socket::request::asks_for_websocket,
        preamble: Preamble {
            proxy_protocol: ProxyProtocol::of(&state.config, limit.clone(), meters),
            address_limit: Some(limit.clone()),
            certificate,
        },
        address_limit: Some(limit),
    })
}

/// Serves a port.
pub(crate) fn serve(
    name: &'static str,
    listener: TcpListener,
    config: ListenerConfig,
    router: Router,
    lifecycle: &Lifecycle,
    tokens: ShutdownTokens,
) {
    let answer = move |request: Request| {
        let router = router.clone();
        async move {
            let Ok(response) = router.oneshot(request).await;
            response
        }
    };
    let accepting = listener::accept(listener, config, lifecycle.clone(), tokens, answer);
    lifecycle.spawn(name, accepting);
}

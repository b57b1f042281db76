//! The gateway: sends the data in Redis to browsers, and commits the acknowledgements of operators.
//!
//! ```text
//! browsers ─ listener ─ dispatch ─┬─ /socket.io ─ socket ─ commands ─▶ relay ─ subscribe ─▶ Redis
//!                                 │                 ▲                    │ ▲
//!                                 │              client ◀── packets ─────┘ └── events, snapshots ── Redis
//!                                 └─ everything else ─ rest ─ store_reader ─▶ Redis
//! ```
//!
//! A replica keeps nothing that must survive a restart: clients subscribe again, and their data is in Redis.
//!
//! Reading order: [`serve`]; `listener` (accepts and ends connections); `client` (one connected client and its queue);
//! `socket` (events and commands, one task per connection); `relay` (one task owns the fan-out of a device); the pure
//! decisions `interest` (channels to subscribe to), `replay` (events that a client missed) and `client::outbox` (packets
//! that wait for a client); `status` and `monitor` (the state of the data path from detectors to clients); `rest`; `drain`.

pub mod config;
mod state;

// Who may connect and ask.
mod admission;

// From Redis to a browser.
mod client;
mod clients;
mod event_names;
mod interest;
mod json;
pub mod listener;
mod packet_budget;
mod relay;
mod replay;
mod session;
mod socket;
mod spare_capacity;
mod watches;
mod websocket;

// The state of the data path from detectors to browsers.
mod monitor;
mod status;

// Shutdown.
mod drain;
mod shutdown_tokens;

// Metrics.
mod fleet;
mod gauges;
mod metrics;

// HTTP requests and responses.
mod client_address;
mod cors;
mod descriptors;
mod dispatch;
mod error;
mod host_check;
mod hosts;
mod openapi;
mod origins;
mod refused_request;
mod request_body;
mod rest;
mod store_reader;

#[cfg(test)]
mod test_setup;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use shared::check_config::ServiceConfig;
use shared::clock::SystemClock;
use shared::lifecycle::Lifecycle;
use shared::metrics::Meters;
use shared::redis_watch::{CanaryRole, RedisObservation, RedisWatch};
use shared::store::{ServiceRole, Store};
use shared::telemetry;
use shared::trace::SpanRecorder;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub use crate::drain::FINISH_PERIOD;

use crate::admission::Admission;
use crate::admission::limit::Limit;
use crate::client::ClientContext;
use crate::client_address::TrustedProxies;
use crate::clients::Clients;
use crate::config::Config;
use crate::drain::DrainPlan;
use crate::fleet::FleetReporter;
use crate::fleet::latest::LatestFleetReport;
use crate::interest::Linger;
use crate::listener::ListenerConfig;
use crate::listener::address_limit::AddressLimit;
use crate::listener::proxy_protocol::ProxyProtocol;
use crate::metrics::Metrics;
use crate::monitor::Monitor;
use crate::packet_budget::PacketRate;
use crate::relay::{Relay, RelayConfig};
use crate::session::Sessions;
use crate::shutdown_tokens::ShutdownTokens;
use crate::socket::Sockets;
use crate::socket::context::{ConnectionContext, ConnectionLimits};
use crate::state::AppState;
use crate::status::StatusHandle;
use crate::watches::{WatchLimits, Watches};

/// Maximum number of connections at the port for operators, besides those that get one answer each. A few probes and one
/// collection of metrics.
const OPERATOR_CONNECTIONS: usize = 32;

/// Serves until the lifecycle ends. Redis may still be unavailable: `/readyz` answers 503 until Redis has answered once.
///
/// # Errors
/// The configured origins or the listener are unusable, Redis is unusable (version, eviction policy, number of partitions),
/// or a task failed.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    lifecycle: Lifecycle,
) -> anyhow::Result<()> {
    for warning in config.all_warnings() {
        tracing::warn!("{warning}");
    }
    let store = open_store(&config).await?;
    let meters = Meters::new("gateway", &config.telemetry)?;
    telemetry::register_metrics(&meters);
    let metrics = Metrics::new(&meters);
    let state = AppState {
        clock: store.clock(),
        store,
        admission: Admission::new(&config, &metrics.limits, Instant::now()),
        config: Arc::new(config),
        status: StatusHandle::new(Instant::now()),
        metrics,
    };
    descriptors::check(&state.config);
    let address = listener.local_addr()?;
    let operators = bind_operators(&state.config)?;
    let operators_address = operators
        .as_ref()
        .map(TcpListener::local_addr)
        .transpose()?;
    let tokens = ShutdownTokens {
        accepting: lifecycle.hard().child_token(),
        serving: lifecycle.hard().child_token(),
    };

    let clients = start_clients(&state, &lifecycle, &tokens.serving);
    let observations = start_redis_watch(&state, &lifecycle, &tokens.serving);
    let enforcement = state.admission.enforcement();
    let watches = Watches::new(WatchLimits::of(&state.config), enforcement.clone());
    let relay = start_relay(
        &state,
        &clients,
        &watches,
        &observations,
        &lifecycle,
        &tokens.serving,
    );
    let monitor = start_monitor(&state, &clients, &relay, &lifecycle, &tokens.serving);
    gauges::register(&meters, clients.clone(), &relay, &monitor, &state.store);
    gauges::register_watches(&meters, watches.clone());
    start_fleet(
        &state,
        &meters,
        &clients,
        &relay,
        &lifecycle,
        &tokens.serving,
    );
    // Connections and long polling sessions share them.
    let places = Arc::new(Semaphore::new(state.config.max_connections));
    let sessions = new_sessions(&state, &places);
    gauges::register_sessions(&meters, sessions.clone());
    let context = ConnectionContext {
        clients: clients.clone(),
        relay,
        monitor: monitor.clone(),
        watches,
        admission: state.admission.clone(),
        metrics: Arc::clone(&state.metrics.socket),
        lifecycle: lifecycle.clone(),
        serving: tokens.serving.clone(),
        limits: ConnectionLimits::new(&state.config),
        compress: state.config.compress,
    };
    let sockets = Sockets::new(&state.config, context, sessions);
    let services = dispatch::services(&state, sockets)?;
    let lists = services.lists.run(tokens.serving.clone());
    lifecycle.spawn("device lists", lists);
    let plan = start_drain(&state.config, clients, monitor, &lifecycle, tokens.clone());
    if let Some(listener) = operators {
        start_operators(
            listener,
            &state.config,
            services.operators,
            &lifecycle,
            &tokens,
        );
    }
    start_listener(
        listener,
        &state,
        places,
        &meters,
        services.main,
        &lifecycle,
        tokens,
    )?;
    tracing::info!(
        %address,
        operators_address = operators_address.map(tracing::field::display),
        settings = %state.config.start_report.changed_settings,
        "gateway running"
    );

    let ended = lifecycle.wait(plan.longest()).await;
    meters.flush().await;
    ended
}

/// Creates the table of long polling sessions, which take their places from these.
fn new_sessions(state: &AppState, places: &Arc<Semaphore>) -> Sessions {
    let config = &state.config;
    let rate = PacketRate::new(config.packet_rate, config.subscriptions_per_client);
    let enforcement = state.admission.enforcement().clone();
    Sessions::new(
        Arc::clone(places),
        config.max_connections,
        rate,
        enforcement,
    )
}

/// Fails if Redis is unusable, because waiting does not help. An unavailable Redis is not a failure: it may come back.
async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::new(
        config.redis.clone(),
        ServiceRole::Gateway,
        Arc::new(SystemClock::default()),
    );
    match store.ping().await {
        Err(err) if err.needs_operator() => Err(err.into()),
        _ => Ok(store),
    }
}

/// Creates the table of clients, and starts the tasks that send the telemetry held for them.
fn start_clients(state: &AppState, lifecycle: &Lifecycle, finish: &CancellationToken) -> Clients {
    let shared = ClientContext::new(&state.config, Arc::clone(&state.metrics.client));
    for task in shared.coalescer.tasks() {
        let finish = finish.clone();
        lifecycle.spawn("coalescer", async move {
            finish.run_until_cancelled(task).await;
            Ok(())
        });
    }
    Clients::new(shared)
}

fn start_redis_watch(
    state: &AppState,
    lifecycle: &Lifecycle,
    serving: &CancellationToken,
) -> watch::Receiver<RedisObservation> {
    let (sender, observations) = watch::channel(RedisObservation::default());
    let redis_watch = RedisWatch {
        store: state.store.clone(),
        canary: CanaryRole::FillIn,
        bounds: None,
        observation: sender,
    };
    lifecycle.spawn("redis watch", redis_watch.run(serving.clone()));
    observations
}

fn start_relay(
    state: &AppState,
    clients: &Clients,
    watches: &Watches,
    observations: &watch::Receiver<RedisObservation>,
    lifecycle: &Lifecycle,
    serving: &CancellationToken,
) -> Relay {
    let config = RelayConfig {
        linger: Linger {
            time: state.config.linger,
            max: state.config.linger_max,
        },
        broadcast_all: state.config.broadcast_all,
        recorder: SpanRecorder::new(&state.config.telemetry, true),
        watches: watches.clone(),
    };
    let metrics = &state.metrics;
    let store = &state.store;
    Relay::start(
        store,
        clients,
        &config,
        metrics,
        observations,
        lifecycle,
        serving,
    )
}

fn start_monitor(
    state: &AppState,
    clients: &Clients,
    relay: &Relay,
    lifecycle: &Lifecycle,
    serving: &CancellationToken,
) -> Monitor {
    let monitor = Monitor::new(state.status.clone(), Arc::clone(&state.clock));
    let watching = monitor.clone().run(
        state.store.clone(),
        relay.clone(),
        clients.clone(),
        state.config.redis_away_after,
        serving.clone(),
    );
    lifecycle.spawn("monitor", watching);
    monitor
}

fn start_fleet(
    state: &AppState,
    meters: &Meters,
    clients: &Clients,
    relay: &Relay,
    lifecycle: &Lifecycle,
    serving: &CancellationToken,
) {
    let latest = LatestFleetReport::default();
    latest.register(meters, &state.clock);
    let reporter = FleetReporter {
        store: state.store.clone(),
        relay: relay.clone(),
        clients: clients.clone(),
        replica: format!("{}-{:08x}", state.config.replica_name, fastrand::u32(..)),
        interval: state.config.report_interval,
        latest,
    };
    lifecycle.spawn("fleet", reporter.run(serving.clone()));
}

fn start_drain(
    config: &Config,
    clients: Clients,
    monitor: Monitor,
    lifecycle: &Lifecycle,
    tokens: ShutdownTokens,
) -> DrainPlan {
    let plan = DrainPlan {
        delay: config.drain_delay,
        period: config.drain_period,
    };
    let draining = drain::drain(lifecycle.clone(), monitor, clients, plan, tokens);
    lifecycle.spawn("drain", draining);
    plan
}

fn bind_operators(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(port) = config.ops_port else {
        return Ok(None);
    };
    let address = SocketAddr::new(config.listen_address, port);
    let listener = listener::bind(address);
    let listener = listener.with_context(|| format!("--ops-port: cannot listen on `{address}`"));
    listener.map(Some)
}

/// Serves the port for operators. Its connections are its own, so clients cannot take them.
fn start_operators(
    listener: TcpListener,
    config: &Config,
    router: Router,
    lifecycle: &Lifecycle,
    tokens: &ShutdownTokens,
) {
    let config = ListenerConfig {
        user_timeout: config.tcp_user_timeout,
        places: Arc::new(Semaphore::new(OPERATOR_CONNECTIONS)),
        serves_excess: false,
        address_limit: None,
        is_websocket: |_| false,
        proxy_protocol: None,
    };
    start_accepting(
        "operators' listener",
        listener,
        config,
        router,
        lifecycle,
        tokens.clone(),
    );
}

fn start_listener(
    listener: TcpListener,
    state: &AppState,
    places: Arc<Semaphore>,
    meters: &Meters,
    router: Router,
    lifecycle: &Lifecycle,
    tokens: ShutdownTokens,
) -> anyhow::Result<()> {
    let limit = AddressLimit {
        admission: state.admission.clone(),
        proxies: Arc::new(TrustedProxies::parse(&state.config.trusted_proxies)?),
    };
    let config = ListenerConfig {
        user_timeout: state.config.tcp_user_timeout,
        places,
        serves_excess: state
            .admission
            .enforcement()
            .tries_out(Limit::MaxConnections),
        is_websocket: socket::request::asks_for_websocket,
        proxy_protocol: ProxyProtocol::of(&state.config, limit.clone(), meters),
        address_limit: Some(limit),
    };
    start_accepting("listener", listener, config, router, lifecycle, tokens);
    Ok(())
}

fn start_accepting(
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

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
mod feeds;
mod interest;
mod json;
mod location;
pub mod listener;
mod packet_budget;
mod ports;
mod relay;
mod replay;
mod session;
mod socket;
mod shared_stream;
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

// Who may do what.
mod access;
mod audit;
pub mod token_command;

// HTTP requests and responses.
mod client_address;
mod cors;
mod descriptors;
mod dispatch;
mod error;
mod host_check;
mod hosts;
mod http_client;
mod openapi;
mod origins;
mod refused_request;
mod request_body;
mod rest;
mod store_reader;

#[cfg(any(test, fuzzing))]
pub mod fuzz_targets;
#[cfg(test)]
mod test_setup;

use std::sync::Arc;
use std::time::Instant;

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

pub use crate::drain::FINISH_PERIOD;

use crate::access::expiry::TokenExpiry;
use crate::access::sign_in::SignIn;
use crate::admission::Admission;
use crate::audit::AuditTrail;
use crate::client::ClientContext;
use crate::client::close_reason::CloseReason;
use crate::clients::Clients;
use crate::config::Config;
use crate::drain::DrainPlan;
use crate::feeds::Feeds;
use crate::fleet::FleetReporter;
use crate::fleet::latest::LatestFleetReport;
use crate::interest::Linger;
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
    let tokens = ShutdownTokens {
        accepting: lifecycle.hard().child_token(),
        serving: lifecycle.hard().child_token(),
    };
    let state = make_state(config, store, &meters, &lifecycle, &tokens.serving)?;
    descriptors::check(&state.config);
    let certificate = ports::open_certificate(&state, &lifecycle)?;
    let address = listener.local_addr()?;
    let operators = ports::bind_operators(&state.config)?;
    let operators_address = operators
        .as_ref()
        .map(TcpListener::local_addr)
        .transpose()?;

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
    let sends_locations = state.config.location_events;
    let feeds = Feeds::start(&state.store, sends_locations, &lifecycle, &tokens.serving);
    gauges::register_feeds(&meters, feeds.clone());
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
    let token_expiry = start_token_expiry(&state, &lifecycle, &tokens.serving);
    start_revocations(&state, &clients, &lifecycle, &tokens.serving);
    start_keys(&state, &meters, &lifecycle, &tokens.serving);
    let context = ConnectionContext {
        access: state.access.clone(),
        audit: state.audit.clone(),
        token_expiry,
        clients: clients.clone(),
        relay,
        feeds,
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
        let config = ports::operator_port(&state.config);
        let router = services.operators;
        let name = "operators' listener";
        ports::serve(name, listener, config, router, &lifecycle, tokens.clone());
    }
    let config = ports::main_port(&state, places, certificate, &meters)?;
    ports::serve(
        "listener",
        listener,
        config,
        services.main,
        &lifecycle,
        tokens,
    );
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
        config.client_buffer,
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

/// Reads the keys of tokens, and makes the handles that every part uses.
fn make_state(
    config: Config,
    store: Store,
    meters: &Meters,
    lifecycle: &Lifecycle,
    serving: &CancellationToken,
) -> anyhow::Result<AppState> {
    let clock = store.clock();
    let access = config.access(Arc::clone(&clock));
    let metrics = Metrics::new(meters);
    let lost = metrics.rest.audit_lost.clone();
    let admission = Admission::new(&config, &metrics.limits, Instant::now());
    let (audit, writer) = AuditTrail::new(Arc::clone(&clock), lost);
    let writing = writer.run(store.clone(), serving.clone());
    lifecycle.spawn("audit trail", async move {
        writing.await;
        Ok(())
    });
    audit.started(&config.start_report.changed_settings);
    let dashboard = config.dashboard_files().map_err(anyhow::Error::msg)?;
    let site_plans = config.site_plans().map_err(anyhow::Error::msg)?;
    Ok(AppState {
        admission,
        dashboard: dashboard.map(Arc::new),
        site_plans: Arc::new(site_plans),
        audit,
        clock,
        store,
        access: access.map_err(|problems| anyhow::anyhow!(problems.join("; ")))?,
        config: Arc::new(config),
        status: StatusHandle::new(Instant::now()),
        metrics,
    })
}

/// Starts the task that ends connections whose tokens have expired.
fn start_token_expiry(
    state: &AppState,
    lifecycle: &Lifecycle,
    serving: &CancellationToken,
) -> TokenExpiry {
    let expiry = TokenExpiry::new(&state.config.tokens, Arc::clone(&state.clock));
    let running = expiry.clone().run();
    let serving = serving.clone();
    lifecycle.spawn("token expiry", async move {
        serving.run_until_cancelled(running).await;
        Ok(())
    });
    expiry
}

/// Starts the task that ends connections whose tokens are revoked.
fn start_revocations(
    state: &AppState,
    clients: &Clients,
    lifecycle: &Lifecycle,
    serving: &CancellationToken,
) {
    if !state.access.has_credentials() {
        return;
    }
    let (access, clients) = (state.access.clone(), clients.clone());
    let close_revoked = move || {
        for client in clients.all() {
            if access.is_revoked(&client.identity()) {
                client.close(CloseReason::TokenRevoked);
            }
        }
    };
    let revocations = state.access.revocations().clone();
    let following = revocations.follow(state.store.clone(), close_revoked);
    let serving = serving.clone();
    lifecycle.spawn("revocations", async move {
        serving.run_until_cancelled(following).await;
        Ok(())
    });
}

/// Starts the tasks that fetch published keys.
fn start_keys(
    state: &AppState,
    meters: &Meters,
    lifecycle: &Lifecycle,
    serving: &CancellationToken,
) {
    let access = &state.access;
    let (tokens, sign_in) = (access.remote_keys().cloned(), access.sign_in());
    gauges::register_keys(
        meters,
        tokens,
        sign_in.map(|sign_in| sign_in.keys().clone()),
    );
    if let Some(following) = access.follow_keys() {
        let serving = serving.clone();
        lifecycle.spawn("token keys", async move {
            serving.run_until_cancelled(following).await;
            Ok(())
        });
    }
    if let Some(following) = sign_in.map(SignIn::follow_keys) {
        let serving = serving.clone();
        lifecycle.spawn("identity provider", async move {
            serving.run_until_cancelled(following).await;
            Ok(())
        });
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
        state.access.clone(),
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

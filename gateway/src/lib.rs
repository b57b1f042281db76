//! The gateway: what Redis holds, shown to browsers; what operators acknowledge, back to Redis.
//!
//! ```text
//! browsers ─ listener ─┬─ /socket.io ─ socket ─ commands ─▶ relay ─ SSUBSCRIBE ─▶ Redis
//!                      │                 ▲                    │ ▲
//!                      │              lanes ◀─ packets ───────┘ └─ events, snapshots ─ Redis
//!                      └─ everything else ─ rest ─ snapshot ─▶ Redis
//! ```
//!
//! A replica is stateless: what it keeps (subscriptions, positions, queues) is lost with it and made anew from Redis.
//! Reading order: [`serve`], `listener` (connections that can be ended), `socket` (namespace, commands, one task per
//! client), `relay` (one task owns the fan-out of a device), `interest`, `replay` and `lanes` (the pure decisions in
//! it: what to subscribe to, what a client missed, what waits for it), `status` and `monitor` (may what is shown be
//! believed), `rest`, `drain`.

pub mod config;
pub mod state;

// The way of an event to a browser.
mod interest;
mod lanes;
pub mod listener;
mod relay;
mod replay;
mod socket;

// Whether it can be believed.
mod monitor;
pub mod status;

// The end.
mod drain;

// What is counted.
mod fleet;
mod metrics;

// Questions and answers.
pub mod error;
mod openapi;
pub mod origins;
pub mod rest;
pub mod snapshot;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use shared::clock::SystemClock;
use shared::lifecycle::Lifecycle;
use shared::metrics::Meters;
use shared::rate_limit::RateLimit;
use shared::redis_watch::{CanaryRole, RedisObservation, RedisWatch};
use shared::store::{Store, StoreError};
use shared::telemetry;
use shared::trace::SpanRecorder;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;

pub use crate::drain::FINISH_PERIOD;

use crate::config::Config;
use crate::error::ApiError;
use crate::fleet::Fleet;
use crate::listener::Link;
use crate::metrics::{Metrics, Present};
use crate::monitor::Monitor;
use crate::origins::Origins;
use crate::relay::Relay;
use crate::rest::cors::{self, Cors};
use crate::socket::{Clients, Sockets};
use crate::state::AppState;
use crate::status::StatusHandle;

/// Serves until the lifecycle ends. Redis need not be there yet: until it answered once, `/readyz` says so.
///
/// # Errors
/// The configured origins or the listener cannot be used, Redis must not be used (version, eviction, partitions), or a
/// task failed.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    lifecycle: Lifecycle,
) -> anyhow::Result<()> {
    let store = Store::new(config.redis.clone(), Arc::new(SystemClock::default()));
    // A server that is away may come back; one that must not be used never will by waiting.
    if let Err(err @ StoreError::Unusable(_)) = store.ping().await {
        return Err(err.into());
    }
    let meters = Meters::new("gateway", &config.telemetry)?;
    telemetry::register_metrics(&meters);
    let metrics = Metrics::new(&meters);
    let state = AppState {
        clock: store.clock(),
        store,
        config: Arc::new(config),
        status: StatusHandle::new(Instant::now()),
        metrics: Arc::clone(&metrics),
    };
    let config = &state.config;
    let address = listener.local_addr()?;
    // Ends what must outlive the last client.
    let finish = lifecycle.hard().child_token();

    let limits = lanes::Limits {
        packets: config.outbox_packets,
        bytes: config.outbox_bytes,
        deadline: config.alarm_deadline,
    };
    let clients = Clients::new(limits, metrics);
    let monitor = Monitor::new(state.status.clone(), Arc::clone(&state.clock));
    let settings = relay::Settings {
        linger: config.linger,
        broadcast_all: config.broadcast_all,
        traces: SpanRecorder::new(&config.telemetry, true),
    };
    let (observation, observations) = watch::channel(RedisObservation::default());
    let redis_watch = RedisWatch {
        store: state.store.clone(),
        canary: CanaryRole::FillIn,
        bounds: None,
        observation,
    };
    lifecycle.spawn("guard", redis_watch.run(finish.clone()));
    let relay = Relay::start(
        &state.store,
        &clients,
        &settings,
        &observations,
        &lifecycle,
        &finish,
    );
    let watching = monitor.clone().run(
        state.store.clone(),
        relay.clone(),
        clients.clone(),
        config.redis_away_after,
        finish.clone(),
    );
    lifecycle.spawn("monitor", watching);
    let present = Present {
        clients: clients.clone(),
        relay: relay.clone(),
        monitor: monitor.clone(),
        store: state.store.clone(),
    };
    present.register(&meters);
    let seen = fleet::Seen::default();
    seen.register(&meters, &state.clock);
    let fleet = Fleet {
        store: state.store.clone(),
        relay: relay.clone(),
        clients: clients.clone(),
        replica: format!("{}-{:08x}", config.replica_name, fastrand::u32(..)),
        interval: config.report_interval,
        seen,
    };
    lifecycle.spawn("fleet", fleet.run(finish.clone()));
    let sockets = Sockets::new(config, clients.clone(), relay, monitor.clone());

    let plan = drain::Plan {
        delay: config.drain_delay,
        period: config.drain_period,
    };
    let ends = drain::Ends {
        accepting: lifecycle.hard().child_token(),
        everything: finish.clone(),
    };
    let closed = ends.accepting.clone();
    let draining = drain::drain(lifecycle.clone(), monitor, clients, plan, ends);
    lifecycle.spawn("drain", draining);
    let settings = listener::Settings {
        user_timeout: config.tcp_user_timeout,
        max_connections: config.max_connections,
    };
    // Clients that are closed at the end still need it, when nothing is accepted any more.
    let answer = routes(&state, sockets.clone())?;
    let ends = listener::Ends {
        accepting: closed,
        serving: finish,
    };
    let accepting = listener::accept(listener, settings, lifecycle.clone(), ends, answer);
    lifecycle.spawn("listener", accepting);
    tracing::info!(%address, ?config, "gateway running");
    let ended = lifecycle.wait(plan.longest()).await;
    meters.flush().await;
    ended
}

/// `/socket.io` and everything else; origins are checked before either.
fn routes(
    state: &AppState,
    sockets: Sockets,
) -> anyhow::Result<impl Fn(Request) -> BoxFuture<'static, Response<Body>> + Clone + use<>> {
    let rest = rest::router(state.clone())?;
    let origins = Origins::from_config(&state.config.allowed_origins)?;
    let cors = Cors::new(
        origins,
        Arc::clone(&state.clock),
        Arc::clone(&state.metrics),
    );
    let metrics = Arc::clone(&state.metrics);
    let clock = Arc::clone(&state.clock);
    let lines = Arc::new(RateLimit::one_per_ten_seconds());
    let refuse = move |request: Request| {
        metrics.turned_away(&request, "full", 503);
        if let Some(held_back) = lines.allow(clock.now()) {
            tracing::warn!(held_back, "every connection is taken: refusing what comes");
        }
        std::future::ready(ApiError::Full.into_response())
    };
    // Behind the same check: a browser is shown no error of ours without the headers of its origin.
    let full = Router::new()
        .fallback(refuse)
        .layer(from_fn_with_state(cors.clone(), cors::guard));
    let live = Router::new()
        .fallback(async move |request: Request| sockets.answer(request).await)
        .layer(from_fn_with_state(cors, cors::guard));
    Ok(
        move |request: Request| -> BoxFuture<'static, Response<Body>> {
            let link = request.extensions().get::<Arc<Link>>();
            let is_full = link.is_some_and(|link| link.is_reserved());
            let router = if is_full && !rest::is_for_operators(request.uri().path()) {
                full.clone()
            } else if socket::is_for(request.uri()) {
                live.clone()
            } else {
                rest.clone()
            };
            Box::pin(async move {
                let Ok(response) = router.oneshot(request).await;
                response
            })
        },
    )
}

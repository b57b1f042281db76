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
//! believed), `rest`.

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

// Questions and answers.
pub mod error;
mod openapi;
pub mod origins;
pub mod rest;
pub mod snapshot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::middleware::from_fn_with_state;
use futures_util::future::BoxFuture;
use shared::clock::SystemClock;
use shared::guard::{Canary, Guard, Sight};
use shared::lifecycle::Lifecycle;
use shared::store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::Config;
use crate::monitor::Monitor;
use crate::origins::Origins;
use crate::relay::Relay;
use crate::rest::cors::{self, Cors};
use crate::socket::{Clients, LetGo, Sockets};
use crate::state::AppState;
use crate::status::StatusHandle;

/// What open requests get after the clients were closed.
const FINISH_PERIOD: Duration = Duration::from_secs(2);

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
    let state = AppState {
        clock: store.clock(),
        store,
        config: Arc::new(config),
        status: StatusHandle::new(Instant::now()),
    };
    let config = &state.config;
    let address = listener.local_addr()?;
    // Ends what must outlive the last client.
    let finish = lifecycle.hard().child_token();

    let clients = Clients::new(lanes::Limits {
        packets: config.outbox_packets,
        bytes: config.outbox_bytes,
        deadline: config.alarm_deadline,
    });
    let monitor = Monitor::new(state.status.clone(), Arc::clone(&state.clock));
    let settings = relay::Settings {
        linger: config.linger,
        broadcast_all: config.broadcast_all,
    };
    let (sight, sights) = watch::channel(Sight::default());
    let guard = Guard {
        store: state.store.clone(),
        canary: Canary::FillsIn,
        bounds: None,
        sight,
    };
    lifecycle.spawn("guard", guard.run(finish.clone()));
    let relay = Relay::start(
        &state.store,
        &clients,
        settings,
        &sights,
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
    let sockets = Sockets::new(config, clients.clone(), relay, monitor.clone());

    let draining = drain(
        lifecycle.clone(),
        monitor,
        clients,
        config.drain_period,
        finish.clone(),
    );
    lifecycle.spawn("drain", draining);
    let settings = listener::Settings {
        user_timeout: config.tcp_user_timeout,
        max_connections: config.max_connections,
    };
    // Clients that are closed at the end still need it, when nothing is accepted any more.
    let answer = routes(&state, sockets.clone())?;
    let accepting = listener::accept(listener, settings, lifecycle.clone(), finish, answer);
    lifecycle.spawn("listener", accepting);
    tracing::info!(%address, ?config, "gateway running");
    lifecycle
        .wait(config.drain_period + FINISH_PERIOD * 2)
        .await
}

/// `/socket.io` and everything else; origins are checked before either.
fn routes(
    state: &AppState,
    sockets: Sockets,
) -> anyhow::Result<impl Fn(Request) -> BoxFuture<'static, Response<Body>> + Clone + use<>> {
    let rest = rest::router(state.clone())?;
    let origins = Origins::from_config(&state.config.allowed_origins)?;
    let cors = Cors::new(origins, Arc::clone(&state.clock));
    let live = Router::new()
        .fallback(async move |request: Request| sockets.answer(request).await)
        .layer(from_fn_with_state(cors, cors::guard));
    Ok(
        move |request: Request| -> BoxFuture<'static, Response<Body>> {
            let below = request.uri().path().strip_prefix(socket::PATH);
            let is_live = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let router = if is_live { live.clone() } else { rest.clone() };
            Box::pin(async move {
                let Ok(response) = router.oneshot(request).await;
                response
            })
        },
    )
}

/// The stop: no new clients, the present ones are closed one by one over the drain period, so that those who come back
/// do not all do so at once, then the rest ends.
async fn drain(
    lifecycle: Lifecycle,
    monitor: Monitor,
    clients: Clients,
    period: Duration,
    finish: CancellationToken,
) -> anyhow::Result<()> {
    lifecycle.soft().cancelled().await;
    monitor.begin_drain();
    let present = clients.all();
    let count = u32::try_from(present.len()).unwrap_or(u32::MAX);
    tracing::info!(count, "closing clients");
    let begun = tokio::time::Instant::now();
    for (number, client) in (1_u32..).zip(present) {
        client.let_go(LetGo::Draining);
        let due = begun + period.mul_f64(f64::from(number) / f64::from(count));
        tokio::select! {
            () = lifecycle.hard().cancelled() => break,
            () = tokio::time::sleep_until(due) => {}
        }
    }
    // Polling clients are closed by requests, which need the sessions for a moment longer.
    let left = async {
        while clients.count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(FINISH_PERIOD, left).await.is_err() {
        tracing::warn!(count = clients.count(), "clients did not go");
    }
    finish.cancel();
    Ok(())
}

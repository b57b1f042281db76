//! Watches the data path. Informs every client when its data may be old, and when the data is current again.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::{Clock, Time};
use shared::error_chain::error_chain;
use shared::event::iso;
use shared::store::{Fullness, IngestStatus, NO_MEMORY, Store, StoreError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::clients::Clients;
use crate::event_names::SYSTEM_STATUS;
use crate::json;
use crate::relay::Relay;
use crate::status::{
    Dependencies, Listening, ObservedFullness, PathObservation, PathStatus, Readiness,
    RedisProblem, StatusHandle,
};

/// How often Redis is asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the last answers are evaluated, whether Redis answers or not. Clients are informed of a silent Redis at most
/// this long after `--redis-away-after` has passed.
const EVALUATE_INTERVAL: Duration = Duration::from_millis(250);
/// How long the relay may be without its connection while Redis answers. After that a part of this process is broken.
const BROKEN_AFTER: Duration = Duration::from_secs(5);

/// The latest status of the data path, and whether this replica is shutting down. Cheap to clone; all clones share it.
#[derive(Clone)]
pub(crate) struct Monitor {
    status: StatusHandle,
    clock: Arc<dyn Clock>,
    is_draining: Arc<AtomicBool>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Payload of `system:status`.
#[derive(Serialize)]
struct SystemStatus<'a> {
    #[serde(flatten)]
    status: &'a PathStatus,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

impl Monitor {
    pub(crate) fn new(status: StatusHandle, clock: Arc<dyn Clock>) -> Self {
        Self {
            status,
            clock,
            is_draining: Arc::default(),
        }
    }

    /// This replica is shutting down: it is no longer ready and accepts no new sessions.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        let mut status = self.status.current();
        status.status = Readiness::Unready;
        self.status.replace(status, Instant::now());
    }

    /// Returns the latest status.
    pub(crate) fn status(&self) -> PathStatus {
        self.status.current()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Returns the `system:status` for a client that connects now; `None` while the data path works.
    pub(crate) fn degraded_payload(&self) -> Option<Arc<RawValue>> {
        let status = self.status.current();
        status.is_degraded().then(|| self.payload(&status))
    }

    /// Asks and evaluates until `finish`.
    pub(crate) async fn run(
        self,
        store: Store,
        relay: Relay,
        clients: Clients,
        access: Access,
        away_after: Duration,
        finish: CancellationToken,
    ) -> anyhow::Result<()> {
        let (observed, mut observations) = watch::channel(PathObservation::default());
        let mut asking = pin!(keep_asking(&store, observed));
        // Clients that connected before Redis first answered were sent a degraded status.
        let mut was_sent_degraded = true;
        // For each connection of the relay.
        let mut disconnected_since: Vec<Option<Instant>> =
            relay.connections().map(|_| None).collect();
        let mut subscribed: Option<Instant> = None;
        let mut ticks = tokio::time::interval(EVALUATE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = finish.cancelled() => return Ok(()),
                () = &mut asking => {}
                Ok(()) = observations.changed() => {}
                _ = ticks.tick() => {}
            }
            let mut observed = *observations.borrow_and_update();
            observed.is_draining = self.is_draining();
            observed.has_no_key = !access.can_admit();
            // While Redis refuses, or does not answer, that is why the relay has no connection.
            let refuses = matches!(observed.redis_problem, Some(RedisProblem::Refuses(_)));
            let answers = !refuses && observed.redis.is_some_and(|at| at.elapsed() <= away_after);
            for (since, is_open) in disconnected_since.iter_mut().zip(relay.connections()) {
                *since = if is_open || !answers {
                    None
                } else {
                    since.or_else(|| Some(Instant::now()))
                };
            }
            let mut disconnected = disconnected_since.iter().flatten();
            observed.is_broken = disconnected.any(|since| since.elapsed() > BROKEN_AFTER);
            let now = Instant::now();
            observed.unconfirmed = relay.watch_counts().unconfirmed;
            if observed.unconfirmed == 0 && relay.is_connected() {
                subscribed = Some(now);
            }
            observed.subscribed = subscribed;
            let status = PathStatus::evaluate(&observed, now, away_after);
            let before = self.status.replace(status.clone(), now);
            if before.status != status.status {
                let dependencies = &status.dependencies;
                tracing::info!(before = ?before.status, now = ?status.status, ?dependencies, "status changed");
            }
            let is_degraded = status.is_degraded();
            let parts = |status: &PathStatus| {
                let Dependencies {
                    redis,
                    ingest,
                    subscriptions,
                    ..
                } = status.dependencies;
                [redis, ingest, subscriptions].map(|part| (part.ok, part.reason))
            };
            let has_changed = parts(&before) != parts(&status);
            if was_sent_degraded != is_degraded || (is_degraded && has_changed) {
                was_sent_degraded = is_degraded;
                let payload = self.payload(&status);
                for client in clients.all() {
                    client.send_event(SYSTEM_STATUS, &payload);
                }
            }
        }
    }

    fn payload(&self, status: &PathStatus) -> Arc<RawValue> {
        json::to_raw(&SystemStatus {
            status,
            timestamp: self.clock.now(),
        })
        .into()
    }
}

/// Asks Redis again and again. An answer may take as long as the store allows: connecting takes several round trips, and
/// giving up early would start them over.
async fn keep_asking(store: &Store, observed: watch::Sender<PathObservation>) {
    let mut ticks = tokio::time::interval(ASK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_problem = None;
    for number in 0.. {
        ticks.tick().await;
        let answer = ask(store, number).await;
        log_problem(&mut last_problem, answer.as_ref().err());
        match answer {
            Ok((ingest, own)) => observed.send_modify(|observed| {
                let now = Instant::now();
                // An acknowledgement that found no memory: that is what `own` says.
                let refusal = store.recent_refusal().filter(|reason| *reason != NO_MEMORY);
                observed.fullness = ObservedFullness {
                    own,
                    ingest: ingest.fullness,
                };
                observed.redis_problem = refusal.map(RedisProblem::Refuses);
                if refusal.is_none() {
                    observed.redis = Some(now);
                }
                observed.ingest = ingest
                    .age
                    .and_then(|age| now.checked_sub(age))
                    .or(observed.ingest);
                observed.places = ingest.places;
                observed.listening = match (ingest.is_listening(), ingest.is_quiet) {
                    (false, _) => Listening::No,
                    (true, true) => Listening::Quiet,
                    (true, false) => Listening::Yes,
                };
            }),
            Err(error) => {
                let problem = if error.is_in_doubt() {
                    RedisProblem::Silent
                } else {
                    RedisProblem::Refuses(error.reason())
                };
                observed.send_modify(|observed| observed.redis_problem = Some(problem));
            }
        }
    }
}

/// Logs when Redis cannot be used, why, and when it can again. `last` is the reason that was logged last.
fn log_problem(last: &mut Option<&'static str>, err: Option<&StoreError>) {
    let problem = err.map(StoreError::reason);
    match (problem, err) {
        (Some(reason), Some(err)) if *last != problem => {
            let error = error_chain(err);
            tracing::error!(
                reason,
                error,
                "Redis cannot be used: clients are warned that their data may be old"
            );
        }
        (None, _) if last.is_some() => tracing::info!("Redis can be used again"),
        _ => {}
    }
    *last = problem;
}

/// Checks that Redis answers and that our user has its rights, and reads the newest report of ingest and how full Redis is.
/// `number` is that of this question.
async fn ask(store: &Store, number: u64) -> Result<(IngestStatus, Fullness), StoreError> {
    store.ping().await?;
    store.check_rights(number).await?;
    let ingest = store.ingest_status().await?;
    Ok((ingest, store.fullness()))
}

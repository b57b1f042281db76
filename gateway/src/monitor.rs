//! Watches the data path and tells every client when what it sees may be old, and when that is over.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::{Clock, Time};
use shared::error_chain::error_chain;
use shared::event::iso;
use shared::store::{IngestStatus, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::relay::Relay;
use crate::socket::Clients;
use crate::status::{Observation, Status, StatusHandle};

/// How often Redis is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is judged what the last answers say, answered or not: clients are told of a silent Redis so much after
/// the time it may be silent, and of a missing ingest within an interval.
const JUDGE: Duration = Duration::from_millis(250);
/// How long the relay may be without its connection while Redis answers: then something of ours is broken.
const DEAF_AFTER: Duration = Duration::from_secs(5);

/// The judgement and what it leads to. Cheap to clone.
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
    status: &'a Status,
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

    /// From now on: not ready, no new sessions.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        let mut status = self.status.current();
        status.status = crate::status::Level::Unready;
        self.status.replace(status);
    }

    /// The latest judgement.
    pub(crate) fn status(&self) -> Status {
        self.status.current()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// What a client that connects now must be told, if anything.
    pub(crate) fn degraded(&self) -> Option<Arc<RawValue>> {
        let status = self.status.current();
        status.is_degraded().then(|| self.payload(&status))
    }

    /// Asks and judges until `finish`.
    pub(crate) async fn run(
        self,
        store: Store,
        relay: Relay,
        clients: Clients,
        away_after: Duration,
        finish: CancellationToken,
    ) -> anyhow::Result<()> {
        let (observed, mut observations) = watch::channel(Observation::default());
        let mut asking = pin!(keep_asking(&store, observed));
        // Clients that connected before Redis first answered were told that it is away.
        let mut told = true;
        let mut deaf_since: Option<Instant> = None;
        let mut ticks = tokio::time::interval(JUDGE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = finish.cancelled() => return Ok(()),
                () = &mut asking => {}
                Ok(()) = observations.changed() => {}
                _ = ticks.tick() => {}
            }
            let mut seen = *observations.borrow_and_update();
            seen.is_draining = self.is_draining();
            let answers = seen.redis.is_some_and(|at| at.elapsed() <= away_after);
            let hears = relay.is_linked() || !answers;
            deaf_since = if hears {
                None
            } else {
                deaf_since.or_else(|| Some(Instant::now()))
            };
            seen.is_broken = deaf_since.is_some_and(|since| since.elapsed() > DEAF_AFTER);
            let status = Status::judge(&seen, Instant::now(), away_after);
            let is_degraded = status.is_degraded();
            let before = self.status.replace(status.clone());
            if before.status != status.status {
                let dependencies = &status.dependencies;
                tracing::info!(before = ?before.status, now = ?status.status, ?dependencies, "status changed");
            }
            let links =
                |status: &Status| (status.dependencies.redis.ok, status.dependencies.ingest.ok);
            if told != is_degraded || (is_degraded && links(&before) != links(&status)) {
                told = is_degraded;
                let payload = self.payload(&status);
                for client in clients.all() {
                    client.send("system:status", &payload);
                }
            }
        }
    }

    fn payload(&self, status: &Status) -> Arc<RawValue> {
        let payload = SystemStatus {
            status,
            timestamp: self.clock.now(),
        };
        serde_json::value::to_raw_value(&payload)
            .expect("structs of texts and numbers always serialise")
            .into()
    }
}

/// Asks for ever. An answer may take as long as the store lets it: connecting is many questions, and giving up on them
/// would begin them all anew.
async fn keep_asking(store: &Store, observed: watch::Sender<Observation>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ask(store).await {
            Ok(ingest) => observed.send_modify(|seen| {
                let now = Instant::now();
                seen.redis = Some(now);
                seen.ingest = ingest
                    .age
                    .and_then(|age| now.checked_sub(age))
                    .or(seen.ingest);
                seen.is_listening = ingest.is_listening();
            }),
            Err(error) => {
                let error = error_chain(&error);
                tracing::debug!(error, "Redis does not answer");
            }
        }
    }
}

async fn ask(store: &Store) -> Result<IngestStatus, StoreError> {
    store.ping().await?;
    store.ingest_status().await
}

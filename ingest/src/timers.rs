//! Deadlines: silence and off-delays, looked at by every ingest that listens, whoever set them.
//!
//! Two replicas may find the same deadline: both decide, one commits, the other decides again and finds nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shared::apply::{self, Applied, ApplyConfig, Work};
use shared::clock::Time;
use shared::decide::Input;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::lifecycle::Lifecycle;
use shared::store::{Store, StoreError};
use shared::trace::TraceContext;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::lines::Lines;
use crate::metrics::Metrics;
use crate::mqtt::{Farewell, LinkStatus};
use crate::spans::Spans;

/// How often deadlines are looked for.
const TICK: Duration = Duration::from_millis(250);
/// How often an ingest reports that it listens.
const REPORT: Duration = Duration::from_secs(1);
/// Devices of one partition that are looked at in one go; the others follow at once.
const PER_PARTITION: usize = 50;

/// What this process knows of its own Redis link and of the listening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Whether Redis answered the last time it was asked.
    pub(crate) redis: bool,
    /// When it last did.
    pub(crate) redis_answered: Option<Instant>,
    /// Since when some ingest has been listening without interruption; `None` while this one does not.
    pub(crate) listening_since: Option<Time>,
}

/// Measures the clock, watches the number of devices, and reports this ingest in Redis while it has its subscription.
pub(crate) struct Reporter {
    pub(crate) store: Store,
    pub(crate) link: LinkStatus,
    pub(crate) client_id: String,
    pub(crate) topics: Vec<String>,
    pub(crate) max_devices: u64,
    /// Whether devices that were never heard of are still taken.
    pub(crate) room_left: Arc<AtomicBool>,
    pub(crate) beat: watch::Sender<Beat>,
    /// Tells the link what to do with its session at the end.
    pub(crate) farewell: watch::Sender<Farewell>,
}

impl Reporter {
    pub(crate) async fn run(self, lifecycle: Lifecycle) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(REPORT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_away = false;
        let mut link = self.link.clone();
        loop {
            tokio::select! {
                () = lifecycle.soft().cancelled() => break,
                _ = tick.tick() => {}
                // A subscription that begins is told at once.
                () = link.changed() => {}
            }
            let asked = self.ask().await;
            self.beat.send_modify(|beat| {
                beat.redis = asked.is_ok();
                beat.listening_since = asked.as_ref().ok().copied().flatten();
                if asked.is_ok() {
                    beat.redis_answered = Some(Instant::now());
                }
            });
            match &asked {
                Err(err) if !was_away => {
                    let error = error_chain(err);
                    tracing::error!(error, "no Redis: nothing is acknowledged until it is back");
                }
                Ok(_) if was_away => tracing::info!("Redis is back"),
                _ => {}
            }
            was_away = asked.is_err();
        }
        self.farewell.send_replace(self.withdraw().await);
        Ok(())
    }

    /// Withdraws the report, then looks for those of others: of all that stop at once, the last finds nobody and keeps
    /// its session.
    async fn withdraw(&self) -> Farewell {
        // A report that cannot be withdrawn runs out by itself after three seconds.
        if self.store.withdraw(&self.client_id).await.is_err() {
            return Farewell::Keep;
        }
        match self.store.ingest_status().await {
            Ok(others) if others.is_listening() => Farewell::Leave,
            _ => Farewell::Keep,
        }
    }

    /// Answers since when some ingest has been listening; `None` while this one is not.
    async fn ask(&self) -> Result<Option<Time>, StoreError> {
        self.store.ping().await?;
        let devices = self.store.count_devices().await?;
        let room_left = devices < self.max_devices;
        if self.room_left.swap(room_left, Ordering::Relaxed) && !room_left {
            tracing::error!(
                devices,
                "--max-devices is reached: unknown serials become dead letters"
            );
        }
        if !self.link.is_subscribed() {
            return Ok(None);
        }
        self.store
            .report(&self.client_id, &self.topics)
            .await
            .map(Some)
    }
}

/// Looks at devices whose deadline has passed.
pub(crate) async fn run(
    store: Store,
    rules: ApplyConfig,
    beat: watch::Receiver<Beat>,
    metrics: Arc<Metrics>,
    spans: Spans,
    lines: Arc<Lines>,
    lifecycle: Lifecycle,
) -> anyhow::Result<()> {
    let clock = store.clock();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looker = Looker {
        store: &store,
        rules: &rules,
        metrics: &metrics,
        spans: &spans,
        lines: &lines,
    };
    // At most PER_PARTITION.
    let mut unanswered = Vec::new();
    loop {
        tokio::select! {
            () = lifecycle.soft().cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        // While nobody listens silence means nothing, and nothing may be lowered on old values.
        let Some(listening_since) = beat.borrow().listening_since else {
            continue;
        };
        // An error is told by the report; the deadlines stand in Redis and are found again.
        let Ok(due) = store.due(clock.now(), PER_PARTITION).await else {
            continue;
        };
        let now = clock.now();
        for (_, at) in &due {
            metrics.record_deadline_lag(now.millis_since(*at));
        }
        let due = due.into_iter().map(|(device, _)| device);
        let found: Vec<DeviceId> = due.filter(|device| !unanswered.contains(device)).collect();
        unanswered.extend(found);
        unanswered = looker.look(unanswered, listening_since).await;
    }
}

/// What deadlines are looked at with.
struct Looker<'a> {
    store: &'a Store,
    rules: &'a ApplyConfig,
    metrics: &'a Metrics,
    spans: &'a Spans,
    lines: &'a Lines,
}

impl Looker<'_> {
    /// Answers the devices that Redis did not answer for: whether their alarms changed is seen by looking again, even if they
    /// are not due any more.
    async fn look(&self, devices: Vec<DeviceId>, listening_since: Time) -> Vec<DeviceId> {
        let work: Vec<Work<'_>> = devices
            .into_iter()
            .map(|device| Work {
                device,
                input: Input::Timer { listening_since },
                raw: None,
                trace: self.spans.traces.begin(None),
            })
            .collect();
        for chunk in work.chunks(PER_PARTITION) {
            let unanswered = self.look_at(chunk).await;
            if !unanswered.is_empty() {
                return unanswered;
            }
        }
        Vec::new()
    }

    /// The same for as many as one round trip takes.
    async fn look_at(&self, work: &[Work<'_>]) -> Vec<DeviceId> {
        let began = Instant::now();
        let results = apply::apply(self.store, work, self.rules).await;
        let took = began.elapsed();
        let mut unknown = Vec::new();
        let mut unanswered = Vec::new();
        let mut failure = None;
        for (item, result) in work.iter().zip(results) {
            match result {
                Ok(applied) => {
                    self.tell(item, &applied, took);
                    // Listed with a deadline, and nothing that can be read: it is for the next reading to replace it.
                    if applied.decision.state.latest.is_none() {
                        let lost = StoreError::Refused("its state is lost".to_owned());
                        self.refused(item, &lost, took);
                        unknown.push(&item.device);
                    }
                }
                Err(err) if err.is_passing() => {
                    unanswered.push(item.device.clone());
                    failure = Some(err);
                }
                Err(err) => {
                    self.metrics.timers.increment();
                    self.refused(item, &err, took);
                    unknown.push(&item.device);
                }
            }
        }
        // Nothing can be decided of them until a reading replaces what cannot be read.
        for device in unknown {
            let later = self.store.clock().now() + self.rules.settings.offline_after;
            if let Err(err) = self.store.postpone(device, later).await {
                failure = Some(err);
            }
        }
        if let Some(err) = failure {
            let traces: Vec<Option<TraceContext>> = work.iter().map(|item| item.trace).collect();
            self.metrics.failures.increment();
            self.lines.not_committed(&err, self.store.clock().now());
            self.spans.not_committed(&traces, &err, took);
        }
        unanswered
    }

    /// Metrics, span and lines of a device that was looked at.
    fn tell(&self, item: &Work<'_>, applied: &Applied, took: Duration) {
        let metrics = self.metrics;
        metrics.timers.increment();
        metrics.conflicts.add(u64::from(applied.conflicts));
        let changes = &applied.decision.changes;
        metrics.count_changes(changes);
        let now = self.store.clock().now();
        let lines = &self.lines.alarms;
        lines.log_changes(&item.device, changes, item.trace, now);
        self.spans.deadline(item, applied, took);
    }

    /// What is due cannot be written, that the device fell silent perhaps: nobody else says so.
    fn refused(&self, item: &Work<'_>, err: &StoreError, took: Duration) {
        let refused = &self.metrics.timers_refused;
        refused.increment();
        let now = self.store.clock().now();
        self.lines.deadline_refused(&item.device, err, now);
        self.spans.deadline_refused(item, err, took);
    }
}

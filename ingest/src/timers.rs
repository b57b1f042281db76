//! Evaluates the deadlines of devices: silence and off-delays. Every ingest replica that listens evaluates all deadlines, even
//! those set by other processes.
//!
//! Two replicas may find the same deadline. Both decide and one commits. The other gets a conflict, decides again and finds
//! nothing to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::apply::{self, Applied, ApplyConfig, Cause, Work};
use shared::device::DeviceId;
use shared::lifecycle::Lifecycle;
use shared::listening::Listening;
use shared::store::{Store, StoreError};
use shared::trace::TraceContext;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::heartbeat::LastHeartbeat;
use crate::log_lines::LogLines;
use crate::metrics::Metrics;
use crate::spans::Spans;

const INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of devices read from one partition at once, and of devices evaluated in one round trip. The others follow
/// immediately.
const CHUNK: usize = 50;

/// The task that evaluates deadlines.
pub(crate) struct Timers {
    pub(crate) store: Store,
    pub(crate) apply_config: ApplyConfig,
    pub(crate) heartbeat: watch::Receiver<LastHeartbeat>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) spans: Spans,
    pub(crate) log_lines: Arc<LogLines>,
}

impl Timers {
    pub(crate) async fn run(self, lifecycle: Lifecycle) -> anyhow::Result<()> {
        let clock = self.store.clock();
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Devices whose last commit Redis did not confirm; at most one chunk.
        let mut in_doubt = Vec::new();
        loop {
            tokio::select! {
                () = lifecycle.soft().cancelled() => return Ok(()),
                _ = tick.tick() => {}
            }
            // While this replica is not listening, silence proves nothing, and no alarm may be lowered based on old values.
            let Some(listening) = self.heartbeat.borrow().listening else {
                continue;
            };
            // The heartbeat logs the error. The deadlines stay in Redis and are found again.
            let Ok(due) = self.store.due(clock.now(), CHUNK).await else {
                continue;
            };
            let now = clock.now();
            for (_, deadline) in &due {
                self.metrics
                    .record_deadline_lag(now.millis_since(*deadline));
            }
            let due = due.into_iter().map(|(device, _)| device);
            let added: Vec<DeviceId> = due.filter(|device| !in_doubt.contains(device)).collect();
            in_doubt.extend(added);
            in_doubt = self.evaluate(in_doubt, listening).await;
        }
    }

    /// Evaluates the deadlines of these devices. Returns the devices whose commit Redis did not confirm. They must be evaluated
    /// again, even if they are no longer due: only that shows whether their alarms changed.
    async fn evaluate(&self, devices: Vec<DeviceId>, listening: Listening) -> Vec<DeviceId> {
        let work: Vec<Work<'_>> = devices
            .into_iter()
            .map(|device| Work {
                device,
                cause: Cause::Deadline { listening },
                trace: self.spans.recorder.begin(None),
            })
            .collect();
        for chunk in work.chunks(CHUNK) {
            let in_doubt = self.evaluate_chunk(chunk).await;
            if !in_doubt.is_empty() {
                return in_doubt;
            }
        }
        Vec::new()
    }

    async fn evaluate_chunk(&self, chunk: &[Work<'_>]) -> Vec<DeviceId> {
        let start = Instant::now();
        let mut apply_config = self.apply_config.clone();
        apply_config.settings.earlier_release_at_work = self
            .heartbeat
            .borrow()
            .earlier_rules_at_work
            .unwrap_or(true);
        let results = apply::apply(&self.store, chunk, &apply_config).await;
        let duration = start.elapsed();
        let mut refused = Vec::new();
        let mut in_doubt = Vec::new();
        let mut failure = None;
        for (work, result) in chunk.iter().zip(results) {
            match result {
                Ok(applied) => {
                    self.record(work, &applied, duration);
                    // The device has a deadline but no readable state. Only its next reading can replace the state.
                    if applied.decision.state.latest.is_none() {
                        let err = StoreError::Refused("the stored state is lost".to_owned());
                        self.record_refusal(work, &err, duration);
                        refused.push(&work.device);
                    }
                }
                Err(err) if err.is_transient() => {
                    in_doubt.push(work.device.clone());
                    failure = Some(err);
                }
                Err(err) => {
                    self.metrics.timers.increment();
                    self.record_refusal(work, &err, duration);
                    refused.push(&work.device);
                }
            }
        }
        // They stay due until a reading replaces the unreadable state, so they are tried again only after a while.
        for device in refused {
            let later = self.store.clock().now() + self.apply_config.settings.offline_after;
            if let Err(err) = self.store.postpone(device, later).await {
                failure = Some(err);
            }
        }
        if let Some(err) = failure {
            let traces: Vec<Option<TraceContext>> = chunk.iter().map(|work| work.trace).collect();
            self.metrics.failures.increment();
            self.log_lines.not_committed(&err, self.store.clock().now());
            self.spans.not_committed(&traces, &err, duration);
        }
        in_doubt
    }

    /// Records metrics, span and log lines of an evaluated deadline.
    fn record(&self, work: &Work<'_>, applied: &Applied, duration: Duration) {
        let changes = &applied.decision.changes;
        self.metrics.timers.increment();
        self.metrics.conflicts.add(u64::from(applied.conflicts));
        self.metrics.count_changes(changes);
        self.metrics
            .log_folded
            .add(u64::from(applied.decision.folded));
        let now = self.store.clock().now();
        let alarms = &self.log_lines.alarms;
        alarms.log_changes(&work.device, changes, work.trace, now);
        self.spans.deadline(work, applied, duration);
    }

    /// Records that a deadline cannot be evaluated or committed. The device may be silent, and nothing else reports that.
    fn record_refusal(&self, work: &Work<'_>, err: &StoreError, duration: Duration) {
        self.metrics.timers_refused.increment();
        let now = self.store.clock().now();
        self.log_lines.deadline_refused(&work.device, err, now);
        self.spans.deadline_refused(work, err, duration);
    }
}

//! Keeps the history in Redis within its bounds: age, number of samples, and bytes of all histories together, with their rollups.
//!
//! Commits trim only the histories that they add to. This task goes over all devices, also the silent ones, and works while Redis is
//! full. Every replica may run it; what one has removed the others do not find.
//!
//! When memory gets short, this is dropped, in this order:
//!
//! 1. samples beyond `--history-age` and `--history-max`;
//! 2. the oldest samples of the longest histories, but none of the last hour;
//! 3. every second sample of the histories that are still too long, as often as needed, down to 100 samples of a device;
//! 4. if Redis is nearly full, whoever fills it: events beyond the last 8 of each device. A client that continues from an older position
//!    gets a snapshot and all alarm changes instead;
//! 5. the oldest blocks of the longest rollups, if all that was not enough. Beyond half of `--history-bytes` rollups lose them in any case,
//!    so that there is room for the samples of which the next blocks are made. Those of earlier settings count, too.
//!
//! Alarms, alarm changes and the alarm log are never dropped. Pace: one chunk of devices at a time, and pauses of nine times as long as
//! Redis took.

pub(crate) mod budget;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::keys;
use shared::lifecycle::Lifecycle;
use shared::memory_need::history_limit;
use shared::rollup::Width;
use shared::store::{Bounds, HistoryBounds, HistoryUse, NODE, RollupUse, Store, StoreError};
use tokio::time::sleep;

use self::budget::{Found, Plan, WHOLE};
use crate::pace::{CHUNK, rest_after};

/// Pause between two passes, while nothing must be dropped early.
const INTERVAL: Duration = Duration::from_secs(30);
/// Pause while something must be dropped early, and how soon a full Redis begins a pass.
const SHORT_INTERVAL: Duration = Duration::from_secs(1);

/// What all histories take, as the last pass found it.
#[derive(Debug, Default)]
pub(crate) struct HistoryTotals {
    pub(crate) samples: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) limit: AtomicU64,
    /// Samples that were dropped before their time so far.
    pub(crate) dropped: AtomicU64,
    /// Bytes of the rollups, which are not among the others.
    pub(crate) rollup_bytes: AtomicU64,
    /// Blocks of rollups that were dropped before their time so far.
    pub(crate) dropped_blocks: AtomicU64,
}

/// The task that trims.
pub(crate) struct Trimming {
    pub(crate) store: Store,
    pub(crate) bounds: Bounds,
    /// `--history-bytes`.
    pub(crate) history_bytes: Option<u64>,
    pub(crate) totals: Arc<HistoryTotals>,
}

impl Trimming {
    pub(crate) async fn run(self, lifecycle: Lifecycle) -> anyhow::Result<()> {
        let finish = lifecycle.soft().clone();
        finish.run_until_cancelled(self.keep_trimming()).await;
        Ok(())
    }

    async fn keep_trimming(&self) {
        let mut plan = Plan::default();
        loop {
            match self.pass(plan).await {
                Ok(next) => {
                    log_change(plan, next);
                    plan = next;
                }
                // A Redis that cannot be used is logged by the heartbeat. The next pass removes what this one has not.
                Err(err) => {
                    tracing::debug!(error = error_chain(&err), "the history was not trimmed");
                }
            }
            self.pause(plan).await;
        }
    }

    /// Waits for the next pass. It comes soon if something must be dropped early, or Redis has become full.
    async fn pause(&self, plan: Plan) {
        let began = Instant::now();
        loop {
            sleep(SHORT_INTERVAL).await;
            let is_urgent = plan != Plan::default() || self.store.full().is_some();
            if is_urgent || began.elapsed() >= INTERVAL {
                return;
            }
        }
    }

    /// Goes over all devices once. Returns what the next pass must drop early.
    async fn pass(&self, plan: Plan) -> Result<Plan, StoreError> {
        let devices = self.store.devices().await?;
        let devices: Vec<DeviceId> = devices.into_iter().map(|(device, _)| device).collect();
        let widths = self.store.rollup_widths().await?;
        let mut found = Found::default();
        for chunk in devices.chunks(CHUNK) {
            let began = Instant::now();
            let uses = self.trim(chunk).await?;
            if plan.trims_events {
                self.store.trim_events(chunk, keys::MIN_EVENTS).await?;
            }
            rest_after(began).await;
            let dropped = match plan.max_samples {
                Some(max_samples) => self.shorten(chunk, &uses, max_samples).await?,
                None => vec![0; chunk.len()],
            };
            for (history, dropped) in uses.into_iter().zip(dropped) {
                found.add(history, dropped);
            }
            for rollup in self.measure_rollups(chunk, &widths, plan).await? {
                found.add_rollup(rollup);
            }
        }
        let memory = self.store.measure_memory().await?;
        let limit = history_limit(self.history_bytes, memory.max);
        let totals = &self.totals;
        totals
            .samples
            .store(found.samples.iter().sum(), Ordering::Relaxed);
        totals.bytes.store(found.bytes, Ordering::Relaxed);
        totals.limit.store(limit, Ordering::Relaxed);
        totals
            .rollup_bytes
            .store(found.rollup_bytes, Ordering::Relaxed);
        Ok(budget::plan(&found, limit, memory, plan))
    }

    async fn trim(&self, chunk: &[DeviceId]) -> Result<Vec<HistoryUse>, StoreError> {
        let age = Duration::from_millis(self.bounds.history_age_ms.unsigned_abs());
        let bounds = HistoryBounds {
            oldest: self.store.clock().now() - age,
            max: self.bounds.history_max,
        };
        self.store.trim_histories(chunk, bounds).await
    }

    /// Returns what the rollups of these devices take, after the oldest blocks were removed if that is planned.
    async fn measure_rollups(
        &self,
        chunk: &[DeviceId],
        widths: &[Width],
        plan: Plan,
    ) -> Result<Vec<RollupUse>, StoreError> {
        if widths.is_empty() {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        if let Some(max_blocks) = plan.max_blocks {
            let dropped = self.store.drop_blocks(chunk, widths, max_blocks).await?;
            self.totals
                .dropped_blocks
                .fetch_add(dropped, Ordering::Relaxed);
        }
        let uses = self.store.rollup_uses(chunk, widths).await?;
        rest_after(began).await;
        Ok(uses)
    }

    /// Shortens the histories that have more samples than this. Returns how many samples each device has lost.
    async fn shorten(
        &self,
        chunk: &[DeviceId],
        uses: &[HistoryUse],
        max_samples: u64,
    ) -> Result<Vec<u64>, StoreError> {
        let mut lost = vec![0; chunk.len()];
        // Redis removes whole nodes, so less than one node too much cannot be removed.
        let too_long: Vec<usize> = (0..chunk.len().min(uses.len()))
            .filter(|index| uses[*index].samples >= max_samples.saturating_add(NODE))
            .collect();
        if too_long.is_empty() {
            return Ok(lost);
        }
        let began = Instant::now();
        let excess = |index: &usize| (chunk[*index].clone(), uses[*index].samples - max_samples);
        let excess: Vec<(DeviceId, u64)> = too_long.iter().map(excess).collect();
        let mut keep_from = self.store.clock().now() - WHOLE;
        let memory = self.store.measure_memory().await?;
        let may_copy = self.store.is_within_reserve(memory);
        if !may_copy {
            // Thinning takes memory at first.
            keep_from = self.store.clock().now();
        }
        let dropped = self.store.drop_oldest(&excess, keep_from).await?;
        rest_after(began).await;
        for (index, dropped) in too_long.into_iter().zip(dropped) {
            lost[index] = dropped;
            let left = uses[index].samples.saturating_sub(dropped);
            if may_copy && left >= max_samples.saturating_add(NODE) {
                let began = Instant::now();
                lost[index] += self.store.thin_history(&chunk[index]).await?;
                rest_after(began).await;
            }
        }
        let all: u64 = lost.iter().sum();
        self.totals.dropped.fetch_add(all, Ordering::Relaxed);
        Ok(lost)
    }
}

fn log_change(before: Plan, now: Plan) {
    if before.max_samples.is_some() == now.max_samples.is_some()
        && before.trims_events == now.trims_events
        && before.max_blocks.is_some() == now.max_blocks.is_some()
    {
        return;
    }
    let max_samples = now.max_samples;
    if let Some(max_blocks) = now.max_blocks {
        tracing::warn!(
            max_samples,
            max_blocks,
            "memory for history is short: the oldest blocks of the rollups are dropped early"
        );
    } else if now.trims_events {
        tracing::warn!(
            max_samples,
            "Redis is nearly full: history and events of each device are dropped early"
        );
    } else if max_samples.is_some() {
        tracing::warn!(
            max_samples,
            "memory for history is short: the longest histories are shortened"
        );
    } else {
        tracing::info!("there is memory for history again");
    }
}

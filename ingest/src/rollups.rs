//! Makes the rollups of the history: buckets of samples, which are kept for longer than the samples.
//!
//! Shortly after the end of each block of the finest level this task goes over all devices. It reads the samples since the last block of
//! a device, and writes the blocks that are over; then those of the coarser levels, from the blocks of the level before. It begins where
//! the stored blocks end. So after an outage it catches up as far as the history reaches, and any number of replicas may run it: each block
//! is written once (`shared/src/store/rollups.rs`). Commits have nothing to do with it.
//!
//! Pace and memory: one device at a time, [`shared::store::RollupWork`] holds one piece of its history and one block. After each piece it
//! pauses for nine times as long as Redis took. While Redis is full nothing is written, and a later pass makes what is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::lifecycle::Lifecycle;
use shared::rollup::Levels;
use shared::store::{RollupMarks, RollupProgress, RollupSource, RollupWork, Store, StoreError};
use tokio::time::sleep;

use crate::pace::{CHUNK, rest, rest_after};

/// How long a block waits after its end. A device that has sent since cannot add to it any more, whatever the clocks say. For one that is
/// silent the clock of Redis must not be set back by more.
const MARGIN: Duration = Duration::from_secs(5);
/// Pause after a pass that could not make everything.
const RETRY: Duration = Duration::from_secs(30);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_mins(10);

/// What was made so far.
#[derive(Debug, Default)]
pub(crate) struct RollupTotals {
    /// Blocks that this process has written.
    pub(crate) blocks: AtomicU64,
    /// Devices whose keys could not be used, in the last pass.
    pub(crate) refused: AtomicU64,
    /// Server time up to which everything is made, in milliseconds; that of the start before the first complete pass. 0: nothing is to
    /// be made.
    pub(crate) until: AtomicI64,
}

/// The task that makes rollups.
pub(crate) struct Rollups {
    pub(crate) store: Store,
    pub(crate) levels: Levels,
    pub(crate) totals: Arc<RollupTotals>,
}

/// What became of the rollups of a device.
enum DeviceState {
    /// All are made. The last block of each level ends then.
    Made(Vec<Option<Time>>),
    /// Another replica makes them, or Redis is full.
    Unfinished,
}

impl Rollups {
    pub(crate) async fn run(self, lifecycle: Lifecycle) -> anyhow::Result<()> {
        let finish = lifecycle.soft().clone();
        finish.run_until_cancelled(self.keep_rolling_up()).await;
        Ok(())
    }

    async fn keep_rolling_up(&self) {
        if self.levels.finest().is_some() {
            let start = self.store.clock().now().as_millis();
            self.totals.until.store(start, Ordering::Relaxed);
        }
        loop {
            let is_complete = match self.pass().await {
                Ok(is_complete) => is_complete,
                // Only a key of the rollups themselves is refused here. Nobody else uses it, so nobody else would say it.
                Err(err @ StoreError::Refused(_)) => {
                    tracing::warn!(error = error_chain(&err), "the rollups were not made");
                    false
                }
                // A Redis that cannot be used is logged by the heartbeat. The next pass makes what this one has not.
                Err(err) => {
                    tracing::debug!(error = error_chain(&err), "the rollups were not made");
                    false
                }
            };
            sleep(self.pause(is_complete)).await;
        }
    }

    /// Returns how long to wait for the next pass: until a block has ended.
    fn pause(&self, is_complete: bool) -> Duration {
        let Some(finest) = self.levels.finest() else {
            return MAX_PAUSE;
        };
        let now = self.store.clock().now();
        let block = Duration::from_millis(finest.width.block_millis().unsigned_abs());
        let next = finest.width.block_start(now - MARGIN) + block + MARGIN;
        let pause = next.duration_since(now).min(MAX_PAUSE);
        if is_complete { pause } else { pause.min(RETRY) }
    }

    /// Goes over all devices once. Returns whether everything is made.
    async fn pass(&self) -> Result<bool, StoreError> {
        self.store.register_rollups(&self.levels).await?;
        let Some(finest) = self.levels.finest() else {
            return Ok(true);
        };
        let devices = self.store.devices().await?;
        let mut devices: Vec<DeviceId> = devices.into_iter().map(|(device, _)| device).collect();
        if !devices.is_empty() {
            // So that several replicas share the work.
            let first = fastrand::usize(..devices.len());
            devices.rotate_left(first);
        }
        let mut is_complete = true;
        let mut refused = 0;
        let mut until = finest.width.block_start(self.store.clock().now() - MARGIN);
        for chunk in devices.chunks(CHUNK) {
            let began = Instant::now();
            let (now, marks) = self.store.rollup_marks(chunk, &self.levels).await?;
            rest_after(began).await;
            let closed = finest.width.block_start(now - MARGIN);
            until = until.min(closed);
            let mut made = Vec::with_capacity(chunk.len());
            for (device, marks) in chunk.iter().zip(marks) {
                let state = match marks {
                    Ok(marks) => self.device(device, marks, (now, closed)).await,
                    Err(err) => Err(err),
                };
                match state {
                    Ok(DeviceState::Made(ends)) => made.push((device.clone(), ends)),
                    Ok(DeviceState::Unfinished) => is_complete = false,
                    Err(err @ StoreError::Refused(_)) => {
                        refused += 1;
                        let device = device.for_log();
                        tracing::debug!(%device, error = error_chain(&err), "no rollup of a device");
                    }
                    Err(err) if err.is_out_of_memory() => is_complete = false,
                    Err(err) => return Err(err),
                }
            }
            let began = Instant::now();
            self.store.trim_rollups(&made, &self.levels, now).await?;
            rest_after(began).await;
        }
        self.totals.refused.store(refused, Ordering::Relaxed);
        if is_complete {
            let until = until.as_millis();
            self.totals.until.store(until, Ordering::Relaxed);
        }
        Ok(is_complete)
    }

    /// Makes all blocks of a device whose time is over.
    async fn device(
        &self,
        device: &DeviceId,
        marks: RollupMarks,
        (now, closed): (Time, Time),
    ) -> Result<DeviceState, StoreError> {
        let since = now - self.levels.longest_age();
        let mut ends = marks.ends;
        let mut source = RollupSource::History;
        // Blocks up to this time have something in them.
        let mut newest = marks.newest_sample.map(|at| at + Duration::from_millis(1));
        let mut until = closed;
        for (level, end) in self.levels.iter().zip(&mut ends) {
            until = level.width.block_start(until);
            if newest.is_some_and(|newest| newest.min(until) > end.unwrap_or_default()) {
                if self.store.full().is_some() {
                    return Ok(DeviceState::Unfinished);
                }
                let work = RollupWork::new(device, *level, source, (since, until), *end);
                let Some(last) = self.make(work).await? else {
                    return Ok(DeviceState::Unfinished);
                };
                *end = last;
            }
            newest = *end;
            source = RollupSource::Finer(level.width);
        }
        Ok(DeviceState::Made(ends))
    }

    /// Makes the blocks of one level of a device, and returns the end of the last one. `None` if another process has changed something.
    async fn make(&self, mut work: RollupWork<'_>) -> Result<Option<Option<Time>>, StoreError> {
        loop {
            let (written, busy) = (work.written(), work.redis_time());
            let progress = self.store.roll_up(&mut work).await?;
            let written = work.written() - written;
            self.totals.blocks.fetch_add(written, Ordering::Relaxed);
            // What this process does with the samples is none of Redis' time.
            rest(work.redis_time().saturating_sub(busy)).await;
            match progress {
                RollupProgress::More => {}
                RollupProgress::Done => return Ok(Some(work.last())),
                RollupProgress::Changed => return Ok(None),
            }
        }
    }
}

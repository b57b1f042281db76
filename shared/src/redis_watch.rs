//! Detects that Redis is no longer the server, or no longer has the data, that this process connected to.
//!
//! An open connection proves little. After a failover the old master may keep its old connections, a subscriber may be
//! connected and receive nothing, and a `FLUSHALL` closes no connection. So every `--redis-watch` interval this task
//! * opens a new connection and checks which server answers at the configured address,
//! * reads the epochs of all partitions, and commits the states again that a partition with a new epoch has lost,
//! * increments and publishes a counter, the canary, in the same way as a commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::apply;
use crate::position::Epoch;
use crate::store::{Bounds, Store, StoreError};

/// The result of the last checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisObservation {
    /// `run_id` of the server at the configured address; `None` until a server has answered.
    pub run_id: Option<Arc<str>>,
    /// Epoch of each partition; empty until they are read.
    pub epochs: Arc<[Option<Epoch>]>,
    /// The canary's count.
    pub canary: u64,
}

/// When this process increments the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryRole {
    /// At every interval.
    Always,
    /// Only while no other process does.
    FillIn,
}

/// The task that watches Redis for one process.
#[derive(Debug)]
pub struct RedisWatch {
    /// The store whose server is watched.
    pub store: Store,
    /// When this process increments the canary.
    pub canary: CanaryRole,
    /// Bounds of the streams when lost states are written again; `None` in a process that does not write history.
    pub bounds: Option<Bounds>,
    /// Where observations are published.
    pub observation: watch::Sender<RedisObservation>,
}

impl RedisWatch {
    /// Watches until `finish`.
    pub async fn run(self, finish: CancellationToken) -> anyhow::Result<()> {
        let interval = self.store.watch_interval();
        if interval.is_zero() {
            tracing::warn!("Redis is not watched: a failover or a flush may go unnoticed");
            finish.cancelled().await;
            return Ok(());
        }
        tokio::select! {
            () = finish.cancelled() => {}
            () = self.check_server(interval) => {}
            () = self.check_data(interval) => {}
        }
        Ok(())
    }

    async fn check_server(&self, interval: Duration) {
        let mut ticks = ticks(interval);
        loop {
            ticks.tick().await;
            if let Ok(run_id) = self.store.identify_server().await {
                self.observation.send_if_modified(|observation| {
                    let is_other = observation.run_id.as_ref() != Some(&run_id);
                    observation.run_id = Some(run_id);
                    is_other
                });
            }
        }
    }

    async fn check_data(&self, interval: Duration) {
        let mut ticks = ticks(interval);
        let mut history = CheckHistory::default();
        loop {
            ticks.tick().await;
            // An unreachable Redis is logged by the tasks that need an answer.
            if self.check_data_once(&mut history).await.is_err() {
                continue;
            }
            let is_our_turn = match self.canary {
                CanaryRole::Always => true,
                // Two intervals, because the intervals of other processes are not in step with ours.
                CanaryRole::FillIn => history.checks_without_others >= 2,
            };
            if is_our_turn {
                // A failure needs no handling: subscribers notice that the count does not change.
                history.own_count = self.store.increment_canary().await.ok();
            }
        }
    }

    /// Reads epochs, retirements and the canary, and writes lost states again.
    async fn check_data_once(&self, history: &mut CheckHistory) -> Result<(), StoreError> {
        let survey = self.store.survey().await?;
        if history.retired != survey.retired {
            if !history.retired.is_empty() {
                let partitions = history.newly_retired(&survey.retired);
                self.store.forget_retired(&partitions).await?;
            }
            history.retired.clone_from(&survey.retired);
        }
        let missing = self.store.committed_in_other_epochs(&survey.epochs);
        history.checks_with_missing = if missing.is_empty() {
            0
        } else {
            history.checks_with_missing + 1
        };
        let is_due = match self.canary {
            CanaryRole::Always => true,
            // A gateway waits: an ingest replica remembers more devices, so it writes first.
            CanaryRole::FillIn => history.checks_with_missing > 2,
        };
        // Publish the new epochs only afterwards, so that a reader then finds the states that were written again.
        if is_due && !missing.is_empty() {
            apply::reassert(&self.store, &missing, self.bounds).await?;
        }
        let own_count = history.own_count;
        let mut has_changed = false;
        self.observation.send_if_modified(|observation| {
            has_changed = observation.canary != survey.canary;
            let is_other = *observation.epochs != *survey.epochs;
            observation.canary = survey.canary;
            if is_other {
                observation.epochs = survey.epochs.into();
            }
            has_changed || is_other
        });
        let is_from_others = has_changed && own_count != Some(survey.canary);
        history.checks_without_others = if is_from_others {
            0
        } else {
            history.checks_without_others.saturating_add(1)
        };
        Ok(())
    }
}

/// The results of earlier checks that the next check needs.
#[derive(Debug, Default)]
struct CheckHistory {
    /// Highest retired seq of each partition.
    retired: Vec<Option<u64>>,
    /// The canary's count after this process incremented it last.
    own_count: Option<u64>,
    /// Number of checks in a row in which no other process had incremented the canary.
    checks_without_others: u32,
    /// Number of checks in a row in which a state committed by this process was missing.
    checks_with_missing: u32,
}

impl CheckHistory {
    /// Returns the partitions in which a device was retired since the last check.
    fn newly_retired(&self, retired: &[Option<u64>]) -> Vec<u16> {
        let before = self.retired.iter().chain(std::iter::repeat(&None));
        let partitions = (0..).zip(before.zip(retired));
        partitions
            .filter(|(_, (before, now))| now > before)
            .map(|(partition, _)| partition)
            .collect()
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

//! Watches whether Redis is still the one that was connected to: its server, its epochs, its voice.
//!
//! A connection that stands proves little: after a failover the old master may keep its old connections, a subscriber may
//! be connected and hear nothing, a `FLUSHALL` closes nothing. So every second a fresh connection looks who answers at
//! the configured address, the epochs are read, and a canary counts on the way a commit does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::apply;
use crate::position::Epoch;
use crate::store::{Bounds, Store, StoreError};

/// What was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// `run_id` of the server at the configured address; `None` before one answered.
    pub run_id: Option<Arc<str>>,
    /// Epoch of each partition; empty before they were read.
    pub epochs: Arc<[Option<Epoch>]>,
    /// The canary's count.
    pub canary: u64,
}

/// Who lets the canary sing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// This process, every time.
    Sings,
    /// This process, while nobody else does.
    FillsIn,
}

/// The watch of one process.
#[derive(Debug)]
pub struct Guard {
    /// What is watched.
    pub store: Store,
    /// Who lets the canary sing.
    pub canary: Canary,
    /// How much to keep when something is asserted again; `None` where history is not this process's to write.
    pub bounds: Option<Bounds>,
    /// Where it is told.
    pub sight: watch::Sender<Sight>,
}

impl Guard {
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
            () = self.look_who_answers(interval) => {}
            () = self.survey(interval) => {}
        }
        Ok(())
    }

    async fn look_who_answers(&self, interval: Duration) {
        let mut ticks = ticks(interval);
        loop {
            ticks.tick().await;
            if let Ok(run_id) = self.store.look_who_answers().await {
                self.sight.send_if_modified(|sight| {
                    let is_other = sight.run_id.as_ref() != Some(&run_id);
                    sight.run_id = Some(run_id);
                    is_other
                });
            }
        }
    }

    async fn survey(&self, interval: Duration) {
        let mut ticks = ticks(interval);
        let mut seen = Seen::default();
        loop {
            ticks.tick().await;
            // That Redis is away is found out, and told, by those who need an answer.
            if self.look_around(&mut seen).await.is_err() {
                continue;
            }
            let sings = match self.canary {
                Canary::Sings => true,
                // Two intervals: the others' are not in step with ours.
                Canary::FillsIn => seen.quiet >= 2,
            };
            if sings {
                // A canary that cannot sing is heard by its silence.
                seen.own_song = self.store.sing().await.ok();
            }
        }
    }

    /// Reads what stands, and asserts again what is gone.
    async fn look_around(&self, seen: &mut Seen) -> Result<(), StoreError> {
        let survey = self.store.survey().await?;
        if seen.retired != survey.retired {
            if !seen.retired.is_empty() {
                let partitions = seen.newly_retired(&survey.retired);
                self.store.forget_retired(&partitions).await?;
            }
            seen.retired.clone_from(&survey.retired);
        }
        let missing = self.store.remembered_elsewhere(&survey.epochs);
        seen.waited = if missing.is_empty() {
            0
        } else {
            seen.waited + 1
        };
        let is_due = match self.canary {
            Canary::Sings => true,
            // Who reads the detectors remembers more than who acknowledged now and then: it goes first.
            Canary::FillsIn => seen.waited > 2,
        };
        // Told only when it is done: who reads then finds what was asserted again.
        if is_due && !missing.is_empty() {
            apply::reassert(&self.store, &missing, self.bounds).await?;
        }
        let own_song = seen.own_song;
        let mut has_sung = false;
        self.sight.send_if_modified(|sight| {
            has_sung = sight.canary != survey.canary;
            let is_other = *sight.epochs != *survey.epochs;
            sight.canary = survey.canary;
            if is_other {
                sight.epochs = survey.epochs.into();
            }
            has_sung || is_other
        });
        let is_others = has_sung && own_song != Some(survey.canary);
        seen.quiet = if is_others {
            0
        } else {
            seen.quiet.saturating_add(1)
        };
        Ok(())
    }
}

/// What one survey leaves for the next.
#[derive(Debug, Default)]
struct Seen {
    retired: Vec<Option<u64>>,
    /// Count of the canary's song that was ours.
    own_song: Option<u64>,
    /// Surveys in a row in which nobody else let the canary sing.
    quiet: u32,
    /// Surveys in a row in which something remembered was missing.
    waited: u32,
}

impl Seen {
    fn newly_retired(&self, retired: &[Option<u64>]) -> Vec<u16> {
        let before = self.retired.iter().chain(std::iter::repeat(&None));
        let moved = (0..).zip(before.zip(retired));
        moved
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

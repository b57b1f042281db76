//! The memory of Redis: how much is used, and what still works when it is full.
//!
//! At `maxmemory` Redis refuses every command that may need memory. Only scripts with the flag `allow-oom` run. A commit that is
//! refused is carried out by such a script, without its samples and payload, as long as no more than `--memory-reserve` beyond
//! `maxmemory` is used. The reserve is for alarms:
//!
//! | used of the reserve | alarm changes, acknowledgements | new device without a danger | other commits of a stored device |
//! |---|---|---|---|
//! | at most half | stored | stored | stored |
//! | more than half | stored | refused: a dead letter | stored. A new event replaces an old one, so the device takes no more memory |
//! | all of it | not stored: Redis cannot be used | the same | the same |
//!
//! Commits of stored devices are never dropped. An alarm with a delay needs the readings before it, and a device that is heard
//! must not look silent. A refused commit is tried again and holds up what arrived after it, so none is refused that may be stored.
//!
//! What happens to the other writes while Redis is full:
//!
//! | write | then |
//! |---|---|
//! | epochs, number of partitions, heartbeat, canary, a deadline that is moved, the place of a device | go on: they replace what is there, or are few |
//! | payload as received | not stored, and the stored one is removed: it belongs to another reading |
//! | thinned copy of a history | made within the reserve, one at a time: it is smaller than what it replaces |
//! | retirement | goes on, also beyond the reserve, since it frees memory |
//! | dead letter | stored within the reserve; from [`MIN_LETTERS`] on, or once half of the reserve is used, each replaces older ones of its size |
//! | sample of the history | not stored, and counted |
//! | block of a rollup | not stored: it is made later, of the samples that the history still has |
//! | recorded raw payload | not stored: the recording has a gap, which is logged |
//! | counts of the fleet, report of watchers | not stored: each gateway counts for itself, and analytics lacks this replica |
//! | trimming, and everything that removes | goes on: Redis never refuses it |

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{FromRedisValue, RedisError, Value};

use super::{Store, StoreError};
use crate::redis::{NO_MEMORY, RedisConfig};

/// The reason that operators and clients see while Redis is full.
pub const REDIS_FULL: &str =
    "redis full: alarms are stored and history is not, until Redis has memory again";

/// The same while more than half of the reserve is used.
pub const REDIS_RESERVE_LOW: &str = "redis full: more than half of --memory-reserve is used: alarms are stored, history and new devices \
     without an alarm are not, until Redis has memory again";

/// The same while the whole reserve is used.
pub const REDIS_RESERVE_USED_UP: &str = "redis full: --memory-reserve is used up: nothing is stored, not even alarms, until Redis has memory again";

/// How full Redis is, as one process sees it with its `--memory-reserve`; each stores less than the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fullness {
    /// Everything is stored.
    #[default]
    Free,
    /// Redis is at `maxmemory`: history is not stored.
    Full,
    /// More than half of the reserve is used: new devices without a danger are not stored either.
    ReserveLow,
    /// The whole reserve is used: nothing is stored.
    ReserveUsedUp,
}

impl Fullness {
    /// Returns what operators and clients see; `None` while everything is stored.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Free => None,
            Self::Full => Some(REDIS_FULL),
            Self::ReserveLow => Some(REDIS_RESERVE_LOW),
            Self::ReserveUsedUp => Some(REDIS_RESERVE_USED_UP),
        }
    }

    /// Returns the word in the report of a replica.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Full => "full",
            Self::ReserveLow => "reserve_low",
            Self::ReserveUsedUp => "reserve_used_up",
        }
    }

    /// Reads the word in the report of a replica.
    pub(super) fn reported(word: &str) -> Option<Self> {
        let all = [
            Self::Free,
            Self::Full,
            Self::ReserveLow,
            Self::ReserveUsedUp,
        ];
        all.into_iter().find(|known| known.word() == word)
    }
}

/// Dead letters that may be added while Redis is full. From then on each replaces the oldest ones, of its size in all.
pub(super) const MIN_LETTERS: u64 = 100;

/// Redis stays full for this long after it refused a command, unless the memory is measured again.
const FULL_LIFE: Duration = Duration::from_secs(3);

/// A measurement is used for this long before a commit that exceeds `maxmemory`. The reserve can be exceeded by what is written in this
/// time, and by one batch.
const MEASURED_LIFE: Duration = Duration::from_millis(100);

/// The smallest reserve that is taken by default.
const MIN_RESERVE: u64 = 16 * 1024 * 1024;

/// The memory that Redis uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes that count for `maxmemory`.
    pub used: u64,
    /// `maxmemory`; 0 if there is none.
    pub max: u64,
}

impl MemoryUse {
    /// Reads the answer to `INFO memory`.
    pub(crate) fn parse(info: &str) -> Option<Self> {
        let number = |name: &str| {
            let mut lines = info.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value?.trim().parse::<u64>().ok()
        };
        // Redis does not count what it needs for replicas and for the append-only file.
        let not_counted = number("mem_not_counted_for_evict").unwrap_or_default();
        Some(Self {
            used: number("used_memory")?.saturating_sub(not_counted),
            max: number("maxmemory")?,
        })
    }

    /// Whether Redis refuses commands that may need memory.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.max > 0 && self.used > self.max
    }

    /// Whether at least a hundredth of the memory is free. Only then a full Redis counts as healed.
    fn has_room(self) -> bool {
        self.max == 0 || self.used < self.max - self.max / 100
    }

    /// Bytes by which commits may exceed `maxmemory`.
    #[must_use]
    pub fn reserve(self, configured: Option<u64>) -> u64 {
        configured.unwrap_or_else(|| (self.max / 20).max(MIN_RESERVE))
    }

    fn is_within_reserve(self, configured: Option<u64>) -> bool {
        self.is_within(self.reserve(configured))
    }

    fn is_within(self, excess: u64) -> bool {
        self.max == 0 || self.used <= self.max.saturating_add(excess)
    }

    /// What the rest of the reserve is for.
    fn reserve_left(self, configured: Option<u64>) -> ReserveLeft {
        let reserve = self.reserve(configured);
        if reserve == 0 || !self.is_within(reserve) {
            ReserveLeft::Nothing
        } else if self.is_within(reserve / 2) {
            ReserveLeft::ForAll
        } else {
            ReserveLeft::ForAlarms
        }
    }
}

/// What the rest of the reserve beyond `maxmemory` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReserveLeft {
    /// No more than half of it is used.
    ForAll,
    /// More than half of it is used.
    ForAlarms,
    /// It is used up.
    Nothing,
}

/// What this process knows about the memory of Redis.
#[derive(Debug, Default)]
pub(super) struct MemoryWatch {
    // A std mutex: held for a few assignments, never across an await.
    known: Mutex<Known>,
    unstored_samples: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    measured: Option<(Instant, MemoryUse)>,
    /// When Redis last refused a command because it has no memory.
    refused: Option<Instant>,
    is_full: bool,
    /// More than half of the reserve was used since Redis was full.
    is_reserve_low: bool,
}

impl MemoryWatch {
    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *known;
        change(&mut known);
        if known.is_reserve_low && !before.is_reserve_low {
            tracing::error!(
                "more than half of --memory-reserve is used: new devices become dead letters unless their message shows a danger"
            );
        }
        if known.is_full == before.is_full {
            return;
        }
        // A refusal may come before the measurement that shows why.
        let memory = known.measured.map(|(_, memory)| memory);
        let memory = memory.filter(|memory| memory.is_full() == known.is_full);
        let used = memory.map(|memory| memory.used);
        let maxmemory = memory.map(|memory| memory.max);
        if known.is_full {
            tracing::error!(
                used,
                maxmemory,
                "Redis is full: alarms are stored within --memory-reserve, history is not stored"
            );
        } else {
            tracing::info!(used, maxmemory, "Redis has memory again");
        }
    }

    /// Redis refused a command because it has no memory.
    pub(super) fn refused(&self) {
        self.change(|known| {
            known.refused = Some(Instant::now());
            known.is_full = true;
        });
    }

    fn measured(&self, memory: MemoryUse, reserve: Option<u64>) {
        self.change(|known| {
            known.measured = Some((Instant::now(), memory));
            let was_refused = known.refused.is_some_and(|at| at.elapsed() < FULL_LIFE);
            known.is_full =
                memory.is_full() || (known.is_full && (was_refused || !memory.has_room()));
            let is_low = memory.reserve_left(reserve) == ReserveLeft::ForAlarms;
            known.is_reserve_low = known.is_full && (is_low || known.is_reserve_low);
        });
    }

    fn known(&self) -> Known {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fullness(&self, reserve: Option<u64>) -> Fullness {
        let known = self.known();
        let is_used_up = |(_, memory): (_, MemoryUse)| {
            memory.is_full() && memory.reserve_left(reserve) == ReserveLeft::Nothing
        };
        if !known.is_full {
            Fullness::Free
        } else if known.measured.is_some_and(is_used_up) {
            Fullness::ReserveUsedUp
        } else if known.is_reserve_low {
            Fullness::ReserveLow
        } else {
            Fullness::Full
        }
    }

    pub(super) fn count_unstored_samples(&self, count: usize) {
        self.unstored_samples
            .fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Store {
    /// Returns why this process stores less than it should; `None` while Redis has memory.
    #[must_use]
    pub fn full(&self) -> Option<&'static str> {
        self.fullness().reason()
    }

    /// Returns how full Redis is, judged by the `--memory-reserve` of this process.
    #[must_use]
    pub fn fullness(&self) -> Fullness {
        self.memory.fullness(self.connector.config().memory_reserve)
    }

    /// Returns the memory of Redis as it was measured last; `None` before the first time.
    #[must_use]
    pub fn memory(&self) -> Option<MemoryUse> {
        self.memory.known().measured.map(|(_, memory)| memory)
    }

    /// Returns the number of samples that were not stored so far because Redis was full.
    #[must_use]
    pub fn unstored_samples(&self) -> u64 {
        self.memory.unstored_samples.load(Ordering::Relaxed)
    }

    /// Measures the memory of Redis.
    pub async fn measure_memory(&self) -> Result<MemoryUse, StoreError> {
        let info = self.run(|_, pipe| {
            pipe.cmd("INFO").arg("memory");
        });
        self.memory_measured(info.await?)
    }

    /// Reads the answer to `INFO memory`.
    pub(super) fn memory_measured(&self, info: Value) -> Result<MemoryUse, StoreError> {
        let info = String::from_redis_value(info).map_err(RedisError::from);
        // A server that does not report its memory is taken as one without a limit.
        let memory = MemoryUse::parse(&info.map_err(StoreError::Unavailable)?);
        let memory = memory.unwrap_or_default();
        let reserve = self.connector.config().memory_reserve;
        self.memory.measured(memory, reserve);
        Ok(memory)
    }

    /// Returns which writes that Redis refused for lack of memory may be carried out all the same.
    pub(super) async fn reserve_left(&self) -> Result<ReserveLeft, StoreError> {
        let recent = self.memory.known().measured;
        let recent = recent.filter(|(at, memory)| at.elapsed() < MEASURED_LIFE && memory.is_full());
        let memory = match recent {
            Some((_, memory)) => memory,
            None => self.measure_memory().await?,
        };
        let left = memory.reserve_left(self.connector.config().memory_reserve);
        if left == ReserveLeft::Nothing {
            self.last_refusal.note(NO_MEMORY);
        }
        Ok(left)
    }

    /// Whether a new device is refused now unless its message shows a danger.
    pub(crate) async fn refuses_new_devices(&self) -> Result<bool, StoreError> {
        if !self.memory.known().is_full {
            return Ok(false);
        }
        Ok(self.reserve_left().await? == ReserveLeft::ForAlarms)
    }

    /// Returns the error of a Redis whose reserve is used up.
    pub(super) fn check_reserve(&self, memory: MemoryUse) -> Result<(), StoreError> {
        if self.is_within_reserve(memory) {
            return Ok(());
        }
        let detail = format!("{} bytes are used of {}", memory.used, memory.max);
        Err(StoreError::Unavailable(out_of_memory(detail)))
    }

    /// Whether no more than the reserve beyond `maxmemory` is used.
    #[must_use]
    pub fn is_within_reserve(&self, memory: MemoryUse) -> bool {
        let config: &RedisConfig = self.connector.config();
        memory.is_within_reserve(config.memory_reserve)
    }
}

/// Whether Redis refused a command because it has no memory.
pub(super) fn is_out_of_memory(err: &RedisError) -> bool {
    err.code() == Some("OOM")
}

fn out_of_memory(detail: String) -> RedisError {
    redis::make_extension_error("OOM".to_owned(), Some(detail))
}

#[cfg(test)]
mod tests;

//! Whether what is shown can be current: health and age of the path from the detectors to here. Pure.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Body of `/readyz` and, with a time, of `system:status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Redis answered once and nobody asked us to go: an outage of a part of ours is no reason to be restarted.
    #[serde(skip)]
    pub(crate) is_serving: bool,
    /// The judgement.
    pub status: Level,
    /// What it rests on.
    pub dependencies: Dependencies,
}

/// How far the service can do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything answers.
    Ok,
    /// Something every replica needs is away: clients are served and told.
    Degraded,
    /// Do not send clients here.
    Unready,
}

/// The links of the data path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependencies {
    /// Our own link to Redis.
    pub redis: Dependency,
    /// The broker, as the ingests report it.
    pub broker: Dependency,
    /// The ingests.
    pub ingest: Dependency,
}

/// One link of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// Whether it works.
    pub ok: bool,
    /// Since its last sign of life; `null` if there never was one.
    pub age_ms: Option<u64>,
}

/// What is known when it is judged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observation {
    /// When Redis answered last.
    pub(crate) redis: Option<Instant>,
    /// When an ingest with a live subscription reported last, as far as known.
    pub(crate) ingest: Option<Instant>,
    /// Whether the newest report was recent enough when Redis was last asked.
    pub(crate) is_listening: bool,
    /// The process is about to go.
    pub(crate) is_draining: bool,
    /// Something of our own does not work.
    pub(crate) is_broken: bool,
}

impl Status {
    /// Judges what was observed. `away_after`: how long Redis may be silent.
    pub(crate) fn judge(seen: &Observation, now: Instant, away_after: Duration) -> Self {
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let has_redis = age(seen.redis).is_some_and(|age| age <= away_after);
        let redis = Dependency {
            ok: has_redis,
            age_ms: age(seen.redis).map(millis),
        };
        // Without Redis nobody knows about the ingests, and unknown is never shown as normal.
        let ingest = Dependency {
            ok: has_redis && seen.is_listening,
            age_ms: age(seen.ingest).map(millis),
        };
        let status = if seen.redis.is_none() || seen.is_draining || seen.is_broken {
            Level::Unready
        } else if redis.ok && ingest.ok {
            Level::Ok
        } else {
            Level::Degraded
        };
        // An ingest reports only while the broker serves its subscription: the report speaks for both.
        Self {
            is_serving: seen.redis.is_some() && !seen.is_draining,
            status,
            dependencies: Dependencies {
                redis,
                broker: ingest,
                ingest,
            },
        }
    }

    /// Status code of `/readyz`.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.status {
            Level::Ok | Level::Degraded => 200,
            Level::Unready => 503,
        }
    }

    /// Whether clients must be told that what they see may be old.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        !(self.dependencies.redis.ok && self.dependencies.ingest.ok)
    }
}

/// The latest judgement. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug)]
pub struct StatusHandle {
    // A std lock: held for one clone or one assignment, never across an await.
    current: Arc<RwLock<Status>>,
}

impl StatusHandle {
    /// Unready until something was observed.
    pub(crate) fn new(now: Instant) -> Self {
        let unknown = Status::judge(&Observation::default(), now, Duration::ZERO);
        Self {
            current: Arc::new(RwLock::new(unknown)),
        }
    }

    /// The latest judgement.
    #[must_use]
    pub fn current(&self) -> Status {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes over a judgement and answers with the one before.
    pub(crate) fn replace(&self, status: Status) -> Status {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, status)
    }
}

#[cfg(test)]
mod tests;

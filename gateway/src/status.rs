//! The state of the data path from the detectors to this gateway, which shows whether clients can have current data. Pure.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::clock::millis;

/// The state of the data path: the body of `/readyz` and, with a time, of `system:status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PathStatus {
    /// Redis answered at least once and the process is not shutting down. While this holds, `/health` answers 200: a failed
    /// part of the data path is not a reason to restart this process.
    #[serde(skip)]
    pub(crate) is_serving: bool,
    /// The overall result.
    pub(crate) status: Readiness,
    /// The state of each part.
    pub(crate) dependencies: Dependencies,
}

/// How far the service can do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Readiness {
    /// Everything answers.
    Ok,
    /// Something that every replica needs is unavailable. Clients are served and informed.
    Degraded,
    /// Do not send clients here.
    Unready,
}

/// The parts of the data path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Dependencies {
    /// Our own connection to Redis.
    pub(crate) redis: Dependency,
    /// The broker, as the ingest replicas report it.
    pub(crate) broker: Dependency,
    /// The ingest replicas.
    pub(crate) ingest: Dependency,
}

/// One part of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Dependency {
    /// Whether it works.
    pub(crate) ok: bool,
    /// Age of its last sign of life in milliseconds; `null` if there was none.
    pub(crate) age_ms: Option<i64>,
}

/// The observations about the data path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathObservation {
    /// When Redis answered last.
    pub(crate) redis: Option<Instant>,
    /// When an ingest with an active subscription reported last, as far as known.
    pub(crate) ingest: Option<Instant>,
    /// Whether the newest report was recent enough when Redis was last asked.
    pub(crate) is_listening: bool,
    /// The process is shutting down.
    pub(crate) is_draining: bool,
    /// A part of this process does not work.
    pub(crate) is_broken: bool,
}

impl PathStatus {
    /// Evaluates the observations. `away_after`: how long Redis may be silent.
    pub(crate) fn evaluate(observed: &PathObservation, now: Instant, away_after: Duration) -> Self {
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let has_redis = age(observed.redis).is_some_and(|age| age <= away_after);
        let redis = Dependency {
            ok: has_redis,
            age_ms: age(observed.redis).map(millis),
        };
        // Without Redis the state of the ingest replicas is unknown, and unknown is never shown as normal.
        let ingest = Dependency {
            ok: has_redis && observed.is_listening,
            age_ms: age(observed.ingest).map(millis),
        };
        let is_unready = observed.redis.is_none() || observed.is_draining || observed.is_broken;
        let status = if is_unready {
            Readiness::Unready
        } else if redis.ok && ingest.ok {
            Readiness::Ok
        } else {
            Readiness::Degraded
        };
        Self {
            is_serving: observed.redis.is_some() && !observed.is_draining,
            status,
            dependencies: Dependencies {
                redis,
                // An ingest reports only while its subscription at the broker is active, so its report covers both.
                broker: ingest,
                ingest,
            },
        }
    }

    /// Status code of `/readyz`.
    pub(crate) fn http_status(&self) -> u16 {
        match self.status {
            Readiness::Ok | Readiness::Degraded => 200,
            Readiness::Unready => 503,
        }
    }

    /// Returns whether clients must be informed that their data may be old.
    pub(crate) fn is_degraded(&self) -> bool {
        !(self.dependencies.redis.ok && self.dependencies.ingest.ok)
    }
}

/// The latest status. Cheap to clone; all clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StatusHandle {
    // A std lock: held for one clone or one assignment, never across an await.
    current: Arc<RwLock<PathStatus>>,
}

impl StatusHandle {
    /// Creates a status that is unready until the first observation.
    pub(crate) fn new(now: Instant) -> Self {
        let unknown = PathStatus::evaluate(&PathObservation::default(), now, Duration::ZERO);
        Self {
            current: Arc::new(RwLock::new(unknown)),
        }
    }

    /// Returns the latest status.
    pub(crate) fn current(&self) -> PathStatus {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets the latest status and returns the one before.
    pub(crate) fn replace(&self, status: PathStatus) -> PathStatus {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, status)
    }
}

#[cfg(test)]
mod tests;

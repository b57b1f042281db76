//! The state of the data path from the detectors to this gateway, which shows whether clients can have current data. Pure.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::clock::millis;
use shared::store::{Fullness, NO_MEMORY, PlacesLeft, REDIS_FULL, REDIS_RESERVE_LOW};

/// The state of the data path: the body of `/readyz` and, with a time, of `system:status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PathStatus {
    /// Redis answered at least once and the process is not shutting down. While this holds, `/health` answers 200: a failed
    /// part of the data path is not a reason to restart this process.
    #[serde(skip)]
    pub(crate) is_serving: bool,
    /// As far as known, every new detector is watched.
    #[serde(skip)]
    accepts_all: bool,
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
    /// This replica's subscriptions in Redis to the devices that its clients watch. Unlike the others, only this replica has
    /// this problem, and only what it pushes is late: what it reads from Redis is current.
    pub(crate) subscriptions: Dependency,
    /// Those who publish the keys of tokens, while nobody can be admitted without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<Dependency>,
}

/// One part of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Dependency {
    /// Whether it works.
    pub(crate) ok: bool,
    /// Age of its last sign of life in milliseconds; `null` if there was none.
    pub(crate) age_ms: Option<i64>,
    /// Why it does not work, or a warning while it does, in words for operators and clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
}

/// The observations about the data path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathObservation {
    /// When Redis last answered and refused nothing.
    pub(crate) redis: Option<Instant>,
    /// Why Redis could not be used when it was last asked; `None` if it could.
    pub(crate) redis_problem: Option<RedisProblem>,
    /// How full Redis is.
    pub(crate) fullness: ObservedFullness,
    /// When an ingest with an active subscription reported last, as far as known.
    pub(crate) ingest: Option<Instant>,
    /// What the ingest replicas reported when Redis was last asked.
    pub(crate) listening: Listening,
    /// Which unknown detectors the ingest replicas accept.
    pub(crate) places: PlacesLeft,
    /// When every watched device was last subscribed to.
    pub(crate) subscribed: Option<Instant>,
    /// Watched devices whose subscription was lost, and whose clients do not have every event since.
    pub(crate) unconfirmed: u64,
    /// The process is shutting down.
    pub(crate) is_draining: bool,
    /// A part of this process does not work.
    pub(crate) is_broken: bool,
    /// Nobody can be admitted, because no key of tokens is known yet.
    pub(crate) has_no_key: bool,
}

/// How full Redis is, as each of those sees it that write. Each judges by its own `--memory-reserve`, so a gateway alone does not
/// know whether alarms are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObservedFullness {
    /// What this gateway finds. It stores acknowledgements.
    pub(crate) own: Fullness,
    /// What the ingest replicas report. They store alarms.
    pub(crate) ingest: Fullness,
}

impl ObservedFullness {
    /// Whether this gateway can store nothing.
    fn has_no_reserve(self) -> bool {
        self.own == Fullness::ReserveUsedUp
    }

    /// Returns what is said of a Redis that can be used.
    fn reason(self, listening: Listening) -> Option<&'static str> {
        if self.own == Fullness::Free && self.ingest == Fullness::Free {
            return None;
        }
        if listening == Listening::No {
            return Some(FULL_WITHOUT_INGEST);
        }
        // An ingest reports only while it can store alarms.
        Some(match (self.ingest, self.has_no_reserve()) {
            (Fullness::ReserveLow | Fullness::ReserveUsedUp, false) => REDIS_RESERVE_LOW,
            (Fullness::ReserveLow | Fullness::ReserveUsedUp, true) => RESERVE_LOW_AND_OWN_USED_UP,
            (Fullness::Free | Fullness::Full, false) => REDIS_FULL,
            (Fullness::Free | Fullness::Full, true) => FULL_AND_OWN_USED_UP,
        })
    }
}

/// What the ingest replicas report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Listening {
    /// No report is recent enough.
    #[default]
    No,
    /// They have a subscription, and receive no message although devices are known.
    Quiet,
    /// They have a subscription.
    Yes,
}

/// Why Redis cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisProblem {
    /// It did not answer. That counts only after a while.
    Silent,
    /// It answers and refuses. That counts at once.
    Refuses(&'static str),
}

/// The reason while the relay has no subscription in Redis.
const NOT_SUBSCRIBED: &str = "this gateway cannot subscribe in Redis";
const REDIS_SILENT: &str = "no answer from Redis";
const INGEST_UNKNOWN: &str = "unknown while Redis cannot be used";
const QUIET: &str = "subscribed, but no message from any detector for a long time";
const PLACES_FOR_DANGER: &str =
    "--max-devices is reached: a new detector is watched only if its first message shows a danger";
const NO_PLACES: &str = "--max-devices and --alarm-reserve are used up: new detectors are not watched, not even in alarm";
const PLACES_UNCOUNTED: &str =
    "ingest cannot count its detectors: new detectors are not watched, not even in alarm";
/// This gateway finds Redis full, and nobody says that alarms are stored.
const FULL_WITHOUT_INGEST: &str = "redis full: no ingest reports that alarms are stored";
const FULL_AND_OWN_USED_UP: &str = "redis full: alarms are stored, history is not, and acknowledgements are not, because \
     the --memory-reserve of this gateway is used up";
const RESERVE_LOW_AND_OWN_USED_UP: &str = "redis full: alarms are stored, history and new devices without an alarm are not, and \
     acknowledgements are not, because the --memory-reserve of this gateway is used up";
const UNCONFIRMED: &str =
    "subscriptions in Redis were lost and are being made again: events of detectors arrive late";
const NEVER_SUBSCRIBED: &str = "this gateway has not subscribed in Redis yet";
const NO_KEY: &str =
    "the keys of tokens were not fetched yet from --token-jwks-url: nobody can be admitted";
const NO_REPORT: &str = "no ingest reports a subscription at the broker";

impl PathStatus {
    /// Evaluates the observations. `away_after`: how long Redis may be silent.
    pub(crate) fn evaluate(observed: &PathObservation, now: Instant, away_after: Duration) -> Self {
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let is_recent = age(observed.redis).is_some_and(|age| age <= away_after);
        let stores_nothing =
            observed.fullness.has_no_reserve() && observed.listening == Listening::No;
        let redis_reason = match observed.redis_problem {
            Some(RedisProblem::Refuses(reason)) => Some(reason),
            _ if !is_recent => Some(REDIS_SILENT),
            _ if stores_nothing => Some(NO_MEMORY),
            _ if observed.is_broken => Some(NOT_SUBSCRIBED),
            _ => None,
        };
        let has_redis = redis_reason.is_none();
        let redis = Dependency {
            ok: has_redis,
            age_ms: age(observed.redis).map(millis),
            reason: redis_reason.or(observed.fullness.reason(observed.listening)),
        };
        let ingest_reason = match (has_redis, observed.listening != Listening::No) {
            (true, true) => None,
            (true, false) => Some(NO_REPORT),
            (false, _) => Some(INGEST_UNKNOWN),
        };
        // Without Redis the state of the ingest replicas is unknown, and unknown is never shown as normal.
        let broker = Dependency {
            ok: ingest_reason.is_none(),
            age_ms: age(observed.ingest).map(millis),
            reason: ingest_reason,
        };
        let places = if broker.ok {
            observed.places
        } else {
            PlacesLeft::ForAll
        };
        let is_quiet = broker.ok && observed.listening == Listening::Quiet;
        let ingest = Dependency {
            reason: match places {
                PlacesLeft::ForDanger => Some(PLACES_FOR_DANGER),
                PlacesLeft::NoneLeft => Some(NO_PLACES),
                PlacesLeft::Uncounted => Some(PLACES_UNCOUNTED),
                PlacesLeft::ForAll if is_quiet => Some(QUIET),
                PlacesLeft::ForAll => broker.reason,
            },
            ..broker
        };
        let subscriptions_reason = if observed.subscribed.is_none() {
            Some(NEVER_SUBSCRIBED)
        } else {
            (observed.unconfirmed > 0).then_some(UNCONFIRMED)
        };
        let subscriptions = Dependency {
            ok: subscriptions_reason.is_none(),
            age_ms: age(observed.subscribed).map(millis),
            reason: subscriptions_reason,
        };
        let keys = observed.has_no_key.then_some(Dependency {
            ok: false,
            age_ms: None,
            reason: Some(NO_KEY),
        });
        let is_unready = observed.redis.is_none()
            || observed.is_draining
            || observed.is_broken
            || observed.has_no_key;
        let status = if is_unready {
            Readiness::Unready
        } else if redis.ok
            && redis.reason.is_none()
            && ingest.ok
            && subscriptions.ok
            && places.accepts_all()
        {
            Readiness::Ok
        } else {
            Readiness::Degraded
        };
        Self {
            accepts_all: places.accepts_all(),
            is_serving: observed.redis.is_some() && !observed.is_draining,
            status,
            dependencies: Dependencies {
                redis,
                // An ingest reports only while its subscription at the broker is active, so its report covers both.
                broker,
                ingest,
                subscriptions,
                keys,
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

    /// Returns whether clients must be informed that their data may be old, their history incomplete, or detectors missing. A gateway
    /// that shuts down informs its clients by `server:drain`: its data is as current as before.
    pub(crate) fn is_degraded(&self) -> bool {
        let Dependencies {
            redis,
            subscriptions,
            ..
        } = &self.dependencies;
        // Redis that works has a reason while it is full.
        let stores_less = redis.reason.is_some() || !self.accepts_all;
        self.is_stored_data_old() || !subscriptions.ok || stores_less
    }

    /// Returns whether the data stored in Redis may be old.
    fn is_stored_data_old(&self) -> bool {
        !(self.dependencies.redis.ok && self.dependencies.ingest.ok)
    }
}

/// The latest status. Cheap to clone; all clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StatusHandle {
    // A std lock: held for one clone or one assignment, never across an await.
    current: Arc<RwLock<Current>>,
}

#[derive(Debug)]
struct Current {
    status: PathStatus,
    /// When the data path up to Redis last worked; if it never did, when this gateway started.
    worked_at: Instant,
}

impl StatusHandle {
    /// Creates a status that is unready until the first observation.
    pub(crate) fn new(now: Instant) -> Self {
        let unknown = PathStatus::evaluate(&PathObservation::default(), now, Duration::ZERO);
        Self {
            current: Arc::new(RwLock::new(Current {
                status: unknown,
                worked_at: now,
            })),
        }
    }

    /// Returns the latest status.
    pub(crate) fn current(&self) -> PathStatus {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .status
            .clone()
    }

    /// Sets the latest status and returns the one before.
    pub(crate) fn replace(&self, status: PathStatus, now: Instant) -> PathStatus {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !status.is_stored_data_old() {
            current.worked_at = now;
        }
        std::mem::replace(&mut current.status, status)
    }

    /// Returns how old stored data may be by the fault of the data path: the time since it last worked, or else since this
    /// gateway started. `None` while it works.
    pub(crate) fn data_age(&self, now: Instant) -> Option<Duration> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let is_old = current.status.is_stored_data_old();
        is_old.then(|| now.saturating_duration_since(current.worked_at))
    }
}

#[cfg(test)]
mod tests;

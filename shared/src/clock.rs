//! Time as a value: every rule takes it as a parameter, only this file asks a clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A moment in milliseconds since 1970-01-01 UTC, of the one clock (Redis `TIME`) unless a name says otherwise.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// The moment that lies `millis` milliseconds after 1970-01-01 UTC.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// RFC 3339 in UTC with milliseconds and `Z`, as every server time on the wire is written.
    #[must_use]
    pub fn to_iso(self) -> String {
        jiff::Timestamp::from_millisecond(self.0)
            .map_or_else(|_| String::new(), |timestamp| format!("{timestamp:.3}"))
    }

    /// An ISO instant, a time without a zone (UTC is meant), or a day (its first moment in UTC).
    #[must_use]
    pub fn from_iso(text: &str) -> Option<Self> {
        let instant = |instant: jiff::Timestamp| Self(instant.as_millisecond());
        if let Ok(found) = text.parse::<jiff::Timestamp>() {
            return Some(instant(found));
        }
        let civil = match text.len() {
            10 => text.parse::<Date>().ok()?.at(0, 0, 0, 0),
            16.. if !text.contains('[') => text.parse::<DateTime>().ok()?,
            _ => return None,
        };
        TimeZone::UTC.to_timestamp(civil).ok().map(instant)
    }

    /// How long after `earlier` this is, in milliseconds; negative if it is before.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub fn duration_since(self, earlier: Self) -> Duration {
        let millis = self.millis_since(earlier);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

/// Whole milliseconds of a duration; the largest number if they do not fit.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Where `now` comes from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Time;
}

/// The machine's clock corrected by the offset last measured against Redis `TIME`.
#[derive(Debug, Default)]
pub struct SystemClock {
    offset_ms: AtomicI64,
}

impl SystemClock {
    /// Takes over a measurement: Redis said `redis` at the moment this machine read `local` from [`Self::local`].
    pub fn adjust(&self, redis: Time, local: Time) {
        self.offset_ms
            .store(redis.millis_since(local), Ordering::Relaxed);
    }

    /// The machine's own time, uncorrected: for measuring the offset only.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the system clock"
    )]
    pub fn local() -> Time {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Time(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(Self::local().0 + self.offset_ms.load(Ordering::Relaxed))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `time`.
    #[must_use]
    pub fn at(time: Time) -> Self {
        Self(AtomicI64::new(time.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(millis(duration), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }
}

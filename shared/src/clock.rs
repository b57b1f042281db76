//! Time as a value. Every rule takes the time as a parameter; only this file reads a clock.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, DateTime};
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A point in time, in milliseconds since 1970-01-01 UTC. It is server time (Redis `TIME`) unless a name says otherwise.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// Creates the time `millis` milliseconds after 1970-01-01 UTC.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Formats the time as RFC 3339 in UTC with milliseconds and `Z`, the format of every server time on the wire.
    #[must_use]
    pub fn to_iso(self) -> String {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let mut text = String::with_capacity(24);
        // Unlike `from_millisecond`, it knows the last second that there is.
        let since_1970 = jiff::SignedDuration::from_millis(self.0);
        if let Ok(timestamp) = jiff::Timestamp::from_duration(since_1970) {
            // Writing to a string does not fail.
            PRINTER.print_timestamp(&timestamp, &mut text).ok();
        }
        text
    }

    /// Parses an ISO 8601 time with a zone, a time without one (taken as UTC), or a date (taken as 00:00 UTC).
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

    /// Returns the milliseconds from `earlier` to this time; negative if this time is before `earlier`.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the time from `earlier` to this time; zero if this time is before `earlier`.
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

impl std::ops::Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

/// Returns the whole milliseconds of a duration, at most [`i64::MAX`].
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A source of the present time.
pub trait Clock: Send + Sync {
    /// Returns the present time.
    fn now(&self) -> Time;
}

/// The machine's clock corrected by the offset last measured against Redis `TIME`.
#[derive(Debug, Default)]
pub struct SystemClock {
    offset_ms: AtomicI64,
    is_measured: AtomicBool,
}

impl SystemClock {
    /// Corrects the offset by a measurement: Redis returned `redis` between the [`Self::local`] times `asked` and `answered`.
    ///
    /// The true offset lies between the differences from the two. So an offset between them stays: a measurement that
    /// took long, because one of the machines paused, changes nothing.
    pub fn adjust(&self, redis: Time, (asked, answered): (Time, Time)) {
        let (least, most) = (redis.millis_since(answered), redis.millis_since(asked));
        let offset_ms = if self.is_measured.swap(true, Ordering::Relaxed) {
            let known = self.offset_ms.load(Ordering::Relaxed);
            known.max(least).min(most)
        } else {
            i64::midpoint(least, most)
        };
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Returns the machine's own time, uncorrected. Only for measuring the offset, and for uses within this machine.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the only place that reads the system clock"
    )]
    pub fn local() -> Time {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Time(millis(elapsed))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(Self::local().0 + self.offset_ms.load(Ordering::Relaxed))
    }
}

/// A clock for tests: it moves only when a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Creates a clock at `time`.
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

#[cfg(test)]
mod tests;

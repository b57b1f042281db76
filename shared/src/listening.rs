//! How long this system has listened to the detectors.

use std::time::Duration;

use crate::clock::Time;

/// When at least one ingest replica has been receiving messages. A silence proves something only while one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Listening {
    /// Start of the present time without interruption.
    pub since: Time,
    /// How long it was before then, all times together. Less than the truth if Redis has lost it, or while only replicas of an
    /// earlier release were at work.
    pub before: Duration,
}

impl Listening {
    /// Returns how long it has been in all until `now`, in milliseconds. The difference between two such times is how long it was
    /// between them, without the interruptions.
    #[must_use]
    pub fn total_ms(&self, now: Time) -> i64 {
        let before_ms = i64::try_from(self.before.as_millis()).unwrap_or(i64::MAX);
        before_ms.saturating_add(now.millis_since(self.since).max(0))
    }
}

impl From<Time> for Listening {
    fn from(since: Time) -> Self {
        Self {
            since,
            before: Duration::ZERO,
        }
    }
}

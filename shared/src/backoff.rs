//! Exponential backoff: the pauses between attempts double up to a limit. Jitter keeps replicas from retrying in step.

use std::time::Duration;

/// An endless series of pauses between attempts. Call [`Backoff::reset`] after a success.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// Creates pauses that grow from `first` to `limit`. Each is shortened by a random part of up to half.
    #[must_use]
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self::with_random(first, limit, fastrand::Rng::new())
    }

    fn with_random(first: Duration, limit: Duration, random: fastrand::Rng) -> Self {
        let first = first.min(limit);
        Self {
            first,
            limit,
            next: first,
            random,
        }
    }

    /// Returns the next pause.
    pub fn pause(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.limit);
        full.mul_f64(1.0 - self.random.f64() / 2.0)
    }

    /// Starts again with the shortest pause.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.pause())
    }
}

#[cfg(test)]
mod tests;

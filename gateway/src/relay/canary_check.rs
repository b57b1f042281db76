//! Checks whether published messages arrive. One process increments the canary's key in Redis once a second and publishes
//! it. Every process sees the key grow, and its subscriber connection should receive the messages. Pure.

use std::time::{Duration, Instant};

/// Maximum time without a message on the channel while the key grows.
const MAX_SILENCE: Duration = Duration::from_secs(3);

/// The canary messages that one subscriber connection has received.
#[derive(Debug)]
pub(super) struct CanaryCheck {
    last_received: Instant,
    /// How often the key has grown since then without a message.
    missed: u32,
}

impl CanaryCheck {
    /// Creates the check of a connection that was opened now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_received: now,
            missed: 0,
        }
    }

    /// Called when the key grew. `has_received`: a message arrived since it grew last. Returns whether the connection is
    /// deaf: it is open, but does not receive published messages.
    pub(super) fn is_deaf(&mut self, has_received: bool, now: Instant) -> bool {
        if has_received {
            *self = Self::new(now);
            return false;
        }
        self.missed += 1;
        // After a pause of Redis itself, the first growth may be seen before its message arrives.
        self.missed >= 2 && now.saturating_duration_since(self.last_received) >= MAX_SILENCE
    }
}

#[cfg(test)]
mod tests;

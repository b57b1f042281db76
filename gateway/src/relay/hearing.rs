//! Whether what is published arrives: the canary's key moves, and its channel is heard. Pure.

use std::time::{Duration, Instant};

/// The channel may be silent for this long while the key moves.
const MAX_SILENCE: Duration = Duration::from_secs(3);

/// What one connection has heard of the canary.
#[derive(Debug)]
pub(super) struct Hearing {
    heard: Instant,
    /// Moves of the key in a row without anything heard.
    unheard: u32,
}

impl Hearing {
    /// A connection that was made now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            unheard: 0,
        }
    }

    /// The key moved. `heard`: something came over the channel since it moved last. Answers whether the connection is deaf.
    pub(super) fn is_deaf(&mut self, heard: bool, now: Instant) -> bool {
        if heard {
            *self = Self::new(now);
            return false;
        }
        self.unheard += 1;
        // Behind a pause of Redis itself the first move may be seen before its message is heard.
        self.unheard >= 2 && now.saturating_duration_since(self.heard) >= MAX_SILENCE
    }
}

#[cfg(test)]
mod tests;

//! Whether what is published arrives: the canary's key moves, and its channel is heard. Pure.

use std::time::{Duration, Instant};

/// The channel may be silent for this long while the key moves.
const MAX_SILENCE: Duration = Duration::from_secs(3);

/// What one connection has heard of the canary.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// The first time the key had moved and nothing was heard, if nothing was heard since.
    silent_since: Option<Instant>,
}

impl Hearing {
    /// The key moved. `heard`: something came over the channel since it moved last. Answers whether the connection is deaf.
    pub(super) fn is_deaf(&mut self, heard: bool, now: Instant) -> bool {
        if heard {
            self.silent_since = None;
            return false;
        }
        let since = *self.silent_since.get_or_insert(now);
        now.saturating_duration_since(since) >= MAX_SILENCE
    }
}

#[cfg(test)]
mod tests;

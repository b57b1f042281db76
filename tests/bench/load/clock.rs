//! The clock of the benchmark: microseconds since it began.

use std::time::{Duration, Instant};

/// A clock that publisher and clients share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Blocks this thread until then. More precise than the timers of a runtime, which count milliseconds.
    #[expect(
        clippy::disallowed_methods,
        reason = "only threads of their own call it, none of a runtime"
    )]
    pub(crate) fn sleep_until(self, micros: u64) {
        let left = micros.saturating_sub(self.micros());
        if left > 0 {
            std::thread::sleep(Duration::from_micros(left));
        }
    }
}

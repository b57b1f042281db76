//! The clock of the benchmark: microseconds that only grow.

use std::time::{Duration, Instant, SystemTime};

/// A clock that publisher and clients share, also clients in other processes of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
    /// The time of the day at which it began, in microseconds since 1970.
    began_us: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let day = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            began: Instant::now(),
            began_us: whole_micros(day),
        }
    }

    pub(crate) fn micros(self) -> u64 {
        self.began_us + whole_micros(self.began.elapsed())
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

fn whole_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

//! Percentiles of measured times.

use std::fmt;
use std::time::Duration;

/// The times of one measurement, sorted.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Returns the time that `percent` of all measured times do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100);
        let time = self.0.get(rank.saturating_sub(1));
        time.copied().unwrap_or_default()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, max] = [50, 99, 100].map(|percent| self.percentile(percent).as_millis());
        write!(formatter, "p50 {median} ms, p99 {p99} ms, max {max} ms")
    }
}

//! The random times of faults. The same seed gives the same times.

use std::ops::Range;
use std::time::Duration;

/// Used if `FAULT_SEED` is not set.
const DEFAULT_SEED: u64 = 1;
/// Used if `FAULT_ROUNDS` is not set.
const DEFAULT_ROUNDS: usize = 2;

/// Returns how long the mixed test runs, from `MIXED_MINUTES`, which `tests/run --soak` sets. 0: one short round.
pub fn mixed_time() -> Duration {
    Duration::from_mins(read_variable("MIXED_MINUTES").unwrap_or(0))
}

/// The random generator of one test.
#[derive(Debug)]
pub struct Seed {
    number: u64,
    rounds: usize,
    random: fastrand::Rng,
}

impl Seed {
    /// Creates the seed of the running test from `FAULT_SEED` and `FAULT_ROUNDS`, which `tests/run --soak` sets.
    ///
    /// Prints the command that repeats the test. The runner shows it if the test fails.
    #[expect(
        clippy::print_stderr,
        reason = "the output of a failing test, which the test runner captures"
    )]
    pub fn from_environment() -> Self {
        let seed = Self::new(
            read_variable("FAULT_SEED").unwrap_or(DEFAULT_SEED),
            read_variable("FAULT_ROUNDS").unwrap_or(DEFAULT_ROUNDS),
        );
        // The test runner names the thread after the test.
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("faults::");
        eprintln!(
            "seed {}: FAULT_SEED={} FAULT_ROUNDS={} MIXED_MINUTES={} tests/run {name}",
            seed.number,
            seed.number,
            seed.rounds,
            mixed_time().as_secs() / 60
        );
        seed
    }

    fn new(number: u64, rounds: usize) -> Self {
        Self {
            number,
            rounds,
            random: fastrand::Rng::with_seed(number),
        }
    }

    /// Returns how many faults a test causes.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Returns a random duration within this range.
    pub fn duration(&mut self, within: Range<Duration>) -> Duration {
        let range = within.start.as_micros()..within.end.as_micros();
        let micros = self.random.u128(range);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Returns a number below this one.
    pub fn below(&mut self, end: usize) -> usize {
        self.random.usize(..end)
    }

    /// Creates an independent generator for a part of the test that runs in parallel.
    pub fn fork(&mut self) -> fastrand::Rng {
        self.random.fork()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no command line of its own"
)]
fn read_variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

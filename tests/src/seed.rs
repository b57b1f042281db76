//! The random moments of faults. The same seed gives the same moments.

use std::ops::Range;
use std::time::Duration;

/// Used unless the environment has others.
const DEFAULT_SEED: u64 = 1;
const DEFAULT_ROUNDS: usize = 2;

/// The source of everything random in one test.
#[derive(Debug)]
pub struct Seed {
    number: u64,
    rounds: usize,
    random: fastrand::Rng,
}

impl Seed {
    /// For the running test: from `FAULT_SEED` and `FAULT_ROUNDS`, which `tests/run --soak` sets, or the defaults.
    ///
    /// It prints the command that repeats the test. The runner shows it if the test fails.
    #[expect(
        clippy::print_stderr,
        reason = "the output of a failing test, which the test runner captures"
    )]
    pub fn of_this_test() -> Self {
        let seed = Self::new(
            from_environment("FAULT_SEED").unwrap_or(DEFAULT_SEED),
            from_environment("FAULT_ROUNDS").unwrap_or(DEFAULT_ROUNDS),
        );
        // The runner gives the thread of a test its name.
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("faults::");
        eprintln!(
            "seed {}: FAULT_SEED={} FAULT_ROUNDS={} tests/run {name}",
            seed.number, seed.number, seed.rounds
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

    /// How many faults a test causes at random moments.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// A random time within this range.
    pub fn moment(&mut self, within: Range<Duration>) -> Duration {
        let range = within.start.as_micros()..within.end.as_micros();
        let micros = self.random.u128(range);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// An independent source, for a part of the test that runs in parallel.
    pub fn fork(&mut self) -> fastrand::Rng {
        self.random.fork()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no command line of its own"
)]
fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

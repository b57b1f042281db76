//! Generators of clocks and networks.
//!
//! Their reach:
//!
//! * A clock: off by 0, ±4 s, ±1 h (daylight saving time), ±1 day, ±1 year, or any time within ±10 days; at the right rate, or at
//!   0.1 to 2 times the right rate. Or it stands still, is missing, or begins at 1970.
//! * Cadence: 0.2 to 120 s.
//! * Delay on the way: mostly below 0.3 s, often up to 2 s, some up to 60 s, so that messages overtake each other.

use proptest::prelude::*;
use shared::clock::Time;

/// The time at which every simulation starts.
pub(super) const START: Time = Time::from_millis(1_800_000_000_000);
pub(super) const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// The server time `ms` after the start.
pub(super) fn at(ms: i64) -> Time {
    Time::from_millis(START.as_millis() + ms)
}

/// What a clock does for a while.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    /// It is off by `offset_ms` at first, and then runs at `per_mille` of the right rate.
    Runs { offset_ms: i64, per_mille: i64 },
    /// It stands still.
    Stands { offset_ms: i64 },
    /// It is missing.
    Missing,
    /// It begins at 1970.
    Begins1970,
}

impl Clock {
    /// What the clock shows at `now_ms` if it began to behave so at `since_ms`.
    pub(super) fn show(self, since_ms: i64, now_ms: i64) -> Option<Time> {
        let passed_ms = now_ms - since_ms;
        Some(match self {
            Self::Runs {
                offset_ms,
                per_mille,
            } => at(since_ms + offset_ms + passed_ms * per_mille / 1_000),
            Self::Stands { offset_ms } => at(since_ms + offset_ms),
            Self::Missing => return None,
            Self::Begins1970 => Time::from_millis(passed_ms),
        })
    }
}

fn offset_ms() -> impl Strategy<Value = i64> {
    prop_oneof![
        2 => Just(0),
        1 => prop_oneof![Just(4_000), Just(-4_000)],
        2 => prop_oneof![Just(3_600_000), Just(-3_600_000)],
        2 => prop_oneof![Just(DAY_MS), Just(-DAY_MS)],
        1 => prop_oneof![Just(365 * DAY_MS), Just(-365 * DAY_MS)],
        2 => -10 * DAY_MS..10 * DAY_MS,
    ]
}

pub(super) fn any_clock() -> impl Strategy<Value = Clock> {
    prop_oneof![
        3 => offset_ms().prop_map(|offset_ms| Clock::Runs { offset_ms, per_mille: 1_000 }),
        3 => (offset_ms(), 100..=2_000_i64)
            .prop_map(|(offset_ms, per_mille)| Clock::Runs { offset_ms, per_mille }),
        1 => offset_ms().prop_map(|offset_ms| Clock::Stands { offset_ms }),
        1 => Just(Clock::Missing),
        1 => Just(Clock::Begins1970),
    ]
}

pub(super) fn cadence_ms() -> impl Strategy<Value = i64> {
    prop_oneof![200..2_000_i64, 2_000..20_000_i64, 20_000..=120_000_i64]
}

pub(super) fn delay_ms() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 0..300_i64, 3 => 0..=2_000_i64, 1 => 0..=60_000_i64]
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnTheWay {
    /// When it arrives, in milliseconds since the start.
    pub(super) arrival_ms: i64,
    /// What the device's clock showed when its reading was taken.
    pub(super) device_time: Option<Time>,
}

/// Takes a reading per delay, with clocks that behave in one way for a number of readings, and sends them in batches. Returns the
/// messages in the order in which the readings were taken.
pub(super) fn take_and_send(
    clocks: &[(Clock, usize)],
    cadence_ms: i64,
    batch: usize,
    delays_ms: &[i64],
) -> Vec<OnTheWay> {
    let count = delays_ms
        .len()
        .min(clocks.iter().map(|(_, count)| count).sum());
    let taken = |index: usize| i64::try_from(index).expect("small") * cadence_ms;
    let mut shown = Vec::new();
    for (clock, count) in clocks {
        let first = shown.len();
        let times = (first..first + count).map(|index| clock.show(taken(first), taken(index)));
        shown.extend(times);
    }
    let message = |index: usize| {
        let last = (index / batch * batch + batch - 1).min(count - 1);
        OnTheWay {
            arrival_ms: taken(last) + delays_ms[index],
            device_time: shown[index],
        }
    };
    (0..count).map(message).collect()
}

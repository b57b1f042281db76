//! The number of rows in the alarm log is bounded, however noisy a value is.
//!
//! The bound: within any minute a gas alarm has at most three raises, each with at most two escalations to levels that the raise
//! had not reached: nine rows. An alarm with one level has three. After the third, the alarm stays open until it was calm for ten
//! minutes, so noise that reaches the same level three times a minute writes no more than three rows, for as long as it lasts.

use proptest::prelude::*;

use super::*;

const GAS_ROWS: usize = 9;
const LEVEL_ROWS: usize = 3;

/// When rows of this kind were written.
fn row_times(device: &TestDevice, decision: &Decision, kind: Kind) -> Vec<Time> {
    let is_row = |change: &&Change| {
        let is_row = matches!(change.kind, ChangeKind::Raised | ChangeKind::Escalated);
        is_row && change.alarm.kind() == kind
    };
    decision
        .changes
        .iter()
        .filter(is_row)
        .map(|_| device.now)
        .collect()
}

/// Sends values of a device with a span of 0–2000 and returns the times of the rows of gas and of over range.
fn send_all(latching: bool, values: &[(i32, u64)]) -> [Vec<Time>; 2] {
    let mut device = TestDevice::new();
    let start = device.now;
    let (mut gas, mut range) = (Vec::new(), Vec::new());
    for (value, after_ms) in values {
        let pause = Duration::from_millis(*after_ms);
        device.now = device.now + pause;
        device.device_time = device.device_time + pause;
        let timer = device.run_timer(start);
        let reading = edited(&value.to_string(), |reading| {
            for level in &mut reading.levels {
                level.latching = Some(Decimal::from_int(i32::from(latching)));
            }
        });
        for decision in [timer, device.send_reading(reading)] {
            gas.extend(row_times(&device, &decision, Kind::GasHigh));
            range.extend(row_times(&device, &decision, Kind::OverRange));
        }
    }
    [gas, range]
}

fn most_in_a_minute(times: &[Time]) -> usize {
    let within = |first: &Time| {
        let end = times.iter().filter(|time| **time >= *first);
        end.filter(|time| time.millis_since(*first) < 60_000)
            .count()
    };
    times.iter().map(within).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// Any values from 0 to above the span, 0.2 s to 2 min apart.
    #[test]
    fn the_rows_of_a_minute_are_bounded_for_any_values(
        latching in any::<bool>(),
        values in prop::collection::vec(
            (0..2_100_i32, prop_oneof![200..3_000_u64, 3_000..120_000_u64]),
            1..200,
        ),
    ) {
        let [gas, range] = send_all(latching, &values);
        prop_assert!(most_in_a_minute(&gas) <= GAS_ROWS, "{}", most_in_a_minute(&gas));
        prop_assert!(most_in_a_minute(&range) <= LEVEL_ROWS, "{}", most_in_a_minute(&range));
    }

    /// Noise that reaches one level with every other reading, at most 15 s apart, for up to three hours.
    #[test]
    fn the_rows_of_an_excursion_are_bounded_whatever_its_length(
        latching in any::<bool>(),
        (level, next) in prop::sample::select(vec![(250, 500), (500, 1_000), (1_000, 1_900)]),
        heights in prop::collection::vec(0..1_000_i32, 100..400),
        after_ms in 200..15_000_u64,
        low in 0..230_i32,
    ) {
        let peak = |height: &i32| level + height % (next - level);
        let noise: Vec<_> = heights.iter().flat_map(|h| [(peak(h), after_ms), (low, after_ms)]).collect();
        let [gas, _] = send_all(latching, &noise);
        prop_assert!(gas.len() <= LEVEL_ROWS, "{} rows", gas.len());

        let noise: Vec<_> = heights.iter().flat_map(|h| [(2_000 + h, after_ms), (1_900, after_ms)]).collect();
        let [_, range] = send_all(latching, &noise);
        prop_assert!(range.len() <= LEVEL_ROWS, "{} rows", range.len());
    }
}

//! The two sides never change each other: the life of a gas alarm is the same whether the other side has levels or not.

use proptest::prelude::*;

use super::*;
use crate::reading::Side;

/// One input: a value after a pause, possibly with a fault, then possibly an acknowledgement of each side.
#[derive(Clone, Copy, Debug)]
struct Input {
    value: Option<i32>,
    after_ms: u64,
    is_faulty: bool,
    is_late: bool,
    acknowledged: [bool; 2],
}

/// The inputs reach: values from both sides of all levels, pauses of 0.2 s to 10 min, faults, missing values, late readings,
/// acknowledgements of either side.
fn any_input() -> impl Strategy<Value = Input> {
    (
        prop::option::weighted(0.95, 0..1_300_i32),
        prop_oneof![3 => 200..20_000_u64, 1 => 20_000..600_000_u64],
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        any::<[bool; 2]>(),
    )
        .prop_map(
            |(value, after_ms, is_faulty, is_late, acknowledged)| Input {
                value,
                after_ms,
                is_faulty,
                is_late,
                acknowledged: acknowledged.map(|is_set| is_set && after_ms % 3 == 0),
            },
        )
}

/// The changes of one side over a history. `levels`: those that the device sends.
fn life(
    levels: [Option<(i32, Side)>; 3],
    (latching, off_delay_s): (bool, u64),
    history: &[Input],
    side: Side,
) -> Vec<(usize, ChangeKind, Condition, Option<Decimal>, u32)> {
    let kind = Kind::gas(side);
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_secs(off_delay_s);
    let start = device.now;
    let mut life = Vec::new();
    for (index, input) in history.iter().enumerate() {
        let pause = Duration::from_millis(input.after_ms);
        device.now = device.now + pause;
        device.device_time = device.device_time + pause;
        let timer = device.run_timer(start);
        let value = input.value.map(|value| value.to_string());
        let mut reading = reading(value.as_deref());
        reading.span_low = None;
        reading.span_high = None;
        reading.sensor_fault = Decimal::from_int(i32::from(input.is_faulty));
        for (setting, level) in reading.levels.iter_mut().zip(levels) {
            setting.level = level.map(|(level, _)| Decimal::from_int(level));
            setting.side = level.map(|(_, side)| side);
            setting.hysteresis = None;
            setting.latching = level.map(|_| Decimal::from_int(i32::from(latching)));
        }
        let back = if input.is_late { 3_600 } else { 0 };
        reading.device_time = Some(device.device_time - Duration::from_secs(back));
        let mut decisions = vec![timer, device.send_message(reading)];
        for (acknowledged, kind) in [Kind::GasHigh, Kind::GasLow].into_iter().enumerate() {
            if input.acknowledged[acknowledged] && device.alarm(kind).is_some() {
                decisions.push(device.acknowledge_kind(kind));
            }
        }
        let changes = decisions.iter().flat_map(|decision| &decision.changes);
        let of_side = changes.filter(|change| change.alarm.kind() == kind);
        life.extend(of_side.map(|change| {
            let alarm = &change.alarm;
            (
                index,
                change.kind,
                alarm.condition,
                alarm.peak_value,
                alarm.count,
            )
        }));
    }
    life
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_gas_alarm_lives_as_if_the_other_side_had_no_levels(
        delays in (any::<bool>(), prop_oneof![Just(0_u64), 1..60_u64]),
        history in prop::collection::vec(any_input(), 1..60),
    ) {
        use Side::{High, Low};
        for (own, other, side) in [
            ([Some((250, High)), Some((500, High)), None], (50, Low), High),
            ([Some((400, Low)), Some((200, Low)), None], (800, High), Low),
        ] {
            let [first, second, _] = own;
            let both = [first, second, Some(other)];
            prop_assert_eq!(
                life(own, delays, &history, side),
                life(both, delays, &history, side)
            );
        }
    }
}

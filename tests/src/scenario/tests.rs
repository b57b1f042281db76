use std::collections::BTreeSet;

use ingest::payload::{
    DEFAULT_MAX_PAYLOAD_BYTES, DecimalPoint, Format, NormalWords, PayloadError, parse,
};
use ingest::replay::simulation::{Delivery, Simulation};
use shared::alarm::Condition;
use shared::decimal::Decimal;
use shared::reading::{Reading, Side};

use super::*;

/// 2026-01-28T06:07:12Z.
const STARTED: Time = Time::from_millis(1_769_580_432_000);

fn setting() -> Setting {
    Setting {
        started: STARTED,
        cycle: Duration::from_mins(1),
        silence: Duration::from_secs(200),
        utc_offset_seconds: 19_800,
        seed: 7,
    }
}

fn detectors(scenario: Scenario) -> Vec<Detector> {
    PayloadFormat::ALL
        .iter()
        .flat_map(|format| Detector::fleet(3, "OTSM-", &[scenario], &[*format], setting()))
        .collect()
}

fn read(payload: &[u8]) -> Result<Reading, PayloadError> {
    let format = Format {
        normal_words: NormalWords::default(),
        utc_offset_seconds: 19_800,
        unit_codes: shared::args::unit_codes("1=ppm").expect("unit codes"),
        decimal_point: DecimalPoint::Ignore,
        max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
    };
    parse(payload, &format).map(|parsed| parsed.reading)
}

/// Renders five minutes at one payload a second.
fn story(detector: &Detector) -> Vec<(Time, Option<Vec<u8>>)> {
    let moments = (0..300).map(|tick| (tick, STARTED + Duration::from_secs(tick)));
    moments
        .map(|(tick, now)| (now, detector.payload(tick, now)))
        .collect()
}

#[track_caller]
fn readings(detector: &Detector) -> Vec<(Time, Reading)> {
    let sent = story(detector).into_iter();
    sent.filter_map(|(now, payload)| Some((now, payload?)))
        .map(|(now, payload)| match read(&payload) {
            Ok(reading) => (now, reading),
            Err(err) => panic!("{}: {err}", String::from_utf8_lossy(&payload)),
        })
        .collect()
}

/// Returns the highest level reached, with the side the detector names.
fn reached(reading: &Reading) -> usize {
    let value = reading.value.expect("a value");
    let is_reached = |level: &&shared::reading::LevelSetting| {
        let threshold = level.level.expect("a level");
        let side = level.side.or(reading.levels[0].side);
        match side.unwrap_or_default() {
            Side::High | Side::Unknown(_) => value >= threshold,
            Side::Low => value <= threshold,
        }
    };
    reading.levels.iter().filter(is_reached).count()
}

/// Returns the levels a detector passes through, each once in a row.
fn course(detector: &Detector) -> Vec<usize> {
    let mut levels: Vec<_> = readings(detector)
        .iter()
        .map(|(_, reading)| reached(reading))
        .collect();
    levels.dedup();
    levels
}

#[test]
fn every_payload_but_garbage_is_a_complete_reading() {
    for scenario in Scenario::ALL {
        if scenario == Scenario::GarbageReading {
            continue;
        }
        for detector in detectors(scenario) {
            for (now, reading) in readings(&detector) {
                assert_eq!(reading.device.as_str(), detector.serial());
                assert!(reading.value.is_some() && !reading.doubtful, "{reading:?}");
                assert!(["ppm", "%LEL", "%VOL"].contains(&reading.unit.as_str()));
                let sent = reading.device_time.expect("a device time");
                let expected = if scenario == Scenario::StuckClock {
                    STARTED
                } else {
                    now
                };
                assert_eq!(sent, expected);
                let lit = reading
                    .leds
                    .iter()
                    .filter(|led| **led == Decimal::from_int(1))
                    .count();
                let expected = if reading.has_fault() {
                    0
                } else {
                    reached(&reading)
                };
                assert_eq!(lit, expected, "{reading:?}");
            }
        }
    }
}

#[test]
fn steady_raises_nothing() {
    for detector in detectors(Scenario::Steady) {
        assert_eq!(course(&detector), [0]);
    }
}

#[test]
fn ramp_and_low_oxygen_pass_every_level_up_and_down() {
    for scenario in [Scenario::Ramp, Scenario::LowOxygen] {
        for detector in detectors(scenario) {
            let course = course(&detector);
            let whole = [0, 1, 2, 3, 2, 1, 0, 1, 2, 3];
            assert!(
                course.windows(whole.len()).any(|part| part == whole),
                "{course:?}"
            );
        }
    }
}

#[test]
fn the_first_ramp_starts_quiet_and_alarms_within_half_a_cycle() {
    let detector = &detectors(Scenario::Ramp)[0];
    let first = readings(detector)
        .into_iter()
        .position(|(_, reading)| reached(&reading) > 0);
    assert!((5..30).contains(&first.expect("an alarm")), "{first:?}");
}

#[test]
fn low_oxygen_is_low_in_every_format() {
    for detector in detectors(Scenario::LowOxygen) {
        for (_, reading) in readings(&detector) {
            let [a1, a2, a3] = reading.levels.map(|level| level.side);
            assert_eq!(a1, Some(Side::Low));
            assert!([a2, a3].iter().all(|side| side.is_none() || *side == a1));
        }
    }
}

#[test]
fn a_sensor_fault_begins_in_clean_air_and_ends() {
    for detector in detectors(Scenario::SensorFault) {
        let readings = readings(&detector);
        let (faulty, sound): (Vec<_>, Vec<_>) = readings
            .iter()
            .partition(|(_, reading)| reading.has_fault());
        assert!(!faulty.is_empty() && !sound.is_empty());
        assert!(
            faulty
                .iter()
                .all(|(_, reading)| reading.value == Some(Decimal::ZERO))
        );
    }
}

#[test]
fn garbage_is_refused_or_marked_and_good_readings_come_between() {
    for detector in detectors(Scenario::GarbageReading) {
        let mut refused: Vec<_> = Vec::new();
        let (mut without_value, mut doubtful, mut good) = (0, 0, 0);
        for (_, payload) in story(&detector) {
            match read(&payload.expect("a payload, not silence")) {
                Err(err) => refused.push(err.reason().code()),
                Ok(reading) if reading.value.is_none() => without_value += 1,
                Ok(reading) if reading.doubtful => doubtful += 1,
                Ok(_) => good += 1,
            }
        }
        refused.sort_unstable();
        refused.dedup();
        // An array of one reading is read, and so is a payload with other bytes before it.
        assert_eq!(refused, ["missing_serial", "not_json"]);
        assert!(without_value > 5 && doubtful > 1 && good > 150);
    }
}

/// Plays five minutes of a detector against the alarm rules. Returns the conditions that became alarms.
fn alarms(detector: &Detector) -> BTreeSet<Condition> {
    let settings = ingest::replay::settings::from_json(&serde_json::Map::new());
    let mut plant = Simulation::new(settings.expect("the defaults"), STARTED);
    for tick in 0..300 {
        let now = STARTED + Duration::from_secs(tick);
        match detector.payload(tick, now) {
            Some(payload) => plant.publish(
                now,
                Delivery {
                    payload: &payload,
                    retain: false,
                    dup: false,
                },
            ),
            None => plant.advance_to(now),
        }
    }
    let changes = plant.changes().iter();
    changes
        .map(|change| change.change.alarm.condition)
        .collect()
}

/// Above all, the LEDs and the settings of a detector agree with what it measures.
#[test]
fn a_detector_raises_the_alarms_of_its_story_and_no_others() {
    use Condition::{
        AlarmLevel1, AlarmLevel2, AlarmLevel3, DeviceOffline, ReadingInvalid, SensorFault,
    };
    for scenario in Scenario::ALL {
        let expected: &[Condition] = match scenario {
            Scenario::Steady => &[],
            Scenario::Ramp | Scenario::LowOxygen => &[AlarmLevel1, AlarmLevel2, AlarmLevel3],
            Scenario::SensorFault => &[SensorFault],
            Scenario::GarbageReading => &[ReadingInvalid],
            Scenario::Silence => &[DeviceOffline],
            Scenario::StuckClock => &[AlarmLevel1],
        };
        for detector in detectors(scenario) {
            let expected: BTreeSet<Condition> = expected.iter().copied().collect();
            assert_eq!(
                alarms(&detector),
                expected,
                "{scenario:?} {:?} {}",
                detector.format,
                detector.gas.name
            );
        }
    }
}

#[test]
fn silence_is_one_gap_of_the_configured_length() {
    for detector in detectors(Scenario::Silence) {
        let silent: Vec<_> = story(&detector)
            .iter()
            .map(|(_, payload)| payload.is_none())
            .collect();
        let first = silent.iter().position(|silent| *silent).expect("a silence");
        let length = silent[first..].iter().take_while(|silent| **silent).count();
        assert_eq!((first, length), (30, 200));
    }
}

#[test]
fn a_stuck_clock_does_not_keep_gas_from_rising() {
    for detector in detectors(Scenario::StuckClock) {
        assert!(course(&detector).windows(3).any(|part| part == [0, 1, 0]));
    }
}

#[test]
fn the_same_seed_gives_the_same_story() {
    let [first, second] = [setting(), setting()]
        .map(|setting| Detector::fleet(5, "A", &Scenario::ALL, &PayloadFormat::ALL, setting));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(story(first), story(second));
    }
    let other = Setting {
        seed: 8,
        ..setting()
    };
    let other = Detector::fleet(5, "A", &Scenario::ALL, &PayloadFormat::ALL, other);
    assert_ne!(story(&first[0]), story(&other[0]));
}

#[test]
fn a_fleet_shares_out_stories_and_formats() {
    let fleet = Detector::fleet(21, "OTSM-", &Scenario::ALL, &PayloadFormat::ALL, setting());
    for scenario in Scenario::ALL {
        let tellers: Vec<_> = fleet
            .iter()
            .filter(|one| one.scenario() == scenario)
            .collect();
        assert_eq!(tellers.len(), 3);
        for format in PayloadFormat::ALL {
            assert!(
                tellers.iter().any(|one| one.format == format),
                "{scenario:?} {format:?}"
            );
        }
    }
    let serials: BTreeSet<_> = fleet.iter().map(Detector::serial).collect();
    assert_eq!(serials.len(), 21);
    assert_eq!(fleet[0].serial(), "OTSM-0001");
}

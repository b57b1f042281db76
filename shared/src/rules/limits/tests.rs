use super::*;
use crate::clock::Time;
use crate::decide::tests::{dec, reading};
use crate::forward::UnknownFields;
use crate::reading::Reading;
use crate::settings::SerialPatterns;

const HIGH: Option<Side> = Some(Side::High);
const LOW: Option<Side> = Some(Side::Low);

/// A reading with these levels; `-` for one that is not sent.
fn with_levels(levels: [&str; 3], sides: [Option<Side>; 3]) -> Reading {
    let mut reading = reading(Some("10"));
    for ((setting, level), side) in reading.levels.iter_mut().zip(levels).zip(sides) {
        setting.level = (level != "-").then(|| dec(level));
        setting.side = side;
        setting.hysteresis = None;
    }
    reading
}

fn levels_of(reading: &Reading) -> Levels {
    let settings = AlarmSettings::default();
    Levels::of(reading, [false; 3], &DeviceMemory::default(), &settings)
}

fn latest(reading: Reading, settings: &AlarmSettings) -> Latest {
    let levels = Levels::of(&reading, [false; 3], &DeviceMemory::default(), settings);
    Latest {
        levels: levels.levels,
        sides: levels.sides,
        held_back: false,
        used: levels.used,
        taken_at: Time::default(),
        published_at: Time::default(),
        age_ms: None,
        doubtful: false,
        clock_suspect: false,
        in_order: true,
        unknown: UnknownFields::default(),
        reading: reading.into(),
    }
}

/// The deadbands of a reading, `-` without a span.
fn deadbands(mut reading: Reading, span: [&str; 2], hysteresis: [&str; 3]) -> [Decimal; 3] {
    let number = |text: &str| (text != "-").then(|| dec(text));
    reading.span_low = number(span[0]);
    reading.span_high = number(span[1]);
    for (level, hysteresis) in reading.levels.iter_mut().zip(hysteresis) {
        level.hysteresis = number(hysteresis);
    }
    let settings = AlarmSettings::default();
    let latest = latest(reading, &settings);
    gas_limits(&latest, &DeviceMemory::default(), &settings).map(|limit| limit.deadband)
}

fn limit(side: Side, level: &str, deadband: &str) -> Limit {
    Limit {
        level: dec(level),
        side,
        deadband: dec(deadband),
        latching: None,
        used: true,
    }
}

#[test]
fn a_limit_is_reached_at_its_level_and_left_beyond_its_deadband() {
    for (side, value, is_reached, is_back) in [
        (Side::High, "250.01", true, false),
        (Side::High, "250", true, false),
        (Side::High, "249.99", false, false),
        (Side::High, "240", false, false),
        (Side::High, "239.99", false, true),
        (Side::Low, "249.99", true, false),
        (Side::Low, "250", true, false),
        (Side::Low, "250.01", false, false),
        (Side::Low, "260", false, false),
        (Side::Low, "260.01", false, true),
    ] {
        let limit = limit(side, "250", "10");
        assert_eq!(limit.is_reached(dec(value)), is_reached, "{side:?} {value}");
        assert_eq!(limit.is_back(dec(value)), is_back, "{side:?} {value}");
        let unused = Limit {
            used: false,
            ..limit
        };
        assert!(!unused.is_reached(dec(value)) && unused.is_back(dec(value)));
    }
}

#[test]
fn the_side_of_a_level_is_its_own_else_that_of_a1_else_high() {
    use Side::{High, Low};
    for (levels, types, expected) in [
        (["250", "500", "1000"], [None; 3], [High; 3]),
        (["19.5", "18", "16"], [LOW, None, None], [Low; 3]),
        (["19.5", "18", "16"], [LOW, HIGH, None], [Low, High, Low]),
        // Oxygen: a level above that of air is rich.
        (["19.5", "18", "23.5"], [LOW, None, None], [Low, Low, High]),
        (["19.5", "18", "20.9"], [LOW, None, None], [Low; 3]),
        (["19.5", "18", "21"], [LOW, None, None], [Low, Low, High]),
        (["19.5", "18", "23.5"], [LOW, None, LOW], [Low; 3]),
        // Not oxygen: A1 is not below that of air.
        (["20.9", "18", "23.5"], [LOW, None, None], [Low; 3]),
        (["100", "50", "200"], [LOW, None, None], [Low; 3]),
        (["19.5", "18", "23.5"], [HIGH, None, None], [High; 3]),
        (["5", "-", "-"], [HIGH, None, LOW], [High, High, Low]),
    ] {
        let sides = levels_of(&with_levels(levels, types)).sides;
        assert_eq!(sides, expected, "{levels:?} {types:?}");
    }
}

#[test]
fn a_sent_type_wins_over_the_remembered_one_and_that_over_the_configured_one() {
    let settings = AlarmSettings {
        low_devices: SerialPatterns::new("OTSM-0114"),
        ..AlarmSettings::default()
    };
    for (sent, remembered, expected) in [
        (None, None, Side::Low),
        (None, HIGH, Side::High),
        (LOW, HIGH, Side::Low),
        (HIGH, LOW, Side::High),
    ] {
        let memory = DeviceMemory {
            sides: [remembered, None, None],
            ..DeviceMemory::default()
        };
        let reading = with_levels(["19.5", "18", "16"], [sent, None, None]);
        let levels = Levels::of(&reading, [false; 3], &memory, &settings);
        assert_eq!(levels.sides, [expected; 3], "{sent:?} {remembered:?}");
    }
}

/// Sent levels, unreadable ones, remembered ones; the levels that apply, which are used, whether they are unknown, and whether a
/// default is among them.
type LevelCase = (
    [&'static str; 3],
    [bool; 3],
    [&'static str; 3],
    [&'static str; 3],
    [bool; 3],
    (bool, bool),
);

#[test]
fn a_missing_level_is_the_last_known_one_else_a_default_or_unused() {
    let no = [false; 3];
    let none = ["-"; 3];
    let defaults = ["250", "500", "1000"];
    let cases: [LevelCase; 10] = [
        (
            ["1", "2", "3"],
            no,
            none,
            ["1", "2", "3"],
            [true; 3],
            (false, false),
        ),
        (
            ["-", "2", "-"],
            no,
            ["1", "9", "3"],
            ["1", "2", "3"],
            [true; 3],
            (false, false),
        ),
        (none, no, none, defaults, [true; 3], (true, true)),
        (none, [true; 3], none, defaults, [true; 3], (true, true)),
        (
            none,
            [true; 3],
            ["1", "2", "3"],
            ["1", "2", "3"],
            [true; 3],
            (false, false),
        ),
        // A level that was never sent beside a known A1 is not used.
        (
            ["1", "-", "-"],
            no,
            none,
            ["1", "500", "1000"],
            [true, false, false],
            (false, false),
        ),
        (
            ["1", "2", "-"],
            [false, false, true],
            none,
            ["1", "2", "1000"],
            [true; 3],
            (true, true),
        ),
        (
            ["-", "2", "3"],
            [true, false, false],
            none,
            ["250", "2", "3"],
            [true; 3],
            (true, true),
        ),
        (
            ["-", "2", "3"],
            no,
            none,
            ["250", "2", "3"],
            [true; 3],
            (false, true),
        ),
        (
            ["0", "0", "0"],
            no,
            none,
            ["0", "0", "0"],
            [true; 3],
            (false, false),
        ),
    ];
    for (sent, unreadable, remembered, expected, used, (are_unknown, has_default)) in cases {
        let number = |text: &str| (text != "-").then(|| dec(text));
        let memory = DeviceMemory {
            levels: remembered.map(number),
            ..DeviceMemory::default()
        };
        let reading = with_levels(sent, [None; 3]);
        let levels = Levels::of(&reading, unreadable, &memory, &AlarmSettings::default());
        let name = format!("{sent:?} {unreadable:?} {remembered:?}");
        assert_eq!(levels.levels, expected.map(dec), "{name}");
        assert_eq!(levels.used, used, "{name}");
        assert_eq!(levels.are_unknown, are_unknown, "{name}");
        assert_eq!(levels.has_default, has_default, "{name}");
    }
}

#[test]
fn a_level_of_zero_may_mean_unused() {
    let settings = AlarmSettings {
        zero_level: ZeroLevel::Unused,
        ..AlarmSettings::default()
    };
    for (levels, used, are_unknown) in [
        (["0", "500", "1000"], [false, true, true], false),
        (["250", "0", "0"], [true, false, false], false),
        (["0", "0", "0"], [false; 3], true),
    ] {
        let reading = with_levels(levels, [None; 3]);
        let found = Levels::of(&reading, [false; 3], &DeviceMemory::default(), &settings);
        assert_eq!((found.used, found.are_unknown), (used, are_unknown));
    }
}

#[test]
fn without_a_hysteresis_the_deadband_is_a_share_of_the_span_and_of_the_level() {
    let high = || with_levels(["250", "500", "1000"], [None; 3]);
    for (span, expected) in [
        // 2 % of the span are 40, and at most 5 % of the level.
        (["0", "2000"], ["12.5", "25", "40"]),
        (["-", "2000"], ["12.5", "25", "40"]),
        (["1000", "2000"], ["12.5", "20", "20"]),
        // No span: 2 % of the level.
        (["-", "-"], ["5", "10", "20"]),
        (["0", "0"], ["5", "10", "20"]),
        (["2000", "0"], ["5", "10", "20"]),
    ] {
        let found = deadbands(high(), span, ["-"; 3]);
        assert_eq!(found, expected.map(dec), "{span:?}");
    }
}

#[test]
fn a_hysteresis_counts_if_it_is_positive_and_a2_and_a3_follow_a1() {
    let high = || with_levels(["250", "500", "1000"], [None; 3]);
    for (hysteresis, expected) in [
        (["10", "-", "-"], ["10", "10", "10"]),
        (["10", "20", "30"], ["10", "20", "30"]),
        (["0", "0", "0"], ["12.5", "25", "40"]),
        (["-5", "-", "-"], ["12.5", "25", "40"]),
        // At most half of the way to 0.
        (["125", "-", "-"], ["125", "125", "125"]),
        (["126", "-", "-"], ["125", "126", "126"]),
        (["9999", "-", "-"], ["125", "250", "500"]),
    ] {
        let found = deadbands(high(), ["0", "2000"], hysteresis);
        assert_eq!(found, expected.map(dec), "{hysteresis:?}");
    }
}

#[test]
fn a_deadband_leaves_half_of_the_way_to_the_safe_side() {
    let oxygen = |a3: &str, side| with_levels(["19.5", "18", a3], [LOW, None, side]);
    for (reading, span, hysteresis, expected) in [
        // Air lies between: half of the way from 19.5 to 20.9, and from 18 to 20.9.
        (oxygen("-", None), ["0", "25"], "5", vec!["0.7", "1.45"]),
        // 2 % of these spans would leave no way back.
        (oxygen("-", None), ["0", "100"], "-", vec!["0.7", "0.9"]),
        (oxygen("-", None), ["0", "2000"], "-", vec!["0.7", "0.9"]),
        // The rich level: half of the way from 23.5 down to 19.5.
        (
            oxygen("23.5", HIGH),
            ["0", "25"],
            "5",
            vec!["0.7", "1.45", "2"],
        ),
        (
            oxygen("23.5", HIGH),
            ["0", "25"],
            "-",
            vec!["0.5", "0.5", "0.5"],
        ),
    ] {
        let found = deadbands(reading, span, [hysteresis, "-", "-"]);
        let expected: Vec<_> = expected.iter().map(|band| dec(band)).collect();
        assert_eq!(found[..expected.len()], expected, "{span:?} {hysteresis}");
    }
    // Low levels above that of air: half of the way to the end of the span, or to the next High level.
    let low = with_levels(["100", "50", "160"], [LOW, LOW, HIGH]);
    assert_eq!(
        deadbands(low.clone(), ["0", "200"], ["999", "-", "-"]),
        ["30", "55", "30"].map(dec)
    );
    let mut alone = low;
    alone.levels[2].level = None;
    let found = deadbands(alone.clone(), ["0", "200"], ["999", "-", "-"]);
    assert_eq!(found[..2], ["50", "75"].map(dec));
    let found = deadbands(alone, ["-", "-"], ["999", "-", "-"]);
    assert_eq!(found[0], dec("999"), "no end is known");
}

#[test]
fn air_is_back_from_every_oxygen_level_whatever_span_and_hysteresis() {
    let settings = AlarmSettings::default();
    for span in [["-", "-"], ["0", "25"], ["0", "100"], ["0", "2000"]] {
        for hysteresis in ["-", "0", "0.5", "2", "10", "100"] {
            let mut reading = with_levels(["19.5", "18", "23.5"], [LOW, None, HIGH]);
            let number = |text: &str| (text != "-").then(|| dec(text));
            reading.span_low = number(span[0]);
            reading.span_high = number(span[1]);
            reading.levels[0].hysteresis = number(hysteresis);
            let latest = latest(reading, &settings);
            let limits = gas_limits(&latest, &DeviceMemory::default(), &settings);
            for limit in limits {
                assert!(
                    limit.is_back(dec("20.9")),
                    "{span:?} {hysteresis} {limit:?}"
                );
            }
        }
    }
}

#[test]
fn a_latching_flag_is_on_from_1_and_a2_and_a3_follow_a1() {
    for (sent, remembered, expected) in [
        ([None, None, None], None, [None; 3]),
        ([Some("1"), None, None], None, [Some(true); 3]),
        (
            [Some("2"), Some("0"), None],
            None,
            [Some(true), Some(false), Some(true)],
        ),
        ([Some("0.5"), None, None], None, [Some(false); 3]),
        ([None, None, None], Some("1"), [Some(true); 3]),
    ] {
        let mut reading = with_levels(["1", "2", "3"], [None; 3]);
        for (level, flag) in reading.levels.iter_mut().zip(sent) {
            level.latching = flag.map(dec);
        }
        let memory = DeviceMemory {
            latching: [remembered.map(dec), None, None],
            ..DeviceMemory::default()
        };
        let settings = AlarmSettings::default();
        let limits = gas_limits(&latest(reading, &settings), &memory, &settings);
        assert_eq!(limits.map(|limit| limit.latching), expected);
    }
}

#[test]
fn the_end_of_the_span_latches() {
    let settings = AlarmSettings::default();
    let mut reading = with_levels(["1", "2", "3"], [None; 3]);
    reading.span_high = Some(dec("100"));
    let range = range_limit(&reading, &DeviceMemory::default(), &settings).expect("a span");
    assert!(range.is_reached(dec("100")) && !range.is_reached(dec("99.99")));
    assert!(range.is_back(dec("97.99")) && !range.is_back(dec("98")));
    assert_eq!(range.latching, Some(true));
    reading.span_high = Some(dec("0"));
    assert_eq!(
        range_limit(&reading, &DeviceMemory::default(), &settings),
        None
    );
}

#[test]
fn a_limit_is_lost_by_one_that_is_reached_later_or_left_earlier_or_missing() {
    for (side, level, deadband, is_lost) in [
        (Side::High, "250", "10", false),
        // Reached later.
        (Side::High, "260", "20", true),
        (Side::High, "240", "10", false),
        // Left earlier: the deadband is smaller.
        (Side::High, "250", "9", true),
        (Side::High, "240", "0", false),
        (Side::Low, "250", "10", false),
        (Side::Low, "240", "20", true),
        (Side::Low, "260", "10", false),
        (Side::Low, "250", "9", true),
        (Side::Low, "260", "0", false),
    ] {
        let before = limit(side, "250", "10");
        let present = limit(side, level, deadband);
        let lost = before.is_lost_by(Some(present));
        assert_eq!(lost, is_lost, "{side:?} {level} {deadband}");
        assert!(before.is_lost_by(None));
    }
}

#[test]
fn no_value_is_back_from_a_level_of_an_unknown_side() {
    let before = limit(Side::High, "250", "10");
    let unknown = Limit {
        side: serde_json::from_str("\"middle\"").expect("a word of a newer release"),
        ..before
    };
    assert!(matches!(unknown.side, Side::Unknown(_)));
    assert!(!unknown.is_back(dec("0")) && !unknown.is_back(dec("1000")));
}

#[test]
fn an_unused_level_is_on_no_side() {
    let unused = Limit {
        used: false,
        ..limit(Side::High, "250", "10")
    };
    assert!(!unused.is_on(Side::High) && !unused.is_on(Side::Low));
}

#[test]
fn a_level_without_type_has_the_unknown_side_of_its_a1() {
    let unknown: Side = serde_json::from_str("\"middle\"").expect("a word of a newer release");
    let reading = with_levels(["19.5", "23.5", "-"], [Some(unknown), None, None]);
    assert_eq!(levels_of(&reading).sides, [unknown; 3]);
}

#[test]
fn a_hysteresis_of_zero_is_a_missing_one() {
    let mut reading = with_levels(["250", "500", "1000"], [HIGH; 3]);
    for level in &mut reading.levels {
        level.hysteresis = Some(Decimal::ZERO);
    }
    let memory = DeviceMemory {
        hysteresis: [Some(dec("10")), None, Some(Decimal::ZERO)],
        ..DeviceMemory::default()
    };
    let settings = AlarmSettings::default();
    let limits = gas_limits(&latest(reading, &settings), &memory, &settings);
    let deadband = limits.map(|limit| limit.deadband);
    assert_eq!(deadband[..2], [dec("10"), dec("10")]);
}

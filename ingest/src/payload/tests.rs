use shared::decimal::Decimal;
use shared::reading::{Coordinate, LevelSetting, Side};

use super::fuzz::format;
use super::*;

mod corpus;
mod corruptions;
mod facts;
pub(crate) mod mutations;
mod properties;
mod refusals;
mod regressions;
mod repairs;
mod several;

const NEWEST: &str = include_str!("../../../tests/fixtures/payloads/newest.json");
const OLD: &str = include_str!("../../../tests/fixtures/payloads/old.json");
const MIXED: &str = include_str!("../../../tests/fixtures/payloads/mixed.json");

fn scaling() -> Format {
    Format {
        decimal_point: DecimalPoint::Scale,
        ..format()
    }
}

/// A payload with a serial, these root keys and these parameters.
fn payload(root: &str, parameters: &str) -> String {
    let comma = if root.is_empty() { "" } else { "," };
    format!(r#"{{"OTSM-2 Serial Number":"OTSM-1"{comma}{root},"Parameters":{{{parameters}}}}}"#)
}

#[track_caller]
fn read(text: &str) -> Reading {
    match parse(text.as_bytes(), &format()) {
        Ok(parsed) => parsed.reading,
        Err(err) => panic!("{text} is refused: {err}"),
    }
}

#[track_caller]
fn with_root(root: &str) -> Reading {
    read(&payload(root, ""))
}

#[track_caller]
fn with_parameters(parameters: &str) -> Reading {
    read(&payload("", parameters))
}

fn dec(text: &str) -> Decimal {
    text.parse().expect("a number")
}

#[track_caller]
fn check_value(root: &str, parameters: &str, expected: Option<&str>) {
    let reading = read(&payload(root, parameters));
    assert_eq!(reading.value, expected.map(dec), "{root} | {parameters}");
}

#[track_caller]
fn check_unit(root: &str, parameters: &str, unit: &str, doubtful: bool) {
    let reading = read(&payload(root, parameters));
    let found = (reading.unit.as_str(), reading.doubtful);
    assert_eq!(found, (unit, doubtful), "{root} | {parameters}");
}

#[track_caller]
fn check_refused(bytes: impl AsRef<[u8]>, code: &str, message: &str) {
    let err = parse(bytes.as_ref(), &format()).expect_err("the payload is refused");
    assert_eq!(
        (err.reason().code(), err.to_string().as_str()),
        (code, message)
    );
}

/// Returns a reading with the values that the three examples have in common.
fn common() -> Reading {
    let sample: Reading = test_support::sample::reading();
    Reading {
        levels: sample.levels.map(|level| LevelSetting {
            hysteresis: None,
            ..level
        }),
        timestamp: None,
        value: Some(dec("350")),
        leds: [dec("1"), Decimal::ZERO, Decimal::ZERO],
        latitude: Coordinate::Text("00.00".to_owned()),
        longitude: Coordinate::Text("00.00".to_owned()),
        ..test_support::sample::reading()
    }
}

#[track_caller]
fn at(reading: Reading, timestamp: &str, utc: &str) -> Reading {
    let device_time: jiff::Timestamp = utc.parse().expect("a timestamp");
    Reading {
        timestamp: Some(timestamp.to_owned()),
        device_time: Some(shared::clock::Time::from_millis(
            device_time.as_millisecond(),
        )),
        ..reading
    }
}

/// The old format has these settings for A1 only. The other levels take them from A1 when an alarm is decided.
fn with_a1_settings([a1, a2, a3]: [LevelSetting; 3]) -> [LevelSetting; 3] {
    let a1 = LevelSetting {
        side: Some(Side::High),
        latching: Some(Decimal::ZERO),
        hysteresis: Some(Decimal::ZERO),
        ..a1
    };
    [a1, a2, a3]
}

#[test]
fn the_newest_format_is_read_as_documented() {
    let expected = Reading {
        gas_type: "Unknown Gas".to_owned(),
        span_high: None,
        span_low: None,
        latitude: Coordinate::Text("19.011545".to_owned()),
        longitude: Coordinate::Text("72.823872".to_owned()),
        ..common()
    };
    let expected = at(expected, "2026-01-28 11:37:12", "2026-01-28T06:07:12Z");
    assert_eq!(read(NEWEST), expected);
}

#[test]
fn the_old_format_is_read_as_documented() {
    let expected = Reading {
        levels: with_a1_settings(common().levels),
        value: Some(dec("120")),
        leds: [Decimal::ZERO; 3],
        ..common()
    };
    let expected = at(expected, "2026-01-26 05:30:00", "2026-01-26T00:00:00Z");
    assert_eq!(read(OLD), expected);
}

#[test]
fn a_mixed_format_is_read_as_documented() {
    let expected = Reading {
        levels: with_a1_settings(common().levels),
        latitude: Coordinate::Text("19.0760".to_owned()),
        longitude: Coordinate::Text("72.8777".to_owned()),
        ..common()
    };
    let expected = at(expected, "2026-01-28T06:07:12.000Z", "2026-01-28T06:07:12Z");
    assert_eq!(read(MIXED), expected);
}

#[test]
fn a_payload_with_nothing_but_a_serial_has_defaults_and_no_value() {
    let reading = read(r#"{"OTSM-2 Serial Number":" OTSM-0114 "}"#);
    let expected = Reading {
        device_name: "Unknown Device".to_owned(),
        gas_type: "Unknown Gas".to_owned(),
        value: None,
        span_high: None,
        span_low: None,
        levels: Default::default(),
        leds: [Decimal::ZERO; 3],
        latitude: Coordinate::Text("0.00".to_owned()),
        longitude: Coordinate::Text("0.00".to_owned()),
        ..common()
    };
    assert_eq!(reading, expected);
}

#[test]
fn the_first_key_present_holds_the_value() {
    let live_blank = r#""Live Sensor Readings ":1"#;
    let live = r#""Live Sensor Readings":2"#;
    let root = r#""Sensor Reading":3"#;
    let offset = r#""Offset":4"#;
    // The live reading with and without a blank is one key. If it comes twice, the higher value is shown.
    check_value(root, &format!("{offset},{live},{live_blank}"), Some("2"));
    check_value(root, &format!("{offset},{live_blank}"), Some("1"));
    check_value(root, &format!("{offset},{live}"), Some("2"));
    check_value(root, offset, Some("3"));
    check_value("", offset, Some("4"));
    check_value("", "", None);
    // A key is found only in its own object.
    check_value(
        r#""Offset":4,"Live Sensor Readings ":5"#,
        r#""Live Sensor Reading":1"#,
        None,
    );
    check_value("", r#""Sensor Reading":3"#, None);
}

#[test]
fn numbers_are_exact_decimals() {
    for (sent, value) in [
        ("350", Some("350")),
        ("19.5", Some("19.5")),
        ("350.0", Some("350")),
        ("0", Some("0")),
        ("-0.0", Some("0")),
        ("-2.5", Some("-2.5")),
        ("0.1", Some("0.1")),
        ("1.5e2", Some("150")),
        ("123456.789012345", Some("123456.789012345")),
        ("20.900000000000002", Some("20.9")),
        ("0.30000000000000004", Some("0.3")),
        ("2.0900000000000002e1", Some("20.9")),
        (r#"" 19.5 ""#, Some("19.5")),
        (r#""350""#, Some("350")),
        (r#""350 ppm""#, None),
        (r#""1_000""#, None),
        (r#""0.1234567890123_1""#, None),
        (r#""0x10""#, None),
        (r#""NaN""#, None),
        (r#""Infinity""#, None),
        (r#""ERR""#, None),
        (r#""""#, None),
        ("1e400", None),
        ("-1e400", None),
        ("1000000000001", None),
        ("1e13", None),
        ("true", None),
        ("null", None),
        ("[350]", None),
        (r#"{"value":350}"#, None),
    ] {
        check_value("", &format!(r#""Live Sensor Readings ":{sent}"#), value);
    }
    let endless = format!(r#""Live Sensor Readings ":0.{}"#, "1".repeat(5_000));
    check_value("", &endless, None);
}

#[test]
fn the_last_of_repeated_keys_wins() {
    let level = |parameters: &str| with_parameters(parameters).levels[0].level;
    let both = r#""Alarm Level A1":1,"Alarm Level A1":"#;
    assert_eq!(level(&format!("{both}2")), Some(dec("2")));
    assert_eq!(level(&format!("{both}null")), None);
    let root = r#""Parameters":{"Alarm Level A1":1}"#;
    let reading = read(&payload(root, r#""Alarm Level A1":2"#));
    assert_eq!(reading.levels[0].level, Some(dec("2")));
}

#[test]
fn the_first_unit_key_present_holds_the_unit() {
    let root_blank = r#""Unit of Measurement ":" %VOL ""#;
    let root = r#""Unit of Measurement":"mg/m3""#;
    check_unit("", "", "ppm", false);
    check_unit(root, "", "mg/m3", false);
    check_unit(&format!("{root},{root_blank}"), "", "%VOL", false);
    check_unit(root_blank, r#""Unit of Measurement":"%LEL""#, "%LEL", false);
    let both = r#""Unit of Measurement":"%LEL","Unit of Measurement ":1"#;
    check_unit(root_blank, both, "ppm", false);
    check_unit(root, r#""Unit of Measurement ":"2""#, "%LEL", false);
    check_unit(root, r#""Unit of Measurement ":1.0"#, "ppm", false);
    // An unreadable unit is never replaced by a unit of a later key.
    for unreadable in ["null", "true", "{}", r#""""#, r#""  ""#] {
        let parameters = format!(r#""Unit of Measurement ":{unreadable}"#);
        check_unit(root, &parameters, "unknown", true);
    }
}

#[test]
fn names_come_from_the_first_key_that_is_not_empty() {
    let name = |root: &str| with_root(root).device_name;
    let typo = r#""Device Alise Name":"typo""#;
    assert_eq!(
        name(&format!(r#"{typo},"Device Alias Name":"alias""#)),
        "alias"
    );
    assert_eq!(name(&format!(r#"{typo},"Device Alias Name":"""#)), "typo");
    assert_eq!(name(&format!(r#"{typo},"Device Alias Name":null"#)), "typo");
    assert_eq!(name(r#""Device Alias Name":7"#), "7");
    assert_eq!(name(r#""Device Alias Name":{}"#), "Unknown Device");
    let reading = with_root(r#""Gas":"Oxygen (O2)","Sender":"Test","Message Type":"ALARM""#);
    let texts = [reading.gas_type, reading.sender, reading.message_type];
    assert_eq!(texts, ["Oxygen (O2)", "Test", "ALARM"]);
}

#[test]
fn coordinates_come_from_the_root_before_the_parameters() {
    let latitude = |root: &str, parameters: &str| read(&payload(root, parameters)).latitude;
    let text = |text: &str| Coordinate::Text(text.to_owned());
    assert_eq!(latitude(r#""lat":"1.0""#, r#""lat":"2.0""#), text("1.0"));
    assert_eq!(latitude(r#""lat":"""#, r#""lat":"2.0""#), text("2.0"));
    assert_eq!(latitude("", ""), text("0.00"));
    assert_eq!(
        latitude(r#""lat":19.011545"#, ""),
        Coordinate::Number(dec("19.011545"))
    );
    assert_eq!(
        latitude(r#""lat":0"#, r#""lat":"2.0""#),
        Coordinate::Number(Decimal::ZERO)
    );
    assert_eq!(latitude(r#""lat":1e400"#, r#""lat":"2.0""#), text("2.0"));
    let longitude = read(&payload(r#""lat":"1","long":"3""#, r#""long":"2""#)).longitude;
    assert_eq!(longitude, text("3"));
}

#[track_caller]
fn check_time(sent: &str, utc: Option<&str>) {
    let reading = with_root(&format!(r#""Date Time At Reading":{sent}"#));
    let device_time = reading.device_time.map(shared::clock::Time::to_iso);
    assert_eq!(device_time.as_deref(), utc, "{sent}");
    let shown = reading.timestamp.map(|text| format!("{text:?}"));
    assert_eq!(shown.as_deref(), utc.map(|_| sent), "{sent}");
}

#[test]
fn a_zone_in_the_text_wins_over_the_setting() {
    check_time(r#""2026-01-28 11:37:12""#, Some("2026-01-28T06:07:12.000Z"));
    check_time(
        r#"" 2026-01-28 11:37:12 ""#,
        Some("2026-01-28T06:07:12.000Z"),
    );
    check_time(r#""2026-01-28T11:37:12""#, Some("2026-01-28T06:07:12.000Z"));
    check_time(
        r#""2026-01-28 11:37:12.25""#,
        Some("2026-01-28T06:07:12.250Z"),
    );
    check_time(
        r#""2026-01-28T11:37:12Z""#,
        Some("2026-01-28T11:37:12.000Z"),
    );
    check_time(
        r#""2026-01-28 11:37:12.5Z""#,
        Some("2026-01-28T11:37:12.500Z"),
    );
    check_time(
        r#""2026-01-28T11:37:12.123+02:00""#,
        Some("2026-01-28T09:37:12.123Z"),
    );
    check_time(
        r#""2026-01-28 11:37:12 -0500""#,
        Some("2026-01-28T16:37:12.000Z"),
    );
    check_time(r#""1970-01-01 00:00:00""#, Some("1969-12-31T18:30:00.000Z"));
    for unreadable in [
        r#""yesterday""#,
        r#""2026-01-28""#,
        r#""2026-13-28 11:37:12""#,
        r#""2026-01-28 25:00:00""#,
        r#""2026-01-28 11:37""#,
        r#""2026-01-28 11:37:12 IST""#,
        r#""2026-01-28 11:37:12[Asia/Kolkata]""#,
        r#""28/01/2026 11:37:12""#,
        r#""२०२६-०१-२८ ११:३७:१२""#,
        "1769580432",
        "{}",
    ] {
        check_time(unreadable, None);
    }
}

#[test]
fn the_second_time_key_counts_only_without_the_first() {
    let second = r#""timestamp":"2026-01-28T06:07:12.000Z""#;
    let timestamp = |first: &str| with_root(&format!("{first}{second}")).timestamp;
    let second_time = Some("2026-01-28T06:07:12.000Z".to_owned());
    assert_eq!(timestamp(""), second_time);
    assert_eq!(timestamp(r#""Date Time At Reading":"","#), second_time);
    assert_eq!(timestamp(r#""Date Time At Reading":null,"#), second_time);
    assert_eq!(timestamp(r#""Date Time At Reading":"noon","#), None);
    let both = timestamp(r#""Date Time At Reading":"2026-01-28 11:37:12","#);
    assert_eq!(both.as_deref(), Some("2026-01-28 11:37:12"));
}

#[test]
fn each_level_has_only_the_settings_that_are_sent_for_it() {
    let reading = with_parameters(
        r#""Alarm Level A1":19.5,"A1Type":"low","A1Hysterysis":0.2,"A1Latching":1,
           "Alarm Level A3":"23.5","A3Type":"High","A3Hysterysis":"0.5","A3Latching":0"#,
    );
    let a1 = LevelSetting {
        level: Some(dec("19.5")),
        side: Some(Side::Low),
        hysteresis: Some(dec("0.2")),
        latching: Some(dec("1")),
        ..LevelSetting::default()
    };
    let a3 = LevelSetting {
        level: Some(dec("23.5")),
        side: Some(Side::High),
        hysteresis: Some(dec("0.5")),
        latching: Some(Decimal::ZERO),
        ..LevelSetting::default()
    };
    assert_eq!(reading.levels, [a1, LevelSetting::default(), a3]);
    assert_eq!(reading.a1_type, "low");
    assert!(!reading.doubtful);
}

#[track_caller]
fn check_doubtful(parameters: &str, doubtful: bool) {
    assert_eq!(
        with_parameters(parameters).doubtful,
        doubtful,
        "{parameters}"
    );
}

#[test]
fn an_unreadable_or_unknown_setting_makes_the_reading_doubtful() {
    for unreadable in [
        r#""A1Type":"Rising""#,
        r#""A1Type":null"#,
        r#""A1Type":1"#,
        r#""A1Type":" ""#,
        r#""A2Type":"?""#,
        r#""A1Hysterysis":"wide""#,
        r#""A1Latching":"maybe""#,
        r#""A3Latching":null"#,
        r#""A1Siren":{}"#,
        r#""A1Buzzer":[]"#,
        r#""Span High":"2k""#,
        r#""Span Low":null"#,
        r#""Decimal Point":"two""#,
        r#""Alarm 1 LED Status":"""#,
        r#""Alarm 2 LED Status":null"#,
        r#""Alarm 3 LED Status":-1"#,
        r#""Unit of Measurement ":7"#,
    ] {
        check_doubtful(unreadable, true);
    }
    // An unreadable value or level shows as `None`. Unknown keys do not matter.
    for certain in [
        r#""Offset":null"#,
        r#""Alarm Level A1":"high""#,
        r#""A1Type":"HIGH""#,
        r#""A1Type":"lowest""#,
        r#""Temperature":"hot""#,
    ] {
        check_doubtful(certain, false);
    }
    for nothing in ["null", "[]", r#"" ""#] {
        let text =
            format!(r#"{{"OTSM-2 Serial Number":"A","Parameters":{nothing},"Sensor Reading":3}}"#);
        let reading = read(&text);
        assert!(!reading.doubtful && !reading.unclear, "{nothing}");
    }
    let not_an_object =
        read(r#"{"OTSM-2 Serial Number":"A","Parameters":"{}","Sensor Reading":3}"#);
    assert!(not_an_object.doubtful);
    assert_eq!(not_an_object.value, Some(dec("3")));
}

#[test]
fn either_fault_flag_sets_the_fault() {
    let fault = |parameters: &str| with_parameters(parameters).sensor_fault;
    assert_eq!(fault(""), Decimal::ZERO);
    assert_eq!(fault(r#""Sensor Fault":0,"SensorFault":1"#), dec("1"));
    assert_eq!(fault(r#""Sensor Fault":2,"SensorFault":1"#), dec("2"));
    assert_eq!(fault(r#""Sensor Fault":-1,"SensorFault":1"#), dec("1"));
    assert_eq!(
        fault(r#""Sensor Fault":"ERR","SensorFault":true"#),
        dec("1")
    );
    assert_eq!(fault(r#""Sensor Fault":"1""#), dec("1"));
}

#[test]
fn long_texts_are_cut_between_two_characters() {
    let long = "é".repeat(400);
    let root = format!(
        r#""Device Alias Name":"{long}","Gas":"x{long}","lat":"{long}","Unit of Measurement":"{long}""#
    );
    let reading = read(&payload(&root, &format!(r#""A1Type":"{long}""#)));
    assert_eq!(reading.device_name, "é".repeat(128));
    assert_eq!(reading.gas_type, format!("x{}", "é".repeat(127)));
    assert_eq!(reading.unit.len(), 256);
    assert_eq!(reading.a1_type.len(), 256);
    assert_eq!(reading.latitude, Coordinate::Text("é".repeat(128)));
}

//! Parsing defects of the previous system, named after their effect there. Each test shows that this parser does not have
//! it.

use super::*;

#[test]
fn defect_02_low_type_was_ignored() {
    let reading = with_parameters(r#""Alarm Level A1":19.5,"A1Type":"Low","A3Type":"High""#);
    let sides = reading.levels.map(|level| level.side);
    assert_eq!(sides, [Some(Side::Low), None, Some(Side::High)]);
}

#[test]
fn defect_03_hysteresis_and_latching_were_ignored() {
    let reading = with_parameters(r#""A1Hysterysis":12.5,"A1Latching":1"#);
    let hysteresis = reading.levels.each_ref().map(|level| level.hysteresis);
    assert_eq!(hysteresis, [Some(dec("12.5")), None, None]);
    let latching = reading.levels.map(|level| level.latching);
    assert_eq!(latching, [Some(dec("1")), None, None]);
}

#[test]
fn defect_05_unreadable_reading_became_zero_with_good_quality() {
    for sent in ["null", r#""ERR""#, "{}", "true"] {
        // A later key must not replace an unreadable reading.
        let keys = format!(r#""Live Sensor Readings ":{sent},"Live Sensor Readings":5,"Offset":7"#);
        check_value(r#""Sensor Reading":6"#, &keys, None);
    }
    check_value("", "", None);
}

#[test]
fn defect_06_levels_were_cut_to_integers_and_zero_was_missing() {
    for level in ["19.5", "0.5", "0", "-5"] {
        let reading = with_parameters(&format!(r#""Alarm Level A1":{level},"Span High":{level}"#));
        assert_eq!(reading.levels[0].level, Some(dec(level)));
        assert_eq!(reading.span_high, Some(dec(level)));
        assert_eq!(reading.levels[1].level, None);
    }
}

#[test]
fn defect_07_every_coded_unit_became_ppm() {
    check_unit("", r#""Unit of Measurement ":"%LEL""#, "%LEL", false);
    check_unit("", r#""Unit of Measurement ":2"#, "%LEL", false);
    check_unit("", r#""Unit of Measurement ":7"#, "code 7", true);
    check_unit("", r#""Unit of Measurement ":"7""#, "code 7", true);
}

#[test]
fn defect_08_decimal_point_was_ignored() {
    let text = payload(
        "",
        r#""Live Sensor Readings ":195,"Decimal Point":1,"Alarm Level A1":"190","A1Hysterysis":2,
           "Span High":300,"Span Low":0"#,
    );
    let ignored = read(&text);
    assert_eq!(ignored.value, Some(dec("195")));
    assert_eq!(ignored.decimal_point, dec("1"));

    let scaled = parse(text.as_bytes(), &scaling())
        .expect("the payload parses")
        .reading;
    assert_eq!(scaled.value, Some(dec("19.5")));
    assert_eq!(scaled.levels[0].level, Some(dec("19")));
    assert_eq!(scaled.levels[0].hysteresis, Some(dec("0.2")));
    assert_eq!(scaled.span_high, Some(dec("30")));
    assert_eq!(scaled.decimal_point, dec("1"));
    assert!(!scaled.doubtful);
}

#[test]
fn without_a_readable_scale_no_number_is_used() {
    for places in [r#""two""#, "-1", "1.5", "40", "null"] {
        let keys = format!(r#""Offset":195,"Alarm Level A1":190,"Decimal Point":{places}"#);
        let parsed = parse(payload("", &keys).as_bytes(), &scaling());
        let reading = parsed.expect("the payload parses").reading;
        assert_eq!(
            (reading.value, reading.levels[0].level),
            (None, None),
            "{places}"
        );
        assert!(reading.doubtful, "{places}");
    }
    let unscaled = parse(payload("", r#""Offset":195"#).as_bytes(), &scaling());
    assert_eq!(
        unscaled.expect("the payload parses").reading.value,
        Some(dec("195"))
    );
}

#[test]
fn defect_09_fault_flag_looked_like_clean_air() {
    let reading = with_parameters(r#""Live Sensor Readings ":0,"SensorFault":true"#);
    assert!(reading.has_fault());
    assert_eq!(reading.value, Some(Decimal::ZERO));
}

#[test]
fn defect_10_led_true_or_on_read_as_dark() {
    let reading = with_parameters(r#""Alarm 2 LED Status":true"#);
    assert_eq!(reading.leds, [Decimal::ZERO, dec("1"), Decimal::ZERO]);
    assert!(reading.has_led() && !reading.doubtful);
    let reading = with_parameters(r#""Alarm 1 LED Status":"ON""#);
    assert!(reading.has_led() && !reading.doubtful);
    assert!(with_parameters(r#""Alarm 1 LED Status":2"#).has_led());
    assert!(!with_parameters(r#""Alarm 1 LED Status":false"#).doubtful);
}

#[test]
fn defect_11_device_time_was_lost() {
    let reading = with_root(r#""timestamp":"2026-01-28 11:37:12""#);
    assert_eq!(reading.timestamp.as_deref(), Some("2026-01-28 11:37:12"));
    assert!(reading.device_time.is_some());
}

#[test]
fn defect_16_serial_ending_in_alerts_hid_another() {
    let reading = read(r#"{"OTSM-2 Serial Number":"OTSM-0114_alerts"}"#);
    assert_eq!(reading.device.as_str(), "OTSM-0114_alerts");
}

#[test]
fn defect_20_payloads_without_serial_merged_as_unknown() {
    let missing = "`OTSM-2 Serial Number` is missing; there is no reading";
    check_refused("{}", "missing_serial", missing);
    check_refused(
        r#"{"OTSM-2 Serial Number":null}"#,
        "missing_serial",
        missing,
    );
    for text in ["5", "[]", "null"] {
        check_refused(text, "not_an_object", "the payload is not a JSON object");
    }
}

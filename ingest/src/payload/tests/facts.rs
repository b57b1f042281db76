//! What a payload says beside its reading, keys in another spelling, and keys that come twice.

use shared::reading::Repair;

use super::*;

#[track_caller]
fn parsed(root: &str, parameters: &str) -> Parsed {
    let text = payload(root, parameters);
    match parse(text.as_bytes(), &format()) {
        Ok(parsed) => parsed,
        Err(err) => panic!("{text}: {err}"),
    }
}

#[test]
fn facts_say_what_was_sent() {
    let nothing = parsed("", "").facts;
    assert_eq!(nothing, PayloadFacts::default());
    let facts = |root: &str, parameters: &str| parsed(root, parameters).facts;
    assert!(facts("", r#""Offset":null"#).has_value_key);
    assert!(facts(r#""Sensor Reading":1"#, "").has_value_key);
    assert!(facts("", r#""Alarm 3 LED Status":{}"#).leds_sent);
    for (unit, is_sent) in [
        (r#""ppm""#, true),
        ("1", true),
        ("7", true),
        ("null", false),
        (r#"" ""#, false),
        ("{}", false),
    ] {
        let parsed = parsed(&format!(r#""Unit of Measurement":{unit}"#), "");
        assert_eq!(parsed.facts.unit_sent, is_sent, "{unit}");
        assert_eq!(parsed.reading.doubtful, !is_sent || unit == "7", "{unit}");
    }
    for (gas, is_sent, doubtful) in [
        (r#""CO""#, true, false),
        ("null", false, false),
        (r#"" ""#, false, false),
        ("{}", false, true),
    ] {
        let parsed = parsed(&format!(r#""Gas":{gas}"#), "");
        assert_eq!(
            (parsed.facts.gas_sent, parsed.reading.doubtful),
            (is_sent, doubtful),
            "{gas}"
        );
    }
    for (point, is_sent) in [
        ("0", true),
        (r#""2""#, true),
        ("null", false),
        ("{}", false),
    ] {
        let facts = facts("", &format!(r#""Decimal Point":{point}"#));
        assert_eq!(facts.decimal_point_sent, is_sent, "{point}");
    }
    let levels = r#""Alarm Level A1":"250 ppm","Alarm Level A2":0,"Alarm Level A3":null"#;
    assert_eq!(facts("", levels).levels_unreadable, [true, false, true]);
}

#[test]
fn a_level_without_a_readable_scale_is_unreadable() {
    let text = payload("", r#""Alarm Level A1":250,"Decimal Point":"two""#);
    let facts = parse(text.as_bytes(), &scaling()).expect("a reading").facts;
    assert_eq!(facts.levels_unreadable, [true, false, false]);
}

#[test]
fn blanks_and_case_of_a_key_do_not_matter() {
    for key in [
        "Sensor Fault ",
        " Sensor Fault",
        "sensor fault",
        "SENSOR FAULT\\t",
        "sensorfault",
        "\u{a0}Sensor Fault",
    ] {
        let parsed = parsed("", &format!(r#""{key}":1"#));
        assert!(parsed.reading.has_fault(), "{key}");
        assert!(!parsed.reading.doubtful, "{key}");
    }
    check_value("", r#""live sensor readings":7"#, Some("7"));
    check_value(r#""SENSOR READING ":7"#, "", Some("7"));
    check_unit("", r#""unit of measurement":"%LEL""#, "%LEL", false);
    let text = r#"{"otsm-2 serial number ":"A","parameters":{"offset":7}}"#;
    assert_eq!(read(text).value, Some(dec("7")));
    // Blanks inside of a key are not left out.
    assert!(!with_parameters(r#""Sensor  Fault":1"#).has_fault());
}

#[test]
fn an_exact_key_wins_over_a_similar_one() {
    let level = |parameters: &str| parsed("", parameters);
    for parameters in [
        r#""Alarm Level A1":250,"alarm level a1":300"#,
        r#""alarm level a1":300,"Alarm Level A1":250"#,
    ] {
        let parsed = level(parameters);
        assert_eq!(
            parsed.reading.levels[0].level,
            Some(dec("250")),
            "{parameters}"
        );
        assert_eq!(parsed.facts.repair, Repair::Important, "{parameters}");
    }
    let unit = parsed(
        "",
        r#""unit of measurement":"%LEL","Unit of Measurement":"ppm""#,
    );
    assert_eq!(unit.reading.unit, "ppm");
    assert_eq!(unit.facts.repair, Repair::Important);
    let same = level(r#""Alarm Level A1":250,"alarm level a1":"250.0""#);
    assert_eq!(same.facts.repair, Repair::None);
}

/// Checks a reading key that comes twice: the value, and the other values.
#[track_caller]
fn check_twice(parameters: &str, value: Option<&str>, others: &[&str], repair: Repair) {
    let parsed = parsed("", parameters);
    let others: Vec<_> = others.iter().map(|other| dec(other)).collect();
    assert_eq!(parsed.reading.value, value.map(dec), "{parameters}");
    assert_eq!(parsed.facts.other_values, others, "{parameters}");
    assert_eq!(parsed.facts.repair, repair, "{parameters}");
    assert_eq!(
        parsed.reading.doubtful,
        repair == Repair::Important,
        "{parameters}"
    );
}

#[test]
fn a_reading_key_that_comes_twice_is_judged_by_all_its_values() {
    use Repair::{Important, None as Nothing};
    let twice = |one: &str, two: &str| format!(r#""Offset":{one},"Offset":{two}"#);
    check_twice(&twice("1200", "20"), Some("1200"), &["20"], Important);
    check_twice(&twice("20", "1200"), Some("1200"), &["20"], Important);
    check_twice(&twice("20", "\"20.0\""), Some("20"), &[], Nothing);
    check_twice(&twice("20", "null"), None, &["20"], Important);
    check_twice(&twice("\"ERR\"", "20"), None, &["20"], Important);
    check_twice(&twice("null", "null"), None, &[], Important);
    let many = r#""Offset":7,"Offset":3,"Offset":9,"Offset":5,"Offset":9"#;
    check_twice(many, Some("9"), &["3", "7"], Important);
    let blank = r#""Live Sensor Readings ":20,"Live Sensor Readings":1200,"Offset":5"#;
    check_twice(blank, Some("1200"), &["20"], Important);
    let same = r#""Live Sensor Readings ":20,"Live Sensor Readings":20"#;
    check_twice(same, Some("20"), &[], Nothing);
    let similar = r#""live sensor readings":1200,"Live Sensor Readings ":20"#;
    check_twice(similar, Some("1200"), &["20"], Important);
    // Another key is not the same key.
    check_twice(
        r#""Live Sensor Readings ":20,"Offset":1200"#,
        Some("20"),
        &[],
        Nothing,
    );
    let root = r#""Parameters":{"Offset":1200}"#;
    let both = parsed(root, r#""Offset":20"#);
    assert_eq!(both.reading.value, Some(dec("1200")));
}

#[test]
fn of_a_repeated_state_the_one_that_is_set_counts() {
    for (parameters, is_set) in [
        (r#""Sensor Fault":1,"Sensor Fault":0"#, true),
        (r#""Sensor Fault":0,"Sensor Fault":1"#, true),
        (r#""Sensor Fault":0,"sensor fault":"ON""#, true),
        (r#""Sensor Fault":0,"Sensor Fault":{}"#, false),
    ] {
        let parsed = parsed("", parameters);
        assert_eq!(parsed.reading.has_fault(), is_set, "{parameters}");
        assert_eq!(parsed.facts.repair, Repair::Important, "{parameters}");
    }
    let led = parsed("", r#""Alarm 2 LED Status":2,"Alarm 2 LED Status":1"#);
    assert_eq!(led.reading.leds[1], dec("2"));
    let status = parsed(r#""Alarm Status":"ALARM","Alarm Status":"NORMAL""#, "");
    assert!(status.reading.own_alarm);
}

#[test]
fn other_important_keys_that_differ_make_the_reading_uncertain() {
    for (root, parameters) in [
        ("", r#""A1Type":"High","A1Type":"Low""#),
        ("", r#""Alarm Level A3":1,"Alarm Level A3":2"#),
        ("", r#""A2Hysterysis":1,"A2Hysterysis":2"#),
        ("", r#""A3Latching":0,"A3Latching":1"#),
        ("", r#""Span High":0,"Span High":1"#),
        ("", r#""Decimal Point":0,"Decimal Point":1"#),
        (r#""Gas":"CO","Gas":"H2S""#, ""),
        (
            r#""Unit of Measurement":"ppm","Unit of Measurement":"%LEL""#,
            "",
        ),
        (
            r#""timestamp":"2026-01-28 11:37:12","timestamp":"2026-01-28 11:37:13""#,
            "",
        ),
        (r#""OTSM-2 Serial Number":"OTSM-2""#, ""),
    ] {
        let parsed = parsed(root, parameters);
        assert_eq!(
            parsed.facts.repair,
            Repair::Important,
            "{root} | {parameters}"
        );
        assert!(
            parsed.reading.doubtful && parsed.reading.unclear,
            "{root} | {parameters}"
        );
    }
    for root in [
        r#""lat":"1","lat":"2""#,
        r#""Device Alias Name":"a","Device Alias Name":"b""#,
        r#""x":1,"x":2"#,
    ] {
        assert_eq!(parsed(root, "").facts.repair, Repair::None, "{root}");
    }
}

#[test]
fn a_state_that_is_neither_a_number_nor_normal_is_set() {
    for (state, is_set, doubtful) in [
        ("0", false, false),
        ("1", true, false),
        ("2.5", true, false),
        ("false", false, false),
        ("true", true, false),
        (r#""0""#, false, false),
        (r#""1""#, true, false),
        (r#""ON""#, true, false),
        (r#""FAULT""#, true, false),
        (r#"" off ""#, false, false),
        (r#""Normal""#, false, false),
        (r#""?""#, true, false),
        ("1e400", true, false),
        ("-1", false, true),
        ("0.5", false, true),
        ("{}", false, true),
        ("[]", false, true),
    ] {
        for key in ["Sensor Fault", "SensorFault", "Alarm 1 LED Status"] {
            let reading = with_parameters(&format!(r#""{key}":{state}"#));
            let found = reading.has_fault() || reading.has_led();
            assert_eq!(
                (found, reading.doubtful),
                (is_set, doubtful),
                "{key}: {state}"
            );
            let is_unclear = doubtful && key.contains("Fault");
            assert_eq!(reading.unclear, is_unclear, "{key}: {state}");
        }
        let reading = with_root(&format!(r#""Alarm Status":{state}"#));
        assert_eq!(
            (reading.own_alarm, reading.doubtful),
            (is_set, doubtful),
            "{state}"
        );
    }
    for empty in ["null", r#""""#, r#""  ""#] {
        let fault = with_parameters(&format!(r#""Sensor Fault":{empty}"#));
        assert!(
            !fault.has_fault() && !fault.doubtful && !fault.unclear,
            "{empty}"
        );
        let status = with_root(&format!(r#""Alarm Status":{empty}"#));
        assert!(!status.own_alarm && !status.doubtful, "{empty}");
        let led = with_parameters(&format!(r#""Alarm 1 LED Status":{empty}"#));
        assert!(!led.has_led() && led.doubtful, "{empty}");
    }
}

#[test]
fn normal_words_are_a_setting() {
    let words = NormalWords::new(" ok , Kein Fehler,");
    for normal in ["OK", "kein fehler", " ok ", "", "ok\0"] {
        assert!(words.contains(normal), "{normal}");
    }
    for odd in ["0", "OFF", "okay"] {
        assert!(!words.contains(odd), "{odd}");
    }
}

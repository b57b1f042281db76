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
fn a_fault_flag_that_is_not_certainly_normal_is_set() {
    for (state, is_set) in [
        ("0", false),
        ("0.0", false),
        ("-0", false),
        ("false", false),
        ("null", false),
        (r#""""#, false),
        (r#""  ""#, false),
        (r#""0""#, false),
        (r#""00""#, false),
        (r#"" off ""#, false),
        ("[]", false),
        ("{}", false),
        ("[ ]", false),
        ("1", true),
        ("2.5", true),
        ("-1", true),
        ("0.5", true),
        ("-0.001", true),
        ("1e400", true),
        ("true", true),
        (r#""-1""#, true),
        (r#""0.5""#, true),
        (r#""E7""#, true),
        (r#""?""#, true),
        ("[1]", true),
        ("[0]", true),
        (r#"{"code":0}"#, true),
    ] {
        for (root, key) in [
            (false, "Sensor Fault"),
            (false, "SensorFault"),
            (true, "Sensor Fault"),
            (true, "SensorFault"),
            (true, "sensorfault "),
            (true, "Alarm Status"),
        ] {
            let entry = format!(r#""{key}":{state}"#);
            let reading = if root {
                with_root(&entry)
            } else {
                with_parameters(&entry)
            };
            let found = reading.has_fault() || reading.own_alarm;
            assert_eq!(found, is_set, "{key}: {state}");
            assert_eq!(reading.own_alarm, is_set && key == "Alarm Status");
            assert!(!reading.doubtful && !reading.unclear, "{key}: {state}");
        }
    }
}

#[test]
fn a_fault_flag_of_the_root_hides_none_of_the_parameters() {
    let fault = |root: &str, parameters: &str| read(&payload(root, parameters)).sensor_fault;
    assert_eq!(
        fault(r#""Sensor Fault":0"#, r#""Sensor Fault":2"#),
        dec("2")
    );
    assert_eq!(
        fault(r#""Sensor Fault":3"#, r#""Sensor Fault":0"#),
        dec("3")
    );
    assert_eq!(fault(r#""Sensor Fault":3"#, r#""SensorFault":2"#), dec("2"));
    let broken = read(r#"{"OTSM-2 Serial Number":"A","Sensor Fault":"E7","Parameters":[1]}"#);
    assert!(broken.has_fault());
}

#[test]
fn a_lamp_that_is_neither_a_number_nor_normal_is_lit() {
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
        ("[1]", false, true),
    ] {
        let reading = with_parameters(&format!(r#""Alarm 1 LED Status":{state}"#));
        assert_eq!(
            (reading.has_led(), reading.doubtful, reading.unclear),
            (is_set, doubtful, false),
            "{state}"
        );
    }
    for empty in ["null", r#""""#, r#""  ""#] {
        let led = with_parameters(&format!(r#""Alarm 1 LED Status":{empty}"#));
        assert!(!led.has_led() && led.doubtful, "{empty}");
    }
}

#[test]
fn a_flag_of_a_level_may_be_a_word() {
    for (sent, flag) in [
        ("0", Some("0")),
        ("1", Some("1")),
        ("2", Some("2")),
        ("true", Some("1")),
        ("false", Some("0")),
        (r#""1""#, Some("1")),
        (r#""0""#, Some("0")),
        (r#""ON""#, Some("1")),
        (r#"" yes ""#, Some("1")),
        (r#""True""#, Some("1")),
        (r#""Off""#, Some("0")),
        (r#""NORMAL""#, Some("0")),
        // Unreadable: not even known to be off.
        (r#""maybe""#, None),
        (r#""""#, None),
        ("null", None),
        ("-1", None),
        ("0.5", None),
        ("{}", None),
    ] {
        for key in ["A1Latching", "A2Latching", "A3Latching"] {
            let index = usize::from(key.as_bytes()[1] - b'1');
            let Parsed { reading, facts } = parsed("", &format!(r#""{key}":{sent}"#));
            assert_eq!(reading.levels[index].latching, flag.map(dec), "{sent}");
            assert_eq!(facts.latching_unreadable[index], flag.is_none(), "{sent}");
            assert_eq!(reading.doubtful, flag.is_none(), "{sent}");
            assert!(!reading.unclear, "{sent}");
        }
        for key in ["A1Siren", "A1Buzzer"] {
            let reading = with_parameters(&format!(r#""{key}":{sent}"#));
            let shown = reading.a1_siren + reading.a1_buzzer;
            assert_eq!(shown, dec(flag.unwrap_or("0")), "{key}: {sent}");
            assert_eq!(reading.doubtful, flag.is_none(), "{key}: {sent}");
        }
    }
}

#[test]
fn an_unreadable_hysteresis_keeps_the_last_known_one() {
    for sent in [r#""--""#, r#""N/A""#, "null", "{}"] {
        let reading = with_parameters(&format!(r#""A2Hysterysis":{sent}"#));
        assert_eq!(reading.levels[1].hysteresis, None, "{sent}");
        assert!(reading.doubtful && !reading.unclear, "{sent}");
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

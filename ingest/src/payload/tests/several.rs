//! Payloads that name several detectors: in objects behind the first 64, in one object, and in objects that are cut off. Objects
//! that name a detector elsewhere than in their root.

use std::fmt::Write as _;

use shared::reading::Repair;

use super::*;

fn object(serial: &str, parameters: &str) -> String {
    format!(r#"{{"OTSM-2 Serial Number":"{serial}","Parameters":{{{parameters}}}}}"#)
}

fn items(bytes: &[u8]) -> Vec<Item<'_>> {
    super::super::read(bytes, &format())
}

/// Describes an item in a few words: what it is, its detector, and the values that may raise alarms.
fn describe(item: &Item<'_>) -> String {
    let (kind, parsed) = match &item.content {
        ItemContent::Reading(parsed) => ("reading", parsed),
        ItemContent::Unreadable(parsed, _) => ("unreadable", parsed),
        ItemContent::Named(parsed) => ("named", parsed),
        ItemContent::Refused(err) => return format!("refused {}", err.reason().code()),
    };
    let mut text = format!("{kind} {}", parsed.reading.device);
    for value in parsed
        .reading
        .value
        .iter()
        .chain(&parsed.facts.other_values)
    {
        write!(text, " {value}").expect("a text is written");
    }
    if kind != "reading" {
        assert_eq!(parsed.reading.value, None);
        assert_eq!(parsed.facts.repair, Repair::Unreadable);
        assert!(parsed.reading.unclear);
    }
    text
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found: Vec<String> = items(text.as_bytes()).iter().map(describe).collect();
    assert_eq!(found, expected, "{text}");
}

/// An array that begins with 64 objects of the detector `FIRST`.
fn behind_64(rest: &str) -> String {
    let first = object("FIRST", r#""Offset":5"#);
    format!("[{},{rest}]", vec![first; 64].join(","))
}

#[track_caller]
fn check_rest(rest: &str, expected: &[&str]) {
    let text = behind_64(rest);
    let found: Vec<String> = items(text.as_bytes()).iter().map(describe).collect();
    let (first, rest_found) = found.split_at(64);
    assert!(first.iter().all(|item| item == "reading FIRST 5"), "{rest}");
    assert_eq!(rest_found, expected, "{rest}");
}

#[test]
fn each_detector_behind_64_objects_is_reported_once() {
    let a = |value: &str| object("A", &format!(r#""Offset":{value}"#));
    let b = object("B", r#""Sensor Fault":1"#);
    check_rest(&a("5"), &["unreadable A 5"]);
    check_rest(
        &format!("{},{b}", a("5")),
        &["unreadable A 5", "unreadable B"],
    );
    // All values of a detector may raise, wherever they stand.
    let three = [a("5"), b.clone(), a("1200"), a("7")].join(",");
    check_rest(&three, &["unreadable A 5 1200", "unreadable B"]);
    // The detector of the first objects, too: nobody reads what it says here.
    let first = object("FIRST", r#""Offset":1200"#);
    check_rest(&first, &["unreadable FIRST 1200"]);
    // Bytes that name nobody are kept together.
    check_rest(
        &format!("5,{},7,{{}}", a("5")),
        &["unreadable A 5", "refused too_large"],
    );
    check_rest("5", &["refused too_large"]);
}

#[test]
fn a_fault_in_the_structure_behind_64_objects_hides_no_detector() {
    let b = object("B", r#""Offset":1200"#);
    let cut = r#"{"OTSM-2 Serial Number":"A","Parameters":{"Offset":5,"Gas" 7}"#;
    check_rest(
        &format!("{cut},{b}"),
        &["unreadable A 5", "unreadable B 1200"],
    );
    // Whose the values are is not certain here.
    let joined = r#"{"OTSM-2 Serial Number":"A","Par"OTSM-2 Serial Number":"B","Offset":1200}"#;
    check_rest(joined, &["refused too_large", "named A", "named B"]);
    let twice = r#"{"OTSM-2 Serial Number":"A","OTSM-2 Serial Number":"B"}"#;
    check_rest(twice, &["refused too_large", "named A", "named B"]);
    check_rest(
        &format!("{twice},{b}"),
        &["unreadable B 1200", "refused too_large", "named A"],
    );
    // Not even a serial is certain.
    let damaged = r#"{"OTSM-2 Serial Number":"A\x"}"#;
    check_rest(damaged, &["refused too_large"]);
}

#[test]
fn the_rest_of_many_objects_is_bounded_by_the_payload() {
    let short = r#"{"OTSM-2 Serial Number":"A"}"#;
    let many: Vec<String> = (0..2_000)
        .map(|index| short.replace('A', &format!("{index}")))
        .collect();
    let text = format!("[{}]", many.join(","));
    let found = items(text.as_bytes());
    assert_eq!(found.len(), 2_000);
    let stored: usize = found[64..].iter().map(|item| item.bytes.len()).sum();
    assert!(stored <= text.len());
    let err = |item: &Item<'_>| match &item.content {
        ItemContent::Unreadable(parsed, err) => err.detail(Some(&parsed.reading.device)),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        err(&found[1_999]),
        "the payload has more than 64 objects; it is from 1999"
    );
}

#[test]
fn each_detector_in_the_beginning_of_a_payload_that_is_too_large_is_reported() {
    let text = format!(
        "[{},{},{}",
        object("A", r#""Offset":5"#),
        object("B", r#""Offset":1200"#),
        r#"{"OTSM-2 Serial Number":"C","Parameters":{"Offset":12"#
    );
    let found = read_received(text.as_bytes(), 70_000, &format());
    let found: Vec<String> = found.iter().map(describe).collect();
    assert_eq!(
        found,
        ["unreadable A 5", "unreadable B 1200", "unreadable C"]
    );
}

#[test]
fn an_object_that_names_two_detectors_is_about_neither() {
    for keys in [
        r#""OTSM-2 Serial Number":"A","OTSM-2 Serial Number":"B""#,
        r#""OTSM-2 Serial Number":"A","otsm-2 serial number":"B""#,
        r#""OTSM-2 SERIAL NUMBER":"A"," OTSM-2 Serial Number ":"B""#,
        r#""OTSM-2 Serial Number":"A","OTSM-2 Serial Number":"B","OTSM-2 Serial Number":"A ""#,
    ] {
        let text = format!(r#"{{{keys},"Sensor Reading":1200}}"#);
        check(&text, &["refused bad_serial", "named A", "named B"]);
        // Also if the framing, or something else, was repaired.
        check(
            &format!("{text}\0"),
            &["refused bad_serial", "named A", "named B"],
        );
        check(
            &text.replace("1200", "01200"),
            &["refused bad_serial", "named A", "named B"],
        );
        check(
            &text.replace("1200", "nan"),
            &["refused bad_serial", "named A", "named B"],
        );
    }
    let text = r#"{"OTSM-2 Serial Number":"A","OTSM-2 Serial Number":"B"}"#;
    let err = parse(text.as_bytes(), &format()).expect_err("two detectors");
    assert_eq!(
        err.to_string(),
        "`OTSM-2 Serial Number` comes more than once with different values: A, B"
    );
    // Only one of them can be a detector. It is not certain that the payload is from it.
    for other in ["7", "{}"] {
        let text = format!(r#"{{"OTSM-2 Serial Number":{other},"OTSM-2 Serial Number":"A"}}"#);
        check(&text, &["refused bad_serial", "named A"]);
    }
    // Nothing names no other one.
    for other in ["null", r#""""#, r#""  ""#] {
        let text = format!(r#"{{"OTSM-2 Serial Number":"A","otsm-2 serial number":{other}}}"#);
        check(&text, &["reading A"]);
    }
    let none = r#"{"OTSM-2 Serial Number":7,"OTSM-2 Serial Number":""}"#;
    check(none, &["refused bad_serial"]);
}

#[test]
fn an_object_that_names_one_detector_twice_is_about_it() {
    for other in [r#""A""#, r#"" A ""#, r#""\u0041""#] {
        let text =
            format!(r#"{{"OTSM-2 Serial Number":"A","otsm-2 serial number":{other},"Offset":1}}"#);
        let found = items(text.as_bytes());
        let [
            Item {
                content: ItemContent::Reading(parsed),
                ..
            },
        ] = found.as_slice()
        else {
            panic!("{text}: {found:?}");
        };
        assert_eq!(parsed.facts.repair, Repair::None, "{text}");
        assert!(!parsed.reading.doubtful, "{text}");
    }
    let none = r#"{"OTSM-2 Serial Number":null,"OTSM-2 Serial Number":null}"#;
    check(none, &["refused missing_serial"]);
}

#[test]
fn a_detector_that_is_not_named_in_the_root_is_reported() {
    let inner = r#""Parameters":{"OTSM-2 Serial Number":"A","Offset":1200}"#;
    // Nothing in the root names a detector.
    for root in [
        "",
        r#""OTSM-2 S[erial Number":"A","#,
        r#""OTSM-2 Serial Number":null,"#,
        r#""OTSM-2 Serial Number":"","#,
        r#""otsm-2 serial number ":"  ","#,
    ] {
        let text = format!("{{{root}{inner}}}");
        check(&text, &["unreadable A 1200"]);
        // Also if the framing, or something else, was repaired.
        check(&format!("{text}\0"), &["unreadable A 1200"]);
        check(&text.replace("1200", "1200,"), &["unreadable A 1200"]);
        check(&text.replace("1200", "nan"), &["unreadable A"]);
        check(&text.replace("1200}}", "1200}"), &["unreadable A 1200"]);
        check(&format!("[{text}]"), &["unreadable A 1200"]);
        let b = object("B", r#""Offset":5"#);
        check(&format!("{text}{b}"), &["unreadable A 1200", "reading B 5"]);
        check_rest(&text, &["unreadable A 1200"]);
    }
    // What stands in other inner objects is not known to be a reading.
    for text in [
        r#"{"data":{"OTSM-2 Serial Number":"A","Parameters":{"Offset":1200}}}"#,
        r#"{"data":[[{"otsm-2 serial number":"A","Sensor Reading":1200}]]}"#,
    ] {
        check(text, &["unreadable A"]);
        check_rest(text, &["unreadable A"]);
    }
    // The root has something else, or there are several: it is not certain that the payload is from it.
    for other in ["7", "{}", "[]", "true", r#""\u0007""#] {
        let text = format!(r#"{{"OTSM-2 Serial Number":{other},{inner}}}"#);
        check(&text, &["refused bad_serial", "named A"]);
        check_rest(&text, &["refused too_large", "named A"]);
    }
    let two = format!(
        r#"{{"devices":[{},{}]}}"#,
        object("A", r#""Offset":5"#),
        object("B", r#""Offset":1200"#)
    );
    check(&two, &["refused missing_serial", "named A", "named B"]);
    check_rest(&two, &["refused too_large", "named A", "named B"]);
    // A root that names a detector is about it.
    let text = format!(r#"{{"OTSM-2 Serial Number":"B",{inner}}}"#);
    check(&text, &["reading B 1200"]);
    // Nobody is named.
    for value in ["7", "{}", "null", r#""""#] {
        let text = format!(r#"{{"Parameters":{{"OTSM-2 Serial Number":{value}}}}}"#);
        check(&text, &["refused missing_serial"]);
    }
    check(
        r#"{"Parameters":{"Gas":"OTSM-2 Serial Number","A":"A"}}"#,
        &["refused missing_serial"],
    );
}

#[test]
fn a_dead_letter_says_where_the_detector_is_named() {
    let text = r#"{"Parameters":{"OTSM-2 Serial Number":"A","Offset":1200}}"#;
    let items = items(text.as_bytes());
    let [
        Item {
            content: ItemContent::Unreadable(parsed, err),
            ..
        },
    ] = items.as_slice()
    else {
        panic!("{items:?}");
    };
    assert_eq!(
        err.detail(Some(&parsed.reading.device)),
        "`OTSM-2 Serial Number` is missing; it names A elsewhere than in its root"
    );
}

#[test]
fn two_payloads_that_name_a_detector_beside_others_are_two_messages() {
    let bytes = |value: u32| {
        let text = format!(
            r#"{{"OTSM-2 Serial Number":"A","OTSM-2 Serial Number":"B","Sensor Reading":{value}}}"#
        );
        items(text.as_bytes())[1].bytes.clone().into_owned()
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}

#[test]
fn a_number_directly_before_the_place_of_a_cut_is_not_complete() {
    let b = object("B", r#""Offset":5"#);
    for (cut, separator, values) in [
        (r#""Offset":120"#, ",", ""),
        (r#""Offset":120"#, " , ", ""),
        (r#""Offset":120"#, ",\n", ""),
        (r#""Offset":120"#, ",,", ""),
        (r#""Offset":120"#, "", ""),
        (r#""Offset":120"#, "\n", ""),
        (r#""Offset":120"#, "\0", ""),
        (r#""Offset":120,"#, ",", ""),
        // The next key, or a brace, shows that it is complete.
        (r#""Offset":120,""#, ",", " 120"),
        (r#""Offset":120,"Gas":"#, ",", " 120"),
        (r#""Offset":120}"#, ",", " 120"),
        (r#""Offset":"120""#, ",", " 120"),
    ] {
        for (before, after) in [("[", "]"), ("", "")] {
            let text = format!(
                r#"{before}{{"OTSM-2 Serial Number":"A","Parameters":{{{cut}{separator}{b}{after}"#
            );
            let found: Vec<String> = items(text.as_bytes()).iter().map(describe).collect();
            let expected = [format!("unreadable A{values}"), "reading B 5".to_owned()];
            assert_eq!(found, expected, "{text}");
        }
    }
    let level = |text: &str| match &items(text.as_bytes())[0].content {
        ItemContent::Unreadable(parsed, _) => parsed.reading.levels[0].level,
        other => panic!("{other:?}"),
    };
    let cut = r#"[{"OTSM-2 Serial Number":"A","Parameters":{"Alarm Level A1":10"#;
    assert_eq!(level(&format!("{cut},{b}]")), None);
    assert_eq!(level(&format!("{cut}00,{{")), None);
    assert_eq!(level(&format!("{cut}00,")), Some(dec("1000")));
    // Behind the first 64 objects, too.
    let rest = format!("{},{b}", &cut[1..].replace("Alarm Level A1", "Offset"));
    check_rest(&rest, &["unreadable A", "unreadable B 5"]);
}

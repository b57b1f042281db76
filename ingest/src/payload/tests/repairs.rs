//! Payloads that JSON forbids: what is repaired, and how it is shown.

use shared::reading::Repair::{self, Important, Unimportant};

use super::*;

/// Parameters of a payload in which every kind of key stands between others.
const PARAMETERS: &str = r#""Live Sensor Readings ":1200,"Unit of Measurement ":1,"Alarm Level A1":250,"Alarm 1 LED Status":1,"Sensor Fault":0,"A1Siren":0,"Temperature":7"#;

fn base() -> String {
    payload(
        r#""Device Alias Name":"Hall","Gas":"CO","timestamp":"2026-01-28 11:37:12","lat":"1.5""#,
        PARAMETERS,
    )
}

/// Returns the only item of a payload.
#[track_caller]
fn only(bytes: &[u8]) -> Item<'_> {
    let mut items = read_items(bytes);
    assert_eq!(items.len(), 1, "{}", String::from_utf8_lossy(bytes));
    items.remove(0)
}

fn read_items(bytes: &[u8]) -> Vec<Item<'_>> {
    let items = super::super::read(bytes, &format());
    for item in &items {
        if !matches!(item.content, ItemContent::Refused(_)) {
            let json = serde_json::from_slice::<serde_json::Value>(item.json());
            assert!(json.is_ok(), "{}", String::from_utf8_lossy(item.json()));
        }
    }
    items
}

#[track_caller]
fn reading_of(bytes: &[u8]) -> Parsed {
    match only(bytes).content {
        ItemContent::Reading(parsed) => parsed,
        other => panic!("{} is {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[track_caller]
fn unreadable(bytes: &[u8]) -> Parsed {
    match only(bytes).content {
        ItemContent::Unreadable(parsed, _) => {
            assert_eq!(parsed.reading.value, None);
            assert_eq!(parsed.facts.repair, Repair::Unreadable);
            assert!(parsed.reading.doubtful && parsed.reading.unclear);
            parsed
        }
        other => panic!("{} is {other:?}", String::from_utf8_lossy(bytes)),
    }
}

/// Checks a payload in which only the framing is repaired: its reading is that of the text that was meant.
#[track_caller]
fn check_framing(bytes: &[u8], meant: &str, kind: RepairKind) {
    let item = only(bytes);
    assert!(item.repairs.contains(kind), "{:?}", item.repairs);
    let expected = parse(meant.as_bytes(), &format()).expect("the text that was meant is JSON");
    assert_eq!(reading_of(bytes), expected);
}

#[test]
fn framing_is_repaired_silently() {
    use RepairKind::{
        ByteOrderMark, ControlCharacter, LeadingZero, Padding, SeveralObjects, SingleByteText,
        Utf16,
    };
    let base = base();
    let text = base.as_bytes();
    let around = |before: &[u8], after: &[u8]| [before, text, after].concat();
    check_framing(&around(b"\xEF\xBB\xBF", b""), &base, ByteOrderMark);
    check_framing(&around(b"", b"\0"), &base, Padding);
    check_framing(&around(b"", b"\n\0\0\r\n"), &base, Padding);
    check_framing(&around(b"\0 \0", b""), &base, Padding);
    check_framing(&around(b"[", b"]"), &base, SeveralObjects);
    check_framing(&around(b"[ ", b" ]\0"), &base, Padding);
    for (little, mark) in [
        (true, &b"\xFF\xFE"[..]),
        (false, b"\xFE\xFF"),
        (true, b""),
        (false, b""),
    ] {
        let units = base.encode_utf16().flat_map(|unit| {
            if little {
                unit.to_le_bytes()
            } else {
                unit.to_be_bytes()
            }
        });
        let bytes: Vec<u8> = mark.iter().copied().chain(units).collect();
        check_framing(&bytes, &base, Utf16);
    }
    let name = |name: &[u8]| {
        let (start, end) = base.split_once("Hall").expect("the name");
        [start.as_bytes(), name, end.as_bytes()].concat()
    };
    let meant = |name: &str| base.replace("Hall", name);
    check_framing(&name(b"Hall\t1"), &meant("Hall\\t1"), ControlCharacter);
    check_framing(
        &name(b"Hall\n\x011"),
        &meant("Hall\\n\\u00011"),
        ControlCharacter,
    );
    check_framing(&name(b"Hall \xB3\xB0"), &meant("Hall ³°"), SingleByteText);
    check_framing(
        &name(b"Hall \x80 \xC2\xB3"),
        &meant("Hall € ³"),
        SingleByteText,
    );
    let number = |number: &str| base.replace("1200", number).into_bytes();
    check_framing(&number("01200"), &base, LeadingZero);
    check_framing(&number("00001200"), &base, LeadingZero);
    let negative = base.replace("1200", "-7");
    check_framing(&number("-007"), &negative, LeadingZero);
    let unit =
        br#"{"OTSM-2 Serial Number":"A","Unit of Measurement":"mg/m\xB3","Sensor Reading":1}"#;
    let unit: Vec<u8> = unit.to_vec();
    let unit = String::from_utf8(unit)
        .expect("ASCII")
        .replace("\\xB3", "\u{B3}");
    let latin: Vec<u8> = unit
        .chars()
        .map(|c| u8::try_from(u32::from(c)).expect("Latin-1"))
        .collect();
    assert_eq!(reading_of(&latin).reading.unit, "mg/m³");
    assert!(!reading_of(&latin).reading.doubtful);
}

#[test]
fn text_padded_with_nul_is_trimmed() {
    let bytes = b"{\"OTSM-2 Serial Number\":\"A\",\"Unit of Measurement\":\"ppm\0\0\",\"Sensor Reading\":1,\"Parameters\":{\"Sensor Fault\0\":\"OFF\0\"}}";
    let parsed = reading_of(bytes);
    assert_eq!(parsed.reading.unit, "ppm");
    assert_eq!(parsed.reading.sensor_fault, Decimal::ZERO);
    assert!(!parsed.reading.doubtful);
}

/// Checks a repair that makes the reading uncertain.
#[track_caller]
fn check_repair(text: &str, value: Option<&str>, repair: Repair, kind: RepairKind) {
    let item = only(text.as_bytes());
    assert!(item.repairs.contains(kind), "{text}: {:?}", item.repairs);
    let parsed = reading_of(text.as_bytes());
    assert_eq!(parsed.reading.value, value.map(dec), "{text}");
    assert_eq!(parsed.facts.repair, repair, "{text}");
    assert!(parsed.reading.doubtful, "{text}");
    assert_eq!(parsed.reading.unclear, repair == Important, "{text}");
}

/// Every key of the base, with its value, and what a repair there amounts to.
const PLACES: [(&str, &str, Repair); 10] = [
    (r#""Device Alias Name":"#, r#""Hall""#, Unimportant),
    (r#""Gas":"#, r#""CO""#, Important),
    (r#""timestamp":"#, r#""2026-01-28 11:37:12""#, Important),
    (r#""lat":"#, r#""1.5""#, Unimportant),
    (r#""Live Sensor Readings ":"#, "1200", Important),
    (r#""Alarm Level A1":"#, "250", Important),
    (r#""Alarm 1 LED Status":"#, "1", Important),
    (r#""Sensor Fault":"#, "0", Important),
    (r#""A1Siren":"#, "0", Unimportant),
    (r#""Temperature":"#, "7", Unimportant),
];

#[test]
fn a_word_or_nothing_in_place_of_a_value_is_null_at_every_key() {
    for (key, value, repair) in PLACES {
        for word in [
            "nan",
            "NaN",
            "-nan",
            "inf",
            "-Infinity",
            "ovf",
            "OVER",
            "---",
            "1.#QNAN",
            "",
        ] {
            let text = base().replace(&format!("{key}{value}"), &format!("{key}{word}"));
            let kind = if word.is_empty() {
                RepairKind::EmptyValue
            } else {
                RepairKind::BareWord
            };
            let value = (!key.contains("Live")).then_some("1200");
            check_repair(&text, value, repair, kind);
        }
    }
}

#[test]
fn a_word_in_place_of_a_setting_with_a_last_known_value_is_a_habit() {
    for key in ["A1Hysterysis", "A3Hysterysis", "A1Latching", "A2Latching"] {
        for word in ["nan", "--", "Yes", ""] {
            let text = base().replace(r#""Temperature":7"#, &format!(r#""{key}":{word}"#));
            let kind = if word.is_empty() {
                RepairKind::EmptyValue
            } else {
                RepairKind::BareWord
            };
            check_repair(&text, Some("1200"), Unimportant, kind);
        }
    }
}

#[test]
fn a_word_in_place_of_a_lamp_or_fault_sets_it() {
    for word in ["ON", "TRUE", "FAULT", "nan", "True"] {
        let text = base().replace(r#""Sensor Fault":0"#, &format!(r#""Sensor Fault":{word}"#));
        assert!(reading_of(text.as_bytes()).reading.has_fault(), "{word}");
    }
    for word in ["OFF", "normal", "NULL", ""] {
        let text = base().replace(r#""Sensor Fault":0"#, &format!(r#""Sensor Fault":{word}"#));
        assert!(!reading_of(text.as_bytes()).reading.has_fault(), "{word}");
    }
}

#[test]
fn a_comma_too_many_belongs_to_the_keys_beside_it() {
    for (key, value, repair) in PLACES {
        let entry = format!("{key}{value}");
        // Both neighbours count, and the base has an important one beside every other key but these.
        let (doubled, repair) = (format!("{entry},"), repair);
        let text = base().replace(&entry, &doubled);
        let next_is_important = ["Alias", "lat"].iter().any(|name| key.contains(name));
        let expected = if next_is_important { Important } else { repair };
        check_repair(&text, Some("1200"), expected, RepairKind::Comma);
    }
    let trailing = |text: String| check_repair(&text, Some("1200"), Unimportant, RepairKind::Comma);
    trailing(base().replace(r#""Temperature":7"#, r#""Temperature":7,"#));
    trailing(base().replace(r#""Temperature":7"#, r#""Temperature":[7,]"#));
    trailing(base().replace(r#""Temperature":7"#, r#""Temperature":{"a":1,,"b":2}"#));
    // One comma before the end belongs to no key.
    trailing(base().replace("}}", ",}}"));
    trailing(base().replace("}}", "},}"));
    let important = |text: String| check_repair(&text, Some("1200"), Important, RepairKind::Comma);
    important(base().replace(
        r#""Sensor Fault":0,"A1Siren":0,"Temperature":7}"#,
        r#""Sensor Fault":0,,}"#,
    ));
    important(base().replace(r#"{"OTSM"#, r#"{,"OTSM"#));
}

#[test]
fn a_bare_point_or_a_plus_sign_is_repaired() {
    for (number, value) in [
        ("1200.", "1200"),
        ("+1200", "1200"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
    ] {
        let text = base().replace("1200", number);
        check_repair(&text, Some(value), Important, RepairKind::PointOrSign);
        let text = base().replace(r#""Temperature":7"#, &format!(r#""Temperature":{number}"#));
        check_repair(&text, Some("1200"), Unimportant, RepairKind::PointOrSign);
    }
}

#[test]
fn other_bytes_around_the_object_make_it_uncertain() {
    for (before, after, repair) in [
        ("", "\u{1a}*5A", Unimportant),
        ("", "OK", Unimportant),
        ("AT+", "", Unimportant),
        ("", "}", Important),
        ("", "]", Important),
        ("", r#"eadings ":5,"Sensor Fault":1}}"#, Important),
        ("\u{a0}", "", Unimportant),
    ] {
        let text = format!("{before}{}{after}", base());
        check_repair(&text, Some("1200"), repair, RepairKind::OtherBytes);
    }
    let text = base().replace(r#""Gas""#, "\u{1}\"Gas\"");
    check_repair(&text, Some("1200"), Important, RepairKind::OtherBytes);
}

#[test]
fn an_escape_that_is_no_character_is_repaired_outside_of_the_serial() {
    for escape in [
        r"\ud83d",
        r"\udc00",
        r"\ud83d\u0041",
        r"\x41",
        r"\u12",
        r"C:\Q",
    ] {
        let name = base().replace("Hall", escape);
        check_repair(&name, Some("1200"), Unimportant, RepairKind::Escape);
        let gas = base().replace(r#""CO""#, &format!("\"{escape}\""));
        check_repair(&gas, Some("1200"), Important, RepairKind::Escape);
        let serial = base().replace("OTSM-1", &format!("OTSM-1{escape}"));
        let item = only(serial.as_bytes());
        assert!(matches!(item.content, ItemContent::Refused(_)), "{serial}");
    }
}

#[test]
fn half_a_character_in_utf_16_damages_the_text_that_has_it() {
    let with_half = |at: &str| {
        let base = base();
        let (start, end) = base.split_once(at).expect("the text");
        let start = start.encode_utf16().chain(at.encode_utf16());
        let units = start.chain([0xd800]).chain(end.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
    };
    let of_name = with_half("Hall");
    let item = only(&of_name);
    assert!(matches!(item.content, ItemContent::Reading(_)), "{item:?}");
    let of_serial = with_half("OTSM-1");
    let item = only(&of_serial);
    assert!(matches!(item.content, ItemContent::Refused(_)), "{item:?}");
}

#[test]
fn a_damaged_serial_touches_no_device() {
    let base = base();
    let (start, end) = base.split_once("OTSM-1").expect("the serial");
    for serial in [
        &b"OTSM-\xFF1"[..],
        b"OTSM-1\0",
        b"OTSM\t-1",
        b"OTSM-1\\x",
        b"OTS\"M-1",
        b"OTSM-1,",
    ] {
        for cut in [0, 2, 40] {
            let mut bytes = [start.as_bytes(), serial, end.as_bytes()].concat();
            bytes.truncate(bytes.len() - cut);
            if serial.ends_with(b",") {
                // The closing quote is lost.
                let at = start.len() + serial.len();
                bytes.remove(at);
            }
            for item in read_items(&bytes) {
                let is_refused = matches!(item.content, ItemContent::Refused(_));
                assert!(is_refused, "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

#[test]
fn a_payload_cut_off_keeps_what_is_complete() {
    let base = base();
    let cut = |after: &str| {
        let end = base.find(after).expect("the text") + after.len();
        unreadable(&base.as_bytes()[..end])
    };
    // A number at the very end may have had more digits.
    assert!(
        cut(r#""Live Sensor Readings ":1200"#)
            .facts
            .other_values
            .is_empty()
    );
    assert!(
        cut(r#""Live Sensor Readings ":12"#)
            .facts
            .other_values
            .is_empty()
    );
    let complete = cut(r#""Live Sensor Readings ":1200,"#);
    assert_eq!(complete.facts.other_values, [dec("1200")]);
    assert_eq!(complete.reading.gas_type, "CO");
    assert!(complete.reading.device_time.is_some());
    assert!(!cut(r#""Alarm 1 LED Status":1"#).reading.has_led());
    let lit = cut(r#""Alarm 1 LED Status":1,"#);
    assert!(lit.reading.has_led());
    assert_eq!(lit.reading.levels[0].level, Some(dec("250")));
    assert!(cut(r#""OTSM-1""#).facts.other_values.is_empty());
    let end = base.find("OTSM-1").expect("the serial") + 3;
    let item = only(&base.as_bytes()[..end]);
    assert!(matches!(item.content, ItemContent::Refused(_)));
}

#[test]
fn a_payload_with_a_fault_in_its_structure_keeps_what_is_complete() {
    for (what, faulty) in [
        ("no colon", base().replace(r#""Gas":"#, r#""Gas""#)),
        ("no comma", base().replace(r#""CO","#, r#""CO""#)),
        ("no quote", base().replace(r#""CO""#, r#""CO"#)),
        (
            "a decimal comma",
            base().replace(r#""Temperature":7"#, r#""Temperature":7,5"#),
        ),
        ("another bracket", base().replace(r#""CO""#, r#"["CO"}"#)),
        ("no first brace", base().replacen('{', "", 1)),
        (
            "no first quote",
            base().replacen(r#"{"Device"#, r"{Device", 1),
        ),
        (
            "deep nesting",
            base().replace(r#""CO""#, &format!("{}{}", "[".repeat(99), "]".repeat(99))),
        ),
    ] {
        let faulty = if what == "no first quote" {
            format!("{{x:1,{}", &faulty[1..])
        } else {
            faulty
        };
        let parsed = unreadable(faulty.as_bytes());
        assert_eq!(parsed.reading.device.as_str(), "OTSM-1", "{what}");
        assert_eq!(parsed.facts.other_values, [dec("1200")], "{what}");
        assert!(parsed.reading.has_led(), "{what}");
    }
    let comma = base().replace("1200", "1,200");
    assert!(unreadable(comma.as_bytes()).facts.other_values.is_empty());
}

#[test]
fn several_objects_are_taken_one_by_one() {
    let object = |serial: &str, value: u32| {
        format!(r#"{{"OTSM-2 Serial Number":"{serial}","Sensor Reading":{value}}}"#)
    };
    let (a, b, c) = (object("A", 1), object("B", 2), object("C", 3));
    for text in [
        format!("[{a},{b},{c}]"),
        format!("{a}{b}{c}"),
        format!("{a}\n{b}\r\n{c}\n"),
        format!("{a}\0{b}\0{c}\0"),
        format!(" [ {a} , {b} , {c} ] "),
    ] {
        let items = read_items(text.as_bytes());
        let found: Vec<_> = items
            .iter()
            .map(|item| match &item.content {
                ItemContent::Reading(parsed) => {
                    assert!(!parsed.reading.doubtful, "{text}");
                    (
                        parsed.reading.device.as_str(),
                        parsed.reading.value,
                        &*item.bytes,
                    )
                }
                other => panic!("{text}: {other:?}"),
            })
            .collect();
        let expected = [
            ("A", Some(dec("1")), a.as_bytes()),
            ("B", Some(dec("2")), b.as_bytes()),
            ("C", Some(dec("3")), c.as_bytes()),
        ];
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn one_broken_object_does_not_hide_the_others() {
    let object = |serial: &str| {
        format!(r#"{{"OTSM-2 Serial Number":"{serial}","Parameters":{{"Offset":7}}}}"#)
    };
    let broken = object("B").replace(r#""Offset":7"#, r#""Offset":7,"Gas" 5"#);
    let text = format!("[{},{broken},{}]", object("A"), object("C"));
    let items = read_items(text.as_bytes());
    let found: Vec<_> = items
        .iter()
        .map(|item| match &item.content {
            ItemContent::Reading(parsed) => (parsed.reading.device.as_str(), false),
            ItemContent::Unreadable(parsed, _) => (parsed.reading.device.as_str(), true),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, [("A", false), ("B", true), ("C", false)]);
    // An element that is no object is a dead letter of its own.
    let text = format!(r#"[5,{},"text",{}]"#, object("A"), object("C"));
    let refused = |item: &Item<'_>| matches!(item.content, ItemContent::Refused(_));
    let found: Vec<_> = read_items(text.as_bytes()).iter().map(refused).collect();
    assert_eq!(found, [true, false, true, false]);
}

#[test]
fn broken_bytes_that_name_two_detectors_give_neither_a_value() {
    let text = r#"{"OTSM-2 Serial Number":"A","Sensor Reading":5,"Para{"OTSM-2 Serial Number":"B","Sensor"#;
    let items = read_items(text.as_bytes());
    let named: Vec<_> = items
        .iter()
        .map(|item| match &item.content {
            ItemContent::Refused(PayloadError::SeveralSerials { .. }) => "refused",
            ItemContent::Named(parsed) => {
                assert_eq!(parsed.reading.value, None);
                assert!(parsed.facts.other_values.is_empty());
                parsed.reading.device.as_str()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(named, ["refused", "A", "B"]);
    // The second serial has no certain end.
    let text = r#"{"OTSM-2 Serial Number":"A","Sensor Reading" 5,"OTSM-2 Serial Number":"B"x"#;
    assert!(matches!(
        only(text.as_bytes()).content,
        ItemContent::Refused(PayloadError::DoubtfulSerial(_))
    ));
    // The second is complete: it is read, and the first is unreadable.
    let text = r#"{"OTSM-2 Serial Number":"A","Sensor Reading":5,"Para{"OTSM-2 Serial Number":"B","Sensor Reading":6}"#;
    let items = read_items(text.as_bytes());
    let [
        Item {
            content: ItemContent::Unreadable(first, _),
            ..
        },
        Item {
            content: ItemContent::Reading(second),
            ..
        },
    ] = items.as_slice()
    else {
        panic!("{items:?}");
    };
    assert_eq!(
        (
            first.reading.device.as_str(),
            second.reading.device.as_str()
        ),
        ("A", "B")
    );
    assert_eq!(first.facts.other_values, [dec("5")]);
    assert_eq!(second.facts.repair, Important);
}

#[test]
fn at_most_64_objects_are_taken() {
    let object = r#"{"OTSM-2 Serial Number":"A","Sensor Reading":5}"#;
    let items = |count: usize| format!("[{}]", vec![object; count].join(","));
    assert_eq!(read_items(items(64).as_bytes()).len(), 64);
    let text = items(100);
    let found = read_items(text.as_bytes());
    assert_eq!(found.len(), 65);
    let ItemContent::Unreadable(_, err) = &found[64].content else {
        panic!("{:?}", found[64]);
    };
    assert_eq!(err.to_string(), "the payload has more than 64 objects");
}

#[test]
fn a_payload_that_is_too_large_is_unreadable() {
    let large = base().replace("Hall", &"x".repeat(70_000));
    let item = only(large.as_bytes());
    let ItemContent::Unreadable(parsed, err) = item.content else {
        panic!("{:?}", item.content);
    };
    assert_eq!(err.reason().code(), "too_large");
    assert_eq!(parsed.facts.other_values, [dec("1200")]);
    // Only its beginning was kept.
    let beginning = &base().replace("Hall", "")[..200];
    let items = read_received(beginning.as_bytes(), 70_000, &format());
    assert!(matches!(items[0].content, ItemContent::Unreadable(..)));
    let nothing = read_received(b"{\"a\":1", 70_000, &format());
    assert!(matches!(
        nothing[0].content,
        ItemContent::Refused(PayloadError::TooLarge { .. })
    ));
}

#[test]
fn every_repair_at_once_is_linear() {
    // Each of these makes a reader that starts again and again take a long time. A test that does not end fails.
    for unit in [
        "{",
        "[",
        "{\"a\":",
        "{\"OTSM-2 Serial Number\":\"A\",",
        "\"Gas\":\"",
        "{\"a\":{},",
        "\\\"",
        ",",
        "\0",
        "{ ",
        "}",
    ] {
        let text = unit.repeat(65_000 / unit.len());
        let _items = read_items(text.as_bytes());
        let _items = read_items(format!("{{{text}").as_bytes());
    }
}

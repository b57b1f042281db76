//! Every way of cutting off the examples, and of changing one byte of them.

use shared::reading::Repair;

use super::*;

const EXAMPLES: [&str; 3] = [NEWEST, OLD, MIXED];

/// Bytes that noise and faulty firmware put into payloads.
const TYPICAL: &[u8] = b"\0\t\n \"\\{}[],:.-+0159eEnaA\x1a\x7f\xb0\xc2\xff";

/// Checks what must hold for any bytes. `original` is the example from which they were made.
#[track_caller]
fn check(bytes: &[u8], original: &Parsed, may_change_value: bool) {
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    for item in super::super::read(bytes, &format()) {
        match &item.content {
            ItemContent::Reading(parsed) => {
                let is_clean = parsed.facts.repair == Repair::None;
                if is_clean && !parsed.reading.doubtful && !may_change_value {
                    let has_value = parsed.reading.value.is_some();
                    let is_same = parsed.reading.value == original.reading.value;
                    assert!(
                        is_same || !has_value,
                        "{:?} in {}",
                        parsed.reading.value,
                        shown()
                    );
                }
                assert!(is_clean || parsed.reading.doubtful, "{}", shown());
            }
            ItemContent::Unreadable(parsed, _) => {
                // Whatever raises was in the payload.
                let device = &parsed.reading.device;
                assert_eq!(device, &original.reading.device, "{}", shown());
                if !may_change_value {
                    let mut others = parsed.facts.other_values.iter().copied().map(Some);
                    let is_same = others.all(|other| other == original.reading.value);
                    assert!(is_same, "{:?} in {}", parsed.facts.other_values, shown());
                }
            }
            ItemContent::Named(parsed) => {
                assert_eq!(parsed.facts.other_values, [], "{}", shown());
            }
            ItemContent::Refused(_) => {}
        }
        if !matches!(item.content, ItemContent::Refused(_)) {
            let json = serde_json::from_slice::<serde_json::Value>(item.json());
            assert!(json.is_ok(), "{}", shown());
        }
    }
}

/// Returns where the digits of the reading are.
fn digits_of_the_value(example: &str) -> std::ops::Range<usize> {
    let key = ["Live Sensor Readings \":", "\"Offset\":"];
    let found = key
        .iter()
        .find_map(|key| Some(example.find(key)? + key.len()));
    let start = found.expect("a reading");
    let length = example[start..].find(',').expect("the next key");
    start..start + length
}

#[test]
fn no_truncation_is_a_clean_reading() {
    for example in EXAMPLES {
        let example = example.trim_end();
        let original = parse(example.as_bytes(), &format()).expect("an example");
        let serial_end = example.find("OTSM-0114\"").expect("the serial") + "OTSM-0114\"".len();
        for end in 0..example.len() {
            for padding in ["", "\0\0\0", " ", "\r\n"] {
                let text = format!("{}{padding}", &example[..end]);
                let mut items = super::super::read(text.as_bytes(), &format());
                assert_eq!(items.len(), 1, "{text}");
                let has_serial = end >= serial_end;
                match items.remove(0).content {
                    ItemContent::Unreadable(..) => assert!(has_serial, "{text}"),
                    ItemContent::Refused(_) => assert!(!has_serial, "{text}"),
                    ItemContent::Reading(_) | ItemContent::Named(_) => panic!("{text}"),
                }
                check(text.as_bytes(), &original, false);
            }
        }
    }
}

#[test]
fn no_single_byte_makes_another_value() {
    for example in EXAMPLES {
        let example = example.trim_end();
        let original = parse(example.as_bytes(), &format()).expect("an example");
        let value = digits_of_the_value(example);
        let serial = example.find("OTSM-0114").expect("the serial");
        let serial = serial..serial + "OTSM-0114".len();
        for at in 0..=example.len() {
            // A changed serial that is a valid text cannot be distinguished from that of another device.
            if serial.contains(&at) || at == serial.end {
                continue;
            }
            let is_value = value.contains(&at);
            let (before, after) = example.as_bytes().split_at(at);
            for byte in TYPICAL {
                let inserted = [before, &[*byte], after].concat();
                check(&inserted, &original, is_value || at == value.end);
                if let Some((_, rest)) = after.split_first() {
                    let replaced = [before, &[*byte], rest].concat();
                    check(&replaced, &original, is_value || at == value.end);
                }
            }
            if let Some((_, rest)) = after.split_first() {
                check(&[before, rest].concat(), &original, is_value);
            }
        }
    }
}

#[test]
fn no_single_byte_in_the_serial_makes_a_clean_reading_unless_it_is_a_text() {
    for example in EXAMPLES {
        let start = example.find("OTSM-0114").expect("the serial");
        for at in start..start + "OTSM-0114".len() {
            for byte in b"\0\t\n\"\\\x7f\x80\xb0\xff" {
                let mut bytes = example.as_bytes().to_vec();
                bytes[at] = *byte;
                for item in super::super::read(&bytes, &format()) {
                    let is_refused = matches!(item.content, ItemContent::Refused(_));
                    assert!(is_refused, "{}", String::from_utf8_lossy(&bytes));
                }
            }
        }
    }
}

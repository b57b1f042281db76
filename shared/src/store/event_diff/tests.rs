use proptest::prelude::*;

use super::*;

fn event(seq: u32, value: &str, more: &str) -> String {
    format!(
        r#"{{"epoch":"c9051cfaf67d","seq":{seq},"at":17954660{seq:05},"alive":true,{more}"data":{{"deviceId":"OTSM-0114","data":{{"device_name":"Gas Sensor Block1","sensor_reading":{value},"offset":{value},"alarm_status":"NORMAL","processed_at":"2026-11-26T14:39:{:02}.308Z","data_quality":"good"}},"timestamp":"2026-11-26T14:39:{:02}.308Z","epoch":"c9051cfaf67d","seq":{seq},"age_ms":0}}}}"#,
        seq % 60,
        seq % 60
    )
}

#[track_caller]
fn round_trip(event: &str, whole: &str) -> Option<usize> {
    let diff = encode(event.as_bytes(), whole.as_bytes(), 3)?;
    assert_eq!(distance(&diff), Some(3));
    let read = decode(&diff, whole.as_bytes());
    assert_eq!(read.as_deref(), Some(event.as_bytes()), "{event}\n{whole}");
    Some(diff.len())
}

#[test]
fn an_event_that_repeats_most_of_another_is_short() {
    let whole = event(9, "12", "");
    let length = round_trip(&event(12, "105.25", ""), &whole).expect("a difference");
    assert!(length < 100, "{length} bytes");
    let length = round_trip(&whole, &whole).expect("a difference");
    assert!(length < 20, "{length} bytes");
}

#[test]
fn a_field_may_come_and_go() {
    let (without, with) = (
        event(12, "7", ""),
        event(13, "8", r#""measured_at":1795466059773,"#),
    );
    for (event, whole) in [(&without, &with), (&with, &without)] {
        let length = round_trip(event, whole).expect("a difference");
        assert!(length < 120, "{length} bytes");
    }
}

/// Differences are stored: their form must never change.
#[test]
fn the_form_is_frozen() {
    let (whole, event) = (
        r#"{"seq":9,"value":17,"unit":"ppm","name":"Block"}"#,
        r#"{"seq":10,"value":17,"unit":"ppm","name":"Block"}"#,
    );
    let diff = encode(event.as_bytes(), whole.as_bytes(), 1);
    let frozen = [1, 19, 86, 48, 96, 7, 1, 2, 49, 48, 40, 0, 0];
    assert_eq!(diff.as_deref(), Some(&frozen[..]));
}

#[test]
fn what_has_little_in_common_is_stored_whole() {
    let whole = event(9, "12", "");
    assert_eq!(encode(b"something else", whole.as_bytes(), 1), None);
    assert_eq!(encode(whole.as_bytes(), b"", 1), None);
    assert_eq!(encode(whole.as_bytes(), whole.as_bytes(), 0), None);
    let far = encode(whole.as_bytes(), whole.as_bytes(), MAX_DISTANCE + 1);
    assert_eq!(far, None);
}

#[test]
fn with_another_whole_event_nothing_is_read() {
    let whole = event(9, "12", "");
    let diff = encode(event(10, "13", "").as_bytes(), whole.as_bytes(), 1);
    let diff = diff.expect("a difference");
    let other = whole.replace("Block1", "Block2");
    assert_eq!(decode(&diff, other.as_bytes()), None);
    assert_eq!(decode(&diff, b""), None);
    for length in 0..diff.len() {
        assert_eq!(decode(&diff[..length], whole.as_bytes()), None, "{length}");
    }
}

/// A text that was changed here and there, with the text before.
fn pairs() -> impl Strategy<Value = (String, String)> {
    let piece = prop_oneof![
        "[a-z]{0,12}",
        Just(",\"seq\":".to_owned()),
        Just("}}".to_owned()),
        "[0-9]{1,14}",
        Just("\"ü€\"".to_owned()),
    ];
    let pieces = proptest::collection::vec((piece.clone(), piece, 0_u8..12), 0..40);
    pieces.prop_map(|pieces| {
        let (mut one, mut other) = (String::new(), String::new());
        for (first, second, kind) in pieces {
            match kind {
                0 => one.push_str(&first),
                1 => other.push_str(&first),
                2 => {
                    one.push_str(&first);
                    other.push_str(&second);
                }
                _ => {
                    one.push_str(&first);
                    other.push_str(&first);
                }
            }
        }
        (one, other)
    })
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_written((event, whole) in pairs()) {
        round_trip(&event, &whole);
    }

    #[test]
    fn bytes_of_anybody_are_no_event(
        diff in proptest::collection::vec(any::<u8>(), 0..64),
        whole in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assert_eq!(decode(&diff, &whole), None);
    }
}

use proptest::prelude::*;

use super::*;
use crate::position::Epoch;

fn device(serial: &str) -> DeviceId {
    serial.parse().expect("a serial")
}

#[test]
fn a_serial_cannot_forge_another_log_field() {
    assert_eq!(device("OTSM-0001").for_log(), "OTSM-0001");
    for forged in [
        "OTSM-0001 alarm.change=\"cleared\"",
        "OTSM\u{202e}1",
        "Büro",
    ] {
        let device = device(forged);
        let text = device.for_log();
        assert!(text.starts_with('"') && text.ends_with('"'), "{text}");
        assert!(!text.contains('\u{202e}'), "{text}");
    }
}

fn epoch() -> Epoch {
    "518f72d5b181".parse().expect("an epoch")
}

#[test]
fn an_ordinary_serial_stands_in_its_ids_as_it_is() {
    for serial in ["OTSM-0114", "otsm_7", "7", "_x41"] {
        let id = device(serial).unique_id("alarm1_", epoch(), 2);
        assert_eq!(id, format!("alarm1_{serial}_518f72d5b181_2"));
    }
}

#[test]
fn serials_that_differ_in_characters_an_id_cannot_have_get_different_ids() {
    let id = |serial| device(serial).unique_id("alarm1_", epoch(), 2);
    assert_eq!(
        id("OTSM\u{d0}7"),
        "alarm1_OTSM-7_518f72d5b181_2_x4f54534dc39037"
    );
    let serials = ["OTSM-7", "OTSM\u{d0}7", "OTSM/7", "OTSM 7", "OTSM.7"];
    let ids: std::collections::BTreeSet<String> = serials.into_iter().map(id).collect();
    assert_eq!(ids.len(), serials.len());
}

/// Each is refused by no release: a detector that is stored under such a serial goes on being heard.
#[test]
fn a_serial_with_characters_that_cannot_be_seen_is_a_device_of_its_own() {
    for (serial, in_a_log) in [
        ("OTSM\u{200b}-7", r#""OTSM\u{200b}-7""#),
        ("OTSM-7\u{202e}", r#""OTSM-7\u{202e}""#),
        ("OTSM\u{feff}-7", r#""OTSM\u{feff}-7""#),
        ("OTSM-7\u{e0041}", r#""OTSM-7\u{e0041}""#),
        ("OTSM\u{a0}7", r#""OTSM\u{a0}7""#),
        ("OTSM\u{2800}7", r#""OTSM\u{2800}7""#),
        ("Bu\u{308}ro", r#""Bu\u{308}ro""#),
        (r"OTSM\u{200b}-7", r#""OTSM\\u{200b}-7""#),
        ("Büro 'N' 7", r#""Büro 'N' 7""#),
    ] {
        let device = device(serial);
        assert_eq!(device.as_str(), serial);
        assert_eq!(device.for_log(), in_a_log);
    }
    assert_eq!(
        "OTSM\u{85}7".parse::<DeviceId>(),
        Err(DeviceIdError::ControlCharacter)
    );
}

#[test]
fn no_character_of_a_serial_reaches_a_log_unseen() {
    let all = (0..=u32::from(char::MAX)).filter_map(char::from_u32);
    for c in all {
        if let Ok(device) = format!("a{c}b").parse::<DeviceId>() {
            let text = device.for_log();
            let is_seen =
                |c: char| matches!(c, ' '..='~') || (c.is_alphanumeric() && !is_hidden(c));
            assert!(text.chars().all(is_seen), "{c:?}");
        }
    }
}

proptest! {
    /// Near each other: the same characters, as an id has them, or the end of an id as a part of the serial.
    #[test]
    fn two_serials_never_have_the_same_id(
        serials in prop::collection::vec("[-_xA\u{d0}/ .]{1,4}(_518f72d5b181_[0-9])?(_x[0-9a-f]{2,4})?", 2..40),
        prefixes in prop::collection::vec(prop::sample::select(vec!["alarm1_", "alarm_", "low_"]), 40),
    ) {
        let mut ids = std::collections::BTreeMap::new();
        for (serial, prefix) in serials.iter().zip(prefixes) {
            let Ok(device) = serial.parse::<DeviceId>() else {
                continue;
            };
            for number in [2, 20] {
                let id = device.unique_id(prefix, epoch(), number);
                prop_assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
                let of = (device.clone(), prefix, number);
                let known = ids.entry(id).or_insert_with(|| of.clone());
                prop_assert_eq!(&*known, &of);
            }
        }
    }

    #[test]
    fn any_two_serials_have_different_ids(one in "\\PC{1,20}", other in "\\PC{1,20}") {
        let (Ok(one), Ok(other)) = (one.parse::<DeviceId>(), other.parse::<DeviceId>()) else {
            return Ok(());
        };
        let same_id = one.unique_id("led_", epoch(), 7) == other.unique_id("led_", epoch(), 7);
        prop_assert_eq!(same_id, one == other);
    }

    /// Also of those whose text is what an escape looks like.
    #[test]
    fn two_serials_never_look_alike_in_a_log(
        one in "([A-Bu0-2{}\\\\\"' ]|\u{200b}|\u{202e}|\u{a0}|\u{308}|ü|\u{e0041}){1,5}",
        other in "([A-Bu0-2{}\\\\\"' ]|\u{200b}|\u{202e}|\u{a0}|\u{308}|ü|\u{e0041}){1,5}",
    ) {
        let (Ok(one), Ok(other)) = (one.parse::<DeviceId>(), other.parse::<DeviceId>()) else {
            return Ok(());
        };
        prop_assert_eq!(one.for_log() == other.for_log(), one == other);
        // The escapes can be read back.
        let text = one.for_log();
        let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
            prop_assert_eq!(&*text, one.as_str());
            return Ok(());
        };
        let mut serial = String::new();
        let mut rest = quoted.chars();
        while let Some(c) = rest.next() {
            match (c, (c == '\\').then(|| rest.next()).flatten()) {
                ('\\', Some('u')) => {
                    let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    serial.extend(code);
                }
                ('\\', Some(escaped)) => serial.push(escaped),
                (c, _) => serial.push(c),
            }
        }
        prop_assert_eq!(serial, one.as_str());
    }
}

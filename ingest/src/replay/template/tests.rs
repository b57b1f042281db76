use serde_json::json;

use super::*;

const NOON: &str = "2026-01-28T06:07:12Z";

fn placeholders(value: Option<&str>) -> Placeholders<'_> {
    Placeholders {
        device_time: Time::from_iso(NOON).unwrap(),
        time_text: None,
        utc_offset_seconds: 19_800,
        value,
    }
}

#[test]
fn placeholders_stand_for_the_time_of_the_device_and_the_value() {
    let filled = |text| fill(text, placeholders(Some("19.5")));
    for (text, expected) in [
        ("${time}", "2026-01-28 11:37:12"),
        (
            "${time-1d}|${time+2s}",
            "2026-01-27 11:37:12|2026-01-28 11:37:14",
        ),
        ("${iso+250ms}", "2026-01-28T06:07:12.250Z"),
        (r#"{"v":"${value}"}"#, r#"{"v":19.5}"#),
        ("no placeholder", "no placeholder"),
    ] {
        assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
    }
    for bad in ["${tim}", "${time", "${value}", "${time-1y}"] {
        assert!(filled(bad).is_err(), "{bad}");
    }
    assert!(fill(r#""${value}""#, placeholders(None)).is_err());
    let stopped = Placeholders {
        time_text: Some("1970-01-01 00:00:05"),
        ..placeholders(None)
    };
    assert_eq!(
        fill("${time-1d}", stopped).as_deref(),
        Ok("1970-01-01 00:00:05")
    );
}

#[test]
fn a_patch_changes_adds_and_removes_keys() {
    let mut target = json!({"a": 1, "p": {"x": 1, "y": 2}, "z": 0});
    merge(
        &mut target,
        json!({"p": {"x": 3, "y": null, "n": "new"}, "z": null}),
    );
    assert_eq!(target, json!({"a": 1, "p": {"x": 3, "n": "new"}}));
}

#[test]
fn edits_make_payloads_that_are_no_json() {
    let json = r#"{"v":1200}"#;
    let append = Edits {
        append: "\u{0}".to_owned(),
        ..Edits::default()
    };
    assert_eq!(edit(json, &append), Ok(b"{\"v\":1200}\0".to_vec()));
    let replace = |from: &str, to: &str| BTreeMap::from([(from.to_owned(), to.to_owned())]);
    let cut = Edits {
        replace: replace("1200", "01200"),
        cut_after: Some("012".to_owned()),
        ..Edits::default()
    };
    assert_eq!(edit(json, &cut), Ok(b"{\"v\":012".to_vec()));
    let latin = |to| Edits {
        replace: replace("v", to),
        encoding: Encoding::Latin1,
        ..Edits::default()
    };
    assert_eq!(edit(json, &latin("m³")), Ok(b"{\"m\xb3\":1200}".to_vec()));
    assert!(edit(json, &latin("€")).is_err());
    let missing = Edits {
        cut_after: Some("x".to_owned()),
        ..Edits::default()
    };
    assert!(edit(json, &missing).is_err());
}

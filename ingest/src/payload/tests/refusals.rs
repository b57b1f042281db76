//! What is refused, with which reason, and what is not.

use super::*;

#[test]
fn a_payload_that_cannot_be_parsed_is_refused_with_a_reason() {
    check_refused(
        b"\xff\xfe{}",
        "not_utf8",
        "the payload is not UTF-8 from byte 0 on",
    );
    for (text, position) in [
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        (r#"{"Parameters":{"Offset":NaN}}"#, "line 1 column 25"),
        (r#"{"Parameters":{"Offset":Infinity}}"#, "line 1 column 25"),
        (r#"{"a":1,}"#, "line 1 column 8"),
        (r#"{"a":1}}"#, "line 1 column 8"),
        (r#"{"a":1"#, "line 1 column 6"),
    ] {
        check_refused(
            text,
            "not_json",
            &format!("the payload is not JSON at {position}"),
        );
    }
    // If only the framing is repaired, what is missing is the serial.
    let missing = "`OTSM-2 Serial Number` is missing; there is no reading";
    for text in ["\u{feff}{}", r#"{"a":01}"#, "{\"a\":\"\u{1}\"}", " [{}] "] {
        check_refused(text, "missing_serial", missing);
    }
    for text in ["5", "[]", "null", "true", r#""text""#, "[7]"] {
        check_refused(text, "not_an_object", "the payload is not a JSON object");
    }
    let half = "a string of the payload has an unpaired surrogate";
    for text in [
        r#"{"a":"\ud83d"}"#,
        r#"{"a":"\ud83d\u0041"}"#,
        r#"{"\udc00":1}"#,
    ] {
        check_refused(text, "not_json", half);
    }
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(DEFAULT_MAX_PAYLOAD_BYTES));
    let message = "the payload has 65544 bytes, more than 65536";
    check_refused(long, "too_large", message);
}

#[test]
fn escapes_are_not_mistaken_for_structure() {
    let reading =
        with_root(r#""Device Alias Name":"\ud83d\ude00 \\\" [[[ \u005b \\ud83d","Sender":"\\""#);
    assert_eq!(reading.device_name, r#"😀 \" [[[ [ \ud83d"#);
    assert_eq!(reading.sender, r"\");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        payload(
            &format!(r#""x":{}{}"#, "[".repeat(depth), "]".repeat(depth)),
            "",
        )
    };
    read(&nested(31));
    check_refused(
        nested(32),
        "too_deep",
        "the payload is nested deeper than 32",
    );
    check_refused(
        nested(20_000),
        "too_deep",
        "the payload is nested deeper than 32",
    );
}

#[test]
fn hostile_serials_are_refused() {
    for (serial, code) in [
        (r#""""#, "bad_serial"),
        (r#""   ""#, "bad_serial"),
        (r#""\u0000""#, "bad_serial"),
        (r#""OTSM\n0114""#, "bad_serial"),
        (r#""OTSM\u007f""#, "bad_serial"),
        (r#""OTSM\u0085X""#, "bad_serial"),
        (r#""\u001b[2J""#, "bad_serial"),
        ("114", "bad_serial"),
        ("true", "bad_serial"),
        (r#"["OTSM-1"]"#, "bad_serial"),
        (r#"{"$ne":null}"#, "bad_serial"),
        ("null", "missing_serial"),
    ] {
        let text = format!(r#"{{"OTSM-2 Serial Number":{serial}}}"#);
        let err = parse(text.as_bytes(), &format()).expect_err("the serial is refused");
        assert_eq!(err.reason().code(), code, "{serial}");
    }
    let long = format!(r#"{{"OTSM-2 Serial Number":"{}"}}"#, "9".repeat(129));
    check_refused(
        long,
        "bad_serial",
        "`OTSM-2 Serial Number` is not usable; there is no reading",
    );
}

#[test]
fn unusual_serials_are_accepted() {
    for serial in [
        "__proto__",
        "constructor",
        "../../etc/passwd",
        "{p07}",
        "st:{p00}:device:x",
        "#",
        "+/+",
        "$share/x",
        "OTSM 1",
        "' OR 1=1 --",
        "<script>",
        "器材",
        "OTSM-0114_alerts",
        "*",
        // Each has been a serial since the first release.
        "OTSM\u{200b}-7",
        "\u{202e}7-MSTO",
        "OTSM-7\u{ad}\u{feff}",
        "OTSM-7\u{2028}\u{2029}x",
        "OTSM-7\u{e0041}",
        // Something on the way could not read a character. The device is none that another serial names.
        "OTSM\u{fffd}7",
    ] {
        let text = format!(r#"{{"OTSM-2 Serial Number":"{serial}"}}"#);
        assert_eq!(read(&text).device.as_str(), serial);
    }
}

#[test]
fn a_refusal_names_every_fault() {
    check_refused(
        r#"{"Date Time At Reading":"noon","Parameters":{"Offset":"ERR","Alarm Level A2":{},
            "A1Type":"?","Alarm 3 LED Status":{},"Unit of Measurement ":9}}"#,
        "missing_serial",
        "`OTSM-2 Serial Number` is missing; `Offset` is not a number; \
         `A1Type` is neither `High` nor `Low`; `Alarm Level A2` is not a number; \
         `Date Time At Reading` is not a date and time; \
         `Unit of Measurement ` is an unknown code; `Alarm 3 LED Status` is neither on nor off",
    );
}

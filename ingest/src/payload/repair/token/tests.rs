use super::*;

#[track_caller]
fn check(token: &str, json: Option<&str>, kinds: &[RepairKind]) {
    match (read(token.as_bytes()), json) {
        (Token::Value(found, framing, content), Some(json)) => {
            let found_kinds: Vec<_> = framing.into_iter().chain(content).collect();
            assert_eq!(
                (found.as_str(), found_kinds.as_slice()),
                (json, kinds),
                "{token}"
            );
            let parsed = serde_json::from_str::<&serde_json::value::RawValue>(&found);
            assert!(parsed.is_ok(), "{token} became {found}");
        }
        (Token::Word, None) => {}
        (found, json) => panic!("{token}: {found:?} instead of {json:?}"),
    }
}

#[test]
fn numbers_of_json_stay_as_they_are() {
    for number in [
        "0", "-0", "350", "19.5", "-2.50", "1e5", "1E+5", "1.5e-2", "0.0",
    ] {
        check(number, Some(number), &[]);
    }
    for word in ["true", "false", "null"] {
        check(word, Some(word), &[]);
    }
}

#[test]
fn leading_zeros_and_bare_points_and_signs_are_repaired() {
    use RepairKind::{LeadingZero, PointOrSign};
    check("01200", Some("1200"), &[LeadingZero]);
    check("-007", Some("-7"), &[LeadingZero]);
    check("00", Some("0"), &[LeadingZero]);
    check("00.5", Some("0.5"), &[LeadingZero]);
    check("01e2", Some("1e2"), &[LeadingZero]);
    check("1200.", Some("1200"), &[PointOrSign]);
    check(".5", Some("0.5"), &[PointOrSign]);
    check("-.5", Some("-0.5"), &[PointOrSign]);
    check("+5", Some("5"), &[PointOrSign]);
    check("1.e2", Some("1e2"), &[PointOrSign]);
    check("01200.", Some("1200"), &[LeadingZero, PointOrSign]);
}

#[test]
fn anything_else_is_a_word() {
    for word in [
        "nan",
        "NaN",
        "-nan",
        "inf",
        "-Infinity",
        "ovf",
        "OVER",
        "ON",
        "True",
        "NULL",
        "1.#QNAN",
        ".",
        "-",
        "--",
        "+-5",
        "-+5",
        "1e",
        "1e+",
        "e5",
        "0x10",
        "1_000",
        "350ppm",
        "1.2.3",
        "12-3",
        "5\0",
        "\u{1}5",
        "٣",
    ] {
        check(word, None, &[]);
    }
    assert_eq!(read(b"35\xB0"), Token::Word);
}

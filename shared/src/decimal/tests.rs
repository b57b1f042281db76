use super::*;

#[track_caller]
fn check(text: &str, printed: Option<&str>) {
    let parsed = text.parse::<Decimal>().ok();
    assert_eq!(parsed.map(|d| d.to_string()).as_deref(), printed, "{text}");
}

#[test]
fn the_complete_text_must_be_a_number() {
    check("350", Some("350"));
    check(" 19.5", Some("19.5"));
    check("350.0", Some("350"));
    check("1e3", Some("1000"));
    check("-0.5", Some("-0.5"));
    check("0.0000001", Some("0.0000001"));
    for unreadable in [
        "", " ", "350 ppm", "NaN", "inf", "-", "1e400", "1e13", "0x10", "1_000", "--1", "1.2.3",
        "e5",
    ] {
        check(unreadable, None);
    }
}

#[test]
fn json_has_neither_exponent_nor_trailing_zero() {
    for text in ["350", "19.5", "0.0000001", "-3"] {
        let decimal: Decimal = text.parse().expect("a number");
        assert_eq!(serde_json::to_string(&decimal).expect("serialises"), text);
        assert_eq!(
            serde_json::from_str::<Decimal>(text).expect("reads"),
            decimal
        );
    }
}

#[test]
fn a_percentage_is_exact() {
    let level: Decimal = "0.3".parse().expect("a number");
    let deadband = level.percent(Decimal::from_int(2));
    assert_eq!((level - deadband).to_string(), "0.294");
}

#[test]
fn scaling_down_moves_the_decimal_point() {
    let reading: Decimal = "195".parse().expect("a number");
    assert_eq!(reading.scale_down(1).to_string(), "19.5");
}

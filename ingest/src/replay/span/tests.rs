use super::*;

#[test]
fn a_time_has_one_or_more_parts() {
    for (text, millis) in [
        ("0s", 0),
        ("250ms", 250),
        ("3m5s", 185_000),
        ("1h30m", 5_400_000),
        ("2d1ms", 172_800_001),
        (" 4s ", 4000),
    ] {
        assert_eq!(parse(text), Ok(millis), "{text}");
    }
    for bad in [
        "",
        "5",
        "s",
        "-5s",
        "5 s",
        "5s3m",
        "5s5s",
        "1y",
        "99999999999999d",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_signed_time_may_go_back() {
    assert_eq!(parse_signed("-1d"), Ok(-86_400_000));
    assert_eq!(parse_signed("+90s"), Ok(90_000));
    assert_eq!(parse_signed("90s"), Ok(90_000));
    assert!(parse_signed("--1d").is_err());
}

#[test]
fn a_formatted_time_can_be_parsed_again() {
    for millis in [0, 1, 999, 1000, 61_001, 90_061_500, 172_800_000] {
        assert_eq!(parse(&format(millis)), Ok(millis), "{millis}");
    }
    assert_eq!(format(185_000), "3m5s");
}

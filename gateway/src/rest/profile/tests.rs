use super::*;

fn body(text: &str) -> ProfileBody {
    serde_json::from_str(text).unwrap()
}

#[test]
fn absent_and_null_are_two_things() {
    let body = body(r#"{"zone":null,"site":"Harbour"}"#);
    assert_eq!(body.name, None);
    assert_eq!(body.zone, Some(None));
    assert_eq!(body.site, Some(Some("Harbour".to_owned())));
}

#[test]
fn a_text_is_fit_for_a_screen() {
    assert_eq!(
        text("zone", "  Boiler room ", 64).unwrap(),
        Some("Boiler room".to_owned())
    );
    for nothing in ["", "  ", "\u{200b}"] {
        assert_eq!(text("zone", nothing, 64).unwrap(), None, "{nothing:?}");
    }
    assert!(text("zone", &"x".repeat(65), 64).is_err());
    assert!(text("zone", "a\u{7}b", 64).is_err());
}

#[test]
fn tags_are_compared_as_texts() {
    assert!(is_named(r#""a", W/"b""#, r#""b""#));
    assert!(is_named("*", r#""b""#));
    assert!(!is_named(r#""a""#, r#""b""#));
}

#[track_caller]
fn check_coordinates(before: &Profile, text: &str, expected: Result<Option<(&str, &str)>, &str>) {
    let changed = changed(before.clone(), &body(text));
    match (changed, expected) {
        (Ok(profile), Ok(expected)) => {
            let texts = profile.coordinates();
            let texts = texts.map(|(north, east)| (north.to_string(), east.to_string()));
            let expected = expected.map(|(north, east)| (north.to_owned(), east.to_owned()));
            assert_eq!(texts, expected, "{text}");
            assert_eq!(profile.latitude.is_some(), profile.longitude.is_some());
        }
        (Err(error), Err(expected)) => {
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        (changed, _) => panic!("{text}: {changed:?}"),
    }
}

#[test]
fn coordinates_are_kept_as_they_were_sent_and_come_in_pairs() {
    let nothing = Profile::default();
    let check = |text, expected| check_coordinates(&nothing, text, expected);
    check(
        r#"{"latitude":18.5,"longitude":-73.85674291}"#,
        Ok(Some(("18.5", "-73.85674291"))),
    );
    check(
        r#"{"latitude":-90,"longitude":180}"#,
        Ok(Some(("-90", "180"))),
    );
    check(
        r#"{"latitude":1e-3,"longitude":0.1}"#,
        Ok(Some(("0.001", "0.1"))),
    );
    // As a page computes it.
    check(
        r#"{"latitude":18.500000000000004,"longitude":0.30000000000000004}"#,
        Ok(Some(("18.5", "0.3"))),
    );
    check(
        r#"{"latitude":90.0001,"longitude":0}"#,
        Err("`latitude` is not a number from -90 to 90"),
    );
    check(
        r#"{"latitude":0,"longitude":-1e300}"#,
        Err("`longitude` is not a number from -180 to 180"),
    );
    check(r#"{"latitude":18.5}"#, Err("together"));
    check(r#"{"name":"Boiler"}"#, Ok(None));
    let set = changed(nothing.clone(), &body(r#"{"latitude":1,"longitude":2}"#)).expect("a pair");
    check_coordinates(&set, r#"{"name":"Boiler"}"#, Ok(Some(("1", "2"))));
    check_coordinates(&set, r#"{"latitude":3}"#, Ok(Some(("3", "2"))));
    check_coordinates(&set, r#"{"latitude":null,"longitude":null}"#, Ok(None));
    check_coordinates(&set, r#"{"longitude":null}"#, Err("together"));
    for text in [r#"{"latitude":"18.5"}"#, r#"{"latitude":[1]}"#] {
        assert!(serde_json::from_str::<ProfileBody>(text).is_err(), "{text}");
    }
}

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> DevicePattern {
    DevicePattern::parse(text).expect("a pattern")
}

#[test]
fn a_star_stands_for_any_characters() {
    for (text, device, matches) in [
        ("OTSM-0114", "OTSM-0114", true),
        ("OTSM-0114", "OTSM-01144", false),
        ("OTSM-0114", "OTSM-011", false),
        ("OTSM-0114", "otsm-0114", false),
        ("*", "OTSM-0114", true),
        ("OTSM-01*", "OTSM-01", true),
        ("OTSM-01*", "OTSM-0114", true),
        ("OTSM-01*", "OTSM-02", false),
        ("*-0114", "OTSM-0114", true),
        ("*-0114", "OTSM-0114-2", false),
        ("O*-*4", "OTSM-0114", true),
        ("O*-*4", "OTSM0114", false),
        // The two parts may not share a character.
        ("OTSM*M-1", "OTSM-1", false),
        ("a*a", "a", false),
        ("a**a", "aa", true),
        ("*ab*ab*", "abab", true),
        ("*ab*ab*", "aab", false),
        ("ü*", "übung", true),
    ] {
        assert_eq!(pattern(text).matches(device), matches, "{text} {device}");
    }
}

#[test]
fn a_pattern_that_no_device_can_match_is_none() {
    assert_eq!(DevicePattern::parse(""), None);
    assert_eq!(DevicePattern::parse(&"x".repeat(129)), None);
}

#[test]
fn whoever_changes_a_device_must_be_allowed_to_see_it() {
    let blind = Permission::with_all_devices(vec![Verb::Ack, Verb::Operate, Verb::Admin]);
    for verb in [Verb::Read, Verb::Ack, Verb::Operate, Verb::Admin] {
        assert!(!blind.allows(verb, "OTSM-0114"), "{verb:?}");
    }
    assert!(!blind.reads_all());
}

#[test]
fn only_a_star_alone_is_every_device() {
    let reading = |text| Permission::new(vec![Verb::Read], vec![pattern(text)]);
    assert!(reading("*").reads_all());
    assert!(!reading("OTSM-*").reads_all());
    assert!(!Permission::default().reads_all());
}

#[test]
fn a_permission_is_compared_by_what_may_be_read() {
    let reading = |texts: &[&str]| {
        let patterns = texts.iter().map(|text| pattern(text)).collect();
        Permission::new(vec![Verb::Read], patterns)
    };
    for (ours, theirs, covers) in [
        (&["*"][..], &["OTSM-*", "x"][..], true),
        (&["OTSM-*"], &["OTSM-01*", "OTSM-0200"], true),
        (&["OTSM-01*"], &["OTSM-*"], false),
        (&["OTSM-01*"], &["OTSM-01*"], true),
        (&["OTSM-01*"], &["OTSM-01*", "OTSM-02"], false),
        (&["a*b"], &["a*"], false),
        (&["a*"], &["a*b"], true),
        (&["a*", "b*"], &["b1", "a1"], true),
        (&[], &["a"], false),
        (&["a"], &[], true),
    ] {
        let found = reading(ours).reads_all_of(&reading(theirs));
        assert_eq!(found, covers, "{ours:?} {theirs:?}");
    }
    let blind = Permission::new(vec![Verb::Ack], vec![pattern("*")]);
    assert!(!blind.reads_all_of(&reading(&["a"])));
    assert!(reading(&[]).reads_all_of(&blind));
}

/// What the rule says, slowly.
fn matches_slowly(pattern: &[char], device: &[char]) -> bool {
    match pattern.split_first() {
        None => device.is_empty(),
        Some(('*', rest)) => (0..=device.len()).any(|skip| matches_slowly(rest, &device[skip..])),
        Some((first, rest)) => device.first() == Some(first) && matches_slowly(rest, &device[1..]),
    }
}

proptest! {
    #[test]
    fn a_pattern_matches_what_its_rule_says(text in "[ab*é]{1,8}", device in "[abé]{0,8}") {
        let (characters, wanted): (Vec<char>, Vec<char>) =
            (text.chars().collect(), device.chars().collect());
        let expected = matches_slowly(&characters, &wanted);
        prop_assert_eq!(pattern(&text).matches(&device), expected);
    }
}

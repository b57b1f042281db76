use super::*;

#[test]
fn a_report_without_the_version_of_its_rules_is_by_an_earlier_release() {
    let at = Time::from_millis(1_800_000_000_000);
    for (rules, is_present) in [
        (None, false),
        (Some("1 1800000000000"), true),
        (Some("2 1800000000000"), true),
        (Some("0 1800000000000"), false),
        // The replica went back to an earlier release, which does not write its rules.
        (Some("1 1799999999000"), false),
        (Some("1"), false),
        (Some("x 1800000000000"), false),
    ] {
        assert_eq!(has_present_rules(rules, at), is_present, "{rules:?}");
    }
}

use super::*;

#[track_caller]
fn check_location(latitude: &str, longitude: &str, expected: &str) {
    let text = |text: &str| Coordinate::Text(text.to_owned());
    assert_eq!(location(&text(latitude), &text(longitude)), expected);
}

#[test]
fn a_location_is_shown_only_if_both_coordinates_are_valid() {
    check_location("19.011545", "72.823872", "19.011545, 72.823872");
    check_location(" 19.0760 ", "-72.8777", "19.0760, -72.8777");
    check_location("00.00", "00.00", "");
    check_location("0.00", "0.00", "");
    check_location("0", "72.8", "0, 72.8");
    check_location("", "", "");
    check_location("19.0", "", "");
    check_location("north", "72.8", "");
    check_location("90.1", "0", "");
    check_location("0", "-180.5", "");
    let number = |text: &str| Coordinate::Number(text.parse().expect("a number"));
    assert_eq!(location(&number("19.5"), &number("72")), "19.5, 72");
}

use super::*;
use crate::test_setup;

fn dec(text: &str) -> Decimal {
    text.parse().expect("a number")
}

fn sent(latitude: Coordinate, longitude: Coordinate) -> Reading {
    Reading {
        latitude,
        longitude,
        ..test_setup::reading("OTSM-0114", 1)
    }
}

#[track_caller]
fn check_location(latitude: &str, longitude: &str, expected: &str) {
    let text = |text: &str| Coordinate::Text(text.to_owned());
    let reading = sent(text(latitude), text(longitude));
    let none = Profile::default();
    let location = Location::of(&none, &reading);
    assert_eq!(location.text(), expected);
    assert_eq!(location.degrees().is_some(), !expected.is_empty());
    assert_eq!(location.source, None);
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
    let number = |text: &str| Coordinate::Number(dec(text));
    let reading = sent(number("19.5"), number("72"));
    let none = Profile::default();
    assert_eq!(Location::of(&none, &reading).text(), "19.5, 72");
}

#[test]
fn what_an_operator_has_set_counts_instead_of_what_the_device_sends() {
    let reading = test_setup::reading("OTSM-0114", 1);
    let profile = Profile {
        latitude: Some(dec("18.5204")),
        longitude: Some(dec("73.8567")),
        ..Profile::default()
    };
    let location = Location::of(&profile, &reading);
    assert_eq!(location.text(), "18.5204, 73.8567");
    assert_eq!(location.degrees(), Some((dec("18.5204"), dec("73.8567"))));
    assert_eq!(location.source, Some("profile"));
    // Half of it is nothing.
    let half = Profile {
        longitude: None,
        ..profile
    };
    let location = Location::of(&half, &reading);
    assert_eq!(location.text(), "19.011545, 72.823872");
    assert_eq!(location.source, None);
}

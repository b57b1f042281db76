use shared::position::Position;
use shared::reading::{Coordinate, Reading};

use super::*;
use crate::feeds::row::Row;
use crate::test_setup::{self, SILENCE_LIMIT_MS};

const TAKEN: Time = Time::from_millis(1_769_600_232_000);

fn state(reading: Reading) -> DeviceState {
    test_setup::state(reading, Position::default(), TAKEN)
}

/// Where the device is in a row that was rendered so many milliseconds after its last message.
fn located(state: &DeviceState, profile: &Profile, age_ms: i64) -> Option<String> {
    let now = Time::from_millis(TAKEN.as_millis() + age_ms);
    let row = Row::of(state, profile, Some(TAKEN), now).expect("a reading");
    let row = row.with_location(state, profile, Some(TAKEN));
    row.location.map(|text| text.get().to_owned())
}

#[test]
fn a_location_has_the_fields_that_the_map_expects() {
    let state = state(test_setup::reading("OTSM-0114", 120));
    let expected = concat!(
        r#"{"deviceId":"OTSM-0114","name":"Gas Sensor Block1","latitude":19.011545,"longitude":72.823872,"#,
        r#""lastSeen":1769600232000,"isActive":true}"#
    );
    let none = Profile::default();
    assert_eq!(located(&state, &none, 0).as_deref(), Some(expected));
    let silent = located(&state, &none, SILENCE_LIMIT_MS + 1);
    let expected = expected.replace("true", "false");
    assert_eq!(silent.as_deref(), Some(&*expected));
    let profile = Profile {
        name: Some("Boiler".to_owned()),
        latitude: "18.5".parse().ok(),
        longitude: "-0.25".parse().ok(),
        ..Profile::default()
    };
    let text = located(&state, &profile, 0).expect("a location");
    assert!(
        text.contains(r#""name":"Boiler","latitude":18.5,"longitude":-0.25,"#),
        "{text}"
    );
}

#[test]
fn what_the_clock_says_of_a_location_is_what_it_would_be() {
    let none = Profile::default();
    let state = state(test_setup::reading("true}", 120));
    let row = Row::of(&state, &none, Some(TAKEN), TAKEN).expect("a reading");
    let row = row.with_location(&state, &none, Some(TAKEN));
    let device = "true}".parse().expect("a serial");
    let silent = row.when_stale(&device);
    let expected = located(&state, &none, SILENCE_LIMIT_MS + 1);
    let shown = |row: &Row| row.location.as_ref().map(|text| text.get().to_owned());
    assert_eq!(shown(&silent), expected);
    assert_eq!(shown(&silent.when_stale(&device)), expected);
}

#[test]
fn a_device_without_a_usable_place_is_nowhere() {
    let text = |text: &str| Coordinate::Text(text.to_owned());
    for (latitude, longitude) in [
        ("0.00", "0.00"),
        ("91", "0"),
        ("", "72.8"),
        ("north", "72.8"),
    ] {
        let reading = Reading {
            latitude: text(latitude),
            longitude: text(longitude),
            ..test_setup::reading("OTSM-0114", 120)
        };
        assert_eq!(located(&state(reading), &Profile::default(), 0), None);
    }
}

#[test]
fn an_update_has_the_time_at_which_it_is_sent() {
    let state = state(test_setup::reading("OTSM-0114", 120));
    let text = render(&state, &Profile::default(), None, true).expect("a location");
    let update = with_timestamp(&text, TAKEN);
    let expected = r#","isActive":true,"timestamp":"2026-01-28T11:37:12.000Z"}"#;
    assert!(update.get().ends_with(expected), "{update}");
}

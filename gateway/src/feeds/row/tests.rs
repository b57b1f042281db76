use serde_json::{Value, json};
use shared::alarm::Condition;
use shared::position::Position;
use shared::reading::Side;

use super::*;
use crate::test_setup::{self, SILENCE_LIMIT_MS};

const TAKEN: i64 = 1_769_600_232_000;

fn state(conditions: &[Condition]) -> DeviceState {
    let at = Time::from_millis(TAKEN);
    let position = Position {
        epoch: Epoch::from_bits(0x0123_4567_89ab),
        seq: 7,
    };
    let alarm = |condition: &Condition| Alarm::new("an_alarm".to_owned(), *condition, at, position);
    DeviceState {
        alarms: conditions.iter().map(alarm).collect(),
        ..test_setup::state(test_setup::reading("OTSM-0114", 120), position, at)
    }
}

fn row(state: &DeviceState, age_ms: i64) -> Row {
    let last = Some(Time::from_millis(TAKEN));
    Row::of(
        state,
        &Profile::default(),
        last,
        Time::from_millis(TAKEN + age_ms),
    )
    .expect("a reading")
}

fn object(row: &Row) -> Value {
    serde_json::from_str(row.text.get()).expect("an object")
}

#[test]
fn a_row_has_these_fields() {
    let row = row(&state(&[Condition::AlarmLevel1]), 0);
    let expected = concat!(
        r#"{"deviceId":"OTSM-0114","id":"OTSM-0114","status":"warning","alarm_status":"ALARM","data_quality":"good","offline":false,"#,
        r#""name":"Gas Sensor Block1","gas_type":"Carbon Monoxide (CO)","unit":"ppm","sensor_reading":120,"#,
        r#""lastSeen":"2026-01-28T11:37:12.000Z","timestamp":"2026-01-28T11:37:12.000Z","location":"19.011545, 72.823872","#,
        r#""latitude":"19.011545","longitude":"72.823872","span_high":2000,"span_low":0,"a1_level":250,"a2_level":500,"a3_level":1000,"#,
        r#""zone":null,"site":null,"alarms":1,"level":"A1","epoch":"0123456789ab","seq":7}"#
    );
    assert_eq!(row.text.get(), expected);
}

/// What its other fields do not say: by which sides the levels are judged, which of them are not used, how old the reading is.
#[test]
fn a_row_says_how_a_reading_is_judged_where_that_is_not_usual() {
    let state = state(&[]);
    let with = |change: &dyn Fn(&mut DeviceState)| {
        let mut state = state.clone();
        change(&mut state);
        object(&row(&state, 0))
    };
    let oxygen = with(&|state| {
        let latest = state.latest.as_mut().expect("a reading");
        latest.sides = [Side::Low, Side::Low, Side::High];
        latest.used = [true, true, false];
    });
    assert_eq!(oxygen["level_sides"], json!(["low", "low", null]));
    let unreadable = with(&|state| {
        let latest = state.latest.as_mut().expect("a reading");
        Arc::make_mut(&mut latest.reading).a1_type = "Left".to_owned();
    });
    assert_eq!(unreadable["level_sides"], json!(["high", "high", "high"]));
    let no_span = with(&|state| {
        let latest = state.latest.as_mut().expect("a reading");
        Arc::make_mut(&mut latest.reading).span_high = None;
    });
    assert_eq!(no_span["span_unknown"], true);
    assert_eq!(no_span["span_high"], 2000);
    let remembered = with(&|state| {
        let latest = state.latest.as_mut().expect("a reading");
        Arc::make_mut(&mut latest.reading).span_high = None;
        state.memory.span = [Some(Decimal::ZERO), Some(Decimal::from_int(25))];
    });
    assert_eq!(remembered.get("span_unknown"), None);
    assert_eq!(remembered["span_high"], 25);
    let rare = with(&|state| state.memory.silence_limit_ms = 900_000);
    assert_eq!(rare["silence_limit_ms"], 900_000);
    for (age_ms, expected) in [
        (Some(999), None),
        (Some(1000), Some("2026-01-28T11:37:11.000Z")),
        (None, None),
    ] {
        let older = with(&|state| state.latest.as_mut().expect("a reading").age_ms = age_ms);
        assert_eq!(older.get("reading_at").and_then(Value::as_str), expected);
    }
}

#[test]
fn a_row_has_the_coordinates_of_the_profile_and_says_so() {
    let profile = Profile {
        latitude: "18.5".parse().ok(),
        longitude: "73.856".parse().ok(),
        ..Profile::default()
    };
    let at = Time::from_millis(TAKEN);
    let row = Row::of(&state(&[]), &profile, Some(at), at).expect("a reading");
    let expected = r#""location":"18.5, 73.856","latitude":18.5,"longitude":73.856,"#;
    assert!(row.text.get().contains(expected), "{}", row.text);
    assert!(row.text.get().ends_with(r#""seq":7,"place":"profile"}"#));
    assert_eq!(object(&row)["place"], "profile");
}

/// What the clock says of a row is what it would be if it were rendered then.
#[test]
fn a_row_becomes_that_of_a_silent_device_when_its_time_has_come() {
    for conditions in [
        &[][..],
        &[Condition::AlarmLevel1],
        &[Condition::AlarmLevel3, Condition::SensorFault],
        &[Condition::SettingChanged],
    ] {
        let state = state(conditions);
        let fresh = row(&state, 0);
        let at = fresh.goes_stale_at.expect("it is fresh");
        assert_eq!(at, Time::from_millis(TAKEN + SILENCE_LIMIT_MS + 1));
        assert!(row(&state, SILENCE_LIMIT_MS).goes_stale_at.is_some());
        let silent = row(&state, SILENCE_LIMIT_MS + 1);
        assert_eq!(silent.goes_stale_at, None);
        let by_the_clock = fresh.when_stale(&"OTSM-0114".parse().unwrap());
        assert_eq!(by_the_clock.text.get(), silent.text.get(), "{conditions:?}");
        assert_eq!(by_the_clock.status, silent.status);
        assert_eq!(object(&silent)["data_quality"], "offline");
        assert_eq!(object(&silent)["alarm_status"], "ALARM");
        let again = by_the_clock.when_stale(&"OTSM-0114".parse().unwrap());
        assert_eq!(again.text.get(), silent.text.get());
    }
}

#[test]
fn the_level_is_the_highest_that_stands() {
    use Condition as C;
    for (conditions, expected) in [
        (&[][..], Value::Null),
        (&[C::SettingChanged, C::Babbling], Value::Null),
        (&[C::DeviceOffline], "fault".into()),
        (&[C::SensorFault, C::AlarmLevel1], "A1".into()),
        (&[C::AlarmLevel2], "A2".into()),
        (&[C::AlarmLevel3, C::OverRange], "A3".into()),
    ] {
        assert_eq!(object(&row(&state(conditions), 0))["level"], expected);
    }
    let mut returned = state(&[C::AlarmLevel3]);
    returned.alarms[0].returned = true;
    assert_eq!(object(&row(&returned, 0))["level"], Value::Null);
    assert_eq!(object(&row(&returned, 0))["alarms"], 1);
}

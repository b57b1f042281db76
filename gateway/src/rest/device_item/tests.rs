use shared::alarm::{Alarm, Condition};
use shared::decimal::Decimal;
use shared::position::Position;
use shared::reading::Reading;

use super::*;
use crate::test_setup;

const TAKEN: i64 = 1_769_600_232_000;

fn reading() -> Reading {
    Reading {
        timestamp: Some("2026-01-28 11:37:12".to_owned()),
        ..test_setup::reading("OTSM-0114", 120)
    }
}

fn state(reading: Reading, alarms: &[Condition]) -> DeviceState {
    let taken_at = Time::from_millis(TAKEN);
    let alarm = |condition: &Condition| {
        Alarm::new(
            "an_alarm".to_owned(),
            *condition,
            taken_at,
            Position::default(),
        )
    };
    let position = Position {
        epoch: Epoch::from_bits(0x0123_4567_89ab),
        seq: 7,
    };
    DeviceState {
        alarms: alarms.iter().map(alarm).collect(),
        ..test_setup::state(reading, position, taken_at)
    }
}

#[track_caller]
fn check_status(state: &DeviceState, age_ms: i64, expected: DeviceStatus) {
    let last = Time::from_millis(TAKEN);
    let none = Profile::default();
    let item = DeviceItem::of(state, &none, Some(last), Time::from_millis(TAKEN + age_ms));
    let item = item.expect("the device has a reading");
    assert_eq!(item.status, expected, "{:?}", state.alarms);
    if expected != DeviceStatus::Online {
        return;
    }
    assert_eq!(item.alarm_status, "NORMAL");
}

#[test]
fn the_status_is_the_worst_of_what_is_known() {
    use Condition as C;
    let (fresh, stale) = (1000, 180_001);
    check_status(&state(reading(), &[]), fresh, DeviceStatus::Online);
    check_status(&state(reading(), &[]), 180_000, DeviceStatus::Online);
    check_status(&state(reading(), &[]), stale, DeviceStatus::Offline);
    check_status(
        &state(reading(), &[C::DeviceOffline]),
        fresh,
        DeviceStatus::Offline,
    );
    check_status(
        &state(reading(), &[C::AlarmLevel1]),
        fresh,
        DeviceStatus::Warning,
    );
    check_status(
        &state(reading(), &[C::AlarmLevel1]),
        stale,
        DeviceStatus::Warning,
    );
    for condition in [
        C::AlarmLevel2,
        C::AlarmLevel3,
        C::OverRange,
        C::SensorFault,
        C::ReadingInvalid,
    ] {
        check_status(
            &state(reading(), &[condition]),
            fresh,
            DeviceStatus::Critical,
        );
        check_status(
            &state(reading(), &[C::DeviceOffline, condition]),
            stale,
            DeviceStatus::Critical,
        );
    }
    let lit = Reading {
        leds: [Decimal::from_int(1), Decimal::ZERO, Decimal::ZERO],
        ..reading()
    };
    check_status(&state(lit.clone(), &[]), fresh, DeviceStatus::Warning);
    check_status(&state(lit, &[]), stale, DeviceStatus::Offline);
    let doubtful = Reading {
        doubtful: true,
        unclear: false,
        ..reading()
    };
    check_status(&state(doubtful, &[]), fresh, DeviceStatus::Warning);
}

#[test]
fn a_device_that_never_sent_a_live_message_is_not_online() {
    let state = state(reading(), &[]);
    let none = Profile::default();
    let item = DeviceItem::of(&state, &none, None, Time::from_millis(TAKEN)).expect("listed");
    assert_ne!(item.status, DeviceStatus::Online);
    assert_eq!(item.last_seen, None);
}

#[test]
fn an_item_has_the_documented_keys_in_order() {
    let state = state(reading(), &[Condition::AlarmLevel1]);
    let last = Time::from_millis(TAKEN + 500);
    let none = Profile::default();
    let item = DeviceItem::of(&state, &none, Some(last), Time::from_millis(TAKEN + 1000));
    let item = item.expect("the device has a reading");
    assert_eq!(
        serde_json::to_string(&item).expect("JSON"),
        concat!(
            r#"{"id":"OTSM-0114","device_id":"OTSM-0114","name":"Gas Sensor Block1","#,
            r#""type":"subtronics_gas_monitor","status":"warning","#,
            r#""last_update":"2026-01-28T11:37:12.000Z","#,
            r#""data":{"device_name":"Gas Sensor Block1","serial_number":"OTSM-0114","#,
            r#""gas_type":"Carbon Monoxide (CO)","timestamp":"2026-01-28 11:37:12","unit":"ppm","#,
            r#""message_type":"LOG DATA","sender":"Device","sensor_reading":120,"offset":120,"#,
            r#""alarm_status":"ALARM","span_high":2000,"span_low":0,"a1_level":250,"a2_level":500,"#,
            r#""a3_level":1000,"decimal_point":0,"a1_type":"High","a1_hysteresis":0,"a1_latching":0,"#,
            r#""a1_siren":0,"a1_buzzer":0,"alarm1_led":0,"alarm2_led":0,"alarm3_led":0,"#,
            r#""sensor_fault":0,"latitude":"19.011545","longitude":"72.823872","#,
            r#""processed_at":"2026-01-28T11:37:12.000Z","data_quality":"good"},"#,
            r#""alarm_status":"ALARM","deviceId":"OTSM-0114","sensorId":"OTSM-0114","#,
            r#""lastSeen":"2026-01-28T11:37:12.500Z","location":"19.011545, 72.823872","#,
            r#""icon":"bi bi-cloud-fog","metrics":[],"epoch":"0123456789ab","seq":7}"#,
        )
    );
}

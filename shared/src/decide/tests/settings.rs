//! Changed settings of a detector: nothing is lowered by them until somebody acknowledges the change.

mod first;

use std::sync::Arc;

use super::*;
use crate::reading::{Repair, Side};
use ChangeKind::{Acknowledged, Cleared, Escalated, Raised};
use Condition::{AlarmLevel1, SettingChanged};

/// A reading with a unit and a gas that the device has sent.
fn send(device: &mut TestDevice, reading: Reading) -> Decision {
    device.send_edited(reading, |message| {
        message.facts.unit_sent = true;
        message.facts.gas_sent = true;
        message.facts.decimal_point_sent = true;
    })
}

/// Sends a reading of a device whose payload has only these settings.
fn send_bare(device: &mut TestDevice, value: &str, edit: impl FnOnce(&mut Reading)) -> Decision {
    let mut bare = reading(Some(value));
    bare.levels = Default::default();
    bare.span_low = None;
    bare.span_high = None;
    edit(&mut bare);
    device.send_edited(bare, |message| {
        message.facts.unit_sent = false;
        message.facts.gas_sent = false;
    })
}

#[test]
fn a_gas_alarm_stands_until_the_change_is_acknowledged() {
    type Edit = fn(&mut Reading);
    let cases: [(&str, &str, Edit, &str); 9] = [
        (
            "300",
            "5",
            |r| r.unit = "%LEL".to_owned(),
            "unit ppm to %LEL",
        ),
        (
            "300",
            "5",
            |r| r.gas_type = "Methane".to_owned(),
            "gas Carbon Monoxide (CO) to Methane",
        ),
        (
            "300",
            "280",
            |r| r.levels[0].level = Some(dec("25000")),
            "A1 level 250 to 25000",
        ),
        (
            "300",
            "5",
            |r| r.levels[0].latching = Some(dec("0")),
            "A1 latching on to off",
        ),
        (
            "300",
            "260",
            |r| r.levels[0].side = Some(Side::Low),
            "A1 type High to Low",
        ),
        (
            "300",
            "200",
            |r| r.levels[0].hysteresis = Some(dec("1")),
            "A1 hysteresis 60 to 1",
        ),
        (
            "2000",
            "1970",
            |r| r.span_high = Some(dec("3000")),
            "span high 2000 to 3000",
        ),
        (
            "300",
            "240",
            |r| r.span_low = Some(dec("10")),
            "span low 0 to 10",
        ),
        (
            "300",
            "300",
            |r| r.decimal_point = dec("1"),
            "decimal point 0 to 1",
        ),
    ];
    for (raising, back, edit, text) in cases {
        let reading_at = |value: &str| {
            edited(value, |reading| {
                reading.levels[0].latching = Some(dec("1"));
                for level in &mut reading.levels {
                    level.side = Some(Side::High);
                }
                reading.levels[0].hysteresis = Some(dec("60"));
            })
        };
        let mut device = TestDevice::new();
        send(&mut device, reading_at(raising));
        let before = device.stored.state.alarms.len();
        let mut changed = reading_at(back);
        edit(&mut changed);
        let decision = send(&mut device, changed.clone());
        let raised: Vec<_> = changes(&decision);
        assert!(
            raised.contains(&(Raised, SettingChanged)),
            "{text}: {raised:?}"
        );
        assert_eq!(
            device.stored.state.alarms.len(),
            before + 1,
            "{text}: {raised:?}"
        );
        let alarm = device.alarm(Kind::SettingChanged).expect("raised");
        assert_eq!(alarm.message, format!("Detector setting changed: {text}"));
        for _ in 0..3 {
            assert_eq!(rows(&send(&mut device, changed.clone())), 0, "{text}");
        }
        assert_eq!(device.stored.state.alarms.len(), before + 1, "{text}");
        assert_eq!(
            changes(&device.acknowledge_kind(Kind::SettingChanged)),
            [(Acknowledged, SettingChanged), (Cleared, SettingChanged)]
        );
    }
}

#[test]
fn after_the_acknowledgement_the_new_settings_govern() {
    let mut device = TestDevice::new();
    send(&mut device, reading(Some("300")));
    let higher = |value: &str| edited(value, |r| r.levels[0].level = Some(dec("400")));
    send(&mut device, higher("300"));
    assert_eq!(
        device.gas_alarm().and_then(|a| a.threshold),
        Some(dec("250"))
    );
    device.acknowledge_kind(Kind::SettingChanged);
    assert_eq!(
        changes(&send(&mut device, higher("300"))),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn an_open_alarm_shows_the_level_that_governs_it() {
    let mut device = TestDevice::new();
    send(&mut device, reading(Some("300")));
    let moved = |level: &str| edited("300", |r| r.levels[0].level = Some(dec(level)));
    send(&mut device, moved("280"));
    assert_eq!(
        device.gas_alarm().map(|a| a.message.as_str()),
        Some("Gas concentration above A1 threshold (250 ppm)"),
        "nobody has seen the change"
    );
    device.acknowledge_kind(Kind::SettingChanged);
    send(&mut device, moved("280"));
    assert_eq!(
        device.gas_alarm().map(|a| a.message.as_str()),
        Some("Gas concentration above A1 threshold (280 ppm)")
    );
    send(&mut device, moved("200"));
    assert_eq!(
        device.gas_alarm().and_then(|a| a.threshold),
        Some(dec("200")),
        "a more sensitive level governs at once"
    );
}

#[test]
fn a_level_in_another_unit_is_not_shown_in_the_unit_of_the_alarm() {
    let mut device = TestDevice::new();
    send(&mut device, reading(Some("300")));
    let other = edited("5", |r| {
        r.unit = "%LEL".to_owned();
        r.levels[0].level = Some(dec("20"));
    });
    send(&mut device, other);
    assert_eq!(
        device.gas_alarm().map(|a| a.message.as_str()),
        Some("Gas concentration above A1 threshold (250 ppm)")
    );
}

#[test]
fn absent_keys_and_first_values_are_no_change() {
    let mut device = TestDevice::new();
    let newest = |device: &mut TestDevice| {
        let reading = edited("10", |r| {
            r.span_low = None;
            r.span_high = None;
            r.gas_type = "Unknown Gas".to_owned();
            r.levels.iter_mut().for_each(|level| {
                level.side = None;
                level.hysteresis = None;
                level.latching = None;
            });
        });
        device.send_edited(reading, |message| message.facts.unit_sent = true)
    };
    let old = |device: &mut TestDevice| {
        let reading = edited("10", |r| {
            r.levels[0].side = Some(Side::High);
            r.levels[0].latching = Some(dec("0"));
        });
        send(device, reading)
    };
    for _ in 0..20 {
        assert_eq!(changes(&newest(&mut device)), []);
        assert_eq!(changes(&old(&mut device)), []);
    }
}

#[test]
fn further_changes_escalate_the_one_alarm() {
    let mut device = TestDevice::new();
    send(&mut device, reading(Some("10")));
    send(
        &mut device,
        edited("10", |r| r.levels[0].level = Some(dec("260"))),
    );
    let both = edited("10", |r| {
        r.levels[0].level = Some(dec("270"));
        r.levels[2].level = Some(dec("900"));
    });
    let decision = send(&mut device, both);
    assert_eq!(changes(&decision), [(Escalated, SettingChanged)]);
    assert_eq!(
        decision.changes[0].alarm.message,
        "Detector setting changed: A1 level 250 to 270, A3 level 1000 to 900"
    );
}

#[test]
fn two_detectors_with_one_serial_make_one_alarm_that_counts() {
    let mut device = TestDevice::new();
    let mut written = 0;
    for index in 0..100 {
        let level = if index % 2 == 0 { "250" } else { "280" };
        let reading = edited("10", |r| r.levels[0].level = Some(dec(level)));
        written += rows(&send(&mut device, reading));
    }
    assert_eq!(written, 3);
    let other_field = edited("10", |r| r.levels[1].level = Some(dec("700")));
    assert_eq!(
        changes(&send(&mut device, other_field)),
        [(Escalated, SettingChanged)],
        "another setting is told"
    );
}

#[test]
fn late_and_retained_readings_and_broken_payloads_change_no_settings() {
    let mut device = TestDevice::new();
    send(&mut device, reading(Some("300")));
    let higher = edited("300", |r| r.levels[0].level = Some(dec("290")));
    let late = device.send_edited(higher.clone(), |message| {
        let reading = Arc::make_mut(&mut message.reading);
        reading.device_time = Some(Time::from_millis(1_799_999_000_000));
    });
    assert_eq!(changes(&late), []);
    let retained = device.send_edited(higher.clone(), |message| message.retain = true);
    assert_eq!(changes(&retained), []);
    let repaired = device.send_edited(higher, |message| {
        message.facts.repair = Repair::Important;
    });
    assert_eq!(changes(&repaired), []);
    let alarm = device.gas_alarm().expect("open");
    assert_eq!(alarm.threshold, Some(dec("250")));
    assert_eq!(device.stored.state.memory.levels[0], Some(dec("250")));
}

#[test]
fn a_level_that_moves_nearer_governs_with_its_own_deadband() {
    let at = |value: &str, level: &str| edited(value, |r| r.levels[0].level = Some(dec(level)));
    // The deadband of the new level ends at 190, that of the earlier one at 237.5.
    for (values, is_open) in [
        (&["220", "197", "190"][..], true),
        (&["220", "189.9"], false),
        (&["197"], true),
        (&["190"], true),
        (&["189.9"], false),
    ] {
        let mut device = TestDevice::new();
        send(&mut device, at("300", "250"));
        for value in values {
            send(&mut device, at(value, "200"));
        }
        assert_eq!(device.gas_alarm().is_some(), is_open, "{values:?}");
    }
}

#[test]
fn of_two_low_levels_the_higher_one_governs() {
    let at = |level: &str| {
        edited("17", |r| {
            r.levels[0].level = Some(dec(level));
            r.levels[0].side = Some(Side::Low);
        })
    };
    let mut device = TestDevice::new();
    for (level, governing) in [("19.5", "19.5"), ("18", "19.5"), ("20", "20")] {
        send(&mut device, at(level));
        let alarm = device.alarm(Kind::GasLow).expect("open");
        assert_eq!(alarm.threshold, Some(dec(governing)), "{level}");
    }
}

#[test]
fn a_faulty_reading_switches_no_latching_off() {
    let latching = |value: &str, flag: &str| {
        edited(value, |r| {
            for level in &mut r.levels {
                level.latching = Some(dec(flag));
            }
        })
    };
    let mut device = TestDevice::new();
    let since = device.now;
    send(&mut device, latching("300", "1"));
    send(&mut device, latching("5", "1"));
    send(&mut device, latching("5", "0"));
    device.acknowledge_kind(Kind::SettingChanged);
    let mut faulty = latching("5", "0");
    faulty.sensor_fault = dec("1");
    send(&mut device, faulty);
    device.advance(10);
    assert_eq!(changes(&device.run_timer(since)), []);
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Latched));
}

#[test]
fn a_decimal_point_that_is_not_sent_is_no_change() {
    let mut device = TestDevice::new();
    send(&mut device, edited("10", |r| r.decimal_point = dec("1")));
    assert_eq!(changes(&send_bare(&mut device, "10", |_| ())), []);
    assert_eq!(
        device.stored.state.memory.decimal_point,
        Some(dec("1")),
        "it is still known"
    );
}

type Edit = fn(&mut Reading);
/// A name, the settings, the values sent with them, the setting that comes for the first time, and what is told of it.
type FirstSetting = (
    &'static str,
    Edit,
    &'static [&'static str],
    Edit,
    Option<&'static str>,
);

#[test]
fn a_setting_that_is_back_is_reported_with_the_value_in_between() {
    let with_a1 = |level: &str| edited("10", |r| r.levels[0].level = Some(dec(level)));
    let mut device = TestDevice::new();
    send(&mut device, with_a1("250"));
    let mut told = |level: &str| {
        send(&mut device, with_a1(level));
        let alarm = device.alarm(Kind::SettingChanged).expect("told");
        alarm.message.clone()
    };
    let of = |text: &str| format!("Detector setting changed: A1 level {text}");
    assert_eq!(told("-5"), of("250 to -5"));
    // The alarm that -5 has raised stands.
    assert_eq!(told("250"), of("250 to -5 and back to 250"));
    assert_eq!(told("250"), of("250 to -5 and back to 250"));
    assert_eq!(told("300"), of("250 to 300"));
    assert_eq!(told("250"), of("250 to 300 and back to 250"));
    let gas = device.gas_alarm().expect("it stands");
    assert_eq!(gas.threshold, Some(dec("-5")));
}

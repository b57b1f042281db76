//! Settings that a detector sends for the first time end no alarm that stands by what was assumed before.

use super::*;

#[test]
fn a_first_setting_does_not_end_an_alarm_that_stands_by_what_was_assumed() {
    type Edit = fn(&mut Reading);
    let cases: [(&str, Edit, &str, Edit, &str); 5] = [
        (
            "300",
            |_| (),
            "300",
            |r| r.levels[0].level = Some(dec("1000")),
            "A1 level 250 to 1000",
        ),
        (
            "1200",
            |r| r.levels[1].level = Some(dec("500")),
            "1200",
            |r| {
                r.levels[0].level = Some(dec("250"));
                r.levels[1].level = Some(dec("500"));
            },
            "A3 level 1000 to unused",
        ),
        (
            "300",
            |r| r.levels[0].level = Some(dec("250")),
            "300",
            |r| {
                r.levels[0].level = Some(dec("250"));
                r.levels[0].side = Some(Side::Low);
            },
            "A1 type High to Low",
        ),
        (
            "600",
            |r| {
                r.levels[0].level = Some(dec("250"));
                r.levels[0].latching = Some(dec("1"));
                r.levels[1].level = Some(dec("500"));
            },
            "300",
            |r| {
                r.levels[0].level = Some(dec("250"));
                r.levels[0].latching = Some(dec("1"));
                r.levels[1].level = Some(dec("500"));
                r.levels[1].latching = Some(dec("0"));
            },
            "A2 latching on to off",
        ),
        (
            "300",
            |r| r.levels[0].level = Some(dec("250")),
            "300",
            |r| r.levels[0].level = Some(dec("400")),
            "A1 level 250 to 400",
        ),
    ];
    for (raising, before, back, after, text) in cases {
        let mut device = TestDevice::new();
        send_bare(&mut device, raising, before);
        let condition = device.gas_alarm().expect(text).condition;
        for _ in 0..3 {
            send_bare(&mut device, back, after);
            let alarm = device
                .gas_alarm()
                .unwrap_or_else(|| panic!("{text}: ended"));
            assert_eq!(alarm.condition, condition, "{text}");
            let changed = device.alarm(Kind::SettingChanged).expect(text);
            assert!(
                changed.message.contains(text),
                "{text}: {}",
                changed.message
            );
        }
        device.acknowledge_kind(Kind::SettingChanged);
        let id = device.gas_alarm_id();
        device.acknowledge(&id);
        send_bare(&mut device, "5", after);
        send_bare(&mut device, "300", after);
        send_bare(&mut device, "30", after);
        assert_eq!(
            device.state_of(Kind::SettingChanged),
            None,
            "{text}: told again"
        );
    }
}

#[test]
fn a_first_unit_does_not_end_an_alarm_in_another_one() {
    let mut device = TestDevice::new();
    send_bare(&mut device, "300", |_| ());
    let other = |device: &mut TestDevice, unit: &str| {
        let mut bare = reading(Some("5"));
        bare.levels = Default::default();
        bare.unit = unit.to_owned();
        device.send_edited(bare, |message| message.facts.unit_sent = true)
    };
    other(&mut device, "%LEL");
    assert!(device.gas_alarm().is_some());
    let changed = device.alarm(Kind::SettingChanged).expect("told");
    assert_eq!(
        changed.message,
        "Detector setting changed: unit ppm to %LEL"
    );
    // The unit that was assumed all along, in other letters, is no change.
    let mut device = TestDevice::new();
    send_bare(&mut device, "300", |_| ());
    other(&mut device, " PPM");
    assert_eq!(device.state_of(Kind::SettingChanged), None);
    assert_eq!(device.gas_alarm_state(), None);
}

#[test]
fn a_first_setting_is_no_change_while_nothing_stands() {
    let mut device = TestDevice::new();
    send_bare(&mut device, "5", |_| ());
    send_bare(&mut device, "5", |r| {
        r.levels[0].level = Some(dec("1000"));
        r.levels[0].side = Some(Side::Low);
    });
    assert_eq!(device.state_of(Kind::SettingChanged), None);
}

#[test]
fn an_assumed_unit_is_not_learnt() {
    let first_unit = |device: &mut TestDevice| {
        let other = edited("5", |r| r.unit = "%LEL".to_owned());
        device.send_edited(other, |message| message.facts.unit_sent = true);
        device.state_of(Kind::SettingChanged)
    };
    let mut never_in_alarm = TestDevice::new();
    send_bare(&mut never_in_alarm, "5", |_| ());
    assert_eq!(first_unit(&mut never_in_alarm), None);
    let mut was_in_alarm = TestDevice::new();
    for value in ["300", "290", "5"] {
        send_bare(&mut was_in_alarm, value, |_| ());
    }
    assert!(was_in_alarm.gas_alarm().is_none());
    assert_eq!(first_unit(&mut was_in_alarm), None);
}

#[test]
fn a_first_span_low_does_not_end_a_value_over_range() {
    let only_high = |r: &mut Reading| {
        r.levels[0].level = Some(dec("250"));
        r.span_high = Some(dec("2000"));
    };
    let mut device = TestDevice::new();
    send_bare(&mut device, "2100", only_high);
    device.acknowledge_kind(Kind::OverRange);
    for _ in 0..3 {
        send_bare(&mut device, "10", |r| {
            only_high(r);
            r.span_low = Some(dec("3000"));
        });
        assert!(device.alarm(Kind::OverRange).is_some());
    }
    let changed = device.alarm(Kind::SettingChanged).expect("told");
    assert_eq!(
        changed.message,
        "Detector setting changed: span high 2000 to unused"
    );
}

#[test]
fn a_first_setting_is_reported_only_if_a_level_is_lost_by_it() {
    let a1 = |r: &mut Reading| r.levels[0].level = Some(dec("250"));
    let latching: Edit = |r| {
        r.levels[0].level = Some(dec("250"));
        r.levels[0].latching = Some(dec("1"));
        r.levels[1].level = Some(dec("500"));
    };
    let cases: [FirstSetting; 4] = [
        (
            "a level that does not latch",
            a1,
            &["300"],
            |r| r.levels[0].latching = Some(dec("0")),
            None,
        ),
        (
            "a latched one",
            latching,
            &["600", "5"],
            |r| r.levels[1].latching = Some(dec("0")),
            Some("A2 latching on to off"),
        ),
        (
            "one that is back and only chatters",
            |_| (),
            &["300", "5", "300", "5", "300", "5"],
            |r| r.levels[0].level = Some(dec("1000")),
            None,
        ),
        (
            "one that chatters and is not back",
            |_| (),
            &["300", "5", "300", "5", "300"],
            |r| r.levels[0].level = Some(dec("1000")),
            Some("A1 level 250 to 1000"),
        ),
    ];
    for (name, before, values, first, told) in cases {
        let mut device = TestDevice::new();
        for value in values {
            send_bare(&mut device, value, before);
        }
        assert!(device.gas_alarm().is_some(), "{name}");
        let last = values.last().expect("a value");
        send_bare(&mut device, last, |r| {
            before(r);
            first(r);
        });
        let message = device
            .alarm(Kind::SettingChanged)
            .map(|a| a.message.clone());
        let expected = told.map(|told| format!("Detector setting changed: {told}"));
        assert_eq!(message, expected, "{name}");
        assert!(device.gas_alarm().is_some(), "{name}");
    }
}

#[test]
fn a_first_decimal_point_lowers_nothing_and_a_first_unit_after_an_unreadable_one_is_no_change() {
    let mut device = TestDevice::new();
    send_bare(&mut device, "300", |_| ());
    let mut scaled = reading(Some("30"));
    scaled.levels = Default::default();
    scaled.decimal_point = dec("1");
    device.send_edited(scaled, |message| message.facts.decimal_point_sent = true);
    assert!(device.gas_alarm().is_some());
    let changed = device.alarm(Kind::SettingChanged).expect("told");
    assert_eq!(
        changed.message,
        "Detector setting changed: decimal point 0 to 1"
    );

    let mut device = TestDevice::new();
    send_bare(&mut device, "300", |r| r.unit = "unknown".to_owned());
    let mut bare = reading(Some("5"));
    bare.levels = Default::default();
    device.send_edited(bare, |message| message.facts.unit_sent = true);
    assert_eq!(device.state_of(Kind::SettingChanged), None);
    assert_eq!(device.gas_alarm_state(), None);
}

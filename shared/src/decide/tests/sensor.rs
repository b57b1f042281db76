//! Conditions without levels, and the readings that may end them.

use std::sync::Arc;

use super::*;
use crate::reading::Repair;
use crate::settings::ZeroLevel;
use ChangeKind::{Cleared, Raised, Returned};
use Condition::{AlarmLevel1, AlarmLevel2, LevelsUnknown, ReadingInvalid, SensorFault};

fn faulty(value: &str) -> Reading {
    edited(value, |reading| reading.sensor_fault = dec("1"))
}

fn set_message_type(reading: &mut Reading, text: &str) {
    text.clone_into(&mut reading.message_type);
}

/// A name, a reading, and what else its message says.
type Untrusted = (&'static str, Reading, fn(&mut Message<'static>));

/// Readings that may raise and never end anything, by name.
fn untrusted() -> Vec<Untrusted> {
    vec![
        ("faulty", faulty("5"), |_| ()),
        ("without a value", reading(None), |_| ()),
        ("over range", reading(Some("2000")), |_| ()),
        ("under range", reading(Some("-9999")), |_| ()),
        ("nearly under range", reading(Some("-60")), |_| ()),
        ("unclear", edited("5", |r| r.unclear = true), |_| ()),
        (
            "calibration",
            edited("5", |r| set_message_type(r, " Calibration ")),
            |_| (),
        ),
        (
            "bump test",
            edited("5", |r| set_message_type(r, "BUMP TEST")),
            |_| (),
        ),
        (
            "another unit",
            edited("5", |r| r.unit = "%LEL".into()),
            |m| {
                m.facts.unit_sent = true;
            },
        ),
        (
            "another gas",
            edited("5", |r| r.gas_type = "Methane".into()),
            |m| {
                m.facts.gas_sent = true;
            },
        ),
        ("repaired", reading(Some("5")), |m| {
            m.facts.repair = Repair::Important;
        }),
        ("repaired once", reading(Some("5")), |m| {
            m.facts.repair = Repair::Unimportant;
        }),
        ("unreadable", reading(None), |m| {
            m.facts.repair = Repair::Unreadable;
        }),
        ("late", reading(Some("5")), |m| {
            let reading = Arc::make_mut(&mut m.reading);
            reading.device_time = Some(Time::from_millis(1_799_999_000_000));
        }),
        ("retained", reading(Some("5")), |m| m.retain = true),
    ]
}

#[test]
fn an_untrusted_reading_ends_nothing() {
    let start = |device: &mut TestDevice| {
        device.send_edited(reading(Some("10")), |m| {
            m.facts.unit_sent = true;
            m.facts.gas_sent = true;
        });
        device.send_after(5, faulty("600"));
        device.send_after(5, reading(None));
    };
    for (name, reading, edit) in untrusted() {
        let mut device = TestDevice::new();
        start(&mut device);
        let decision = device.send_edited(reading, edit);
        let ended = decision
            .changes
            .iter()
            .find(|change| !matches!(change.kind, ChangeKind::Raised | ChangeKind::Escalated));
        assert_eq!(ended.map(|c| (c.kind, c.alarm.condition)), None, "{name}");
        for kind in [Kind::SensorFault, Kind::ReadingInvalid, Kind::GasHigh] {
            assert!(
                device.alarm(kind).is_some_and(Alarm::is_active),
                "{name}: {kind:?}"
            );
        }
    }
}

#[test]
fn a_repair_that_is_a_habit_may_lower() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let mut repaired = |kinds: u16| {
        let decision = device.send_edited(reading(Some("5")), |m| {
            m.facts.repair = Repair::Unimportant;
            m.facts.repair_kinds = kinds;
        });
        changes(&decision)
    };
    // Without a repair that all of them need there is no habit.
    for _ in 0..9 {
        assert_eq!(repaired(0b01), []);
        assert_eq!(repaired(0b10), []);
    }
    for _ in 0..9 {
        assert_eq!(repaired(0b11), []);
    }
    // One more repair is no habit.
    assert_eq!(repaired(0b110), []);
    assert_eq!(repaired(0b10), [(Cleared, AlarmLevel1)]);
}

#[test]
fn a_calibration_raises_and_lowers_nothing() {
    let mut device = TestDevice::new();
    device.send_value("600");
    let calibration = |value: &str| edited(value, |r| set_message_type(r, "CALIBRATION"));
    assert_eq!(changes(&device.send_after(5, calibration("0"))), []);
    let decision = device.send_after(5, calibration("1000"));
    assert_eq!(
        changes(&decision),
        [(ChangeKind::Escalated, Condition::AlarmLevel3)]
    );
}

#[test]
fn a_heartbeat_without_a_reading_is_a_sign_of_life_and_nothing_else() {
    let mut device = TestDevice::new();
    let since = device.now;
    device.send_value("600");
    let heartbeat = || {
        let mut heartbeat = reading(None);
        set_message_type(&mut heartbeat, "heartbeat");
        heartbeat
    };
    device.advance(100);
    let decision = device.send_after(5, heartbeat());
    assert_eq!(decision.outcome, Outcome::SignOfLife);
    assert_eq!(changes(&decision), []);
    assert!(decision.event.is_none() && decision.sample.is_none() && decision.alive);
    assert_eq!(device.quality(), Quality::Good);
    // It does not make the shown reading any fresher.
    device.advance(75);
    let decision = device.run_timer(since);
    assert_eq!(
        decision.changes[0].alarm.message,
        "No new reading from the detector for 180 s"
    );

    let mut with_key = TestDevice::new();
    with_key.send_value("10");
    let decision = with_key.send_edited(heartbeat(), |m| m.facts.has_value_key = true);
    assert_eq!(changes(&decision), [(Raised, ReadingInvalid)]);
}

#[test]
fn a_fault_never_hides_gas_and_ends_with_a_good_reading() {
    let mut device = TestDevice::new();
    device.send_value("600");
    assert_eq!(
        changes(&device.send_after(5, faulty("0"))),
        [(Raised, SensorFault)]
    );
    assert_eq!(
        changes(&device.send_value("0")),
        [(Cleared, SensorFault), (Returned, AlarmLevel2)]
    );
}

fn without_levels(value: &str) -> Reading {
    edited(value, |reading| reading.levels = Default::default())
}

#[test]
fn a_device_that_never_sent_a_level_is_not_normal() {
    let mut device = TestDevice::new();
    let decision = device.send_after(5, without_levels("12"));
    assert_eq!(changes(&decision), [(Raised, LevelsUnknown)]);
    assert_eq!(device.alarm_status(), "ALARM");
    assert_eq!(device.quality(), Quality::Uncertain);
    assert_eq!(
        changes(&device.send_value("12")),
        [(Cleared, LevelsUnknown)]
    );
    assert_eq!(changes(&device.send_after(5, without_levels("12"))), []);
    assert_eq!(device.quality(), Quality::Good);
}

#[test]
fn a_level_that_was_never_readable_is_unknown() {
    for unreadable in [
        [true, true, true],
        [true, false, false],
        [false, false, true],
    ] {
        let send = |device: &mut TestDevice| {
            let reading = edited("80", |r| {
                for (level, unreadable) in r.levels.iter_mut().zip(unreadable) {
                    level.level = level.level.filter(|_| !unreadable);
                }
            });
            device.send_edited(reading, |m| m.facts.levels_unreadable = unreadable)
        };
        let mut device = TestDevice::new();
        assert_eq!(changes(&send(&mut device)), [(Raised, LevelsUnknown)]);
        let mut known = TestDevice::new();
        known.send_value("10");
        assert_eq!(
            changes(&send(&mut known)),
            [],
            "the last known level applies"
        );
    }
}

#[test]
fn a_default_a1_beside_a_known_a2_is_uncertain() {
    let mut device = TestDevice::new();
    let a2_only = edited("10", |r| {
        r.levels[0].level = None;
        r.levels[2].level = None;
    });
    device.send_after(5, a2_only);
    assert_eq!(device.quality(), Quality::Uncertain);
}

#[test]
fn a_device_whose_levels_are_all_unused_is_not_normal() {
    let mut device = TestDevice::new();
    device.settings.zero_level = ZeroLevel::Unused;
    let unused = edited("1900", |r| {
        for level in &mut r.levels {
            level.level = Some(Decimal::ZERO);
        }
    });
    let decision = device.send_after(5, unused);
    assert_eq!(changes(&decision), [(Raised, LevelsUnknown)]);
    assert_eq!(device.alarm_status(), "ALARM");
}

/// Sends a reading with the device time of the one before, half a second later.
fn send_tie(device: &mut TestDevice, mut reading: Reading) -> Decision {
    device.now = device.now + Duration::from_millis(500);
    reading.device_time = Some(device.device_time);
    device.send_message(reading)
}

#[test]
fn a_tie_lowers_nothing_within_two_seconds_of_something_worse() {
    for (name, worse) in [
        ("within the deadband", reading(Some("240"))),
        ("faulty", faulty("5")),
        ("over range", reading(Some("2000"))),
        ("without a value", reading(None)),
    ] {
        let mut device = TestDevice::new();
        device.send_value("300");
        device.send_after(5, worse);
        let decision = send_tie(&mut device, reading(Some("5")));
        assert_eq!(changes(&decision), [], "{name}");
        assert!(device.gas_alarm().is_some_and(Alarm::is_active), "{name}");
    }
    let mut device = TestDevice::new();
    device.send_value("300");
    device.send_value("100");
    assert!(device.gas_alarm().is_none());
}

#[test]
fn a_device_without_a_clock_that_sends_every_second_can_clear() {
    let mut device = TestDevice::new();
    let send = |device: &mut TestDevice, value: &str| {
        device.advance(1);
        device.send_message(reading(Some(value)))
    };
    send(&mut device, "300");
    let ends: Vec<_> = (0..3).map(|_| changes(&send(&mut device, "5"))).collect();
    assert_eq!(ends[0], []);
    assert!(ends.concat().contains(&(Cleared, AlarmLevel1)), "{ends:?}");
}

/// Sends a message that was delivered before and is older than the latest.
fn send_proved_old(device: &mut TestDevice, mut reading: Reading, back_s: u64) -> Decision {
    device.advance(1);
    reading.device_time = Some(device.device_time - Duration::from_secs(back_s));
    device.send_redelivered(reading)
}

#[test]
fn a_message_proved_old_ends_only_what_it_raised() {
    let mut device = TestDevice::new();
    device.send_value("10");
    assert_eq!(
        changes(&send_proved_old(&mut device, reading(Some("300")), 60)),
        [(Raised, AlarmLevel1), (Cleared, AlarmLevel1)]
    );
    // A late reading stands until the next one in order. A redelivered message is not that.
    device.advance(1);
    let mut late = reading(Some("600"));
    late.device_time = Some(device.device_time - Duration::from_secs(50));
    assert_eq!(changes(&device.send_message(late)), [(Raised, AlarmLevel2)]);
    send_proved_old(&mut device, reading(Some("10")), 70);
    send_proved_old(&mut device, faulty("10"), 80);
    assert_eq!(
        device.gas_alarm_state(),
        Some(AlarmState::Unacknowledged),
        "nothing has denied it"
    );
}

#[test]
fn a_message_proved_old_does_not_forget_what_the_latest_payload_said() {
    let mut device = TestDevice::new();
    let unreadable = edited("10", |r| r.levels[2].level = None);
    device.send_edited(unreadable, |m| m.facts.levels_unreadable[2] = true);
    send_proved_old(&mut device, faulty("10"), 60);
    assert!(device.alarm(Kind::LevelsUnknown).is_some());
}

#[test]
fn the_timer_ends_nothing_after_an_untrusted_reading() {
    for (off_delay_s, is_back) in [(0, false), (30, false), (30, true)] {
        for (name, untrusted, edit) in untrusted() {
            if is_back && ["late", "retained"].contains(&name) {
                continue;
            }
            let mut device = TestDevice::new();
            device.settings.alarm_off_delay = Duration::from_secs(off_delay_s);
            let since = device.now;
            let mut send = |value: &str| {
                device.send_edited(reading(Some(value)), |m| {
                    m.facts.unit_sent = true;
                    m.facts.gas_sent = true;
                });
            };
            send("300");
            if is_back {
                send("100");
            }
            device.send_edited(untrusted, edit);
            device.advance(31);
            device.run_timer(since);
            assert!(
                device.gas_alarm().is_some_and(Alarm::is_active),
                "{name}, {off_delay_s} s, {is_back}"
            );
        }
    }
}

#[test]
fn a_late_reading_does_not_stop_an_off_delay() {
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_secs(30);
    let since = device.now;
    device.send_value("300");
    device.send_value("100");
    let (_, late, edit) = untrusted().remove(13);
    device.send_edited(late, edit);
    device.advance(25);
    assert_eq!(changes(&device.run_timer(since)), [(Cleared, AlarmLevel1)]);
}

#[test]
fn a_tie_ends_a_condition_two_seconds_after_it_was_seen() {
    for (pause_ms, is_ended) in [(1_999, false), (2_000, true)] {
        for (kind, seen) in [
            (Kind::LevelsUnknown, without_levels("5")),
            (Kind::SensorFault, faulty("5")),
            (Kind::GasHigh, reading(Some("300"))),
        ] {
            let mut device = TestDevice::new();
            device.send_message(seen);
            device.now = device.now + Duration::from_millis(pause_ms);
            let decision = device.send_message(reading(Some("5")));
            assert!(matches!(
                decision.outcome,
                Outcome::Message(crate::order::Class::Tie(_))
            ));
            let ended = device.alarm(kind).is_none();
            assert_eq!(ended, is_ended, "{kind:?} after {pause_ms} ms");
        }
    }
}

#[test]
fn a_tie_ends_no_fault_that_was_seen_again_or_before_a_value_over_range() {
    for (name, second) in [("faulty", faulty("5")), ("over", reading(Some("2000")))] {
        let mut device = TestDevice::new();
        device.send_after(5, faulty("5"));
        device.send_after(5, second);
        assert_eq!(
            changes(&send_tie(&mut device, reading(Some("5")))),
            [],
            "{name}"
        );
    }
}

#[test]
fn a_message_proved_old_is_denied_only_by_a_latest_reading_in_order() {
    type Prepare = fn(&mut TestDevice);
    let cases: [(&str, Prepare, bool); 6] = [
        ("in order", |_| (), true),
        (
            "behind a late reading that raised nothing",
            |device| {
                device.advance(1);
                let mut late = reading(Some("5"));
                late.device_time = Some(device.device_time - Duration::from_secs(40));
                device.send_message(late);
            },
            true,
        ),
        (
            "a tie",
            |device| {
                send_tie(device, reading(Some("10")));
            },
            false,
        ),
        (
            "of two values",
            |device| {
                device.send_edited(reading(Some("10")), |m| {
                    m.facts.other_values = vec![dec("20")];
                });
            },
            false,
        ),
        (
            "behind a retained reading that raised",
            |device| {
                device.send_edited(reading(Some("300")), |m| m.retain = true);
            },
            false,
        ),
        (
            "behind a repeated reading that raised",
            |device| {
                let mut ahead = reading(Some("300"));
                ahead.device_time = Some(device.device_time + Duration::from_hours(24));
                device.send_with_fingerprint(ahead.clone(), 900, false);
                for _ in 0..3 {
                    device.send_value("10");
                }
                device.advance(1);
                let decision = device.send_with_fingerprint(ahead, 900, false);
                let expected = Outcome::Message(crate::order::Class::Repeated);
                assert_eq!(decision.outcome, expected);
            },
            false,
        ),
    ];
    for (name, prepare, is_denied) in cases {
        let mut device = TestDevice::new();
        device.send_value("10");
        prepare(&mut device);
        send_proved_old(&mut device, reading(Some("300")), 60);
        assert_eq!(device.gas_alarm().is_none(), is_denied, "{name}");
    }
}

#[test]
fn what_an_old_message_raised_by_its_own_levels_ends_with_the_next_reading() {
    let mut device = TestDevice::new();
    device.send_value("10");
    let old = edited("150", |r| r.levels[0].level = Some(dec("100")));
    assert_eq!(
        changes(&send_proved_old(&mut device, old, 60)),
        [(Raised, AlarmLevel1)]
    );
    // It does not stop the denial of other old messages.
    assert_eq!(
        changes(&send_proved_old(&mut device, faulty("10"), 70)),
        [(Raised, SensorFault), (Cleared, SensorFault)]
    );
    assert_eq!(changes(&device.send_value("10")), [(Cleared, AlarmLevel1)]);
}

#[test]
fn an_unreadable_payload_creates_no_device() {
    let mut device = TestDevice::new();
    let decision = device.send_edited(reading(None), |m| m.facts.repair = Repair::Unreadable);
    assert_eq!(decision.outcome, Outcome::NotFound);
    assert!(device.stored.state.latest.is_none());
    assert!(device.stored.state.alarms.is_empty());
}

#[test]
fn an_unreadable_payload_takes_back_nothing_that_the_detector_said() {
    let said = |reading: &mut Reading| {
        reading.own_alarm = true;
        reading.sensor_fault = dec("1");
        reading.leds[1] = dec("1");
    };
    for is_said_before in [true, false] {
        let mut device = TestDevice::new();
        let (mut first, mut unreadable) = (reading(Some("10")), reading(None));
        said(if is_said_before {
            &mut first
        } else {
            &mut unreadable
        });
        device.send_after(5, first);
        device.send_edited(unreadable, |m| m.facts.repair = Repair::Unreadable);
        let latest = device.stored.state.latest.as_ref().expect("known");
        assert!(latest.reading.own_alarm, "{is_said_before}");
        assert!(latest.reading.has_fault(), "{is_said_before}");
        assert_eq!(latest.reading.leds[1], dec("1"), "{is_said_before}");
        assert_eq!(latest.reading.value, None);
    }
}

#[test]
fn a_heartbeat_that_may_be_old_or_cannot_be_read_is_no_sign_of_life() {
    type Edit = fn(&mut Message<'static>);
    let ignored = Outcome::Message(crate::order::Class::Ignored);
    let cases: [(&str, Edit, Outcome); 4] = [
        ("the same bytes again", |_| (), Outcome::SignOfLife),
        ("redelivered", |m| m.dup = true, ignored),
        ("retained", |m| m.retain = true, ignored),
        (
            "redelivered for the first time",
            |m| {
                m.dup = true;
                m.fingerprint = 901;
            },
            Outcome::SignOfLife,
        ),
    ];
    let mut heartbeat = reading(None);
    set_message_type(&mut heartbeat, "heartbeat");
    for (name, edit, outcome) in cases {
        let mut device = TestDevice::new();
        device.send_value("10");
        for (index, expected) in [Outcome::SignOfLife, outcome].into_iter().enumerate() {
            let decision = device.send_edited(heartbeat.clone(), |message| {
                message.fingerprint = 900;
                if index > 0 {
                    edit(message);
                }
            });
            assert_eq!(decision.outcome, expected, "{name}");
            assert_eq!(decision.alive, expected == Outcome::SignOfLife, "{name}");
        }
    }
    let mut device = TestDevice::new();
    device.send_value("10");
    let decision = device.send_edited(heartbeat, |m| m.facts.repair = Repair::Unreadable);
    assert_eq!(changes(&decision), [(Raised, ReadingInvalid)]);
}

#[test]
fn of_several_values_the_more_dangerous_one_is_shown_and_none_hides_a_missing_one() {
    let oxygen = |value: Option<&str>| {
        let mut reading = reading(value);
        reading.levels[0].level = Some(dec("19.5"));
        reading.levels[0].side = Some(crate::reading::Side::Low);
        reading
    };
    for (sent, other, shown) in [
        (reading(Some("20")), "30", Some(dec("30"))),
        (reading(Some("30")), "20", Some(dec("30"))),
        (oxygen(Some("20.9")), "20.1", Some(dec("20.1"))),
        (oxygen(Some("20.1")), "20.9", Some(dec("20.1"))),
        (reading(None), "30", None),
    ] {
        let mut device = TestDevice::new();
        device.send_edited(sent, |m| m.facts.other_values = vec![dec(other)]);
        let latest = device.stored.state.latest.as_ref().expect("known");
        assert_eq!(latest.reading.value, shown, "{other}");
    }
}

#[test]
fn a_reading_with_a_side_that_this_release_does_not_know_is_uncertain() {
    let side = serde_json::from_str("\"middle\"").expect("a word of a newer release");
    let mut device = TestDevice::new();
    device.send_after(5, edited("10", |r| r.levels[1].side = Some(side)));
    assert_eq!(device.quality(), Quality::Uncertain);
}

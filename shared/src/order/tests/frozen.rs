//! Devices whose clock stops.

use super::*;

const LIMIT: Duration = Duration::from_mins(3);

fn repeat(device: &mut Device, from: f64, to: f64, device_time: Option<f64>) {
    let mut at = from;
    while at <= to {
        device.send_flagged(at, device_time, bytes(5));
        at += 2.0;
    }
}

#[test]
fn a_clock_that_moved_and_stopped_is_frozen_since_the_first_of_the_same_bytes() {
    let mut device = Device::new();
    device.run_until(0.0);
    repeat(&mut device, 2.0, 182.0, Some(1.0));
    assert_eq!(frozen_since(&device.state, LIMIT), None);
    repeat(&mut device, 184.0, 184.0, Some(1.0));
    assert_eq!(frozen_since(&device.state, LIMIT), Some(time(2.0)));
    // Another value does not end it as long as the time stands still.
    device.send_flagged(185.0, Some(1.0), bytes(6));
    assert_eq!(frozen_since(&device.state, LIMIT), Some(time(2.0)));
    device.send(186.0, 186.0);
    assert_eq!(frozen_since(&device.state, LIMIT), None);
}

#[test]
fn a_device_that_never_had_a_moving_clock_is_never_frozen() {
    for device_time in [None, Some(-DAY)] {
        let mut device = Device::new();
        repeat(&mut device, 0.0, 2_000.0, device_time);
        assert_eq!(frozen_since(&device.state, LIMIT), None);
    }
}

#[test]
fn a_device_whose_time_disappears_is_frozen_until_its_value_changes() {
    let mut device = Device::new();
    device.run_until(0.0);
    repeat(&mut device, 2.0, 300.0, None);
    assert_eq!(frozen_since(&device.state, LIMIT), Some(time(2.0)));
    device.send_without_time(301.0);
    repeat(&mut device, 302.0, 800.0, None);
    assert_eq!(frozen_since(&device.state, LIMIT), None, "it has no clock");
}

#[test]
fn two_messages_are_not_enough_and_redelivered_ones_do_not_count() {
    let mut device = Device::new();
    device.run_until(0.0);
    let mut send = |at: f64, flags: Flags| {
        device.send_flagged(
            at,
            Some(1.0),
            Flags {
                bytes: Some(5),
                ..flags
            },
        );
        frozen_since(&device.state, LIMIT)
    };
    assert_eq!(send(1.0, Flags::default()), None);
    assert_eq!(send(200.0, Flags::default()), None);
    assert_eq!(send(201.0, DUP), None);
    assert_eq!(send(201.0, RETAINED), None);
    assert_eq!(send(202.0, Flags::default()), Some(time(1.0)));
}

#[test]
fn a_silent_device_is_not_frozen() {
    let mut device = Device::new();
    device.run_until(0.0);
    for at in [1.0, 2.0, 3.0] {
        device.send_flagged(at, Some(1.0), bytes(5));
    }
    device.send_flagged(1_000.0, Some(1.0), DUP);
    assert_eq!(frozen_since(&device.state, LIMIT), None);
}

#[test]
fn two_payload_formats_that_alternate_are_not_frozen() {
    let mut device = Device::new();
    for step in 0..500 {
        let at = f64::from(step) * 2.0;
        device.send(at, at);
        device.send_flagged(at + 1.0, None, bytes(5));
        assert_eq!(frozen_since(&device.state, LIMIT), None);
    }
}

#[test]
fn the_last_of_several_readings_with_the_same_time_is_the_one_that_repeats() {
    let mut device = Device::new();
    device.run_until(0.0);
    device.send_flagged(1.0, Some(1.0), bytes(6));
    repeat(&mut device, 2.0, 184.0, Some(1.0));
    assert_eq!(frozen_since(&device.state, LIMIT), Some(time(2.0)));
}

#[test]
fn payloads_of_one_second_that_are_repeated_in_turn_are_frozen() {
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 0_u32..100 {
        let at = 2.0 * f64::from(step);
        device.send_flagged(at + 2.0, Some(1.0), bytes(5 + u64::from(step % 3)));
    }
    assert_eq!(frozen_since(&device.state, LIMIT), Some(time(6.0)));
}

#[test]
fn a_time_that_cannot_be_read_moves_with_its_text() {
    let mut device = Device::new();
    let mut send = |at: f64, text: u64, bytes: u64| {
        let flags = Flags {
            bytes: Some(bytes),
            unreadable_time: Some(text),
            ..Flags::default()
        };
        device.send_flagged(at, None, flags);
        frozen_since(&device.state, LIMIT)
    };
    send(0.0, 1, 101);
    send(2.0, 2, 102);
    for step in 0_u32..100 {
        let at = 4.0 + 2.0 * f64::from(step);
        let expected = (at > 183.0).then(|| time(2.0));
        assert_eq!(send(at, 2, 102), expected, "{at}");
    }
    assert_eq!(send(300.0, 3, 103), None);
}

#[test]
fn a_text_as_time_that_never_changes_is_no_clock() {
    let mut device = Device::new();
    for step in 0..500 {
        let flags = Flags {
            unreadable_time: Some(1),
            ..bytes(5)
        };
        device.send_flagged(f64::from(step), None, flags);
        assert_eq!(frozen_since(&device.state, LIMIT), None);
    }
}

#[test]
fn an_odd_message_does_not_end_it() {
    for odd in [Some(1.0), Some(-500.0), None] {
        let mut device = Device::new();
        device.run_until(0.0);
        repeat(&mut device, 2.0, 200.0, Some(1.0));
        device.send_flagged(201.0, odd, Flags::default());
        assert_eq!(
            frozen_since(&device.state, LIMIT),
            Some(time(2.0)),
            "{odd:?}"
        );
        repeat(&mut device, 202.0, 300.0, Some(1.0));
        assert_eq!(
            frozen_since(&device.state, LIMIT),
            Some(time(2.0)),
            "{odd:?}"
        );
    }
}

#[test]
fn a_device_that_loses_its_clock_while_it_is_frozen_is_not_so_for_ever() {
    let mut device = Device::new();
    device.run_until(0.0);
    repeat(&mut device, 2.0, 200.0, Some(1.0));
    for at in [201.0, 202.0] {
        device.send_without_time(at);
        assert_eq!(frozen_since(&device.state, LIMIT), Some(time(2.0)), "{at}");
    }
    device.send_without_time(203.0);
    assert_eq!(frozen_since(&device.state, LIMIT), None);
}

#[test]
fn a_clock_that_was_set_back_while_it_was_frozen_moves() {
    let mut device = Device::new();
    device.run_until(0.0);
    repeat(&mut device, 2.0, 200.0, Some(1.0));
    for step in 0..4 {
        let at = 201.0 + f64::from(step);
        device.send(at, at - 3_600.0);
    }
    assert_eq!(frozen_since(&device.state, LIMIT), None);
}

/// Sends readings whose clock runs, then one payload for 400 s. Returns since when the device is frozen.
fn frozen_after(moves: impl FnOnce(&mut Device), repeated: Option<f64>) -> Option<Time> {
    let mut device = Device::new();
    moves(&mut device);
    repeat(&mut device, 10.0, 410.0, repeated);
    frozen_since(&device.state, LIMIT)
}

#[test]
fn a_time_moves_from_any_message_before_it_but_a_retained_one() {
    type Moves = fn(&mut Device);
    let cases: [(&str, Moves, Option<f64>, bool); 5] = [
        (
            "from one before a message without time",
            |device| {
                device.send(0.0, 0.0);
                device.send_without_time(1.0);
                device.send(2.0, 2.0);
            },
            Some(2.0),
            true,
        ),
        (
            "though it is before 2015",
            |device| {
                device.send(0.0, -20.0 * 365.0 * DAY);
                device.send(2.0, 2.0 - 20.0 * 365.0 * DAY);
            },
            Some(2.0 - 20.0 * 365.0 * DAY),
            true,
        ),
        (
            "backwards only",
            |device| {
                device.send(0.0, 0.0);
                device.send(2.0, -2.0);
            },
            Some(-2.0),
            false,
        ),
        (
            "from a retained message only",
            |device| {
                device.send_flagged(0.0, Some(-100.0), RETAINED);
            },
            Some(1.0),
            false,
        ),
        ("from none", |_| (), Some(1.0), false),
    ];
    for (name, moves, repeated, is_frozen) in cases {
        assert_eq!(frozen_after(moves, repeated).is_some(), is_frozen, "{name}");
    }
}

#[test]
fn an_older_known_payload_does_not_hide_that_the_newest_one_is_repeated() {
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 0_u32..500 {
        let device_time = f64::from(1 + step % 2);
        let at = 3.0 + 2.0 * f64::from(step);
        device.send_flagged(at, Some(device_time), bytes(5 + u64::from(step % 2)));
        let expected = (at > 185.0).then(|| time(5.0));
        let found = frozen_since(&device.state, LIMIT);
        assert!(found == expected || step % 2 == 0, "{at}: {found:?}");
    }
}

/// A clock without battery starts at one time after each boot: its times go back, and the device is alive.
#[test]
fn known_bytes_of_a_clock_that_was_never_set_are_not_frozen() {
    let mut device = Device::new();
    device.run_until(0.0);
    let never_set = -20.0 * 365.0 * DAY;
    for step in 0_u32..500 {
        let device_time = never_set + f64::from(1 + step % 2);
        let at = 3.0 + 2.0 * f64::from(step);
        device.send_flagged(at, Some(device_time), bytes(5 + u64::from(step % 2)));
        assert_eq!(frozen_since(&device.state, LIMIT), None, "{at}");
    }
}

#[test]
fn the_bytes_that_repeat_are_known_however_many_others_were_redelivered() {
    let mut device = Device::new();
    device.run_until(0.0);
    repeat(&mut device, 2.0, 100.0, Some(1.0));
    for _ in 0..MAX_FINGERPRINTS {
        device.send_flagged(101.0, Some(-50.0), DUP);
    }
    repeat(&mut device, 102.0, 190.0, Some(1.0));
    assert_eq!(frozen_since(&device.state, LIMIT), Some(time(2.0)));
}

/// What arrives while the device is frozen.
#[derive(Clone, Copy)]
enum Odd {
    /// New bytes without time.
    WithoutTime,
    /// New bytes of an earlier time.
    Late,
    /// The bytes that repeat.
    Known,
}

#[test]
fn only_messages_without_time_in_a_row_show_that_the_clock_is_lost() {
    use Odd::{Known, Late, WithoutTime};
    for (odd, is_frozen) in [
        (vec![WithoutTime; 2], true),
        (vec![WithoutTime; 3], false),
        (
            vec![WithoutTime, WithoutTime, Known, WithoutTime, Known],
            true,
        ),
        (vec![WithoutTime, WithoutTime, Late, WithoutTime], true),
    ] {
        let mut device = Device::new();
        device.run_until(0.0);
        repeat(&mut device, 2.0, 200.0, Some(1.0));
        let mut at = 200.0;
        for odd in &odd {
            at += 1.0;
            match odd {
                WithoutTime => device.send_without_time(at),
                Late => device.send(at, -500.0),
                Known => device.send_flagged(at, Some(1.0), bytes(5)),
            };
        }
        let frozen = frozen_since(&device.state, LIMIT);
        assert_eq!(frozen.is_some(), is_frozen, "{} messages", odd.len());
        if !is_frozen {
            repeat(&mut device, 210.0, 600.0, None);
            assert_eq!(frozen_since(&device.state, LIMIT), None, "it has no clock");
        }
    }
}

#[test]
fn one_message_without_any_time_does_not_end_a_text_that_stands_still() {
    let mut device = Device::new();
    let with_text = |text: u64, bytes: u64| Flags {
        bytes: Some(bytes),
        unreadable_time: Some(text),
        ..Flags::default()
    };
    device.send_flagged(0.0, None, with_text(1, 101));
    for step in 0_u32..100 {
        device.send_flagged(2.0 + 2.0 * f64::from(step), None, with_text(2, 102));
    }
    let frozen = frozen_since(&device.state, LIMIT);
    assert_eq!(frozen, Some(time(2.0)));
    device.send_without_time(203.0);
    assert_eq!(frozen_since(&device.state, LIMIT), frozen);
}

#[test]
fn a_text_that_stands_still_while_the_values_change_is_no_clock_any_more() {
    let mut device = Device::new();
    let mut send = |at: f64, text: u64, bytes: u64| {
        let flags = Flags {
            bytes: Some(bytes),
            unreadable_time: Some(text),
            ..Flags::default()
        };
        device.send_flagged(at, None, flags);
        frozen_since(&device.state, LIMIT).is_some()
    };
    send(0.0, 1, 101);
    for step in 0_u32..100 {
        send(2.0 + 2.0 * f64::from(step), 2, 102);
    }
    assert!(send(202.0, 2, 102));
    assert!(send(203.0, 2, 103) && send(204.0, 2, 104));
    assert!(!send(205.0, 2, 105));
}

#[test]
fn a_message_without_a_value_is_no_reading_that_stands_still_and_may_show_that_the_clock_moves() {
    let without_value = |number: u64| Flags {
        without_value: true,
        ..bytes(number)
    };
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 1..200 {
        let at = f64::from(step) * 2.0;
        device.send_flagged(at, Some(1.0), without_value(6));
        assert_eq!(frozen_since(&device.state, LIMIT), None, "{at}");
    }
    // Readings beside them count.
    for step in 0..100 {
        let at = 400.0 + f64::from(step) * 2.0;
        device.send_flagged(at, Some(1.0), bytes(5));
        device.send_flagged(at + 1.0, Some(1.0), without_value(6));
    }
    assert_eq!(frozen_since(&device.state, LIMIT), Some(time(400.0)));
    device.send_flagged(601.0, Some(601.0), without_value(7));
    assert_eq!(frozen_since(&device.state, LIMIT), None);
}

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

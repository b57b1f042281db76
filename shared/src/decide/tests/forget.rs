//! Devices that are retired because nothing at all has been heard from them for very long.

use super::*;

const DAY: u64 = 86_400;
const LIMIT: Duration = Duration::from_mins(3);

fn device_that_may_be_forgotten() -> TestDevice {
    let mut device = TestDevice::new();
    device.settings.forget_after = Duration::from_secs(30 * DAY);
    device
}

/// A device whose silence was just noticed, and since when it is listened to.
fn silent_device() -> (TestDevice, Time) {
    let mut device = device_that_may_be_forgotten();
    let since = device.now;
    device.send_value("10");
    device.advance(180);
    let decision = device.run_timer(since);
    assert!(device.alarm(Kind::DeviceOffline).is_some());
    let silent_since = device.now - LIMIT;
    let expected = silent_since + Duration::from_secs(30 * DAY);
    assert_eq!(decision.deadline, Deadline::At(expected));
    (device, since)
}

fn acknowledge_all(device: &mut TestDevice) {
    for id in device.open_alarm_ids() {
        device.acknowledge(&id);
    }
}

fn sign_of_life(device: &mut TestDevice) -> Decision {
    let mut alive = reading(None);
    "HEARTBEAT".clone_into(&mut alive.message_type);
    let decision = device.send_edited(alive, |message| message.facts.has_value_key = false);
    assert_eq!(decision.outcome, Outcome::SignOfLife);
    decision
}

#[test]
fn a_silent_device_is_forgotten_when_its_silence_is_acknowledged() {
    let (mut device, since) = silent_device();
    acknowledge_all(&mut device);
    device.advance(30 * DAY - 180);
    let decision = device.run_timer(since);
    assert_eq!(decision.outcome, Outcome::Retired);
    let retired = decision
        .log
        .iter()
        .filter(|entry| entry.change == Some(ChangeKind::Retired));
    assert!(retired.clone().count() >= 1);
    for entry in retired {
        assert_eq!(entry.by.as_deref(), Some("--forget-after"));
    }
}

#[test]
fn a_silence_that_nobody_acknowledged_is_looked_at_again_and_not_forgotten() {
    let (mut device, since) = silent_device();
    device.advance(40 * DAY);
    let decision = device.run_timer(since);
    assert_eq!(decision.outcome, Outcome::Deadline);
    assert_eq!(
        decision.deadline,
        Deadline::At(device.now + Duration::from_mins(10))
    );
    acknowledge_all(&mut device);
    device.advance(600);
    assert_eq!(device.run_timer(since).outcome, Outcome::Retired);
}

#[test]
fn a_device_with_another_open_alarm_is_never_forgotten() {
    for value in [Some("300"), Some("2000"), None] {
        let mut device = device_that_may_be_forgotten();
        let since = device.now;
        device.advance(5);
        device.send_reading(reading(value));
        device.advance(180);
        device.run_timer(since);
        acknowledge_all(&mut device);
        device.advance(400 * DAY);
        assert_eq!(
            device.run_timer(since).outcome,
            Outcome::Deadline,
            "{value:?}"
        );
        assert!(device.stored.state.alarms.len() > 1);
    }
}

#[test]
fn a_device_that_sends_only_signs_of_life_is_never_forgotten() {
    let (mut device, since) = silent_device();
    acknowledge_all(&mut device);
    for _ in 0..100 {
        device.advance(DAY - 5);
        sign_of_life(&mut device);
        let outcome = device.run_timer(since).outcome;
        assert_eq!(outcome, Outcome::Deadline, "the silence is acknowledged");
        assert!(device.alarm(Kind::DeviceOffline).is_some());
    }
    // When they end, it is looked at soon, and is forgotten in time.
    let heard_at = device.now;
    device.advance(180);
    let decision = device.run_timer(since);
    let expected = Deadline::At(heard_at + Duration::from_secs(30 * DAY));
    assert_eq!(decision.deadline, expected);
    device.advance(30 * DAY - 181);
    assert_eq!(device.run_timer(since).outcome, Outcome::Deadline);
    device.advance(1);
    assert_eq!(device.run_timer(since).outcome, Outcome::Retired);
}

#[test]
fn a_message_that_an_earlier_release_processed_counts_as_heard() {
    let (mut device, since) = silent_device();
    acknowledge_all(&mut device);
    device.advance(29 * DAY);
    // That release does not know since when nothing was heard, and leaves it as it is.
    device.stored.last_message = Some(device.now);
    device.advance(2 * DAY);
    assert_eq!(device.run_timer(since).outcome, Outcome::Deadline);
    device.advance(28 * DAY);
    assert_eq!(device.run_timer(since).outcome, Outcome::Retired);
}

#[test]
fn the_end_of_signs_of_life_is_looked_at_soon() {
    let (mut device, _) = silent_device();
    device.advance(10);
    let decision = sign_of_life(&mut device);
    assert_eq!(decision.deadline, Deadline::At(device.now + LIMIT));
}

#[test]
fn times_in_which_nobody_listened_do_not_count_and_do_not_begin_the_count_again() {
    let (mut device, since) = silent_device();
    acknowledge_all(&mut device);
    // Each day nobody listens for a while. The silence began three minutes before the first of them.
    let mut listened = LIMIT;
    let mut before = device.now.duration_since(since);
    for day in 0..29 {
        device.advance(6 * 3_600);
        let listening = Listening {
            since: device.now,
            before,
        };
        device.advance(DAY);
        listened += Duration::from_secs(DAY);
        before += Duration::from_secs(DAY);
        let decision = device.run_timer(listening);
        assert_eq!(decision.outcome, Outcome::Deadline, "day {day}");
        let left = Duration::from_secs(30 * DAY).saturating_sub(listened);
        assert_eq!(decision.deadline, Deadline::At(device.now + left));
    }
    device.advance(400 * DAY);
    let listening = Listening {
        since: device.now,
        before,
    };
    device.advance(DAY - 181);
    assert_eq!(device.run_timer(listening).outcome, Outcome::Deadline);
    device.advance(1);
    assert_eq!(device.run_timer(listening).outcome, Outcome::Retired);
}

#[test]
fn when_redis_has_lost_how_long_it_was_listened_the_count_begins_again() {
    let (mut device, _) = silent_device();
    acknowledge_all(&mut device);
    let listening = Listening {
        since: device.now - Duration::from_secs(1),
        before: Duration::ZERO,
    };
    assert_eq!(device.run_timer(listening).outcome, Outcome::Deadline);
    device.advance(30 * DAY - 2);
    assert_eq!(device.run_timer(listening).outcome, Outcome::Deadline);
    device.advance(182);
    assert_eq!(device.run_timer(listening).outcome, Outcome::Retired);
}

#[test]
fn nothing_is_forgotten_by_default() {
    let mut device = TestDevice::new();
    let since = device.now;
    device.send_value("10");
    device.advance(180);
    device.run_timer(since);
    acknowledge_all(&mut device);
    device.advance(4_000 * DAY);
    assert_eq!(device.run_timer(since).outcome, Outcome::Deadline);
}

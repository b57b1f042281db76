//! What a device that flaps, however it does it, writes to the alarm log.

use std::collections::BTreeSet;

use super::*;
use crate::alarm_log::AlarmLogEntry;
use crate::alarm_log::share::{BURST, PER_ENTRY};

/// The entries that a device wrote, and the number of those that are only counted.
#[derive(Default)]
struct Log {
    lines: usize,
    folded: u32,
    raised: BTreeSet<String>,
    /// The alarms whose newest line says that they have cleared.
    cleared: BTreeSet<String>,
}

impl Log {
    fn add(&mut self, device: &TestDevice, decision: &Decision) {
        self.lines += decision.log.len();
        self.folded += decision.folded;
        for entry in &decision.log {
            let is_raise = entry.change == Some(ChangeKind::Raised);
            let alarm = entry.alarm.as_ref().filter(|_| is_raise);
            self.raised.extend(alarm.map(|alarm| alarm.id.clone()));
            let Some(alarm) = &entry.alarm else { continue };
            if entry.change == Some(ChangeKind::Cleared) {
                self.cleared.insert(alarm.id.clone());
            } else {
                self.cleared.remove(&alarm.id);
            }
        }
        for alarm in &device.stored.state.alarms {
            assert!(
                self.raised.contains(&alarm.id),
                "an alarm stands without its raise"
            );
            assert!(
                !self.cleared.contains(&alarm.id),
                "the log shows an alarm as cleared that stands"
            );
        }
    }

    #[track_caller]
    fn check(&self, allowed: usize) {
        let burst = usize::try_from(BURST).unwrap_or(usize::MAX);
        assert!(
            self.lines > burst / 2,
            "{} lines: it does not flap",
            self.lines
        );
        assert!(
            self.lines <= burst + allowed,
            "{} lines, {} folded",
            self.lines,
            self.folded
        );
    }
}

/// Sends messages a tenth of a second apart.
fn flap(device: &mut TestDevice, messages: usize, mut next: impl FnMut(usize) -> Reading) -> Log {
    let mut log = Log::default();
    device.settings.device_rate = 0;
    for number in 0..messages {
        device.now = device.now + Duration::from_millis(100);
        device.device_time = device.device_time + Duration::from_millis(100);
        let decision = device.send_reading(next(number));
        log.add(device, &decision);
    }
    log
}

#[test]
fn a_level_that_comes_and_goes_without_chatter_handling() {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    let log = flap(&mut device, 4_000, |number| {
        reading(Some(if number % 2 == 0 { "300" } else { "10" }))
    });
    log.check(10);
    assert!(log.folded > 3_000);
}

#[test]
fn several_conditions_in_turn() {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    let log = flap(&mut device, 4_000, |number| match number % 6 {
        0 => reading(Some("300")),
        1 => reading(None),
        2 => reading(Some("2500")),
        3 => reading(Some("-50")),
        4 => Reading {
            sensor_fault: Decimal::from_int(1),
            ..reading(Some("10"))
        },
        _ => reading(Some("10")),
    });
    log.check(80);
}

#[test]
fn acknowledgements_by_a_script() {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    device.settings.device_rate = 0;
    let mut log = Log::default();
    for number in 0..3_000 {
        device.now = device.now + Duration::from_millis(100);
        device.device_time = device.now;
        let value = if number % 2 == 0 { "1200" } else { "10" };
        let decision = device.send_reading(reading(Some(value)));
        log.add(&device, &decision);
        for id in device.open_alarm_ids() {
            let decision = device.acknowledge(&id);
            log.add(&device, &decision);
        }
    }
    log.check(30);
}

#[test]
fn settings_that_change_all_the_time() {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    let log = flap(&mut device, 3_000, |number| {
        let mut reading = reading(Some(if number % 3 == 0 { "300" } else { "10" }));
        reading.levels[0].level = Some(Decimal::from_int(if number % 2 == 0 { 250 } else { 200 }));
        reading
    });
    assert!(
        log.lines <= usize::try_from(BURST).unwrap_or_default() + 40,
        "{}",
        log.lines
    );
}

#[test]
fn the_counts_are_told_within_an_hour_and_a_later_alarm_is_written_again() {
    let mut device = TestDevice::new();
    let since = device.now;
    device.settings.chatter_calm = Duration::ZERO;
    let log = flap(&mut device, 2_001, |number| {
        reading(Some(if number % 2 == 0 { "300" } else { "10" }))
    });
    assert!(log.folded > 0);
    device.settings.offline_after = Duration::from_hours(1_000);
    device.advance(PER_ENTRY.as_secs());
    let decision = device.run_timer(since);
    let counts = decision
        .log
        .first()
        .and_then(|entry| entry.folded.as_deref());
    let counts = counts.expect("counts");
    assert_eq!(counts.transitions, log.folded);
    let peak = counts.peak.as_ref().map(|peak| peak.condition);
    assert_eq!(peak, Some(Condition::AlarmLevel1));
    // Two hours later it is an alarm of its own.
    device.send_value("10");
    device.advance(2 * PER_ENTRY.as_secs());
    let ids = log.raised;
    let decision = device.send_value("300");
    let raised = decision.log.last().and_then(|entry| entry.alarm.as_ref());
    assert!(
        raised.is_some_and(|alarm| !ids.contains(&alarm.id)),
        "{decision:?}"
    );
}

#[test]
fn a_raise_at_a_higher_level_is_written_without_an_allowance() {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    let mut log = flap(&mut device, 2_000, |number| {
        reading(Some(if number % 2 == 0 { "300" } else { "10" }))
    });
    assert!(log.folded > 0, "the device has an allowance");
    device.now = device.now + Duration::from_millis(100);
    device.device_time = device.device_time + Duration::from_millis(100);
    let decision = device.send_reading(reading(Some("2000")));
    log.add(&device, &decision);
    let is_highest = |entry: &AlarmLogEntry| {
        let alarm = entry.alarm.as_ref();
        entry.change == Some(ChangeKind::Raised)
            && alarm.is_some_and(|alarm| alarm.condition == Condition::AlarmLevel3)
    };
    assert!(decision.log.iter().any(is_highest), "{:?}", decision.log);
}

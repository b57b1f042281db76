//! What a device that flaps, however it does it, writes to the alarm log.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::alarm_log::AlarmLogEntry;
use crate::alarm_log::share::{BURST, MAX_OWED, PER_ENTRY};

/// Entries that acknowledgements may add.
const OWED: usize = MAX_OWED as usize;

/// The entries that a device wrote, and the number of those that are only counted.
#[derive(Default)]
struct Log {
    lines: usize,
    folded: u32,
    /// Ids of the alarms whose raise was written, and of their groups.
    raised: BTreeSet<String>,
    /// The groups whose newest line says that their alarm has cleared.
    cleared: BTreeSet<String>,
}

impl Log {
    fn add(&mut self, device: &TestDevice, decision: &Decision) {
        self.lines += decision.log.len();
        self.folded += decision.folded;
        for entry in &decision.log {
            let Some(alarm) = &entry.alarm else { continue };
            let group = alarm.group_id().to_owned();
            if entry.change == Some(ChangeKind::Raised) {
                self.raised.extend([alarm.id.clone(), group.clone()]);
            }
            if entry.is_late_acknowledgement() {
                continue;
            }
            if alarm.cleared_at.is_some() {
                self.cleared.insert(group);
            } else {
                self.cleared.remove(&group);
            }
        }
        for alarm in &device.stored.state.alarms {
            assert!(
                self.raised.contains(alarm.group_id()),
                "an alarm stands without a raise"
            );
            assert!(
                !self.cleared.contains(alarm.group_id()),
                "the log shows a group as cleared whose alarm stands"
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
    log.check(30 + OWED);
}

/// An unacknowledged alarm ends with its value here, so a script can acknowledge each of them after its end.
#[test]
fn late_acknowledgements_by_a_script() {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    device.settings.returned_levels = [false; 3];
    device.settings.device_rate = 0;
    let mut log = Log::default();
    let mut ended: Vec<Alarm> = Vec::new();
    for number in 0..3_000 {
        device.now = device.now + Duration::from_millis(100);
        device.device_time = device.now;
        let value = if number % 2 == 0 { "1200" } else { "10" };
        let decision = device.send_reading(reading(Some(value)));
        log.add(&device, &decision);
        let cleared = decision.changes.into_iter().map(|change| change.alarm);
        ended.extend(cleared.filter(|alarm| alarm.cleared_at.is_some()));
        // Three raises later.
        if ended.len() > 3 {
            let alarm = ended.remove(0);
            let decision = device.acknowledge_closed(&alarm);
            assert_eq!(decision.outcome, Outcome::Acknowledged);
            log.add(&device, &decision);
        }
    }
    log.check(30 + OWED);
    assert!(log.folded > 3_000);
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
fn the_counts_are_written_within_an_hour_and_a_later_alarm_is_written_again() {
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

/// A device that raised gas alarms until it had used its share. Its last alarm is acknowledged and cleared. Returns the id of that one.
fn with_a_cleared_alarm_and_no_share() -> (TestDevice, String) {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    let log = flap(&mut device, 2_001, |number| {
        reading(Some(if number % 2 == 0 { "300" } else { "10" }))
    });
    assert!(log.folded > 0, "the device has an allowance");
    let id = device.gas_alarm_id();
    device.acknowledge(&id);
    device.send_value("10");
    assert_eq!(device.gas_alarm(), None);
    (device, id)
}

#[test]
fn a_late_acknowledgement_of_an_alarm_that_ended_never_covers_a_new_release_of_gas() {
    let (mut device, old) = with_a_cleared_alarm_and_no_share();
    device.advance(1_800);
    device.send_value("300");
    // Without a position, as a client sends that was offline: it covers the present one.
    let decision = device.acknowledge(&old);
    assert_eq!(decision.outcome, Outcome::NotFound);
    assert_eq!(
        device.gas_alarm_state(),
        Some(crate::alarm::AlarmState::Unacknowledged)
    );
    assert_ne!(device.gas_alarm_id(), old);
}

#[test]
fn an_acknowledgement_that_is_only_counted_is_written_though_the_device_stays_silent() {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    flap(&mut device, 2_001, |number| {
        reading(Some(if number % 2 == 0 { "300" } else { "10" }))
    });
    // Everything that waits is written. So are acknowledgements, until so many are owed; the next one is only counted.
    let since = device.now;
    device.settings.offline_after = Duration::from_hours(1_000);
    device.advance(PER_ENTRY.as_secs());
    device.run_timer(since);
    let mut folded = 0;
    let mut deadline = Deadline::Keep;
    // The flapping may have left an entry or two that it had not used.
    for _ in 0..MAX_OWED + 3 {
        if folded > 0 {
            break;
        }
        let decision = device.acknowledge(&device.gas_alarm_id());
        assert_eq!(decision.outcome, Outcome::Acknowledged);
        (folded, deadline) = (decision.folded, decision.deadline);
        device.state_mut().alarms[0].acknowledged = None;
    }
    assert_eq!(folded, 1);
    // The stored deadline is unknown here, and it must not become later. So the timers look at once, and set it.
    assert_eq!(deadline, Deadline::At(device.now));
    let Deadline::At(next) = device.run_timer(since).deadline else {
        panic!("no deadline while counts wait");
    };
    assert!(next > device.now && next <= device.now + PER_ENTRY * (MAX_OWED + 4));
    device.now = next;
    let written = device.run_timer(since).log;
    let acknowledgement = written.first().and_then(AlarmLogEntry::acknowledgement);
    assert!(acknowledgement.is_some(), "{written:?}");
}

#[test]
fn alarms_that_are_logged_together_are_acknowledged_for_themselves() {
    let (mut device, old) = with_a_cleared_alarm_and_no_share();
    device.advance(1_800);
    device.settings.returned_levels = [false; 3];
    let raised = device.send_value("300");
    let first = raised.changes[0].alarm.clone();
    assert_ne!(
        first.log_group, None,
        "it is logged together with an earlier one"
    );
    assert_ne!(first.log_group.as_ref(), Some(&first.id));
    assert_ne!(first.id, old);
    let cleared = device.send_value("10").changes[0].alarm.clone();
    device.advance(1_800);
    device.send_value("300");
    let second = device.gas_alarm().cloned().expect("raised again");
    assert_ne!(second.id, first.id);
    assert_eq!(second.log_group, first.log_group);
    // Everybody has seen the second one, but only the first one is acknowledged.
    let decision = device.acknowledge_closed(&cleared);
    assert_eq!(decision.outcome, Outcome::Acknowledged);
    assert_eq!(
        device.gas_alarm_state(),
        Some(crate::alarm::AlarmState::Unacknowledged)
    );
    device.advance(200 * PER_ENTRY.as_secs());
    let written = device.run_timer(device.now).log;
    let seen = written.iter().filter_map(AlarmLogEntry::acknowledgement);
    let highest = seen.map(|(_, seen)| seen).max();
    assert!(
        highest.is_none_or(|seen| seen < second.reached.seq),
        "{written:?}"
    );
}

/// A group goes on with its alarm, however long that stands, and though the share was forgotten meanwhile.
#[test]
fn an_alarm_that_is_reopened_stays_in_its_group() {
    let (mut device, _) = with_a_cleared_alarm_and_no_share();
    device.settings.chatter_calm = Duration::from_mins(10);
    device.settings.offline_after = Duration::from_hours(10_000);
    device.settings.clock_tolerance = Duration::from_hours(10_000);
    device.advance(1_800);
    device.send_value("300");
    let raised = device.gas_alarm().cloned().expect("raised");
    assert_ne!(raised.log_group, None);
    device.restart();
    device.advance(300 * PER_ENTRY.as_secs());
    device.send_value("300");
    let share = device.stored.state.memory.log_share.as_ref();
    assert!(share.is_none_or(|share| share.alarms.is_empty()));
    device.acknowledge(&raised.id);
    device.send_value("10");
    device.restart();
    let log = device.send_value("300").log;
    let again = log[0].alarm.as_ref().expect("an alarm");
    assert_eq!(
        (&again.id, &again.log_group),
        (&raised.id, &raised.log_group)
    );
}

/// What a detector of the property tests sends.
fn sent(kind: u8) -> Reading {
    match kind {
        0 => reading(Some("10")),
        1 => reading(Some("300")),
        2 => reading(Some("1200")),
        3 => reading(None),
        4 => reading(Some("2500")),
        _ => edited("10", |reading| reading.sensor_fault = dec("1")),
    }
}

/// The ids of all raises, and whether an alarm with that id had been cleared before.
fn raises(steps: &[(u8, u64, bool)], settings: &AlarmSettings) -> Vec<(String, bool)> {
    let mut device = TestDevice::new();
    device.settings = settings.clone();
    let (mut cleared, mut raises) = (BTreeSet::new(), Vec::new());
    for (kind, seconds, acknowledges) in steps {
        let mut decisions = vec![device.send_after(*seconds, sent(*kind))];
        let open: Vec<String> = device
            .stored
            .state
            .alarms
            .iter()
            .map(|a| a.id.clone())
            .collect();
        for id in open.iter().filter(|_| *acknowledges) {
            decisions.push(device.acknowledge(id));
        }
        for change in decisions.iter().flat_map(|decision| &decision.changes) {
            let id = &change.alarm.id;
            match change.kind {
                ChangeKind::Raised => raises.push((id.clone(), cleared.contains(id))),
                ChangeKind::Cleared => _ = cleared.insert(id.clone()),
                _ => {}
            }
        }
    }
    raises
}

proptest! {
    /// The share decides about lines of the log, and about nothing else.
    #[test]
    fn a_new_alarm_has_an_id_of_its_own_whatever_the_device_may_still_write(
        steps in prop::collection::vec(
            (0..6_u8, prop::sample::select(vec![1_u64, 40, 100, 1_700, 4_000, 25_000]), any::<bool>()),
            1..120,
        ),
        log_burst in 1..8_u32,
        calms in any::<bool>(),
    ) {
        let settings = AlarmSettings {
            chatter_calm: Duration::from_secs(if calms { 600 } else { 0 }),
            offline_after: Duration::from_hours(1_000),
            log_burst,
            ..AlarmSettings::default()
        };
        let shared = raises(&steps, &settings);
        let unlimited = raises(&steps, &AlarmSettings { log_burst: 0, ..settings.clone() });
        prop_assert_eq!(&shared, &unlimited);
        if !calms {
            // Nothing is reopened.
            prop_assert!(shared.iter().all(|(_, was_cleared)| !was_cleared));
        }
    }
}

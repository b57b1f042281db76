//! A release with earlier rules works on the same device: at the same time, before, or in between.

use super::*;
use crate::alarm::ActiveLevel;
use crate::reading::Side;
use crate::rules::earlier_release::handles;
use crate::state::LedMemory;
use ChangeKind::{Cleared, DeEscalated, Escalated, Latched, Raised, Returned};
use Condition::{
    AlarmLevel1, AlarmLevel2, AlarmLevel3, OverRange, SensorFault, SettingChanged, UnderRange,
};

/// Oxygen: too poor at 19.5, too rich at 23.5 and 24.5.
fn oxygen(value: &str) -> Reading {
    edited(value, |reading| {
        for (index, (level, side)) in [
            ("19.5", Side::Low),
            ("23.5", Side::High),
            ("24.5", Side::High),
        ]
        .into_iter()
        .enumerate()
        {
            reading.levels[index].level = Some(dec(level));
            reading.levels[index].side = Some(side);
            reading.levels[index].latching = Some(dec("1"));
        }
        reading.span_high = Some(dec("25"));
    })
}

/// With levels that are this much higher than usual.
fn with_levels_times(factor: i32, value: &str) -> Reading {
    edited(value, |reading| {
        for (index, level) in [250, 500, 1000].into_iter().enumerate() {
            reading.levels[index].level = Some(Decimal::from_int(level * factor));
        }
        reading.span_high = None;
    })
}

impl TestDevice {
    fn earlier_release_starts(&mut self) {
        self.settings.earlier_release_at_work = true;
        self.restart();
    }

    fn earlier_release_ends(&mut self) {
        self.settings.earlier_release_at_work = false;
        self.restart();
    }

    /// Whether an earlier release handles every alarm as it should.
    fn has_nothing_new(&self) -> bool {
        let alarms = &self.stored.state.alarms;
        let gas = alarms.iter().filter(|alarm| alarm.kind().is_gas());
        alarms.iter().all(handles) && gas.count() <= 1
    }

    /// Changes the state as an earlier release does: without the fields it does not know.
    fn earlier_release_writes(&mut self, edit: impl FnOnce(&mut DeviceState)) {
        let state = Arc::make_mut(&mut self.stored.state);
        edit(state);
        state.rev += 1;
        self.restart();
    }
}

#[test]
fn the_second_side_is_held_back_and_shown_as_an_alarm_status() {
    let mut device = TestDevice::new();
    device.earlier_release_starts();
    let raised = changes(&device.send_after(5, oxygen("24")));
    assert_eq!(raised, [(Raised, AlarmLevel2)]);
    device.acknowledge_kind(Kind::GasHigh);
    assert_eq!(
        changes(&device.send_after(5, oxygen("19.6"))),
        [(Cleared, AlarmLevel2)]
    );

    device.send_after(5, oxygen("24"));
    assert_eq!(
        changes(&device.send_after(5, oxygen("10"))),
        [(Latched, AlarmLevel2)]
    );
    assert!(device.has_nothing_new());
    assert_eq!(device.alarm_status(), "ALARM");
    device.earlier_release_ends();
    assert_eq!(device.alarm_status(), "ALARM");
    assert_eq!(
        changes(&device.send_after(5, oxygen("10"))),
        [(Raised, AlarmLevel1)]
    );
    assert!(!device.has_nothing_new());
}

#[test]
fn a_side_that_only_waits_does_not_hold_the_other_one_back() {
    let mut device = TestDevice::new();
    let without_latching = |value: &str| {
        let mut reading = oxygen(value);
        for level in &mut reading.levels {
            level.latching = None;
        }
        reading
    };
    device.send_after(5, without_latching("24"));
    let decision = device.send_after(5, without_latching("20.9"));
    assert_eq!(changes(&decision), [(Returned, AlarmLevel2)]);
    device.earlier_release_starts();
    let decision = device.send_after(5, without_latching("10"));
    assert_eq!(changes(&decision), [(Raised, AlarmLevel1)]);
    assert_eq!(device.stored.state.alarms.len(), 2);
}

#[test]
fn a_new_condition_is_held_back_and_shown_as_an_alarm_status() {
    let mut device = TestDevice::new();
    device.earlier_release_starts();
    assert_eq!(changes(&device.send_value("-9999")), []);
    assert_eq!(device.alarm_status(), "ALARM");
    device.restart();
    assert_eq!(device.alarm_status(), "ALARM");
    assert_eq!(changes(&device.send_value("10")), []);
    assert_eq!(device.alarm_status(), "NORMAL");
    device.send_value("-9999");
    device.earlier_release_ends();
    assert_eq!(changes(&device.send_value("-9999")), [(Raised, UnderRange)]);
}

#[test]
fn a_changed_setting_that_is_held_back_lowers_nothing_and_is_announced_later() {
    let mut device = TestDevice::new();
    device.send_after(5, with_levels_times(1, "300"));
    device.earlier_release_starts();
    for _ in 0..3 {
        let decision = device.send_after(5, with_levels_times(100, "200"));
        assert_eq!(changes(&decision), []);
        assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
    }
    device.earlier_release_ends();
    let decision = device.send_after(5, with_levels_times(100, "200"));
    assert_eq!(changes(&decision), [(Raised, SettingChanged)]);
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
}

#[test]
fn a_value_in_another_unit_lowers_nothing_while_the_change_is_held_back() {
    let mut device = TestDevice::new();
    let in_unit = |device: &mut TestDevice, value: &str, unit: &str| {
        let reading = edited(value, |reading| reading.unit = unit.to_owned());
        changes(&device.send_edited(reading, |message| message.facts.unit_sent = true))
    };
    in_unit(&mut device, "300", "ppm");
    device.earlier_release_starts();
    assert_eq!(in_unit(&mut device, "5", "%LEL"), []);
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
}

#[test]
fn an_unseen_peak_stands_until_it_can_be_stored_as_returned() {
    let mut device = TestDevice::new();
    device.earlier_release_starts();
    device.send_value("1200");
    for _ in 0..3 {
        assert_eq!(changes(&device.send_value("10")), []);
        assert!(device.has_nothing_new());
        assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
        assert_eq!(device.alarm_status(), "ALARM");
    }
    device.earlier_release_ends();
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel3)]);
}

#[test]
fn an_acknowledged_peak_ends_beside_an_earlier_release() {
    let mut device = TestDevice::new();
    device.earlier_release_starts();
    device.send_value("1200");
    device.acknowledge_kind(Kind::GasHigh);
    assert_eq!(changes(&device.send_value("10")), [(Cleared, AlarmLevel3)]);
}

#[test]
fn over_range_stands_until_it_can_be_latched() {
    let mut device = TestDevice::new();
    let reading_at = |value: &str| edited(value, |r| r.span_high = Some(dec("2000")));
    device.earlier_release_starts();
    device.send_after(5, reading_at("2500"));
    device.acknowledge_kind(Kind::GasHigh);
    let decision = device.send_after(5, reading_at("10"));
    assert_eq!(changes(&decision), [(Cleared, AlarmLevel3)]);
    assert!(device.has_nothing_new());
    assert_eq!(
        device.state_of(Kind::OverRange),
        Some(AlarmState::Unacknowledged)
    );
    device.earlier_release_ends();
    let decision = device.send_after(5, reading_at("10"));
    assert_eq!(changes(&decision), [(Latched, OverRange)]);
    assert!(!device.has_nothing_new());
}

#[test]
fn a_chattering_alarm_stands_until_it_can_be_stored_as_ceased() {
    let mut device = TestDevice::new();
    let fault = |flag: &str| {
        let flag = dec(flag);
        edited("10", move |reading| reading.sensor_fault = flag)
    };
    for _ in 0..3 {
        device.send_after(5, fault("0"));
        device.send_after(5, fault("1"));
    }
    device.earlier_release_starts();
    for _ in 0..3 {
        assert_eq!(changes(&device.send_after(5, fault("0"))), []);
        assert!(device.has_nothing_new());
    }
    assert_eq!(
        device.state_of(Kind::SensorFault),
        Some(AlarmState::Unacknowledged)
    );
    device.earlier_release_ends();
    assert_eq!(changes(&device.send_after(5, fault("0"))), []);
    assert!(!device.has_nothing_new());
    device.advance(700);
    assert_eq!(
        changes(&device.run_timer(device.now)),
        [(Cleared, SensorFault)]
    );
}

#[test]
fn a_cleared_alarm_is_not_continued_beside_an_earlier_release() {
    for (at_work, is_same) in [(false, true), (true, false)] {
        let mut device = TestDevice::new();
        device.settings.earlier_release_at_work = at_work;
        device.send_value("300");
        let id = device.gas_alarm_id();
        device.send_value("10");
        device.send_value("300");
        assert_eq!(device.gas_alarm_id() == id, is_same);
    }
}

#[test]
fn what_is_stored_already_stays_when_an_earlier_release_comes_back() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.send_value("10");
    device.send_value("-9999");
    device.earlier_release_starts();
    device.run_timer(device.now);
    assert_eq!(changes(&device.send_value("-9999")), []);
    assert_eq!(device.state_of(Kind::GasHigh), Some(AlarmState::Returned));
    assert_eq!(
        device.state_of(Kind::UnderRange),
        Some(AlarmState::Unacknowledged)
    );
    assert_eq!(changes(&device.send_value("10")), [(Cleared, UnderRange)]);
    assert_eq!(
        changes(&device.send_value("1200")),
        [(Escalated, AlarmLevel3)]
    );
    assert!(device.has_nothing_new());
}

/// A gas alarm that an earlier release raised.
fn raised_by_earlier_release(device: &TestDevice, condition: Condition) -> Alarm {
    let position = device.stored.state.position;
    let mut alarm = Alarm::new(
        "alarm_of_earlier".to_owned(),
        condition,
        device.now,
        position,
    );
    let index = condition.level_index().expect("a gas level");
    alarm.threshold = Some(device.stored.state.latest.as_ref().expect("known").levels[index]);
    alarm.active_levels = vec![None; 3];
    alarm.active_levels[index] = Some(ActiveLevel::default());
    alarm.unit = "ppm".to_owned();
    alarm
}

#[test]
fn an_alarm_beside_one_that_the_earlier_release_could_not_see_is_merged_and_stands() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.send_value("10");
    let alarm = raised_by_earlier_release(&device, AlarmLevel1);
    device.earlier_release_writes(|state| state.alarms.push(alarm));
    // No message: the value may be within the deadband, so nothing raises the alarm again.
    let decision = device.run_timer(device.now);
    assert_eq!(changes(&decision), [(Cleared, AlarmLevel3)]);
    assert_eq!(device.gas_alarm_id(), "alarm_of_earlier");
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
    assert_eq!(device.alarm_status(), "ALARM");
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel3)]);
}

#[test]
fn a_merged_alarm_is_acknowledged_only_if_both_are() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.send_value("10");
    let mut alarm = raised_by_earlier_release(&device, AlarmLevel1);
    alarm.acknowledged = Some(crate::alarm::Acknowledgement::new("Ann", device.now));
    device.earlier_release_writes(|state| state.alarms.push(alarm));
    let decision = device.run_timer(device.now);
    assert_eq!(
        changes(&decision),
        [(Escalated, AlarmLevel1), (Cleared, AlarmLevel3)]
    );
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
}

#[test]
fn a_peak_of_an_earlier_release_is_remembered() {
    for (condition, end) in [(AlarmLevel1, Cleared), (AlarmLevel3, Returned)] {
        let mut device = TestDevice::new();
        device.send_value("10");
        let alarm = raised_by_earlier_release(&device, condition);
        device.earlier_release_writes(|state| state.alarms.push(alarm));
        assert_eq!(changes(&device.send_value("10")), [(end, condition)]);
    }
}

#[test]
fn an_escalation_and_an_acknowledgement_by_an_earlier_release_count() {
    let mut device = TestDevice::new();
    device.send_value("300");
    device.earlier_release_writes(|state| {
        let alarm = &mut state.alarms[0];
        alarm.condition = AlarmLevel3;
        alarm.threshold = Some(dec("1000"));
        alarm.active_levels[2] = Some(ActiveLevel::default());
    });
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel3)]);

    let mut device = TestDevice::new();
    device.send_value("1200");
    let now = device.now;
    device.earlier_release_writes(|state| {
        state.alarms[0].acknowledged = Some(crate::alarm::Acknowledgement::new("Ann", now));
    });
    assert_eq!(changes(&device.send_value("10")), [(Cleared, AlarmLevel3)]);
}

/// An oxygen detector on which an earlier release has reached A1 (Low), then A2 and A3 (High), all in one alarm that latches.
fn with_both_sides_in_one_alarm() -> TestDevice {
    let mut device = TestDevice::new();
    device.send_after(5, oxygen("20.9"));
    let mut alarm = raised_by_earlier_release(&device, AlarmLevel3);
    let level = |returned| {
        Some(ActiveLevel {
            latching: true,
            returned,
            ..ActiveLevel::default()
        })
    };
    alarm.active_levels = vec![level(true), level(false), level(false)];
    device.earlier_release_writes(|state| state.alarms.push(alarm));
    device
}

#[test]
fn an_alarm_with_levels_of_both_sides_takes_the_side_of_its_level() {
    let mut device = with_both_sides_in_one_alarm();
    let alarm = device.alarm(Kind::GasHigh).expect("the side of A3");
    let side = |index: usize| alarm.active_levels[index].as_ref().map(|level| level.side);
    assert_eq!(
        [0, 1, 2].map(side),
        [Some(Some(Side::Low)), Some(None), Some(None)]
    );
    assert_eq!(changes(&device.send_after(5, oxygen("24.7"))), []);
    let mut send = |value: &str| changes(&device.send_after(5, oxygen(value)));
    // The level of the Low side now belongs to the alarm of that side.
    assert_eq!(send("10"), [(Raised, AlarmLevel1), (Latched, AlarmLevel3)]);
    let alarm = device.alarm(Kind::GasHigh).expect("latched");
    assert_eq!(alarm.active_levels[0], None);
    device.acknowledge_kind(Kind::GasHigh);
    assert_eq!(device.alarm(Kind::GasHigh), None);
    assert_eq!(
        device.state_of(Kind::GasLow),
        Some(AlarmState::Unacknowledged)
    );
}

#[test]
fn the_level_of_the_other_side_is_judged_by_its_own_side() {
    let mut device = with_both_sides_in_one_alarm();
    device.acknowledge_kind(Kind::GasHigh);
    device.earlier_release_writes(|state| {
        // Acknowledged before A1 was reached again, and not back yet.
        let level = state.alarms[0].active_levels[0].get_or_insert_default();
        *level = ActiveLevel::default();
    });
    // Within the deadband of A1.
    let decision = device.send_after(5, oxygen("19.6"));
    assert_eq!(changes(&decision), [(DeEscalated, AlarmLevel1)]);
    let alarm = device.alarm(Kind::GasLow).expect("the side of A1");
    assert_eq!(
        alarm.message,
        "Gas concentration below A1 threshold (19.5 ppm)"
    );
    assert_eq!(device.alarm_status(), "ALARM");
    assert_eq!(
        changes(&device.send_after(5, oxygen("20.9"))),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn messages_in_a_row_are_counted_anew_after_an_earlier_release_has_written() {
    let mut device = TestDevice::new();
    device.send_value("10");
    device.state_mut().memory.repaired_in_row = 9;
    device.state_mut().memory.leds.agreeing = 3;
    device.restart();
    assert_eq!(device.stored.state.memory.repaired_in_row, 9);
    device.earlier_release_writes(|_| ());
    assert_eq!(device.stored.state.memory.repaired_in_row, 0);
    assert_eq!(device.stored.state.memory.leds, LedMemory::default());
    assert_eq!(device.stored.state.order.same_bytes, None);
}

#[test]
fn a_change_that_is_announced_already_takes_further_ones_beside_an_earlier_release() {
    let mut device = TestDevice::new();
    device.send_after(5, with_levels_times(1, "10"));
    let decision = device.send_after(5, with_levels_times(2, "10"));
    assert_eq!(changes(&decision), [(Raised, SettingChanged)]);
    device.earlier_release_starts();
    let decision = device.send_after(5, with_levels_times(3, "10"));
    assert_eq!(changes(&decision), [(Escalated, SettingChanged)]);
}

#[test]
fn a_first_level_ends_nothing_while_it_is_held_back() {
    let bare = |level: Option<&str>| {
        edited("300", |reading| {
            reading.levels = Default::default();
            reading.levels[0].level = level.map(dec);
            reading.span_low = None;
            reading.span_high = None;
        })
    };
    let mut device = TestDevice::new();
    device.send_after(5, bare(None));
    device.earlier_release_starts();
    for _ in 0..3 {
        device.send_after(5, bare(Some("1000")));
        assert!(device.gas_alarm().is_some_and(Alarm::is_active));
        assert!(device.alarm(Kind::SettingChanged).is_none());
    }
}

#[test]
fn a_danger_of_an_old_message_is_shown_unless_the_latest_reading_denies_it() {
    for (is_tie, status) in [(true, "ALARM"), (false, "NORMAL")] {
        let mut device = TestDevice::new();
        device.send_value("10");
        if is_tie {
            let mut tie = reading(Some("10"));
            tie.device_time = Some(device.device_time);
            device.send_message(tie);
        }
        device.earlier_release_starts();
        device.advance(1);
        let mut old = reading(Some("-9999"));
        old.device_time = Some(device.device_time - Duration::from_mins(1));
        assert_eq!(changes(&device.send_redelivered(old)), []);
        assert_eq!(device.alarm_status(), status, "behind a tie: {is_tie}");
    }
}

#[test]
fn a_latched_value_over_range_that_is_stored_already_stays_as_it_is() {
    let mut device = TestDevice::new();
    device.send_value("2000");
    device.acknowledge_kind(Kind::GasHigh);
    device.send_value("10");
    device.earlier_release_starts();
    let levels = |device: &TestDevice| {
        let alarm = device.alarm(Kind::OverRange).expect("latched");
        alarm.active_levels.clone()
    };
    let before = levels(&device);
    assert_eq!(changes(&device.send_value("10")), []);
    assert_eq!(device.state_of(Kind::OverRange), Some(AlarmState::Latched));
    assert_eq!(levels(&device), before);
}

/// Low at 19.5 as its second level, High at 23.5 as its first, without latching.
fn low_second(value: &str) -> Reading {
    edited(value, |reading| {
        reading.levels[0].level = Some(dec("23.5"));
        reading.levels[0].side = Some(Side::High);
        reading.levels[1].level = Some(dec("19.5"));
        reading.levels[1].side = Some(Side::Low);
        reading.levels[2].level = None;
        reading.span_high = Some(dec("25"));
    })
}

#[test]
fn a_level_of_the_other_side_is_never_shown_as_one_of_the_alarm() {
    let mut device = TestDevice::new();
    device.send_after(5, low_second("20.9"));
    let mut alarm = raised_by_earlier_release(&device, AlarmLevel1);
    alarm.active_levels[1] = Some(ActiveLevel::default());
    device.earlier_release_writes(|state| state.alarms.push(alarm));
    device.earlier_release_starts();
    device.send_after(5, low_second("10"));
    assert_eq!(device.alarm_status(), "ALARM");
    let alarm = device.gas_alarm().expect("it stands");
    assert!(!alarm.message.contains("A2"), "{}", alarm.message);
}

#[test]
fn a_level_is_not_handed_to_an_alarm_that_has_returned() {
    let without_latching = |value: &str| {
        let mut reading = oxygen(value);
        for level in &mut reading.levels {
            level.latching = None;
        }
        reading
    };
    let mut device = TestDevice::new();
    device.settings.returned_levels = [true; 3];
    for value in ["20.9", "10", "20.9"] {
        device.send_after(5, without_latching(value));
    }
    assert_eq!(device.state_of(Kind::GasLow), Some(AlarmState::Returned));
    let mut alarm = raised_by_earlier_release(&device, AlarmLevel2);
    alarm.active_levels[0] = Some(ActiveLevel::default());
    device.earlier_release_writes(|state| state.alarms.push(alarm));
    // Within the deadband of A1.
    device.send_after(5, without_latching("19.6"));
    assert_eq!(device.alarm_status(), "ALARM");
    device.send_after(5, without_latching("19.6"));
    assert_eq!(device.alarm_status(), "ALARM");
}

#[test]
fn a_merged_alarm_that_nobody_has_seen_needs_a_new_acknowledgement() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.send_value("10");
    let seen = device.stored.state.position;
    let mut alarm = raised_by_earlier_release(&device, AlarmLevel1);
    alarm.acknowledged = Some(crate::alarm::Acknowledgement::new("Ann", device.now));
    let id = alarm.id.clone();
    device.earlier_release_writes(|state| state.alarms.push(alarm));
    device.run_timer(device.now);
    let decision = device.acknowledge_seen(&id, seen);
    assert_eq!(decision.outcome, Outcome::Escalated);
}

#[test]
fn a_first_level_that_is_held_back_ends_nothing_and_is_announced_later() {
    let bare = |level: Option<&str>| {
        edited("300", |reading| {
            reading.levels = Default::default();
            reading.levels[0].level = level.map(dec);
            reading.span_low = None;
            reading.span_high = None;
        })
    };
    let mut device = TestDevice::new();
    device.send_after(5, bare(None));
    device.earlier_release_starts();
    for _ in 0..3 {
        device.send_after(5, bare(Some("1000")));
        assert!(device.gas_alarm().is_some_and(Alarm::is_active));
        assert!(device.alarm(Kind::SettingChanged).is_none());
    }
    device.earlier_release_ends();
    let decision = device.send_after(5, bare(Some("1000")));
    assert_eq!(changes(&decision), [(Raised, SettingChanged)]);
    assert!(device.gas_alarm().is_some_and(Alarm::is_active));
}

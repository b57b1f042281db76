//! What holds after every message of a random history: what may lower, what is shown as normal, what an acknowledgement covers.

use proptest::prelude::*;

use super::random::{Detector, DetectorKind, Flaw, Plant, Step, any_detector, any_history};
use super::*;
use crate::alarm::ActiveLevel;
use crate::reading::Side;
use crate::state::Freshness;

/// These end by rules of their own: by any new reading that is recent, and by a device time that moves.
fn ends_by_itself(alarm: &Alarm) -> bool {
    matches!(alarm.kind(), Kind::DeviceOffline | Kind::ReadingFrozen)
}

/// Nothing was lowered: every alarm is still open, at its level or a higher one.
#[track_caller]
fn check_nothing_lowered(before: &DeviceState, after: &DeviceState, step: Step) {
    for was in before.alarms.iter().filter(|alarm| !ends_by_itself(alarm)) {
        let is = after.alarms.iter().find(|alarm| alarm.id == was.id);
        let is = is.unwrap_or_else(|| panic!("{} ended by {step:?}", was.id));
        let name = format!("{} by {step:?}", was.id);
        assert!(
            is.condition >= was.condition || was.returned,
            "lowered: {name}"
        );
        assert!(!is.latched || was.latched, "latched: {name}");
        assert!(!is.returned || was.returned, "returned: {name}");
        assert!(!is.ceased || was.ceased, "ceased: {name}");
        assert!(is.acknowledged.is_none() || was.acknowledged.is_some());
        assert!(
            is.severity() >= was.severity() || was.returned,
            "severity: {name}"
        );
    }
}

/// Values mean something else than before, and nobody has acknowledged it.
fn has_changed_quantity(state: &DeviceState) -> bool {
    let changed = state.alarm(Kind::SettingChanged);
    let mut fields = changed.into_iter().flat_map(|alarm| &alarm.settings);
    fields.any(|change| change.field == "unit" || change.field == "gas")
}

/// Whether the value is at the end of the measuring range, or below it by more than half of the tolerance.
fn is_out_of_range(detector: Detector, value: i32, flaw: Flaw) -> bool {
    let (low, high) = match detector.kind {
        DetectorKind::Toxic => (-50, 2000),
        DetectorKind::Oxygen => (-6, 250),
    };
    detector.has_span && flaw != Flaw::OtherFormat && (value < low || value >= high)
}

/// Whether the value is not back from an active level.
fn holds(level: &ActiveLevel, side: Side, value: Decimal) -> bool {
    let (Some(at), Some(deadband)) = (level.level, level.deadband) else {
        return false;
    };
    !level.returned
        && match side {
            Side::Low => value <= at + deadband,
            _ => value >= at - deadband,
        }
}

/// While a change of settings is not acknowledged, no value ends a level from which it is not back by the settings before.
#[track_caller]
fn check_levels_hold(before: &DeviceState, after: &DeviceState, value: Decimal, step: Step) {
    if after.alarm(Kind::SettingChanged).is_none() {
        return;
    }
    let gas = before.alarms.iter().filter(|alarm| alarm.kind().is_gas());
    for was in gas.chain(before.alarm(Kind::OverRange)) {
        let is = after.alarms.iter().find(|alarm| alarm.id == was.id);
        for (index, level) in was.active_levels.iter().enumerate() {
            if level
                .as_ref()
                .is_some_and(|level| holds(level, was.side(), value))
            {
                let now = is.and_then(|alarm| alarm.active_levels.get(index).cloned().flatten());
                assert!(
                    now.is_some_and(|level| !level.returned),
                    "{} by {step:?}",
                    was.id
                );
            }
        }
    }
}

/// The words that are shown are true.
#[track_caller]
fn check_shown(state: &DeviceState) {
    let Some(latest) = &state.latest else { return };
    let reading = &latest.reading;
    let is_normal = crate::event::alarm_status(state, Freshness::Fresh) == "NORMAL";
    if is_normal {
        let value = reading.value.expect("NORMAL without a value");
        for index in 0..3 {
            let level = latest.levels[index];
            let is_reached = match latest.sides[index] {
                Side::Low => value <= level,
                _ => value >= level,
            };
            assert!(
                !latest.used[index] || !is_reached,
                "NORMAL at {value}, level {level}"
            );
        }
        let high = reading.span_high.or(state.memory.span[1]);
        assert!(high.is_none_or(|high| value < high), "NORMAL at {value}");
        assert!(!reading.has_led() && !reading.own_alarm);
        assert!(!reading.has_fault());
        assert!(!reading.unclear || state.quality() != Quality::Good);
        for alarm in &state.alarms {
            let waits = alarm.returned || alarm.kind() == Kind::SettingChanged;
            assert!(waits, "NORMAL beside {}", alarm.id);
        }
    }
    let offline = state
        .alarm(Kind::DeviceOffline)
        .is_some_and(Alarm::is_active);
    match state.quality() {
        Quality::Offline => assert!(offline),
        Quality::Bad => assert!(!offline && reading.value.is_none()),
        Quality::Uncertain => assert!(!offline && reading.value.is_some()),
        Quality::Good => {
            assert!(!offline && reading.value.is_some() && !latest.doubtful);
            assert!(!reading.has_fault() && !reading.doubtful);
        }
    }
}

/// What is stored is bounded, and fits together.
#[track_caller]
fn check_stored(state: &DeviceState) {
    assert!(state.alarms.len() <= 15 && state.closed.len() <= Condition::KNOWN.len());
    for (index, alarm) in state.alarms.iter().enumerate() {
        let mut others = state.alarms[..index].iter();
        assert!(
            others.all(|other| other.kind() != alarm.kind()),
            "two of one kind"
        );
        assert!(alarm.raises.len() <= Alarm::MAX_RAISES);
        let is_covered = alarm.acknowledged.is_some();
        assert!(
            !(is_covered && (alarm.returned || alarm.latched)),
            "{alarm:?}"
        );
        assert!(!is_covered || alarm.remembered.is_none(), "{alarm:?}");
        assert!(!is_covered || alarm.kind() != Kind::SettingChanged);
        assert!(!(alarm.returned && alarm.latched));
        let has_levels = alarm.active_levels.iter().any(Option::is_some);
        let needs_levels = alarm.kind().is_gas() || alarm.kind() == Kind::OverRange;
        assert_eq!(has_levels, needs_levels && !alarm.returned, "{alarm:?}");
    }
}

/// An acknowledgement covers what was seen and nothing else.
#[track_caller]
fn check_acknowledgement(plant: &Plant, was: &Alarm, seen: Position, decision: &Decision) {
    let is = plant.state().alarms.iter().find(|alarm| alarm.id == was.id);
    if was.acknowledged.is_some() {
        assert_eq!(decision.outcome, Outcome::AlreadyAcknowledged);
        assert_eq!(is, Some(was));
    } else if seen.epoch == was.reached.epoch && seen.seq >= was.reached.seq {
        assert_eq!(decision.outcome, Outcome::Acknowledged);
        let must_end = was.returned || was.kind() == Kind::SettingChanged;
        assert!(!must_end || is.is_none(), "{was:?}");
        assert!(is.is_none_or(|alarm| alarm.acknowledged.is_some()));
    } else {
        assert!(!decision.changes.iter().any(|c| c.alarm.id == was.id));
        assert!(
            is.is_some_and(|alarm| alarm.acknowledged.is_none()),
            "{was:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lowered_or_shown_wrongly(detector in any_detector(), history in any_history()) {
        let mut plant = Plant::new(detector);
        for step in history {
            plant.pass_time(step);
            let before = plant.state().clone();
            let acknowledged = match step {
                Step::Acknowledge { alarm, back } => {
                    let id = plant.acknowledged_id(alarm);
                    let was = before.alarms.iter().find(|alarm| Some(&alarm.id) == id.as_ref());
                    was.map(|was| (was.clone(), plant.seen(back)))
                }
                _ => None,
            };
            let decision = plant.act(step);
            match step {
                Step::Message { value, flaw, .. } => {
                    let is_trusted = decision.moves_latest()
                        && flaw.may_lower()
                        && !is_out_of_range(detector, value, flaw);
                    if !is_trusted || has_changed_quantity(plant.state()) {
                        check_nothing_lowered(&before, plant.state(), step);
                    }
                    if !matches!(flaw, Flaw::Twice(_)) {
                        let value = detector.kind.number(value);
                        check_levels_hold(&before, plant.state(), value, step);
                    }
                }
                Step::Deadline { .. } => {
                    let is_later = match decision.deadline {
                        Deadline::At(at) => at > plant.device.now,
                        Deadline::Never => true,
                        Deadline::Keep => plant.state().latest.is_none(),
                    };
                    prop_assert!(is_later, "due again at once: {:?}", decision.deadline);
                }
                Step::Acknowledge { .. } => {}
            }
            if let Some((was, seen)) = acknowledged {
                check_acknowledgement(&plant, &was, seen, &decision);
            }
            check_shown(plant.state());
            check_stored(plant.state());
        }
    }
}

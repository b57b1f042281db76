use super::*;
use crate::alarm::Severity;
use crate::decide::tests::reading;
use crate::position::Epoch;
use sensor::{Finding, Text};

fn moment(now_ms: i64, seq: u64) -> Moment {
    let now = Time::from_millis(now_ms);
    Moment {
        now,
        taken_at: now,
        position: Position {
            epoch: Epoch::from_bits(1),
            seq,
        },
    }
}

fn open_ids(alarms: Alarms<'_>) -> (Vec<String>, Vec<(ChangeKind, String)>) {
    let (open, _, changes) = alarms.finish();
    let open = open.into_iter().map(|alarm| alarm.id).collect();
    let changes = changes.into_iter().map(|c| (c.kind, c.alarm.id)).collect();
    (open, changes)
}

fn gas(id: &str, condition: Condition, side: Side, raised_ms: i64) -> Alarm {
    let moment = moment(raised_ms, 1);
    Alarm {
        gas_side: Some(GasSide {
            side,
            of: condition,
        }),
        ..Alarm::new(id.to_owned(), condition, moment.now, moment.position)
    }
}

#[test]
fn of_several_alarms_of_one_kind_the_highest_and_then_the_oldest_stays() {
    use Condition::{AlarmLevel1, AlarmLevel2, SensorFault};
    let device = "OTSM-0114".parse().expect("a serial");
    let open = vec![
        gas("low", AlarmLevel1, Side::Low, 1),
        gas("old", AlarmLevel1, Side::High, 1),
        gas("high", AlarmLevel2, Side::High, 3),
        gas("young", AlarmLevel2, Side::High, 4),
        gas("fault", SensorFault, Side::High, 5),
    ];
    let alarms = Alarms::new(&device, open, Vec::new(), moment(10, 2));
    let (open, changes) = open_ids(alarms);
    assert_eq!(open, ["low", "high", "fault"]);
    let cleared = |id: &str| (ChangeKind::Cleared, id.to_owned());
    assert_eq!(changes, [cleared("old"), cleared("young")]);
}

#[test]
fn what_an_earlier_release_does_not_know_is_not_raised_beside_it() {
    let device = "OTSM-0114".parse().expect("a serial");
    let reading = reading(Some("10"));
    let details = AlarmDetails {
        reading: &reading,
        value: reading.value,
    };
    for (condition, is_raised) in [
        (Condition::SensorFault, true),
        (Condition::ReadingInvalid, true),
        (Condition::DeviceOffline, true),
        (Condition::UnderRange, false),
        (Condition::LedMismatch, false),
        (Condition::ReadingFrozen, false),
        (Condition::LevelsUnknown, false),
    ] {
        let alarms = Alarms::new(&device, Vec::new(), Vec::new(), moment(1, 1));
        let mut alarms = alarms.with_settings(&AlarmSettings {
            earlier_release_at_work: true,
            ..AlarmSettings::default()
        });
        alarms.set(condition, Finding::Holds, details, || "x".into());
        assert_eq!(
            open_ids(alarms).0.len(),
            usize::from(is_raised),
            "{condition:?}"
        );
    }
}

#[test]
fn a_higher_severity_escalates_and_a_lower_one_changes_nothing() {
    let device = "OTSM-0114".parse().expect("a serial");
    let reading = reading(Some("10"));
    let details = AlarmDetails {
        reading: &reading,
        value: reading.value,
    };
    let text = |severity| Text {
        severity: Some(severity),
        ..Text::from("x")
    };
    let mut alarms = Alarms::new(&device, Vec::new(), Vec::new(), moment(1, 1));
    let condition = Condition::LedMismatch;
    for severity in [Severity::Warning, Severity::Critical, Severity::Warning] {
        alarms.set(condition, Finding::Holds, details, || text(severity));
    }
    let kinds: Vec<_> = open_ids(alarms).1.into_iter().map(|c| c.0).collect();
    assert_eq!(kinds, [ChangeKind::Raised, ChangeKind::Escalated]);
}

#[test]
fn of_two_alarms_of_one_kind_the_one_that_stands_goes_on() {
    use Condition::{AlarmLevel1, AlarmLevel3};
    type Edit = fn(&mut Alarm);
    let waiting: [(&str, Edit); 2] = [
        ("latched", |alarm| alarm.latched = true),
        ("returned", |alarm| alarm.returned = true),
    ];
    for (name, edit) in waiting {
        let device = "OTSM-0114".parse().expect("a serial");
        let mut waits = gas("waits", AlarmLevel3, Side::High, 1);
        edit(&mut waits);
        let stands = gas("stands", AlarmLevel1, Side::High, 2);
        let alarms = Alarms::new(&device, vec![waits, stands], Vec::new(), moment(10, 2));
        assert!(alarms.closed.is_empty(), "{name}: nothing continues it");
        assert_eq!(open_ids(alarms).0, ["stands"], "{name}");
    }
}

#[test]
fn a_merged_level_is_active_as_long_as_either_alarm_says() {
    use crate::alarm::ActiveLevel;
    use Condition::AlarmLevel1;
    let level = |latching: bool, returned: bool, reached_ms: i64| ActiveLevel {
        latching,
        returned,
        reached_at: Some(Time::from_millis(reached_ms)),
        ..ActiveLevel::default()
    };
    for (first, second, merged) in [
        (
            level(true, false, 1),
            level(false, true, 2),
            level(true, false, 2),
        ),
        (
            level(false, true, 2),
            level(true, false, 1),
            level(true, false, 2),
        ),
        (
            level(false, true, 3),
            level(false, true, 1),
            level(false, true, 3),
        ),
        (
            level(true, true, 1),
            level(true, true, 3),
            level(true, true, 3),
        ),
    ] {
        let with_level = |id: &str, raised_ms: i64, level: ActiveLevel| Alarm {
            active_levels: vec![Some(level)],
            ..gas(id, AlarmLevel1, Side::High, raised_ms)
        };
        let device = "OTSM-0114".parse().expect("a serial");
        let open = vec![with_level("old", 1, first), with_level("young", 2, second)];
        let alarms = Alarms::new(&device, open, Vec::new(), moment(10, 2));
        let alarm = alarms.get(Kind::GasHigh).expect("merged");
        assert_eq!(alarm.id, "old");
        assert_eq!(alarm.active_levels, [Some(merged)]);
    }
}

#[test]
fn a_merged_alarm_takes_over_what_is_known_of_the_other_one() {
    use Condition::{AlarmLevel1, AlarmLevel2, AlarmLevel3};
    let device = "OTSM-0114".parse().expect("a serial");
    let later = Some(Time::from_millis(9));
    let higher = |alarm: Alarm| Alarm {
        peak: Some(AlarmLevel3),
        peak_value: Some("1200".parse().expect("a number")),
        count: 7,
        last_active: later,
        ..alarm
    };
    for is_first in [true, false] {
        let mut stands = gas("stands", AlarmLevel2, Side::High, 1);
        let mut double = gas("double", AlarmLevel1, Side::High, 2);
        stands.peak = Some(AlarmLevel2);
        double.peak = Some(AlarmLevel1);
        let (stands, double) = if is_first {
            (higher(stands), double)
        } else {
            (stands, higher(double))
        };
        let expected = higher(stands.clone());
        let alarms = Alarms::new(&device, vec![stands, double], Vec::new(), moment(10, 2));
        let merged = alarms.get(Kind::GasHigh).expect("merged");
        assert_eq!(*merged, expected, "{is_first}");
    }
}

#[test]
fn alarms_of_a_condition_that_this_release_does_not_know_are_not_merged() {
    let newer: Condition = serde_json::from_str("\"pump_failure\"").expect("a newer condition");
    let device = "OTSM-0114".parse().expect("a serial");
    let open = ["first", "second"].map(|id| {
        let moment = moment(1, 1);
        Alarm::new(id.to_owned(), newer, moment.now, moment.position)
    });
    let alarms = Alarms::new(&device, open.to_vec(), Vec::new(), moment(10, 2));
    assert_eq!(open_ids(alarms).0, ["first", "second"]);
}

#[test]
fn the_last_cleared_alarm_of_each_kind_is_remembered() {
    let device = "OTSM-0114".parse().expect("a serial");
    let reading = reading(Some("10"));
    let details = AlarmDetails {
        reading: &reading,
        value: reading.value,
    };
    let mut alarms = Alarms::new(&device, Vec::new(), Vec::new(), moment(1, 1));
    let conditions = [
        Condition::SensorFault,
        Condition::ReadingInvalid,
        Condition::DeviceOffline,
        Condition::UnderRange,
        Condition::LedMismatch,
        Condition::ReadingFrozen,
        Condition::LevelsUnknown,
    ];
    for condition in conditions {
        for finding in [Finding::Holds, Finding::Ceased] {
            alarms.set(condition, finding, details, || "x".into());
        }
    }
    // A second one of a kind replaces the first.
    for finding in [Finding::Holds, Finding::Ceased] {
        alarms.set(conditions[0], finding, details, || "x".into());
    }
    let (_, closed, changes) = alarms.finish();
    assert_eq!(changes.len(), 2 * conditions.len() + 2);
    let remembered: Vec<_> = closed.iter().map(|closed| closed.condition).collect();
    let mut expected = conditions;
    expected.rotate_left(1);
    assert_eq!(remembered, expected, "the newest one last");
}

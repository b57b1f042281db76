use super::*;
use crate::alarm::Condition;
use crate::alarm::{ActiveLevel, GasSide};
use crate::clock::Time;
use crate::forward::UnknownFields;
use crate::position::{Epoch, Position};
use crate::reading::Side;

/// A gas alarm as the release before 0.2 stores it. It reads nothing else of an alarm.
#[derive(Debug, PartialEq, Deserialize)]
struct EarlierAlarm {
    id: String,
    condition: EarlierCondition,
    message: String,
    unit: String,
    latched: bool,
    #[serde(default)]
    holds: Vec<Option<EarlierLevel>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EarlierCondition {
    SensorFault,
    ReadingInvalid,
    #[serde(rename = "alarm_level_1")]
    AlarmLevel1,
    #[serde(rename = "alarm_level_2")]
    AlarmLevel2,
    #[serde(rename = "alarm_level_3")]
    AlarmLevel3,
    OverRange,
    DeviceOffline,
}

#[derive(Debug, PartialEq, Deserialize)]
struct EarlierLevel {
    #[serde(default)]
    latching: bool,
    #[serde(default)]
    returned: bool,
}

fn alarm(condition: Condition, id: &str) -> Alarm {
    let position = Position {
        epoch: Epoch::from_bits(1),
        seq: 1,
    };
    let mut alarm = Alarm::new(id.to_owned(), condition, Time::from_millis(1), position);
    if alarm.kind().has_levels() {
        alarm.active_levels = vec![Some(ActiveLevel::default())];
    }
    alarm
}

fn gas(side: Side, id: &str) -> Alarm {
    let condition = Condition::AlarmLevel1;
    Alarm {
        gas_side: Some(GasSide {
            side,
            of: condition,
        }),
        ..alarm(condition, id)
    }
}

fn ids(alarms: &[&Alarm]) -> Vec<String> {
    alarms.iter().map(|alarm| alarm.id.clone()).collect()
}

/// Reads the alarms of this state as the earlier release does, and returns their ids.
pub(crate) fn read_as_earlier_release(state: &DeviceState) -> Vec<String> {
    let (known, _) = split(state);
    let text = serde_json::to_string(&known).expect("JSON");
    let read: Vec<EarlierAlarm> = serde_json::from_str(&text).expect("an earlier release reads it");
    read.into_iter().map(|alarm| alarm.id).collect()
}

/// The ids in both fields.
fn split_ids(alarms: Vec<Alarm>) -> (Vec<String>, Vec<String>) {
    let state = DeviceState {
        alarms,
        ..DeviceState::default()
    };
    let (known, more) = split(&state);
    assert_eq!(read_as_earlier_release(&state), ids(&known));
    (ids(&known), ids(&more.alarms.iter().collect::<Vec<_>>()))
}

#[test]
fn earlier_releases_find_what_they_know_and_nothing_else() {
    let (known, more) = split_ids(vec![
        alarm(Condition::SensorFault, "a"),
        alarm(Condition::UnderRange, "b"),
        alarm(Condition::OverRange, "c"),
        alarm(Condition::LedMismatch, "d"),
        alarm(Condition::ReadingFrozen, "e"),
        alarm(Condition::SettingChanged, "f"),
        alarm(Condition::LevelsUnknown, "g"),
        alarm(Condition::DeviceOffline, "h"),
        alarm(Condition::ReadingInvalid, "i"),
        gas(Side::Low, "j"),
    ]);
    assert_eq!(known, ["a", "c", "h", "i", "j"]);
    assert_eq!(more, ["b", "d", "e", "f", "g"]);
}

#[test]
fn the_second_side_and_alarms_that_only_wait_are_kept_from_earlier_releases() {
    let (known, more) = split_ids(vec![gas(Side::Low, "low"), gas(Side::High, "high")]);
    assert_eq!((known, more), (vec!["low".into()], vec!["high".into()]));

    let mut returned = gas(Side::High, "returned");
    returned.returned = true;
    returned.active_levels.clear();
    let (known, more) = split_ids(vec![returned, gas(Side::Low, "low")]);
    assert_eq!((known, more), (vec!["low".into()], vec!["returned".into()]));

    let mut ceased = alarm(Condition::SensorFault, "ceased");
    ceased.ceased = true;
    let level = |latching| {
        Some(ActiveLevel {
            returned: true,
            latching,
            ..ActiveLevel::default()
        })
    };
    let mut chattering = gas(Side::High, "chattering");
    chattering.active_levels = vec![level(false)];
    let mut latched = gas(Side::Low, "latched");
    latched.active_levels = vec![level(true)];
    // They end over range as soon as it is back.
    let mut range = alarm(Condition::OverRange, "range");
    range.active_levels = vec![level(true)];
    let (known, more) = split_ids(vec![ceased, chattering, latched, range]);
    assert_eq!(known, ["latched"]);
    assert_eq!(more, ["ceased", "chattering", "range"]);
}

#[test]
fn both_fields_join_to_the_same_alarms() {
    let mut alarms = vec![
        gas(Side::High, "b"),
        alarm(Condition::UnderRange, "a"),
        gas(Side::Low, "c"),
    ];
    for (index, alarm) in alarms.iter_mut().enumerate() {
        alarm.raised_at = Time::from_millis(i64::try_from(index).expect("small"));
    }
    let state = DeviceState {
        alarms: alarms.clone(),
        ..DeviceState::default()
    };
    let (known, more) = split(&state);
    let known = known.into_iter().cloned().collect();
    assert_eq!(join(known, more, None), alarms);
}

#[test]
fn an_alarm_of_an_earlier_release_takes_the_side_of_its_level() {
    let reading = crate::decide::tests::reading(Some("10"));
    let latest = Latest {
        levels: Default::default(),
        sides: [Side::Low, Side::Low, Side::High],
        held_back: false,
        used: [true; 3],
        taken_at: Time::default(),
        published_at: Time::default(),
        age_ms: None,
        doubtful: false,
        clock_suspect: false,
        in_order: true,
        unknown: UnknownFields::default(),
        reading: reading.into(),
    };
    for (condition, side) in [
        (Condition::AlarmLevel1, Side::Low),
        (Condition::AlarmLevel3, Side::High),
    ] {
        let without_side = alarm(condition, "a");
        // The earlier release moved this one to another level, and kept the side of the level before.
        let mut moved = gas(Side::High, "a");
        moved.condition = condition;
        moved.gas_side = Some(GasSide {
            side: Side::Low,
            of: Condition::AlarmLevel2,
        });
        for stored in [without_side, moved] {
            let joined = join(vec![stored], MoreAlarms::default(), Some(&latest));
            assert_eq!(joined[0].side(), side, "{condition:?}");
        }
    }
}

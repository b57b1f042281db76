use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::alarm::Condition;
use crate::decimal::Decimal;
use crate::position::Position;

const START: Time = Time::from_millis(1_795_703_997_308);

/// Decides with the default burst.
fn write(share: &mut Option<LogShare>, entries: Vec<AlarmLogEntry>, now: Time) -> Written {
    super::write(share, entries, Vec::new(), now, BURST)
}

fn alarm(id: &str, condition: Condition, value: i32) -> Alarm {
    Alarm {
        value: Some(Decimal::from_int(value)),
        message: format!("{value}"),
        ..Alarm::new(id.to_owned(), condition, START, Position::default())
    }
}

fn entry(id: &str, change: ChangeKind, value: i32, at: Time) -> AlarmLogEntry {
    let alarm = Alarm {
        cleared_at: (change == ChangeKind::Cleared).then_some(at),
        ..alarm(id, Condition::AlarmLevel1, value)
    };
    AlarmLogEntry::of_change(change, &alarm, at)
}

/// A device that has written its whole share, by an alarm with this id.
fn exhausted(now: Time) -> Option<LogShare> {
    let mut share = None;
    for _ in 0..BURST {
        let written = write(
            &mut share,
            vec![entry("old", ChangeKind::Raised, 1, now)],
            now,
        );
        assert_eq!((written.entries.len(), written.folded), (1, 0));
    }
    share
}

#[test]
fn a_calm_device_stores_nothing() {
    let mut share = None;
    assert_eq!(write(&mut share, Vec::new(), START), Written::default());
    assert_eq!(share, None);
    write(
        &mut share,
        vec![entry("a", ChangeKind::Raised, 1, START)],
        START,
    );
    assert!(share.is_some());
    write(&mut share, Vec::new(), START + PER_ENTRY);
    assert_eq!(share, None);
}

#[test]
fn beyond_its_share_the_first_entry_of_each_kind_is_written_and_others_are_counted() {
    let mut share = exhausted(START);
    let mut add = |change, value, seconds| {
        let now = START + Duration::from_secs(seconds);
        write(&mut share, vec![entry("a", change, value, now)], now)
    };
    // The second raise is written, too: otherwise the log would show an alarm as cleared that stands.
    for change in [ChangeKind::Raised, ChangeKind::Cleared, ChangeKind::Raised] {
        let written = add(change, 5, 1);
        assert_eq!(
            (written.entries.len(), written.folded),
            (1, 0),
            "{change:?}"
        );
    }
    for (change, value) in [
        (ChangeKind::Cleared, 2),
        (ChangeKind::Raised, 7),
        (ChangeKind::Cleared, 2),
        (ChangeKind::Raised, 9),
        (ChangeKind::Cleared, 1),
    ] {
        let written = add(change, value, 2);
        assert_eq!(
            (written.entries.len(), written.folded),
            (0, 1),
            "{change:?}"
        );
    }
    // The counts come before the line that shows the present state of the alarm.
    let written = add(ChangeKind::Escalated, 3, 3).entries;
    assert_eq!(written.len(), 2);
    let counts = written[0].folded.as_deref().expect("counts");
    assert_eq!((counts.transitions, counts.raises), (5, 2));
    assert_eq!(counts.since, START + Duration::from_secs(2));
    let peak = counts.peak.as_ref().and_then(|peak| peak.value);
    assert_eq!(peak, Some(Decimal::from_int(9)));
    assert_eq!(written[1].folded, None);
}

#[test]
fn counts_are_written_when_there_is_an_allowance_again() {
    let mut share = exhausted(START);
    for _ in 0..3 {
        write(
            &mut share,
            vec![entry("a", ChangeKind::Raised, 1, START)],
            START,
        );
    }
    let next = share
        .as_ref()
        .and_then(LogShare::next_at)
        .expect("counts wait");
    assert_eq!(next, START + PER_ENTRY);
    let early = write(&mut share, Vec::new(), next - Duration::from_millis(1));
    assert_eq!(early.entries, []);
    let written = write(&mut share, Vec::new(), next);
    let counts = written.entries[0].folded.as_deref().expect("counts");
    assert_eq!((counts.transitions, counts.raises), (2, 2));
    assert_eq!(share.and_then(|share| share.next_at()), None);
}

fn acknowledged(by: &str, seen: u64) -> AlarmLogEntry {
    AlarmLogEntry {
        by: Some(by.to_owned()),
        seen: Some(seen),
        ..entry("a", ChangeKind::Acknowledged, 1, START)
    }
}

#[test]
fn an_acknowledgement_is_written_at_once_with_the_counts_before_it() {
    let mut share = exhausted(START);
    let raised = || vec![entry("a", ChangeKind::Raised, 5, START)];
    assert_eq!(write(&mut share, raised(), START).folded, 0);
    for (by, seen) in [("Ann", 1), ("Bob", 2)] {
        assert_eq!(write(&mut share, raised(), START).folded, 1);
        let written = write(&mut share, vec![acknowledged(by, seen)], START).entries;
        assert_eq!(written.len(), 2);
        assert!(written[0].folded.is_some());
        assert_eq!(written[1], acknowledged(by, seen));
    }
}

#[test]
fn acknowledgements_beyond_what_may_be_owed_are_counted_and_the_last_one_is_kept() {
    let mut share = exhausted(START);
    for seen in 0..u64::from(MAX_OWED) {
        let written = write(&mut share, vec![acknowledged("Ann", seen)], START);
        assert_eq!((written.entries.len(), written.folded), (1, 0));
    }
    for (by, seen) in [("Bob", 100), ("Cem", 101)] {
        let written = write(&mut share, vec![acknowledged(by, seen)], START);
        assert_eq!((written.entries.len(), written.folded), (0, 1));
    }
    let next = share.as_ref().and_then(LogShare::next_at);
    assert_eq!(next, Some(START + PER_ENTRY * (MAX_OWED + 1)));
    let written = write_all(&mut share, START);
    assert_eq!(written[0].acknowledgement(), Some(("Cem", 101)));
}

#[test]
fn the_share_survives_being_stored() {
    let mut share = exhausted(START);
    for _ in 0..3 {
        write(
            &mut share,
            vec![entry("a", ChangeKind::Raised, 1, START)],
            START,
        );
    }
    let json = serde_json::to_string(&share).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Option<LogShare>>(&json).ok(),
        Some(share)
    );
}

/// The alarms of a device, one of each kind at a time, as the rules have them.
#[derive(Default)]
struct Alarms {
    open: BTreeMap<usize, Alarm>,
    cleared: BTreeMap<usize, Alarm>,
    number: u64,
}

const CONDITIONS: [Condition; 4] = [
    Condition::AlarmLevel1,
    Condition::OverRange,
    Condition::SensorFault,
    Condition::ReadingInvalid,
];

impl Alarms {
    /// Makes the change of that kind, or what is possible instead.
    fn entry(&mut self, kind: usize, change: ChangeKind, value: i32, now: Time) -> AlarmLogEntry {
        if change == ChangeKind::Acknowledged
            && !self.open.contains_key(&kind)
            && let Some(cleared) = self.cleared.get(&kind)
        {
            return AlarmLogEntry {
                by: Some("Ann".to_owned()),
                seen: Some(cleared.reached.seq),
                ..AlarmLogEntry::of_change(change, cleared, now)
            };
        }
        let Some(open) = self.open.get_mut(&kind) else {
            self.number += 1;
            let id = format!("alarm{}", self.number);
            let reached = Position {
                seq: self.number,
                ..Position::default()
            };
            let alarm = Alarm {
                value: Some(Decimal::from_int(value)),
                ..Alarm::new(id, CONDITIONS[kind], now, reached)
            };
            self.open.insert(kind, alarm.clone());
            return AlarmLogEntry::of_change(ChangeKind::Raised, &alarm, now);
        };
        if change != ChangeKind::Cleared {
            return AlarmLogEntry::of_change(change, open, now);
        }
        open.cleared_at = Some(now);
        let entry = AlarmLogEntry::of_change(change, open, now);
        self.cleared.extend(self.open.remove_entry(&kind));
        entry
    }

    fn last_cleared(&self) -> Vec<LastCleared> {
        let last = |alarm: &Alarm| LastCleared {
            kind: alarm.kind(),
            id: alarm.id.clone(),
            group: alarm.group_id().to_owned(),
            cleared_at: alarm.cleared_at.unwrap_or_default(),
        };
        self.cleared.values().map(last).collect()
    }

    fn note_groups(&mut self, joined: &[JoinedGroup]) {
        for joined in joined {
            for alarm in self.open.values_mut().chain(self.cleared.values_mut()) {
                if alarm.id == joined.alarm {
                    alarm.log_group = Some(joined.group.clone());
                }
            }
        }
    }
}

fn change() -> impl Strategy<Value = ChangeKind> {
    prop::sample::select(vec![
        ChangeKind::Escalated,
        ChangeKind::DeEscalated,
        ChangeKind::Acknowledged,
        ChangeKind::Returned,
        ChangeKind::Cleared,
        ChangeKind::Cleared,
    ])
}

proptest! {
    /// However the alarms of a device change, its entries are bounded, and none is lost without being counted.
    #[test]
    fn a_device_never_writes_more_than_its_share(
        steps in prop::collection::vec((0..4_usize, change(), 0..900_i32, 0..120_u64), 1..1500),
    ) {
        let mut share: Option<LogShare> = None;
        let mut now = START;
        let mut alarms = Alarms::default();
        let (mut lines, mut counted) = (0_u64, 0_u64);
        // Groups of which something is written without an allowance.
        let mut groups = 0_u64;
        let mut raised = BTreeSet::new();
        for (kind, change, value, minutes) in &steps {
            now = now + Duration::from_secs(minutes * 6);
            let known: Vec<String> = share.iter().flat_map(|share| &share.alarms).map(|group| group.id.clone()).collect();
            let last_cleared = alarms.last_cleared();
            let entry = alarms.entry(*kind, *change, *value, now);
            let written = super::write(&mut share, vec![entry.clone()], last_cleared.clone(), now, BURST);
            alarms.note_groups(&written.joined_groups);
            for line in &written.entries {
                lines += 1;
                counted += line.folded.as_ref().map_or(1, |folded| u64::from(folded.transitions));
            }
            let alarm = entry.alarm.as_ref().expect("every entry has one");
            if entry.begins_group() && written.joined_groups.is_empty() {
                // The first raise of a group is always written.
                prop_assert!(written.entries.contains(&entry));
                raised.insert(alarm.id.clone());
                let mut folded = share.iter().flat_map(|share| &share.alarms);
                if folded.any(|group| group.id == alarm.id) {
                    // Without an allowance. So the group of the last alarm was open no longer.
                    let kind = alarm.kind();
                    let open_for = millis(group_is_open_for(kind));
                    let last = last_cleared.iter().find(|last| last.kind == kind);
                    prop_assert!(last.is_none_or(|last| now.millis_since(last.cleared_at) > open_for));
                }
            }
            for alarm in alarms.open.values() {
                prop_assert!(raised.contains(alarm.group_id()), "an alarm stands without the raise of its group");
            }
            let folded = share.iter().flat_map(|share| &share.alarms);
            groups += folded.filter(|group| !known.contains(&group.id)).count() as u64;
            prop_assert!(share.as_ref().is_none_or(|share| share.alarms.len() <= MAX_FOLDED));
        }
        counted += write_all(&mut share, now).iter().map(|line| {
            line.folded.as_ref().map_or(0, |folded| u64::from(folded.transitions))
        }).sum::<u64>();
        prop_assert_eq!(counted, steps.len() as u64);
        let hours = now.millis_since(START) / PER_ENTRY_MS;
        // Each of the six transitions of a group is written once, and the raise behind the first clearing, with the counts before it.
        let bound = u64::try_from(i64::from(BURST + MAX_OWED) + hours + 2).unwrap_or(0) + 14 * groups;
        prop_assert!(lines <= bound, "{} lines in {} h, {} groups", lines, hours, groups);
    }
}

#[test]
fn without_a_limit_every_entry_is_written() {
    let mut share = exhausted(START);
    for _ in 0..3 {
        write(
            &mut share,
            vec![entry("a", ChangeKind::Raised, 1, START)],
            START,
        );
    }
    let written = super::write(
        &mut share,
        vec![entry("a", ChangeKind::Cleared, 1, START)],
        Vec::new(),
        START,
        0,
    );
    // What was counted before comes first.
    let counts = written.entries.iter().map(|entry| entry.folded.is_some());
    assert_eq!(counts.collect::<Vec<_>>(), [true, false]);
    assert_eq!((share, written.folded), (None, 0));
}

/// A gas alarm with every field that it can have, logged together with another one.
fn biggest_alarm(number: usize) -> Alarm {
    let id = |number| format!("alarm1_OTSM-0114_518f72d5b181_{number}");
    let value = || Some("1234.5678".parse().expect("a number"));
    let level = crate::alarm::ActiveLevel {
        level: value(),
        deadband: value(),
        reached_at: Some(START),
        latching: true,
        off_delay_ends: Some(START),
        ..Default::default()
    };
    Alarm {
        gas_side: Some(crate::alarm::GasSide {
            side: crate::reading::Side::High,
            of: Condition::AlarmLevel3,
        }),
        message: "Gas concentration above A3 threshold (1234.5678 ppm)".to_owned(),
        threshold: value(),
        value: value(),
        peak_value: value(),
        peak: Some(Condition::AlarmLevel3),
        count: 4_000_000_000,
        raises: vec![START; Alarm::MAX_RAISES],
        chatters_until: Some(START),
        last_active: Some(START),
        unit: "ppm".to_owned(),
        gas_type: "Carbon Monoxide (CO)".to_owned(),
        device_name: "Gas Sensor Block1".to_owned(),
        reading_timestamp: Some("2026-01-28 11:37:12".to_owned()),
        acknowledged: Some(crate::alarm::Acknowledgement {
            note: Some("🔥".repeat(crate::alarm::Acknowledgement::MAX_NOTE)),
            ..crate::alarm::Acknowledgement::new("Asha Raman", START)
        }),
        seen_before: Some(1_000_000_000),
        active_levels: vec![Some(level.clone()), Some(level.clone()), Some(level)],
        log_group: Some(id(number)),
        ..Alarm::new(
            id(number + 1_000_000_000),
            Condition::AlarmLevel3,
            START,
            Position {
                seq: 1_000_000_000,
                ..Position::default()
            },
        )
    }
}

#[test]
fn what_waits_for_the_log_takes_no_more_memory_than_the_arithmetic_says() {
    use crate::memory_need::{FOLDED_GROUP_BYTES, MAX_FOLDED_GROUPS};
    let mut share = exhausted(START);
    for number in 0..2 * MAX_FOLDED {
        for _ in 0..3 {
            let alarm = biggest_alarm(number);
            let entry = AlarmLogEntry::of_change(ChangeKind::Acknowledged, &alarm, START);
            write(&mut share, vec![entry], START);
        }
    }
    let share = share.expect("a share");
    let waiting = share.alarms.iter().filter(|group| group.pending.is_some());
    assert_eq!(waiting.count(), MAX_FOLDED);
    let json = serde_json::to_string(&share).expect("JSON");
    let bytes = json.len() as u64 / MAX_FOLDED_GROUPS;
    assert!(bytes <= FOLDED_GROUP_BYTES, "{bytes} bytes");
    assert!(2 * bytes >= FOLDED_GROUP_BYTES, "only {bytes} bytes");
}

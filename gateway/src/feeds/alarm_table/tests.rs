use std::collections::BTreeMap;

use proptest::prelude::*;
use shared::alarm::{Condition, Severity};

use super::*;
use crate::feeds::event_size::{MAX_BYTES, MAX_ITEMS};

const AT: Time = Time::from_millis(1_769_600_232_000);

fn device(name: &str) -> DeviceId {
    name.parse().expect("a serial")
}

fn alarm(id: &str, condition: Condition) -> Alarm {
    Alarm::new(id.to_owned(), condition, AT, Position::default())
}

fn position(seq: u64) -> Position {
    Position {
        seq,
        ..Position::default()
    }
}

fn changed(alarm: Alarm, change: ChangeKind) -> ChangedAlarm {
    ChangedAlarm {
        alarm,
        change: Some(change),
    }
}

fn filter(severities: &[Severity]) -> AlarmFilter {
    AlarmFilter::new(severities.to_vec(), None, None, None).expect("a filter")
}

fn ids(texts: &[Arc<RawValue>]) -> Vec<String> {
    let id = |text: &Arc<RawValue>| {
        let json: serde_json::Value = serde_json::from_str(text.get()).expect("an alarm");
        json["id"].as_str().expect("an id").to_owned()
    };
    texts.iter().map(id).collect()
}

fn next(table: &AlarmTable, cursor: &mut AlarmCursor) -> AlarmChunk {
    let chunk = table.next(cursor, &filter(&[]), |_| true);
    chunk.expect("nothing is missing")
}

#[test]
fn an_alarm_that_was_raised_and_ended_in_between_is_sent_and_then_ends() {
    let mut table = AlarmTable::default();
    let mut cursor = table.cursor();
    let raised = alarm("a1", Condition::AlarmLevel3);
    let cleared = Alarm {
        cleared_at: Some(AT),
        ..raised.clone()
    };
    table.apply(
        &device("A"),
        position(1),
        &changed(raised, ChangeKind::Raised),
        &Profile::default(),
        AT,
    );
    table.apply(
        &device("A"),
        position(2),
        &changed(cleared.clone(), ChangeKind::Cleared),
        &Profile::default(),
        AT,
    );
    // An acknowledgement of an alarm that has ended is no news here.
    table.apply(
        &device("A"),
        position(3),
        &changed(cleared, ChangeKind::Acknowledged),
        &Profile::default(),
        AT,
    );
    let chunk = next(&table, &mut cursor);
    assert_eq!(ids(&chunk.changed), ["a1"]);
    assert!(chunk.changed[0].get().contains(r#""change":"raised""#));
    assert_eq!(chunk.ended.len(), 1);
    assert_eq!(chunk.ended[0].change, ChangeKind::Cleared);
    assert!(next(&table, &mut cursor).is_empty());
}

/// A client applies what changed before it removes what ended.
#[test]
fn an_alarm_that_ended_and_is_open_again_comes_in_two_events() {
    let mut table = AlarmTable::default();
    let mut cursor = table.cursor();
    let open = alarm("a1", Condition::AlarmLevel1);
    let ended = Alarm {
        cleared_at: Some(AT),
        ..open.clone()
    };
    for alarm in [&open, &ended, &open] {
        table.apply(
            &device("A"),
            position(1),
            &changed(alarm.clone(), ChangeKind::Raised),
            &Profile::default(),
            AT,
        );
    }
    let first = next(&table, &mut cursor);
    assert_eq!((first.changed.len(), first.ended.len()), (1, 1));
    let second = next(&table, &mut cursor);
    assert_eq!((second.changed.len(), second.ended.len()), (1, 0));
}

#[test]
fn a_level_that_leaves_the_filter_ends_for_the_client() {
    let mut table = AlarmTable::default();
    let mut cursor = table.cursor();
    for (condition, change) in [
        (Condition::AlarmLevel3, ChangeKind::Raised),
        (Condition::AlarmLevel1, ChangeKind::DeEscalated),
    ] {
        let alarm = alarm("a1", condition);
        table.apply(
            &device("A"),
            position(1),
            &changed(alarm, change),
            &Profile::default(),
            AT,
        );
    }
    let critical = filter(&[Severity::Critical]);
    let chunk = table
        .next(&mut cursor, &critical, |_| true)
        .expect("a chunk");
    assert_eq!(ids(&chunk.changed), ["a1"]);
    assert_eq!(chunk.ended[0].change, ChangeKind::DeEscalated);
    assert!(table.page(None, &critical, |_| true).alarms.is_empty());
}

#[test]
fn whoever_may_not_read_a_device_gets_nothing_of_it() {
    let mut table = AlarmTable::default();
    let mut cursor = table.cursor();
    for name in ["A", "B"] {
        let alarm = alarm(&format!("of_{name}"), Condition::AlarmLevel2);
        table.set(
            &device(name),
            position(1),
            &[alarm],
            &Profile::default(),
            AT,
        );
        table.remove(&device(name), AT);
        let alarm = Alarm::new(
            format!("again_{name}"),
            Condition::AlarmLevel2,
            AT,
            position(2),
        );
        table.set(
            &device(name),
            position(2),
            &[alarm],
            &Profile::default(),
            AT,
        );
    }
    let may_read = |device: &DeviceId| device.as_str() == "A";
    let chunk = table
        .next(&mut cursor, &filter(&[]), may_read)
        .expect("a chunk");
    assert_eq!(ids(&chunk.changed), ["of_A", "again_A"]);
    assert_eq!(chunk.ended.len(), 1);
    let page = table.page(None, &filter(&[]), may_read);
    assert_eq!(ids(&page.alarms), ["again_A"]);
    assert!(page.next.is_none());
}

#[test]
fn pages_have_every_alarm_once_and_most_urgent_first() {
    let mut table = AlarmTable::default();
    for number in 0..250 {
        let condition = [Condition::AlarmLevel1, Condition::AlarmLevel3][number % 2];
        let alarm = alarm(&format!("a{number:03}"), condition);
        table.set(
            &device(&format!("D{number}")),
            position(1),
            &[alarm],
            &Profile::default(),
            AT,
        );
    }
    let (mut place, mut all) = (None, Vec::new());
    loop {
        let page = table.page(place.as_ref(), &filter(&[]), |_| true);
        assert!(page.alarms.len() <= MAX_ITEMS);
        all.extend(ids(&page.alarms));
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    let mut expected: Vec<String> = (0..250).map(|number| format!("a{number:03}")).collect();
    expected.sort_by_key(|id| (!id.ends_with(['1', '3', '5', '7', '9']), id.clone()));
    assert_eq!(all, expected);
}

#[test]
fn a_client_that_fell_behind_or_that_may_lack_something_starts_again() {
    let mut table = AlarmTable::default();
    let (mut slow, mut fast) = (table.cursor(), table.cursor());
    for number in 0..=MAX_KEPT {
        let alarm = alarm(&format!("a{number}"), Condition::AlarmLevel1);
        table.set(
            &device("A"),
            position(number as u64),
            &[alarm],
            &Profile::default(),
            AT,
        );
        while !next(&table, &mut fast).is_empty() {}
    }
    assert!(table.next(&mut slow, &filter(&[]), |_| true).is_none());
    assert!(next(&table, &mut fast).is_empty());
    table.doubt();
    assert!(table.next(&mut fast, &filter(&[]), |_| true).is_none());
    let mut new = table.cursor();
    assert!(next(&table, &mut new).is_empty());
}

#[test]
fn an_alarm_that_only_has_another_position_has_not_changed() {
    let mut table = AlarmTable::default();
    let mut cursor = table.cursor();
    let mut open = alarm("a1", Condition::AlarmLevel1);
    for seq in 1..=3 {
        table.set(
            &device("A"),
            position(seq),
            std::slice::from_ref(&open),
            &Profile::default(),
            AT,
        );
    }
    assert_eq!(next(&table, &mut cursor).changed.len(), 1);
    open.count = 2;
    table.set(&device("A"), position(4), &[open], &Profile::default(), AT);
    assert_eq!(next(&table, &mut cursor).changed.len(), 1);
}

/// An acknowledgement of what was shown must cover it.
#[test]
fn an_alarm_with_a_position_of_another_epoch_is_sent_again() {
    let mut table = AlarmTable::default();
    let mut cursor = table.cursor();
    let open = [alarm("a1", Condition::AlarmLevel1)];
    let none = Profile::default();
    table.set(&device("A"), position(7), &open, &none, AT);
    assert_eq!(next(&table, &mut cursor).changed.len(), 1);
    let later = Position {
        epoch: Epoch::from_bits(0x0123_4567_89ab),
        seq: 7,
    };
    assert!(table.differs(&device("A"), later.epoch, &open));
    table.set(&device("A"), later, &open, &none, AT);
    assert!(!table.differs(&device("A"), later.epoch, &open));
    let sent = next(&table, &mut cursor).changed;
    let page = table.page(None, &filter(&[]), |_| true).alarms;
    for text in [&sent[0], &page[0]] {
        assert!(text.get().contains(r#""epoch":"0123456789ab""#), "{text}");
    }
}

#[test]
fn other_open_alarms_than_those_that_are_kept_are_noticed() {
    let mut table = AlarmTable::default();
    let one = alarm("a1", Condition::AlarmLevel1);
    let epoch = Position::default().epoch;
    table.set(
        &device("A"),
        position(1),
        std::slice::from_ref(&one),
        &Profile::default(),
        AT,
    );
    let escalated = alarm("a1", Condition::AlarmLevel3);
    let other = alarm("a2", Condition::AlarmLevel1);
    let mut chattering = one.clone();
    chattering.count += 1;
    for (alarms, expected) in [
        (std::slice::from_ref(&chattering), true),
        (&[one.clone()][..], false),
        (&[][..], true),
        (&[escalated], true),
        (std::slice::from_ref(&other), true),
        (&[one, other.clone()], true),
    ] {
        assert_eq!(table.differs(&device("A"), epoch, alarms), expected);
    }
    assert!(!table.differs(&device("B"), epoch, &[]));
    assert!(table.differs(&device("B"), epoch, &[other]));
}

#[test]
fn events_with_long_alarms_have_fewer_of_them() {
    let mut table = AlarmTable::default();
    let mut cursor = table.cursor();
    for number in 0..MAX_ITEMS {
        let id = format!("{}{number:03}", "x".repeat(1_000));
        table.set(
            &device(&format!("D{number}")),
            position(1),
            &[alarm(&id, Condition::AlarmLevel1)],
            &Profile::default(),
            AT,
        );
    }
    let bytes = |texts: &[Arc<RawValue>]| texts.iter().map(|text| text.get().len()).sum::<usize>();
    let (mut place, mut listed) = (None, 0);
    loop {
        let page = table.page(place.as_ref(), &filter(&[]), |_| true);
        assert!(bytes(&page.alarms) <= MAX_BYTES);
        listed += page.alarms.len();
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    let mut changed = 0;
    loop {
        let chunk = next(&table, &mut cursor);
        if chunk.is_empty() {
            break;
        }
        assert!(bytes(&chunk.changed) <= MAX_BYTES);
        changed += chunk.changed.len();
    }
    assert_eq!((listed, changed), (MAX_ITEMS, MAX_ITEMS));
}

#[derive(Clone, Debug)]
enum Step {
    /// A transition of this alarm of this device.
    Apply(usize, usize, usize),
    /// Every open alarm of a device was read.
    Set(usize, Vec<usize>),
    Remove(usize),
    /// The client takes so many events.
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..3_usize, 0..2_usize, 0..4_usize).prop_map(|(d, a, s)| Step::Apply(d, a, s)),
        1 => (0..3_usize, proptest::collection::vec(0..4_usize, 2))
            .prop_map(|(d, alarms)| Step::Set(d, alarms)),
        1 => (0..3_usize).prop_map(Step::Remove),
        2 => (0..3_usize).prop_map(Step::Take),
    ];
    proptest::collection::vec(step, 0..80)
}

/// An alarm of a device at this level; 0: it has ended.
fn at_level(device: usize, number: usize, level: usize) -> Alarm {
    let condition = Condition::gas(level.saturating_sub(1));
    let alarm = alarm(&format!("alarm{number}_D{device}"), condition);
    Alarm {
        cleared_at: (level == 0).then_some(AT),
        ..alarm
    }
}

proptest! {
    /// A client that applies what it gets shows in the end what is open.
    #[test]
    fn a_client_shows_what_is_open_in_the_end(steps in steps()) {
        let mut table = AlarmTable::default();
        let mut cursor = table.cursor();
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        let severe = filter(&[Severity::Critical, Severity::High]);
        let mut take = |table: &AlarmTable, shown: &mut BTreeMap<String, String>| {
            let chunk = table.next(&mut cursor, &severe, |_| true).expect("nothing is missing");
            for (id, text) in ids(&chunk.changed).into_iter().zip(&chunk.changed) {
                shown.insert(id, without_change(text.get()));
            }
            for ended in &chunk.ended {
                shown.remove(&*ended.id);
            }
            !chunk.is_empty()
        };
        for (seq, step) in (1..).zip(steps) {
            let at = position(seq);
            match step {
                Step::Apply(number, alarm, level) => {
                    let alarm = at_level(number, alarm, level);
                    let change = changed(alarm, ChangeKind::Escalated);
                    table.apply(&device(&format!("D{number}")), at, &change, &Profile::default(), AT);
                }
                Step::Set(number, levels) => {
                    let alarms = levels.into_iter().enumerate();
                    let alarms = alarms.filter(|(_, level)| *level > 0);
                    let alarms: Vec<Alarm> = alarms.map(|(alarm, level)| at_level(number, alarm, level)).collect();
                    table.set(&device(&format!("D{number}")), at, &alarms, &Profile::default(), AT);
                }
                Step::Remove(number) => table.remove(&device(&format!("D{number}")), AT),
                Step::Take(events) => {
                    for _ in 0..events {
                        take(&table, &mut shown);
                    }
                }
            }
        }
        while take(&table, &mut shown) {}
        let page = table.page(None, &severe, |_| true);
        let texts = page.alarms.iter().map(|text| without_change(text.get()));
        let expected: BTreeMap<String, String> = ids(&page.alarms).into_iter().zip(texts).collect();
        prop_assert_eq!(shown, expected);
    }
}

fn without_change(text: &str) -> String {
    text.replace(r#","change":"escalated""#, "")
}

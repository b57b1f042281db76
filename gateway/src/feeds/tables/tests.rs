use shared::alarm::{Alarm, ChangeKind, Condition};
use shared::state::DeviceState;
use shared::store::ChangedAlarm;

use super::*;
use crate::feeds::filter::AlarmFilter;

const AT: Time = Time::from_millis(1_769_600_232_000);

fn device() -> DeviceId {
    "OTSM-0114".parse().unwrap()
}

fn position(seq: u64) -> Position {
    Position {
        seq,
        ..Position::default()
    }
}

fn alarm(id: &str) -> Alarm {
    Alarm::new(id.to_owned(), Condition::AlarmLevel1, AT, position(1))
}

fn shown(seq: u64, alarms: &[&str], is_lost: bool) -> Shown {
    let state = DeviceState {
        position: position(seq),
        alarms: alarms.iter().map(|id| alarm(id)).collect(),
        ..DeviceState::default()
    };
    Shown {
        state,
        profile: Profile::default(),
        is_lost,
    }
}

fn raised(seq: u64, id: &str) -> AlarmChanges {
    let changed = ChangedAlarm {
        alarm: alarm(id),
        change: Some(ChangeKind::Raised),
    };
    AlarmChanges {
        changes: vec![(position(seq), changed)],
        may_lack: false,
    }
}

fn open(tables: &Tables) -> usize {
    let filter = AlarmFilter::default();
    tables.alarms.page(None, &filter, |_| true).alarms.len()
}

#[test]
fn changes_that_are_newer_than_the_state_count_more_than_it() {
    let mut tables = Tables::default();
    let none = shown(4, &[], false);
    let until = tables.update_alarms(&device(), Some(&none), &raised(5, "a"), AT);
    assert_eq!((until, open(&tables)), (Some(position(5)), 1));
    // The same state would end the alarm if there were no newer change.
    let none = shown(6, &[], false);
    let until = tables.update_alarms(&device(), Some(&none), &AlarmChanges::default(), AT);
    assert_eq!((until, open(&tables)), (Some(position(6)), 0));
}

#[test]
fn a_state_that_cannot_be_read_ends_no_alarm() {
    let mut tables = Tables::default();
    let two = shown(4, &["a", "b"], false);
    tables.update_alarms(&device(), Some(&two), &AlarmChanges::default(), AT);
    let lost = shown(0, &["a"], true);
    tables.update_alarms(&device(), Some(&lost), &AlarmChanges::default(), AT);
    assert_eq!(open(&tables), 2);
    let nothing = tables.update_alarms(&device(), None, &AlarmChanges::default(), AT);
    assert_eq!((nothing, open(&tables)), (None, 2));
    // Of a device of which nothing is known, what can be read is shown.
    let mut tables = Tables::default();
    tables.update_alarms(&device(), Some(&lost), &AlarmChanges::default(), AT);
    assert_eq!(open(&tables), 1);
}

/// An ingest of an earlier release raises it without giving the device a number.
#[test]
fn an_alarm_without_a_number_is_noticed_when_the_row_is_read() {
    let mut tables = Tables::default();
    let none = shown(4, &[], false);
    tables.update_alarms(&device(), Some(&none), &AlarmChanges::default(), AT);
    assert!(!tables.has_other_alarms(&device(), Some(&none)));
    let raised = shown(5, &["a"], false);
    assert!(tables.has_other_alarms(&device(), Some(&raised)));
    // What cannot be read says nothing.
    assert!(!tables.has_other_alarms(&device(), Some(&shown(0, &["a"], true))));
    assert!(!tables.has_other_alarms(&device(), None));
}

#[test]
fn what_is_kept_is_complete_only_after_it_was_read_again() {
    let mut tables = Tables::default();
    let second = Duration::from_secs(1);
    tables.add_row_client(second);
    tables.has_rows = true;
    tables.add_row_client(second * 2);
    assert!(tables.has_rows);
    assert_eq!(tables.wanted().rows, Some(second));
    tables.remove_row_client(second);
    assert_eq!(tables.wanted().rows, Some(second * 2));
    tables.forget_rows();
    tables.remove_row_client(second * 2);
    assert!(tables.wanted().is_nothing());
    tables.add_row_client(second);
    assert!(!tables.has_rows);
}

use proptest::prelude::*;
use serde_json::{Value, json};
use shared::alarm::Alarm;
use shared::alarm_log::{AlarmLogEntry, Folded};
use shared::forward::UnknownFields;
use shared::position::{Epoch, Position};

use super::super::filter::{Choice, LogFilter};
use super::super::fold::LogFold;
use super::*;

const EPOCH: &str = "0123456789ab";

/// What one entry of the log says.
#[derive(Clone, Debug)]
struct Step {
    device: u8,
    alarm: u8,
    change: Option<ChangeKind>,
    /// Seq that a level was reached at, or that an acknowledgement covers.
    seq: u64,
    is_first_raise: bool,
    /// The decision's time is this far from the time at which it was stored.
    late: i64,
    /// The raises and the acknowledged seq of the transitions that it stands for, if it stands for several.
    folded: Option<(u32, Option<u64>)>,
    /// The first of the alarms that it is logged together with.
    group: Option<u8>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop_oneof![
        3 => Just(Some(ChangeKind::Raised)),
        2 => Just(Some(ChangeKind::Escalated)),
        3 => Just(Some(ChangeKind::Acknowledged)),
        2 => Just(Some(ChangeKind::Cleared)),
        1 => Just(None),
    ];
    let step = (
        0..3_u8,
        0..3_u8,
        change,
        0..12_u64,
        any::<bool>(),
        -3..4_i64,
        prop_oneof![
            4 => Just(None),
            1 => (0..4_u32, prop::option::of(0..12_u64)).prop_map(Some),
        ],
        prop::option::weighted(0.3, 0..3_u8),
    )
        .prop_map(
            |(device, alarm, change, seq, is_first_raise, late, folded, group)| Step {
                device,
                alarm,
                change,
                seq,
                is_first_raise,
                late,
                folded,
                group,
            },
        );
    prop::collection::vec(step, 0..60)
}

fn entry(number: usize, step: &Step) -> (LogId, LoggedEntry) {
    let millis = 1_000 + number as u64 / 2;
    let id = LogId {
        millis,
        number: number as u64 % 2,
    };
    let written = Time::from_millis(i64::try_from(millis).unwrap());
    let at = Time::from_millis(written.as_millis() + step.late);
    let reached = Position {
        epoch: Epoch::from_bits(1),
        seq: step.seq,
    };
    let raised = if step.is_first_raise {
        at
    } else {
        Time::from_millis(1)
    };
    let condition = [Condition::AlarmLevel1, Condition::SensorFault][usize::from(step.alarm % 2)];
    let alarm = Alarm {
        log_group: step.group.map(|group| format!("alarm-{group}")),
        ..Alarm::new(format!("alarm-{}", step.alarm), condition, raised, reached)
    };
    let is_acknowledged = step.change == Some(ChangeKind::Acknowledged);
    let seen = is_acknowledged.then_some(step.seq);
    let seen = seen.or(step.folded.and_then(|(_, seen)| seen));
    let counts = |raises: u32| Folded {
        transitions: raises + 1,
        raises,
        since: Time::from_millis(1),
        until: at,
        peak: None,
        unknown: UnknownFields::default(),
    };
    let entry = AlarmLogEntry {
        change: step.change,
        alarm: step.change.map(|_| alarm),
        by: seen.map(|_| "Ann".to_owned()),
        seen,
        folded: step.folded.map(|(raises, _)| Box::new(counts(raises))),
        ..AlarmLogEntry::empty(at)
    };
    let logged = LoggedEntry {
        id: format!("log-0-{}-{}", id.millis, id.number),
        device: format!("OTSM-{}", step.device),
        written,
        entry: Ok(entry),
    };
    (id, logged)
}

/// The log of a partition.
struct Log {
    entries: Vec<(LogId, LoggedEntry)>,
}

impl Log {
    fn of(steps: &[Step]) -> Self {
        let entries = steps.iter().enumerate();
        Self {
            entries: entries.map(|(number, step)| entry(number, step)).collect(),
        }
    }

    fn piece_after(&self, after: Option<LogId>, size: usize) -> LogPiece {
        let ids = || self.entries.iter().map(|(id, _)| *id);
        let new = self.entries.iter().filter(|(id, _)| Some(*id) > after);
        LogPiece {
            entries: new.take(size).cloned().collect(),
            ends: ids().next().zip(ids().next_back()),
            length: self.entries.len() as u64,
            epoch: Some(EPOCH.to_owned()),
        }
    }

    /// Reads what is new, in pieces.
    fn update(&self, counts: &mut LogCounts, size: usize) -> Progress {
        loop {
            let piece = self.piece_after(counts.last(), size);
            let is_end = piece.entries.len() < size;
            let progress = counts.add_piece(piece, is_end);
            if progress != Progress::More {
                return progress;
            }
        }
    }

    /// Counts the rows as they are folded for a client that reads the log.
    fn folded(&self, filter: &LogFilter) -> Value {
        let mut statistics = Statistics::default();
        let mut fold = LogFold::default();
        let since = filter.since;
        for (_, entry) in self.entries.iter().rev() {
            if since.is_some_and(|since| entry.written < since) {
                break;
            }
            let row = fold.add(entry.clone());
            if let Some(row) = row.filter(|row| filter.admits(row)) {
                let count = row
                    .folded
                    .as_ref()
                    .map_or(1, |folded| u64::from(folded.rows));
                statistics.add(row.alarm_type, row.severity, row.acknowledged, count);
                statistics.add_of_device(&row.device_id, count);
            }
        }
        json!(statistics)
    }
}

fn counted(counts: &LogCounts, filter: CountFilter<'_>) -> Value {
    let mut statistics = Statistics::default();
    counts.count(filter, &mut statistics);
    json!(statistics)
}

proptest! {
    #[test]
    fn counts_are_those_of_the_folded_log(
        steps in steps(),
        cuts in (0..60_usize, 0..60_usize),
        size in 1..7_usize,
        since in prop::option::of(998..1_032_i64),
        until in prop::option::of(998..1_032_i64),
        device in prop::option::of(0..4_u8),
    ) {
        let mut counts = LogCounts::default();
        let (read, trimmed) = (cuts.0.min(steps.len()), cuts.1.min(steps.len()));
        // A part is read, then more is written, then the oldest entries are trimmed.
        let mut log = Log::of(&steps[..read]);
        prop_assert_eq!(log.update(&mut counts, size), Progress::Complete);
        log = Log::of(&steps);
        log.entries.drain(..trimmed.min(read));
        prop_assert_eq!(log.update(&mut counts, size), Progress::Complete);
        log.entries.drain(..trimmed.min(log.entries.len()));
        prop_assert_eq!(log.update(&mut counts, size), Progress::Complete);

        let device: Option<DeviceId> = device.map(|device| format!("OTSM-{device}").parse().unwrap());
        let (since, until) = (since.map(Time::from_millis), until.map(Time::from_millis));
        let filter = LogFilter {
            since,
            until,
            device: device.clone().map_or(Choice::Any, Choice::Only),
            alarm_type: Choice::Any,
            severity: Choice::Any,
        };
        let own = CountFilter { since, until, device: device.as_ref() };
        prop_assert_eq!(counted(&counts, own), log.folded(&filter));
        // Nothing is kept for what is gone.
        let rows = counts.rows.len();
        prop_assert!(counts.unacknowledged.len() <= rows && counts.devices.numbers.len() <= rows);
        if log.entries.is_empty() {
            prop_assert_eq!(rows, 0);
        }
    }
}

fn raise(device: u8) -> Step {
    Step {
        device,
        alarm: 0,
        change: Some(ChangeKind::Raised),
        seq: 1,
        is_first_raise: true,
        late: 0,
        folded: None,
        group: None,
    }
}

#[test]
fn a_log_that_lost_other_entries_is_read_again() {
    let steps: Vec<Step> = (0..10).map(|number| raise(number % 3)).collect();
    let mut log = Log::of(&steps);
    let mut counts = LogCounts::default();
    assert_eq!(log.update(&mut counts, 100), Progress::Complete);
    // An entry in the middle.
    log.entries.remove(5);
    assert_eq!(log.update(&mut counts, 100), Progress::Lost);

    // The newest entries.
    let mut counts = LogCounts::default();
    assert_eq!(log.update(&mut counts, 100), Progress::Complete);
    log.entries.truncate(4);
    assert_eq!(log.update(&mut counts, 100), Progress::Lost);

    // Another run of the server may have lost any.
    let mut counts = LogCounts::default();
    assert_eq!(log.update(&mut counts, 100), Progress::Complete);
    let piece = LogPiece {
        epoch: Some("other".to_owned()),
        ..log.piece_after(counts.last(), 100)
    };
    assert_eq!(counts.add_piece(piece, true), Progress::Lost);
}

#[test]
fn an_empty_log_has_no_counts() {
    let log = Log::of(&[]);
    let mut counts = LogCounts::default();
    assert_eq!(log.update(&mut counts, 100), Progress::Complete);
    assert_eq!(
        serde_json::to_string(&Statistics::default()).unwrap(),
        concat!(
            r#"{"total_alarms":0,"by_type":{},"by_severity":{},"by_device":{},"#,
            r#""acknowledged_count":0,"unacknowledged_count":0}"#,
        )
    );
    assert_eq!(
        counted(&counts, CountFilter::default())["total_alarms"],
        json!(0)
    );
}

use proptest::prelude::*;
use serde_json::{Value, json};
use shared::alarm::{Acknowledgement, Alarm, ChangeKind};
use shared::alarm_log::{AlarmLogEntry, Folded, Peak};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::forward::UnknownFields;
use shared::position::{Epoch, Position};
use shared::reading::Side;
use shared::store::LoggedEntry;

use super::super::counts::Statistics;
use super::super::fold::{LogFold, LogRow};
use super::super::place::Place;
use super::super::search::folded;
use super::groups::Group;
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
    is_cleared: bool,
    /// Whether an entry of a retirement is about an alarm, not about the device.
    has_alarm: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop_oneof![
        3 => Just(Some(ChangeKind::Raised)),
        2 => Just(Some(ChangeKind::Escalated)),
        3 => Just(Some(ChangeKind::Acknowledged)),
        2 => Just(Some(ChangeKind::Cleared)),
        1 => Just(Some(ChangeKind::DeEscalated)),
        1 => Just(Some(ChangeKind::Retired)),
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
        (any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |(device, alarm, change, seq, is_first_raise, late, folded, group, flags)| Step {
                device,
                alarm,
                change,
                seq,
                is_first_raise,
                late,
                folded,
                group,
                is_cleared: flags.0,
                has_alarm: flags.1,
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
        cleared_at: step.is_cleared.then_some(at),
        acknowledged: step
            .seq
            .is_multiple_of(2)
            .then(|| Acknowledgement::new("Bob", at)),
        ..Alarm::new(format!("alarm-{}", step.alarm), condition, raised, reached)
    };
    let is_acknowledged = step.change == Some(ChangeKind::Acknowledged);
    let seen = is_acknowledged.then_some(step.seq);
    let seen = seen.or(step.folded.and_then(|(_, seen)| seen));
    let counts = |raises: u32| Folded {
        transitions: raises + 1,
        raises,
        since: Time::from_millis(1),
        until: Time::from_millis(at.as_millis() - i64::from(raises)),
        peak: (raises == 3).then(|| Peak {
            condition: Condition::AlarmLevel3,
            side: Side::High,
            message: "the worst".to_owned(),
            threshold: None,
            value: None,
        }),
        unknown: UnknownFields::default(),
    };
    let is_of_device = step.change == Some(ChangeKind::Retired) && !step.has_alarm;
    let entry = AlarmLogEntry {
        change: step.change,
        alarm: step.change.filter(|_| !is_of_device).map(|_| alarm),
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

    fn piece(&self, entries: Vec<(LogId, LoggedEntry)>) -> LogPiece {
        let ids = || self.entries.iter().map(|(id, _)| *id);
        LogPiece {
            entries,
            ends: ids().next().zip(ids().next_back()),
            length: self.entries.len() as u64,
            epoch: Some(EPOCH.to_owned()),
        }
    }

    /// Reads what is new, in pieces.
    fn read_newer(&self, index: &mut LogIndex, size: usize) -> Progress {
        loop {
            let after = index.newest_entry();
            let new = self.entries.iter().filter(|(id, _)| Some(*id) > after);
            let piece = self.piece(new.take(size).cloned().collect());
            let is_end = piece.entries.len() < size;
            let progress = index.add_newer(piece, is_end);
            if progress != Progress::More {
                return progress;
            }
        }
    }

    /// Reads one piece backwards.
    fn read_older(&self, index: &mut LogIndex, size: usize) -> Progress {
        let before = index.oldest();
        let entries = self.entries.iter().rev();
        let old = entries.filter(|(id, _)| before.is_none_or(|before| *id < before));
        let piece = self.piece(old.take(size).cloned().collect());
        let is_end = piece.entries.len() < size;
        index.add_older(piece, is_end)
    }

    /// Folds the whole log, as for a client that reads all of it.
    fn folded(&self) -> Vec<(Place, LogRow)> {
        let mut fold = LogFold::default();
        let newest_first = self.entries.iter().rev();
        let rows = newest_first.filter_map(|(id, entry)| {
            let row = fold.add(entry.clone())?;
            Some((place(row.timestamp, *id), row))
        });
        rows.collect()
    }

    /// Shows a row that was found.
    fn shown(&self, found: &FoundRow) -> (Place, LogRow) {
        let entry = |id: LogId| {
            let mut entries = self.entries.iter();
            let (_, entry) = entries.find(|(known, _)| *known == id)?;
            Some(entry.clone())
        };
        let row = folded(found.entries().map(entry).collect());
        (found.place, row.expect("its entry is in the log"))
    }
}

const PARTITION: u16 = 3;

fn place(at: Time, id: LogId) -> Place {
    Place {
        at,
        id,
        partition: PARTITION,
    }
}

fn matches(filter: &RowFilter<'_>, place: Place, row: &LogRow) -> bool {
    filter.since.is_none_or(|since| row.timestamp >= since)
        && filter.until.is_none_or(|until| row.timestamp <= until)
        && filter.before.is_none_or(|before| place < before)
        && filter.device.is_none_or(|device| row.device_id == *device)
        && filter.condition.is_none_or(|only| row.alarm_type == only)
        && filter.severity.is_none_or(|only| row.severity == only)
}

/// Counts the rows that a client would count.
fn counts<'a>(rows: impl Iterator<Item = &'a LogRow>) -> Value {
    let mut statistics = Statistics::default();
    for row in rows {
        let folded = row.folded.as_ref();
        let count = folded.map_or(1, |folded| u64::from(folded.rows));
        statistics.add(row.alarm_type, row.severity, row.acknowledged, count);
        statistics.add_of_device(&row.device_id, count);
    }
    json!(statistics)
}

fn counted(index: &LogIndex, filter: &RowFilter<'_>) -> Value {
    let mut statistics = Statistics::default();
    index.count(filter, &mut statistics);
    json!(statistics)
}

/// What happens to the log, and what is read of it.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// So many entries are written.
    Write(usize),
    /// The oldest entries are trimmed.
    Trim(usize),
    ReadNewer(usize),
    ReadOlder(usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        (1..20_usize).prop_map(Action::Write),
        (1..20_usize).prop_map(Action::Trim),
        (1..7_usize).prop_map(Action::ReadNewer),
        (1..12_usize).prop_map(Action::ReadOlder),
    ];
    prop::collection::vec(action, 0..20)
}

prop_compose! {
    fn filters()(
        since in prop::option::weighted(0.3, 998..1_032_i64),
        until in prop::option::weighted(0.3, 998..1_032_i64),
        before in prop::option::weighted(0.3, (998..1_032_i64, 1_000..1_032_u64)),
        device in prop::option::weighted(0.3, 0..4_u8),
        condition in prop::option::weighted(0.3, prop::sample::select(vec![
            Condition::AlarmLevel1, Condition::SensorFault, Condition::AlarmLevel3,
        ])),
        severity in prop::option::weighted(0.3, prop::sample::select(vec![
            Severity::Warning, Severity::High, Severity::Critical,
        ])),
    ) -> (RowFilter<'static>, Option<DeviceId>) {
        let filter = RowFilter {
            readable: None,
            since: since.map(Time::from_millis),
            until: until.map(Time::from_millis),
            before: before.map(|(at, millis)| {
                place(Time::from_millis(at), LogId { millis, number: 0 })
            }),
            device: None,
            condition,
            severity,
        };
        (filter, device.map(|device| format!("OTSM-{device}").parse().unwrap()))
    }
}

proptest! {
    /// Whatever was read in which order, the index says what the fold of the whole log says.
    #[test]
    fn an_index_finds_the_rows_of_the_folded_log(
        steps in steps(),
        actions in actions(),
        (filter, device) in filters(),
        limit in 1..20_usize,
    ) {
        let filter = RowFilter { device: device.as_ref(), ..filter };
        let all = Log::of(&steps).entries;
        let (mut trimmed, mut written) = (0, 0);
        let log = |trimmed: usize, written: usize| Log { entries: all[trimmed..written].to_vec() };
        let mut index = LogIndex::default();
        for action in actions {
            let now = log(trimmed, written);
            let progress = match action {
                Action::Write(number) => {
                    written = (written + number).min(all.len());
                    continue;
                }
                Action::Trim(number) => {
                    trimmed = (trimmed + number).min(written);
                    continue;
                }
                Action::ReadNewer(size) => now.read_newer(&mut index, size),
                Action::ReadOlder(size) => now.read_older(&mut index, size),
            };
            prop_assert_ne!(progress, Progress::Lost);
        }
        let log = log(trimmed, written);
        if !index.is_begun() {
            log.read_older(&mut index, 5);
        }
        prop_assert_eq!(log.read_newer(&mut index, 3), Progress::AtEnd);

        let mut is_read_on = false;
        loop {
            // So far, the index knows the rows from the oldest entry that was read on.
            let rows = log.folded();
            let is_known = |place: &Place| index.is_complete() || Some(place.id) >= index.oldest();
            let mut rows: Vec<_> = rows.into_iter().filter(|(place, row)| {
                is_known(place) && matches(&filter, *place, row)
            }).collect();
            prop_assert_eq!(counted_without_before(&index, &filter), counts(
                log.folded().iter()
                    .filter(|(place, row)| {
                        let filter = RowFilter { before: None, ..filter };
                        is_known(place) && matches(&filter, *place, row)
                    })
                    .map(|(_, row)| row)
            ));
            rows.sort_by(|(one, _), (other, _)| other.cmp(one));
            rows.truncate(limit);
            let found = index.newest(PARTITION, &filter, limit);
            let found: Vec<_> = found.iter().map(|found| log.shown(found)).collect();
            prop_assert_eq!(found, rows);
            if index.is_complete() {
                break;
            }
            is_read_on = true;
            prop_assert_ne!(log.read_older(&mut index, 4), Progress::Lost);
        }
        // Nothing is kept for what is gone or was never a row.
        let rows = index.rows.len();
        prop_assert!(index.groups.count() <= rows, "{} groups", index.groups.count());
        prop_assert!(index.groups.count_keys() <= rows);
        prop_assert!(index.devices.count() <= rows, "read on: {is_read_on}");
        prop_assert_eq!(index.length(), log.entries.len() as u64);
    }
}

fn counted_without_before(index: &LogIndex, filter: &RowFilter<'_>) -> Value {
    let all = RowFilter {
        before: None,
        ..*filter
    };
    counted(index, &all)
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
        is_cleared: false,
        has_alarm: true,
    }
}

/// Reads all of a log.
fn read(log: &Log) -> LogIndex {
    let mut index = LogIndex::default();
    assert_eq!(log.read_older(&mut index, 100), Progress::AtEnd);
    assert_eq!(log.read_newer(&mut index, 100), Progress::AtEnd);
    index
}

#[test]
fn a_log_that_lost_other_entries_than_the_oldest_is_noticed() {
    let steps: Vec<Step> = (0..10).map(|number| raise(number % 3)).collect();
    let whole = || Log::of(&steps);
    // An entry in the middle.
    let mut log = whole();
    let mut index = read(&log);
    log.entries.remove(5);
    assert_eq!(log.read_newer(&mut index, 100), Progress::Lost);

    // The newest entries.
    let mut log = whole();
    let mut index = read(&log);
    log.entries.truncate(4);
    assert_eq!(log.read_newer(&mut index, 100), Progress::Lost);

    // Another run of the server may have lost any.
    let log = whole();
    let piece = || LogPiece {
        epoch: Some("other".to_owned()),
        ..log.piece(Vec::new())
    };
    assert_eq!(read(&log).add_newer(piece(), true), Progress::Lost);
    assert_eq!(read(&log).add_older(piece(), true), Progress::Lost);
}

#[test]
fn more_rows_than_a_chunk_are_found_whichever_way_they_were_read() {
    let steps: Vec<Step> = (0..1_000_u32)
        .map(|number| raise(u8::try_from(number % 3).unwrap()))
        .collect();
    let mut log = Log::of(&steps[..700]);
    let mut index = LogIndex::default();
    log.read_older(&mut index, 300);
    log = Log::of(&steps);
    log.read_newer(&mut index, 90);
    log.read_older(&mut index, 250);
    log.entries.drain(..200);
    log.read_newer(&mut index, 90);
    let found = index.newest(PARTITION, &RowFilter::default(), 1_000);
    let places: Vec<Place> = found.iter().map(|found| found.place).collect();
    let expected: Vec<Place> = log.folded().iter().map(|(place, _)| *place).collect();
    assert_eq!(places, expected);
}

/// `check-config` computes the memory of a gateway with these sizes.
#[test]
fn a_row_and_its_alarm_are_as_small_as_documented() {
    assert_eq!(size_of::<Row>(), 72);
    assert_eq!(size_of::<Option<Group>>(), 48);
}

#[test]
fn an_empty_log_has_no_rows() {
    let log = Log::of(&[]);
    let index = read(&log);
    assert!(index.is_complete());
    assert_eq!(index.newest(0, &RowFilter::default(), 10), []);
    assert_eq!(
        serde_json::to_string(&Statistics::default()).unwrap(),
        concat!(
            r#"{"total_alarms":0,"by_type":{},"by_severity":{},"by_device":{},"#,
            r#""acknowledged_count":0,"unacknowledged_count":0}"#,
        )
    );
    assert_eq!(
        counted(&index, &RowFilter::default())["total_alarms"],
        json!(0)
    );
}

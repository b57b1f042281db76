mod logged_together;

use shared::alarm::AlarmState::{self, Acknowledged, Cleared, Unacknowledged};
use shared::alarm::{Acknowledgement, Alarm, ChangeKind, Condition, Severity};
use shared::alarm_log::{AlarmLogEntry, Folded, Peak};
use shared::position::{Epoch, Position};
use shared::store::{LogId, LogPiece, LoggedEntry};

use super::fold::LogFold;
use super::index::{LogIndex, Progress};
use super::*;

/// Builds a gas alarm whose present level was reached at this seq.
fn alarm(condition: Condition, seq: u64) -> Alarm {
    let time = |seconds: i64| Time::from_millis(1_769_600_000_000 + seconds * 1000);
    let reached = Position {
        epoch: Epoch::from_bits(0x0123_4567_89ab),
        seq,
    };
    let id = "alarm1_OTSM-0114_0123456789ab_1".to_owned();
    Alarm {
        message: "Gas concentration above A1 threshold (250 ppm)".to_owned(),
        threshold: Some(decimal("250")),
        value: Some(decimal("350.5")),
        unit: "ppm".to_owned(),
        gas_type: "Carbon Monoxide (CO)".to_owned(),
        device_name: "Gas Sensor Block1".to_owned(),
        ..Alarm::new(id, condition, time(1), reached)
    }
}

fn decimal(text: &str) -> shared::decimal::Decimal {
    text.parse().expect("a number")
}

fn at(seconds: i64) -> Time {
    Time::from_millis(1_769_600_000_000 + seconds * 1000)
}

fn entry(seconds: i64, change: ChangeKind, alarm: Alarm) -> LoggedEntry {
    logged(AlarmLogEntry {
        change: Some(change),
        alarm: Some(alarm),
        ..AlarmLogEntry::empty(at(seconds))
    })
}

fn logged(entry: AlarmLogEntry) -> LoggedEntry {
    LoggedEntry {
        id: format!("p07-{}-0", entry.at.as_millis()),
        device: "OTSM-0114".to_owned(),
        written: entry.at,
        entry: Ok(entry),
    }
}

fn acknowledged(seconds: i64, by: &str, seq: u64, alarm: Alarm) -> LoggedEntry {
    let alarm = Alarm {
        acknowledged: (seq >= alarm.reached.seq).then(|| Acknowledgement::new(by, at(seconds))),
        ..alarm
    };
    logged(AlarmLogEntry {
        change: Some(ChangeKind::Acknowledged),
        alarm: Some(alarm),
        by: Some(by.to_owned()),
        seen: Some(seq),
        ..AlarmLogEntry::empty(at(seconds))
    })
}

fn with_note(mut logged: LoggedEntry, note: &str) -> LoggedEntry {
    if let Ok(entry) = &mut logged.entry {
        entry.note = Some(note.to_owned());
    }
    logged
}

fn fold(oldest_first: Vec<LoggedEntry>) -> Vec<LogRow> {
    let mut fold = LogFold::default();
    oldest_first
        .into_iter()
        .rev()
        .filter_map(|entry| fold.add(entry))
        .collect()
}

fn a1() -> Alarm {
    alarm(Condition::AlarmLevel1, 1)
}

fn a2() -> Alarm {
    alarm(Condition::AlarmLevel2, 3)
}

fn cleared(seconds: i64, alarm: Alarm) -> LoggedEntry {
    let alarm = Alarm {
        cleared_at: Some(at(seconds)),
        ..alarm
    };
    entry(seconds, ChangeKind::Cleared, alarm)
}

/// Compares the rows, newest first: type, who acknowledged, state.
#[track_caller]
fn check(oldest_first: Vec<LoggedEntry>, expected: &[(Condition, Option<&str>, AlarmState)]) {
    let rows = fold(oldest_first);
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.alarm_type, row.acknowledged_by.as_deref(), row.state))
        .collect();
    assert_eq!(found, expected);
}

/// Builds the log entry of the retirement itself, which has no alarm.
fn retired(seconds: i64) -> LoggedEntry {
    logged(AlarmLogEntry {
        change: Some(ChangeKind::Retired),
        ..AlarmLogEntry::empty(at(seconds))
    })
}

#[test]
fn a_retirement_closes_the_alarms_of_its_device() {
    use ChangeKind as C;
    let closed = Alarm {
        cleared_at: Some(at(5)),
        ..a1()
    };
    let rows = fold(vec![
        entry(1, C::Raised, a1()),
        retired(5),
        entry(5, C::Retired, closed),
    ]);
    assert_eq!(rows.len(), 1, "the retirement is not a row");
    assert_eq!((rows[0].state, rows[0].cleared_at), (Cleared, Some(at(5))));
    assert!(!rows[0].acknowledged, "the alarm is acknowledged");

    // If the state was lost, the retirement lists no alarms, but closes them. An alarm of the next device stays open.
    let next = Alarm {
        id: "alarm1_OTSM-0114_0123456789ab_9".to_owned(),
        ..a1()
    };
    let rows = fold(vec![
        entry(1, C::Raised, a1()),
        acknowledged(2, "Ann", 1, a1()),
        retired(5),
        entry(7, C::Raised, next),
    ]);
    let found: Vec<_> = rows.iter().map(|row| (row.state, row.cleared_at)).collect();
    assert_eq!(found, [(Unacknowledged, None), (Cleared, Some(at(5)))]);
    assert_eq!(rows[1].acknowledged_by.as_deref(), Some("Ann"));
}

#[test]
fn only_raises_and_escalations_are_rows() {
    use ChangeKind as C;
    check(
        vec![entry(1, C::Raised, a1())],
        &[(Condition::AlarmLevel1, None, Unacknowledged)],
    );
    check(
        vec![
            entry(1, C::Raised, a1()),
            entry(3, C::Escalated, a2()),
            entry(4, C::DeEscalated, a1()),
            entry(5, C::Latched, a1()),
            entry(6, C::Unlatched, a1()),
        ],
        &[
            (Condition::AlarmLevel2, None, Unacknowledged),
            (Condition::AlarmLevel1, None, Unacknowledged),
        ],
    );
    let lost = logged(AlarmLogEntry::state_lost(at(9)));
    check(vec![lost], &[]);
}

#[test]
fn an_acknowledgement_marks_the_levels_that_had_been_seen() {
    use ChangeKind as C;
    let raised = || entry(1, C::Raised, a1());
    let escalated = || entry(3, C::Escalated, a2());
    check(
        vec![raised(), acknowledged(2, "Ann", 1, a1())],
        &[(Condition::AlarmLevel1, Some("Ann"), Acknowledged)],
    );
    // An escalation needs a new acknowledgement. Each level keeps the first one that covers it.
    check(
        vec![
            raised(),
            acknowledged(2, "Ann", 1, a1()),
            escalated(),
            acknowledged(5, "Bob", 4, a2()),
        ],
        &[
            (Condition::AlarmLevel2, Some("Bob"), Acknowledged),
            (Condition::AlarmLevel1, Some("Ann"), Acknowledged),
        ],
    );
    // An acknowledgement after the escalation that covers only the level seen before it.
    check(
        vec![raised(), escalated(), acknowledged(5, "Ann", 2, a2())],
        &[
            (Condition::AlarmLevel2, None, Unacknowledged),
            (Condition::AlarmLevel1, Some("Ann"), Unacknowledged),
        ],
    );
    // An acknowledgement of the escalated level covers the lower level too.
    check(
        vec![
            raised(),
            escalated(),
            acknowledged(5, "Ann", 3, a2()),
            cleared(7, a2()),
        ],
        &[
            (Condition::AlarmLevel2, Some("Ann"), Cleared),
            (Condition::AlarmLevel1, Some("Ann"), Cleared),
        ],
    );
}

#[test]
fn an_alarm_acknowledged_after_it_was_cleared_stays_cleared() {
    let closed = Alarm {
        cleared_at: Some(at(4)),
        ..a1()
    };
    let rows = fold(vec![
        entry(1, ChangeKind::Raised, a1()),
        cleared(4, a1()),
        acknowledged(6, "Ann", 5, closed),
    ]);
    assert_eq!(rows[0].state, Cleared);
    assert_eq!(rows[0].cleared_at, Some(at(4)));
    assert_eq!(rows[0].acknowledged_at, Some(at(6)));
}

#[test]
fn two_alarms_of_one_device_are_kept_apart() {
    let other = |alarm: Alarm| Alarm {
        id: "fault_OTSM-0114_0123456789ab_2".to_owned(),
        condition: Condition::SensorFault,
        ..alarm
    };
    check(
        vec![
            entry(1, ChangeKind::Raised, a1()),
            entry(2, ChangeKind::Raised, other(a1())),
            acknowledged(3, "Ann", 2, other(a1())),
            cleared(4, a1()),
        ],
        &[
            (Condition::SensorFault, Some("Ann"), Acknowledged),
            (Condition::AlarmLevel1, None, Cleared),
        ],
    );
}

#[test]
fn a_row_has_the_documented_keys_in_order() {
    let rows = fold(vec![
        entry(1, ChangeKind::Raised, a1()),
        acknowledged(2, "User", 1, a1()),
        cleared(4, a1()),
    ]);
    let logs = Logs {
        total_count: rows.len(),
        logs: rows,
        incomplete_before: None,
        next: None,
    };
    assert_eq!(
        serde_json::to_string(&logs).expect("JSON"),
        concat!(
            r#"{"total_count":1,"logs":[{"device_id":"OTSM-0114","device_name":"Gas Sensor Block1","#,
            r#""serial_number":"OTSM-0114","alarm_type":"alarm_level_1","severity":"warning","#,
            r#""message":"Gas concentration above A1 threshold (250 ppm)","threshold":250,"#,
            r#""current_value":350.5,"unit":"ppm","gas_type":"Carbon Monoxide (CO)","#,
            r#""timestamp":"2026-01-28T11:33:21.000Z","acknowledged":true,"#,
            r#""acknowledged_at":"2026-01-28T11:33:22.000Z","acknowledged_by":"User","#,
            r#""id":"p07-1769600001000-0","_id":"p07-1769600001000-0","alarm_id":"alarm1_OTSM-0114_0123456789ab_1","#,
            r#""state":"cleared","cleared_at":"2026-01-28T11:33:24.000Z","reading_timestamp":null}]}"#,
        )
    );
}

#[test]
fn missing_values_of_a_row_are_null() {
    let without_level = Alarm {
        condition: Condition::DeviceOffline,
        threshold: None,
        value: None,
        ..a1()
    };
    let rows = fold(vec![entry(1, ChangeKind::Raised, without_level)]);
    let text = serde_json::to_string(&rows).expect("JSON");
    assert!(
        text.contains(r#""threshold":null,"current_value":null"#),
        "{text}"
    );
    let open = r#""acknowledged":false,"acknowledged_at":null,"acknowledged_by":null"#;
    assert!(text.contains(open), "{text}");
    assert!(text.contains(r#""cleared_at":null"#), "{text}");
}

#[track_caller]
fn check_filter(raw: &str, admitted: bool) {
    let filter = LogFilter::of_rows(&Query::parse(Some(raw))).expect("a readable query");
    let id = LogId {
        millis: 1,
        number: 0,
    };
    let piece = LogPiece {
        entries: vec![(id, entry(1, ChangeKind::Raised, a1()))],
        ends: Some((id, id)),
        length: 1,
        epoch: None,
    };
    let mut index = LogIndex::default();
    assert_eq!(index.add_newer(piece, true), Progress::AtEnd);
    let found = index.newest(0, &filter.rows(None), 1).len() == 1;
    assert_eq!(found && !filter.admits_nothing(), admitted, "{raw}");
}

#[test]
fn filters_compare_exactly_and_both_ends_are_inclusive() {
    check_filter("", true);
    check_filter(
        "alarm_type=&severity=&device_id=&start_date=&end_date=",
        true,
    );
    check_filter("alarm_type=alarm_level_1", true);
    check_filter("alarm_type=alarm_level_2", false);
    check_filter("alarm_type=Alarm_Level_1", false);
    check_filter("alarm_type=smoke", false);
    check_filter("severity=warning", true);
    check_filter("severity=high", false);
    check_filter("severity=5", false);
    check_filter("device_id=OTSM-0114", true);
    check_filter("device_id=otsm-0114", false);
    check_filter("device_id=%07", false);
    check_filter("start_date=2026-01-28T11:33:21.000Z", true);
    check_filter("start_date=2026-01-28T11:33:21.001Z", false);
    check_filter("end_date=2026-01-28T11:33:21.000Z", true);
    check_filter("end_date=2026-01-28T11:33:20.999Z", false);
    check_filter("start_date=2026-01-28&end_date=2026-01-29", true);
    check_filter("end_date=2026-01-28", false);
    check_filter("sort=up", true);
}

/// Conditions that this release does not know are kept in memory for ever. A client must not be able to fill that.
#[test]
fn words_of_clients_are_not_kept() {
    for number in 0..300 {
        check_filter(
            &format!("alarm_type=word_{number}&severity=word_{number}"),
            false,
        );
    }
    let word: Condition = serde_json::from_str(r#""led_mismatch""#).expect("room for a condition");
    assert_eq!(word.code(), "led_mismatch");
}

#[test]
fn an_unreadable_date_is_an_error() {
    for raw in ["start_date=soon", "end_date=2026-02-30"] {
        let error = LogFilter::of_rows(&Query::parse(Some(raw))).expect_err(raw);
        assert_eq!(error.code(), "unreadable");
    }
}

#[test]
fn an_entry_that_stands_for_several_is_one_row_with_the_worst_of_them() {
    let counts = Folded {
        transitions: 9,
        raises: 4,
        since: at(10),
        until: at(50),
        peak: Some(Peak {
            condition: Condition::AlarmLevel3,
            side: shared::reading::Side::High,
            message: "the worst".to_owned(),
            threshold: Some(decimal("1000")),
            value: Some(decimal("1200")),
        }),
        unknown: shared::forward::UnknownFields::default(),
    };
    let cleared = Alarm {
        cleared_at: Some(at(50)),
        ..a1()
    };
    let folded = logged(AlarmLogEntry {
        change: Some(ChangeKind::Cleared),
        alarm: Some(cleared),
        by: Some("Asha".to_owned()),
        seen: Some(1),
        folded: Some(Box::new(counts)),
        ..AlarmLogEntry::empty(at(3_600))
    });
    let rows = fold(vec![entry(1, ChangeKind::Raised, a1()), folded]);
    let [counted, raised] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!(counted.timestamp, at(50));
    assert_eq!(
        (counted.alarm_type, counted.severity),
        (Condition::AlarmLevel3, Severity::Critical)
    );
    assert_eq!(counted.message, "the worst");
    let folded = counted
        .folded
        .as_ref()
        .map(|folded| (folded.rows, folded.transitions));
    assert_eq!(folded, Some((4, 9)));
    // The raise that was written shows what happened later.
    assert_eq!((raised.state, raised.cleared_at), (Cleared, Some(at(50))));
    assert_eq!(raised.acknowledged_by.as_deref(), Some("Asha"));
    assert!(raised.folded.is_none());
}

#[test]
fn counts_without_a_raise_are_no_row() {
    let counts = Folded {
        transitions: 2,
        raises: 0,
        since: at(10),
        until: at(50),
        peak: None,
        unknown: shared::forward::UnknownFields::default(),
    };
    let folded = logged(AlarmLogEntry {
        change: Some(ChangeKind::Cleared),
        alarm: Some(a1()),
        folded: Some(Box::new(counts)),
        ..AlarmLogEntry::empty(at(60))
    });
    assert_eq!(fold(vec![folded]).len(), 0);
}

#[test]
fn a_row_has_the_note_of_the_acknowledgement_that_covers_it() {
    use ChangeKind as C;
    let rows = fold(vec![
        entry(1, C::Raised, a1()),
        with_note(acknowledged(2, "Ann", 1, a1()), "A1 seen"),
        entry(3, C::Escalated, a2()),
        acknowledged(4, "Ben", 1, a2()),
        with_note(acknowledged(5, "Cem", 3, a2()), "A2 seen"),
        cleared(6, a2()),
    ]);
    let notes: Vec<_> = rows
        .iter()
        .map(|row| row.acknowledged_note.as_deref())
        .collect();
    assert_eq!(notes, [Some("A2 seen"), Some("A1 seen")]);
    let none = fold(vec![entry(1, C::Raised, a1())]);
    let json = serde_json::to_value(&none[0]).expect("JSON");
    assert!(json.get("acknowledged_note").is_none(), "{json}");
}

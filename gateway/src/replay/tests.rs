use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use shared::alarm::Alarm;
use shared::decide::{Input, Message, StoredDevice, decide};
use shared::keys::MAX_EVENTS;
use shared::position::Epoch;

use super::*;
use crate::test_setup::{self, SILENCE_LIMIT_MS};

fn device() -> DeviceId {
    "OTSM-0114".parse().unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::from_bits(number)
}

fn at(epoch_number: u64, seq: u64) -> Position {
    Position {
        epoch: epoch(epoch_number),
        seq,
    }
}

fn now() -> Time {
    Time::from_millis(1_800_000_000_000)
}

fn state(position: Position) -> DeviceState {
    let reading = test_setup::reading("OTSM-0114", 10);
    test_setup::state(reading, position, now())
}

fn event(position: Position) -> StoredEvent {
    let Position { epoch, seq } = position;
    let data = format!(r#"{{"seq":{seq}}}"#);
    let text =
        format!(r#"{{"epoch":"{epoch}","seq":{seq},"at":1,"data":{data},"changes":{data}}}"#);
    StoredEvent {
        position,
        bytes: text.into_bytes(),
    }
}

fn change(position: Position) -> StoredChanges {
    let payload = format!(r#"{{"seq":{}}}"#, position.seq).into_bytes();
    StoredChanges {
        position,
        payload,
        alarms: Vec::<Alarm>::new(),
    }
}

/// Checks that `more` is on every packet but the last one of each position that the client gets whole, and that the last packet of
/// all completes a position. A snapshot after missed changes completes its own position only.
fn check_more(answer: &CatchUp) {
    let packets: Vec<(&str, serde_json::Value)> = answer
        .packets
        .iter()
        .map(|(name, payload)| (*name, serde_json::from_str(payload.get()).unwrap()))
        .collect();
    for (index, (name, body)) in packets.iter().enumerate() {
        let has_more = body.get("more").is_some();
        assert!(!has_more || body["more"] == true, "{name} {body}");
        let next = packets.get(index + 1);
        let is_last = next.is_none_or(|(_, next)| {
            answer.is_recovered() && (next["seq"] != body["seq"] || next["stale"] == true)
        });
        assert_eq!(has_more, !is_last, "{name} {body} in {packets:?}");
    }
}

/// Builds a device with events up to number `last`, in these epochs, each with the number of its first event. Every event
/// changed an alarm. The streams are trimmed as Redis trims them.
fn history(epochs: &[(u64, u64)], last: u64) -> Snapshot {
    let epoch_of = |seq: u64| {
        let epoch = epochs.iter().rev().find(|(_, first)| *first <= seq);
        epoch.map_or(0, |(number, _)| *number)
    };
    let first = |kept: usize| last.saturating_sub(kept as u64 - 1).max(1);
    let positions = |kept: usize| (first(kept)..=last).map(|seq| at(epoch_of(seq), seq));
    Snapshot {
        born_after: 0,
        epoch: epoch(epochs.last().unwrap().0),
        state: (last > 0).then(|| state(at(epoch_of(last), last))),
        last_message: Some(now()),
        events: positions(MAX_EVENTS).map(event).collect(),
        changes: positions(MAX_CHANGES).map(change).collect(),
    }
}

fn names(answer: &CatchUp) -> Vec<&'static str> {
    answer.packets.iter().map(|(name, _)| *name).collect()
}

fn seqs(answer: &CatchUp, wanted: &str) -> Vec<u64> {
    let of_name = answer.packets.iter().filter(|(name, _)| *name == wanted);
    of_name
        .map(|(_, payload)| {
            let value: serde_json::Value = serde_json::from_str(payload.get()).unwrap();
            value["seq"].as_u64().unwrap()
        })
        .collect()
}

#[track_caller]
fn check(snapshot: &Snapshot, since: Option<Position>, outcome: Outcome, packets: &[&str]) {
    let answer = for_subscription(&device(), since, snapshot, now());
    assert_eq!(answer.outcome, outcome);
    assert_eq!(names(&answer), packets);
    assert_eq!(answer.position, position(snapshot));
    check_more(&answer);
}

#[test]
fn first_subscription_gets_the_latest_reading_alone_while_no_alarm_is_open() {
    check(
        &history(&[(1, 1)], 5),
        None,
        Outcome::Snapshot,
        &["device:data"],
    );
}

#[test]
fn an_unknown_device_has_position_zero_of_the_present_epoch() {
    let snapshot = history(&[(1, 1)], 0);
    check(&snapshot, None, Outcome::Snapshot, &[]);
    check(&snapshot, Some(at(1, 0)), Outcome::Recovered, &[]);
    assert_eq!(position(&snapshot), at(1, 0));
}

#[test]
fn a_client_that_missed_nothing_recovers_without_any_event() {
    check(
        &history(&[(1, 1)], 5),
        Some(at(1, 5)),
        Outcome::Recovered,
        &[],
    );
}

#[test]
fn missed_events_are_sent_in_order_with_data_before_changes() {
    let pair = ["device:data", "device:alerts:changed"];
    check(
        &history(&[(1, 1)], 5),
        Some(at(1, 3)),
        Outcome::Recovered,
        &[pair, pair].concat(),
    );
}

#[test]
fn position_zero_of_the_present_epoch_recovers_everything() {
    let answer = for_subscription(&device(), Some(at(1, 0)), &history(&[(1, 1)], 3), now());
    assert!(answer.is_recovered());
    assert_eq!(seqs(&answer, "device:data"), [1, 2, 3]);
}

#[test]
fn readings_are_those_after_the_position_and_not_before_the_given_time() {
    let history = history(&[(1, 1)], 5);
    let found = |since, from: Option<i64>| {
        let readings = readings(since, &history, from.map(Time::from_millis));
        let texts = readings.iter().map(|data| data.get().to_owned());
        texts.collect::<Vec<String>>()
    };
    assert_eq!(
        found(at(1, 3), None),
        [r#"{"seq":4,"more":true}"#, r#"{"seq":5,"more":true}"#]
    );
    // Every event was committed at time 1.
    assert_eq!(found(at(1, 0), Some(1)).len(), 5);
    assert!(found(at(1, 0), Some(2)).is_empty());
    assert!(found(at(9, 3), None).is_empty());
}

#[test]
fn position_zero_of_another_epoch_gets_a_snapshot() {
    let answer = for_subscription(&device(), Some(at(9, 0)), &history(&[(1, 1)], 3), now());
    assert_eq!(answer.outcome, Outcome::AlarmsIncomplete);
}

#[test]
fn an_epoch_that_continues_the_stream_recovers() {
    let answer = for_subscription(
        &device(),
        Some(at(1, 4)),
        &history(&[(1, 1), (2, 6)], 8),
        now(),
    );
    assert!(answer.is_recovered());
    assert_eq!(seqs(&answer, "device:data"), [5, 6, 7, 8]);
    assert_eq!(answer.position, at(2, 8));
}

#[test]
fn a_client_ahead_of_a_redis_that_lost_data_gets_the_new_changes_and_a_snapshot() {
    // The client saw 1 to 7 of epoch 1. Redis lost 6 and 7, and continued after 5 in epoch 2.
    let answer = for_subscription(
        &device(),
        Some(at(1, 7)),
        &history(&[(1, 1), (2, 6)], 8),
        now(),
    );
    assert_eq!(answer.outcome, Outcome::AlarmsIncomplete);
    assert_eq!(seqs(&answer, "device:alerts:changed"), [6, 7, 8]);
    assert_eq!(&names(&answer)[3..], ["device:data", "device:alerts"]);
}

#[test]
fn a_position_trimmed_from_the_events_still_gets_every_alarm_change() {
    let answer = for_subscription(&device(), Some(at(1, 10)), &history(&[(1, 1)], 150), now());
    assert_eq!(answer.outcome, Outcome::Snapshot);
    assert_eq!(
        seqs(&answer, "device:alerts:changed"),
        (11..=150).collect::<Vec<_>>()
    );
}

#[test]
fn a_position_trimmed_from_the_changes_too_is_answered_as_incomplete() {
    let answer = for_subscription(&device(), Some(at(1, 10)), &history(&[(1, 1)], 300), now());
    assert_eq!(answer.outcome, Outcome::AlarmsIncomplete);
}

#[test]
fn a_gap_in_the_stream_is_not_recovered() {
    let mut snapshot = history(&[(1, 1)], 8);
    snapshot.events.remove(5);
    assert!(!for_subscription(&device(), Some(at(1, 3)), &snapshot, now()).is_recovered());
    let mut snapshot = history(&[(1, 1)], 8);
    snapshot.events.pop();
    assert!(!for_subscription(&device(), Some(at(1, 3)), &snapshot, now()).is_recovered());
}

#[test]
fn an_unreadable_event_is_not_recovered() {
    let mut snapshot = history(&[(1, 1)], 8);
    snapshot.events[5].bytes = b"{".to_vec();
    assert!(!for_subscription(&device(), Some(at(1, 3)), &snapshot, now()).is_recovered());
}

#[test]
fn an_emptied_redis_has_nothing_to_send() {
    let answer = for_subscription(&device(), Some(at(1, 7)), &history(&[(2, 1)], 0), now());
    assert_eq!(answer.outcome, Outcome::AlarmsIncomplete);
    assert_eq!(answer.position, at(2, 0));
    assert!(answer.packets.is_empty());
}

/// Builds a device with events up to `last`. An earlier device of its name was retired at `born_after`.
fn born(born_after: u64, last: u64) -> Snapshot {
    let mut snapshot = history(&[(1, 1)], last);
    snapshot.born_after = born_after;
    let is_its = |at: Position| at.seq > born_after;
    snapshot.events.retain(|stored| is_its(stored.position));
    snapshot.changes.retain(|stored| is_its(stored.position));
    snapshot
}

#[test]
fn a_retired_device_is_answered_like_an_unknown_one() {
    let gone = Snapshot {
        born_after: 8,
        ..history(&[(1, 1)], 0)
    };
    check(&gone, None, Outcome::Snapshot, &[]);
    assert_eq!(position(&gone), at(1, 0));
    // What came after these positions is no longer stored.
    check(
        &gone,
        Some(at(1, 7)),
        Outcome::AlarmsIncomplete,
        &["device:alerts"],
    );
    check(
        &gone,
        Some(at(1, 0)),
        Outcome::AlarmsIncomplete,
        &["device:alerts"],
    );
    // Nothing is known of another epoch: its alarms may be open.
    check(&gone, Some(at(2, 8)), Outcome::AlarmsIncomplete, &[]);
    // This client saw the retirement.
    let answer = for_subscription(&device(), Some(at(1, 8)), &gone, now());
    assert!(answer.is_recovered());
    assert_eq!(names(&answer), [""; 0]);
    assert_eq!(answer.position, at(1, 8));
}

#[test]
fn a_client_that_missed_a_retirement_learns_that_changes_are_missing() {
    let snapshot = born(8, 10);
    let expected = [
        "device:alerts:changed",
        "device:alerts:changed",
        "device:data",
        "device:alerts",
    ];
    check(
        &snapshot,
        Some(at(1, 7)),
        Outcome::AlarmsIncomplete,
        &expected,
    );
    check(
        &snapshot,
        Some(at(1, 0)),
        Outcome::AlarmsIncomplete,
        &expected,
    );
    // A client that saw the retirement misses nothing of the successor.
    let both = ["device:data", "device:alerts:changed"].repeat(2);
    check(&snapshot, Some(at(1, 8)), Outcome::Recovered, &both);
    check(&snapshot, Some(at(1, 10)), Outcome::Recovered, &[]);
    // The same number in another epoch is another position.
    check(
        &snapshot,
        Some(at(2, 8)),
        Outcome::AlarmsIncomplete,
        &expected,
    );
}

#[test]
fn a_replay_that_ends_on_a_stale_device_shows_it_as_stale() {
    let snapshot = history(&[(1, 1)], 5);
    let later = Time::from_millis(now().as_millis() + SILENCE_LIMIT_MS + 1);
    let answer = for_subscription(&device(), Some(at(1, 5)), &snapshot, later);
    assert!(answer.is_recovered());
    assert_eq!(names(&answer), ["device:data"]);
    let text = answer.packets[0].1.get();
    assert!(
        text.contains(r#""data_quality":"offline""#) && text.ends_with(r#""stale":true}"#),
        "{text}"
    );
    assert!(text.contains(r#""alarm_status":"ALARM""#), "{text}");
}

#[test]
fn a_stale_snapshot_is_not_shown_as_normal() {
    let later = Time::from_millis(now().as_millis() + SILENCE_LIMIT_MS + 1);
    let answer = for_subscription(&device(), None, &history(&[(1, 1)], 5), later);
    let text = answer.packets[0].1.get();
    assert!(
        text.contains(r#""data_quality":"offline""#) && text.contains(r#""snapshot":true"#),
        "{text}"
    );
}

#[test]
fn payloads_are_passed_on_byte_for_byte() {
    let data = r#"{ "b":1.50, "a" : "ü" }"#;
    let text = format!(r#"{{"epoch":"000000000001","seq":1,"at":1,"data":{data}}}"#);
    let published = PublishedEvent::parse(text.as_bytes()).unwrap();
    assert_eq!(published.data.unwrap().get(), data);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// For any history and position: every event after the position once and in order, or a snapshot.
    #[test]
    fn every_missed_event_is_sent_once_and_in_order_or_a_snapshot_is(
        last in 0_u64..200,
        restart in 1_u64..200,
        since_epoch in 1_u64..4,
        since_seq in 0_u64..210,
        gap in prop::option::of(0_usize..64),
    ) {
        let epochs: &[(u64, u64)] =
            if restart > 1 && restart <= last { &[(1, 1), (2, restart)] } else { &[(1, 1)] };
        let mut snapshot = history(epochs, last);
        if let Some(gap) = gap.filter(|gap| *gap < snapshot.events.len()) {
            snapshot.events.remove(gap);
        }
        let since = at(since_epoch, since_seq);
        let answer = for_subscription(&device(), Some(since), &snapshot, now());
        prop_assert_eq!(answer.position, position(&snapshot));
        check_more(&answer);
        if answer.is_recovered() {
            let expected: Vec<u64> = (since_seq + 1..=last).collect();
            prop_assert_eq!(seqs(&answer, "device:data"), expected);
        } else {
            let has_position = snapshot.events.iter().any(|event| event.position == since);
            let has_rest = snapshot.events.iter().filter(|event| event.position.seq > since_seq).count() as u64
                == last.saturating_sub(since_seq);
            prop_assert!(!(has_position && has_rest), "the stream holds every event");
            let changes = seqs(&answer, "device:alerts:changed");
            prop_assert!(changes.is_sorted_by(|a, b| a < b));
        }
    }
}

/// Builds the state of a device that raised a gas alarm at this position.
fn state_in_alarm(position: Position) -> DeviceState {
    let stored = StoredDevice {
        seq_floor: position.seq - 1,
        ..StoredDevice::unknown(device(), position.epoch)
    };
    let message = Message {
        facts: shared::reading::PayloadFacts::default(),
        reading: test_setup::reading("OTSM-0114", 300).into(),
        fingerprint: 1,
        dup: false,
        retain: false,
        live_raw_message: None,
    };
    let input = Input::Message {
        message: &message,
        settings: &test_setup::alarm_settings(Duration::from_mins(3)),
    };
    let state = decide(&stored, input, now(), None).state;
    assert!(!state.alarms.is_empty() && state.position == position);
    Arc::unwrap_or_clone(state)
}

/// Returns the packets as `name`, `seq`, and `+` if they have `more`.
fn marked(answer: &CatchUp) -> Vec<String> {
    let packets = answer.packets.iter().map(|(name, payload)| {
        let body: serde_json::Value = serde_json::from_str(payload.get()).unwrap();
        let more = if body.get("more").is_some() { "+" } else { "" };
        format!("{name} {}{more}", body["seq"])
    });
    packets.collect()
}

#[test]
fn only_the_last_event_of_a_snapshot_after_missed_changes_completes_a_position() {
    let answer = for_subscription(&device(), Some(at(1, 10)), &history(&[(1, 1)], 80), now());
    assert_eq!(answer.outcome, Outcome::Snapshot);
    let marked = marked(&answer);
    assert_eq!(marked[0], "device:alerts:changed 11+");
    assert_eq!(marked[69], "device:alerts:changed 80+");
    assert_eq!(&marked[70..], ["device:data 80+", "device:alerts 80"]);
}

#[test]
fn a_snapshot_with_open_alarms_is_whole_with_them_and_without_any_it_is_the_reading_alone() {
    let mut snapshot = history(&[(1, 1)], 5);
    let answer = for_subscription(&device(), None, &snapshot, now());
    assert_eq!(marked(&answer), ["device:data 5"]);
    snapshot.state = Some(state_in_alarm(at(1, 5)));
    let answer = for_subscription(&device(), None, &snapshot, now());
    assert_eq!(marked(&answer), ["device:data 5+", "device:alerts 5"]);
}

#[test]
fn events_of_a_release_without_more_get_it() {
    let text = r#"{"epoch":"000000000001","seq":1,"at":1,"data":{"seq":1},"alerts":{"seq":1},"changes":{"seq":1}}"#;
    let published = PublishedEvent::parse(text.as_bytes()).unwrap();
    let payloads: Vec<&str> = published.packets().map(|(_, raw)| raw.get()).collect();
    let marked = r#"{"seq":1,"more":true}"#;
    assert_eq!(payloads, [marked, marked, r#"{"seq":1}"#]);
}

#[test]
fn a_stale_copy_is_neither_a_part_of_a_position_nor_a_snapshot() {
    let fields = r#"{"data":{"alarm_status":"NORMAL","data_quality":"good"},"seq":1"#;
    let expected =
        r#"{"data":{"alarm_status":"ALARM","data_quality":"offline"},"seq":1,"stale":true}"#;
    for end in [
        "",
        r#","more":true"#,
        r#","snapshot":true"#,
        r#","snapshot":true,"more":true"#,
    ] {
        let data = RawValue::from_string(format!("{fields}{end}}}")).unwrap();
        let copy = stale_copy(&data).expect("a reading");
        assert_eq!(copy.get(), expected, "{end}");
    }
}

#[test]
fn a_stale_copy_changes_the_two_values_and_nothing_else() {
    let data: Box<RawValue> = RawValue::from_string(
        concat!(
            r#"{"deviceId":"a\"alarm_status\":\"x","data":{"alarm_status":"NORMAL","raw_message":"#,
            r#"{"data_quality":"mine","alarm_status":"mine"},"data_quality":"good"},"seq":1}"#
        )
        .to_owned(),
    )
    .expect("JSON");
    let copy = stale_copy(&data).expect("a reading");
    assert_eq!(
        copy.get(),
        concat!(
            r#"{"deviceId":"a\"alarm_status\":\"x","data":{"alarm_status":"ALARM","raw_message":"#,
            r#"{"data_quality":"mine","alarm_status":"mine"},"data_quality":"offline"},"seq":1,"stale":true}"#
        )
    );
}

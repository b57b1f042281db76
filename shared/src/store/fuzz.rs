//! What must hold for whatever is found in Redis. Another release may have written it, or a person, or half of it may be lost. It must
//! not end a process: the state of one device would end all of them again and again.

use std::sync::Arc;

use redis::Value;

use super::{Loaded, codec, event_diff};
use crate::clock::Time;
use crate::decide::{AcknowledgeRequest, Input, Message, StoredDevice, decide};
use crate::event::{self, Event, PayloadKind};
use crate::listening::Listening;
use crate::reading::PayloadFacts;
use crate::rollup::{Block, BlockBuilder, Width};
use crate::sample::Sample;
use crate::settings::AlarmSettings;
use crate::state::{DeviceState, Freshness, freshness};

const NOW: Time = Time::from_millis(1_795_466_059_773);

/// Input: what `load` in `state.lua` answers, one value a line. An empty line is a value that is missing.
pub(crate) fn state(input: &[u8]) {
    let values = input.split(|byte| *byte == b'\n').map(|value| match value {
        [] => Value::Nil,
        value => Value::BulkString(value.to_vec()),
    });
    let kind = Value::BulkString(b"state".to_vec());
    let answer = Value::Array(std::iter::once(kind).chain(values).collect());
    let device = "OTSM-0114".parse().expect("a serial");
    let Ok(Loaded::Device(stored)) = codec::decode_answer(&device, answer) else {
        return;
    };
    if !stored.lost {
        check_stored(&stored.state);
    }
    check_shown(&stored);
    check_decided(&stored);
}

/// What is written of a state says everything.
fn check_stored(state: &DeviceState) {
    if state.latest.is_none() {
        return;
    }
    // What an earlier release has written is completed when it is read.
    let read = codec::round_trip(state);
    assert_eq!(codec::round_trip(&read), read);
}

fn check_shown(stored: &StoredDevice) {
    let state = &stored.state;
    let fresh = freshness(state, stored.last_message, NOW);
    for freshness in [fresh, Freshness::Stale] {
        let data = event::device_data(state, freshness, PayloadKind::Snapshot, None);
        assert_eq!(data.is_some(), state.latest.is_some());
    }
    let kind = PayloadKind::Snapshot;
    let alerts = event::device_alerts(&stored.device, &state.alarms, state.position, kind);
    let alerts: serde_json::Value = serde_json::from_str(alerts.get()).expect("JSON");
    let alerts = alerts["alerts"].as_array().map(Vec::len);
    assert_eq!(alerts, Some(state.alarms.len()), "an alarm is hidden");
}

/// Whatever is decided next can be stored, and has a later position.
fn check_decided(stored: &StoredDevice) {
    let settings = &AlarmSettings::default();
    let listening = Listening::from(NOW);
    let mut inputs = vec![Input::Deadline {
        listening,
        settings,
    }];
    let message = stored.state.latest.as_ref().map(|latest| Message {
        reading: Arc::clone(&latest.reading),
        facts: PayloadFacts::default(),
        fingerprint: 1,
        dup: false,
        retain: false,
        live_raw_message: None,
    });
    inputs.extend(
        message
            .as_ref()
            .map(|message| Input::Message { message, settings }),
    );
    let alarm = stored.state.alarms.first();
    inputs.extend(alarm.map(|alarm| {
        Input::Acknowledge(AcknowledgeRequest {
            alarm_id: &alarm.id,
            by: "operator",
            note: Some("seen on site"),
            seen: stored.state.position,
            closed: None,
        })
    }));
    inputs.push(Input::Retirement { by: "operator" });
    for input in inputs {
        let decision = decide(stored, input, NOW, None);
        let state = &decision.state;
        if decision.event.is_some() && stored.epoch == stored.state.position.epoch {
            assert!(state.position.seq >= stored.state.position.seq, "{input:?}");
        }
        check_stored(state);
    }
}

/// Input: a line with a whole event, and behind it another event, or what a stream has instead.
pub(crate) fn event(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (whole, other) = input.split_at(end.unwrap_or(input.len()));
    let other = other.get(1..).unwrap_or_default();

    let diff = event_diff::encode(other, whole, 3);
    if let Some(diff) = diff.filter(|_| !other.is_empty()) {
        assert!(diff.len() <= other.len() / 2, "it is no shorter");
        assert_eq!(event_diff::distance(&diff), Some(3));
        assert_eq!(event_diff::decode(&diff, whole).as_deref(), Some(other));
    }
    if let Some(read) = event_diff::decode(other, whole) {
        assert!(read.len() <= whole.len() + other.len(), "it grows");
    }
    if let Some(sample) = Sample::decode(other, NOW) {
        assert_eq!(Sample::decode(&sample.encode(), NOW), Some(sample));
    }
    check_event(whole);
    check_event(other);
}

/// Input: the contents of a block of a rollup.
pub(crate) fn rollup_block(input: &[u8]) {
    let [fine, coarse] = [60, 900].map(|seconds| Width::from_seconds(seconds).expect("a width"));
    let end = fine.block_start(NOW);
    let Some(block) = Block::decode(input, end, fine) else {
        return;
    };
    assert_eq!(
        Block::decode(&block.encode(), end, fine).as_ref(),
        Some(&block)
    );
    let counted = |block: &Block| {
        let sums = block.buckets().flat_map(|(_, sums)| sums);
        sums.map(|sum| sum.count + sum.unknown).sum::<u64>()
    };
    let mut builder = BlockBuilder::new(coarse);
    assert!(builder.add_block(&block).is_none(), "it is in one block");
    let merged = builder.finish();
    assert_eq!(merged.as_ref().map_or(0, counted), counted(&block));
    for sum in merged
        .iter()
        .flat_map(Block::buckets)
        .flat_map(|(_, sums)| sums)
    {
        assert!(sum.min <= sum.mean() && sum.mean() <= sum.max, "{sum:?}");
    }
}

/// An event is read as it was written, and its payloads stay JSON whatever is added to them.
fn check_event(bytes: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Event<'_>>(bytes) else {
        return;
    };
    let text = serde_json::to_string(&event).expect("an event can be written");
    let again: Event<'_> = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).ok(), Some(text));

    let payloads = [event.data, event.alerts, event.changes];
    let payloads = payloads.map(|payload| payload.map(ToOwned::to_owned));
    let marked = event::mark_all_but_last(payloads.clone());
    for (payload, marked) in payloads.iter().zip(&marked) {
        assert_eq!(payload.is_some(), marked.is_some());
    }
    assert_eq!(
        event::mark_all_but_last(marked.clone()).map(|payload| payload.map(|raw| raw.to_string())),
        marked.map(|payload| payload.map(|raw| raw.to_string()))
    );
    for payload in payloads.iter().flatten() {
        let before = event::skipped_before(payload);
        if let Some(with) = event::with_skipped(payload, 7) {
            assert_eq!(event::skipped_before(&with), before.saturating_add(7));
        }
    }
}

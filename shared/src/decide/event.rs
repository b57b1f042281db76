//! The end of every decision: what is published, logged and kept as a sample.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Deadline, Decision, Draft, LogLine, Outcome, RenderedEvent};
use crate::alarm::{Change, ChangeKind};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::event::{self, Event, PayloadKind};
use crate::reading::Quality;
use crate::state::{DeviceState, Freshness, Latest, freshness};

/// What a decision wants done, before it is rendered.
pub(super) struct Effects<'a> {
    pub(super) outcome: Outcome,
    pub(super) changes: Vec<Change>,
    pub(super) alive: bool,
    /// An earlier proof of life, where the index may have lost it.
    pub(super) heard: Option<Time>,
    /// Nothing before it can be gone on from: clients take it as a fresh picture.
    pub(super) is_snapshot: bool,
    pub(super) moves_latest: bool,
    pub(super) deadline: Deadline,
    pub(super) sample_of: Option<(Latest, bool)>,
    /// The seq an acknowledgement covers, where that is not the one its alarm was reached at.
    pub(super) seen: Option<u64>,
    pub(super) raw_message: Option<&'a RawValue>,
}

impl Effects<'_> {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            changes: Vec::new(),
            alive: false,
            heard: None,
            is_snapshot: false,
            moves_latest: false,
            deadline: Deadline::Keep,
            sample_of: None,
            seen: None,
            raw_message: None,
        }
    }
}

/// A compact sample of the history, as REST sends it.
#[derive(Serialize)]
struct Sample<'a> {
    #[serde(serialize_with = "event::iso")]
    timestamp: Time,
    reading_timestamp: Option<&'a str>,
    sensor_reading: Option<Decimal>,
    unit: &'a str,
    alarm_status: &'static str,
    data_quality: Quality,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
}

pub(super) fn finish(
    mut draft: Draft<'_>,
    mut commit: Effects<'_>,
    traceparent: Option<&str>,
) -> Decision {
    let subject = draft.subject;
    commit.is_snapshot |= subject.lost;
    let fresh_before = freshness(&subject.state, subject.last_message, draft.now);
    let fresh = if commit.alive {
        Freshness::Fresh
    } else {
        let heard = subject.last_message.max(commit.heard);
        freshness(&draft.state, heard, draft.now)
    };
    // What was published last was fresh when it was; what the gateways showed since then may have gone stale.
    let shown = |state: &DeviceState, fresh| {
        (
            event::alarm_status(state, fresh),
            event::data_quality(state, fresh),
        )
    };
    let returned = commit.alive && fresh_before != Freshness::Fresh;
    let differs = shown(&subject.state, Freshness::Fresh) != shown(&draft.state, fresh);
    let tells_data = draft.state.latest.is_some()
        && (commit.moves_latest || commit.is_snapshot || returned || differs)
        && commit.outcome != Outcome::Escalated;

    for change in &commit.changes {
        draft
            .log
            .push(LogLine::of(change.kind, &change.alarm, commit.seen));
    }
    if subject.lost {
        let lost = LogLine {
            change: None,
            alarm: None,
            acknowledged: None,
        };
        draft.log.insert(0, lost);
    }
    let sample = commit
        .sample_of
        .as_ref()
        .map(|(sample, late)| render_sample(&draft.state, sample, *late, fresh, draft.now));
    let published = (tells_data || !commit.changes.is_empty())
        .then(|| publish(&mut draft, &commit, tells_data, fresh, traceparent));
    Decision {
        state: draft.state,
        changes: commit.changes,
        event: published,
        log: draft.log,
        sample,
        alive: commit.alive,
        heard: commit.heard,
        deadline: commit.deadline,
        outcome: commit.outcome,
    }
}

fn publish(
    draft: &mut Draft<'_>,
    commit: &Effects<'_>,
    tells_data: bool,
    fresh: Freshness,
    traceparent: Option<&str>,
) -> RenderedEvent {
    let device = &draft.subject.device;
    let (position, now) = (draft.position, draft.now);
    let before = std::mem::replace(&mut draft.state.position, position);
    if before.seq > 0 && before.epoch != position.epoch {
        draft.state.memory.leave(before);
    }
    if tells_data && let Some(latest) = &mut draft.state.latest {
        latest.published_at = now;
    }
    let mark = if commit.is_snapshot {
        PayloadKind::Snapshot
    } else {
        PayloadKind::Live
    };
    let data = tells_data
        .then(|| event::device_data(&draft.state, fresh, mark, commit.raw_message))
        .flatten();
    let is_rise =
        |change: &&Change| matches!(change.kind, ChangeKind::Raised | ChangeKind::Escalated);
    let told_alarms: Vec<_> = commit
        .changes
        .iter()
        .filter(is_rise)
        .map(|c| &c.alarm)
        .collect();
    let alerts = if commit.is_snapshot {
        Some(event::device_alerts(
            device,
            &draft.state.alarms,
            position,
            mark,
        ))
    } else {
        (!told_alarms.is_empty()).then(|| event::device_alerts(device, told_alarms, position, mark))
    };
    let changes = (!commit.changes.is_empty())
        .then(|| event::device_alerts_changed(device, &commit.changes, position, now));
    let envelope = event::to_raw(&Event {
        epoch: position.epoch,
        seq: position.seq,
        snapshot: commit.is_snapshot,
        retired: false,
        at: now,
        alive: commit.alive,
        traceparent: traceparent.map(Into::into),
        data: data.as_deref(),
        alerts: alerts.as_deref(),
        changes: changes.as_deref(),
    });
    RenderedEvent {
        envelope: envelope.get().to_owned(),
        changes: changes.map(|raw| raw.get().to_owned()),
    }
}

fn render_sample(
    state: &DeviceState,
    sample: &Latest,
    late: bool,
    fresh: Freshness,
    now: Time,
) -> String {
    let reading = &sample.reading;
    // A late sample was never shown: its quality is its own, not that of the state it was added to.
    let data_quality = match (late, reading.value) {
        (false, _) => event::data_quality(state, fresh),
        (true, None) => Quality::Bad,
        (true, Some(_)) if sample.doubtful || reading.doubtful || reading.has_fault() => {
            Quality::Uncertain
        }
        (true, Some(_)) => Quality::Good,
    };
    let raw = event::to_raw(&Sample {
        timestamp: now,
        reading_timestamp: reading.timestamp.as_deref(),
        sensor_reading: reading.value,
        unit: &reading.unit,
        alarm_status: event::alarm_status(state, fresh),
        data_quality,
        late,
    });
    raw.get().to_owned()
}

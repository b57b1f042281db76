//! The last step of every decision: renders the event, the log entries and the sample for the history.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{Deadline, Decision, Draft, Outcome, RenderedEvent, StoredDevice};
use crate::alarm::{Change, ChangeKind};
use crate::alarm_log::AlarmLogEntry;
use crate::alarm_log::share::{self, JoinedGroup, LastCleared};
use crate::clock::Time;
use crate::event::{self, Event, PayloadKind};
use crate::sample::Sample;
use crate::state::{ClosedAlarm, DeviceState, Freshness, Latest, freshness};

/// The effects of a decision before they are rendered.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Effects<'a> {
    pub(super) outcome: Outcome,
    pub(super) changes: Vec<Change>,
    /// The message proves the device alive.
    pub(super) alive: bool,
    /// An earlier time at which the device was proved alive; the index may have lost it.
    pub(super) last_alive: Option<Time>,
    /// Clients cannot continue from earlier events: they take this one as a fresh snapshot.
    pub(super) is_snapshot: bool,
    /// A new reading becomes the latest.
    pub(super) moves_latest: bool,
    /// A later event will have the latest reading. Changes of alarms and of the status do not wait.
    pub(super) may_wait: bool,
    pub(super) deadline: Deadline,
    pub(super) sample: Option<SampleOf>,
    /// The seq that an acknowledgement covers.
    pub(super) seen: Option<u64>,
    pub(super) raw_message: Option<&'a RawValue>,
}

/// A reading for the history.
pub(super) enum SampleOf {
    /// It is the latest.
    Latest(Latest),
    /// It is older than the latest.
    Late(Latest),
}

impl Effects<'_> {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            changes: Vec::new(),
            alive: false,
            last_alive: None,
            is_snapshot: false,
            moves_latest: false,
            may_wait: false,
            deadline: Deadline::Keep,
            sample: None,
            seen: None,
            raw_message: None,
        }
    }
}

/// Renders the effects and completes the decision.
pub(super) fn finish(mut draft: Draft<'_>, mut effects: Effects<'_>) -> Decision {
    draft.state.memory.rules_rev = draft.state.rev;
    let stored = draft.stored;
    effects.is_snapshot |= stored.lost;
    let fresh_before = freshness(&stored.state, stored.last_message, draft.now);
    let alive_at = stored.last_message.max(effects.last_alive);
    let alive_at = alive_at.max(effects.alive.then_some(draft.now));
    let fresh = freshness(&draft.state, alive_at, draft.now);
    // Clients must see a change of status. The last event was fresh when it was published; since then gateways may have
    // shown the device as stale.
    let status = |state: &DeviceState, fresh| {
        (
            event::alarm_status(state, fresh),
            event::data_quality(state, fresh),
        )
    };
    let was_stale = effects.alive && fresh_before != Freshness::Fresh && fresh == Freshness::Fresh;
    let differs = status(&stored.state, Freshness::Fresh) != status(&draft.state, fresh);
    let must_tell = effects.is_snapshot || was_stale || differs || !effects.changes.is_empty();
    let waits = effects.may_wait && !must_tell;
    let unpublished = &mut draft.state.memory.unpublished;
    let has_news = (effects.moves_latest || *unpublished > 0) && !waits;
    if effects.moves_latest && waits {
        *unpublished = unpublished.saturating_add(1);
    }
    let has_data = draft.state.latest.is_some()
        && (has_news || effects.is_snapshot || was_stale || differs)
        && (effects.outcome != Outcome::Escalated || stored.state.memory.unpublished > 0);

    for change in &effects.changes {
        let entry = AlarmLogEntry::of_change(change.kind, &change.alarm, draft.now);
        let seen = entry.seen.and(effects.seen).or(entry.seen);
        draft.log.push(AlarmLogEntry { seen, ..entry });
    }
    if stored.lost {
        draft.log.insert(0, AlarmLogEntry::state_lost(draft.now));
    }
    let sample = effects
        .sample
        .as_ref()
        .map(|sample| sample_of(&draft.state, sample, fresh, draft.now));
    let event = (has_data || !effects.changes.is_empty())
        .then(|| render_event(&mut draft, &effects, has_data, fresh));
    let memory = &mut draft.state.memory;
    let burst = memory.log_burst.unwrap_or(share::BURST);
    // Most messages write nothing.
    let cleared = stored.state.closed.iter().filter(|_| !draft.log.is_empty());
    let cleared = cleared.map(last_cleared).collect();
    let log = share::write(&mut memory.log_share, draft.log, cleared, draft.now, burst);
    for joined in &log.joined_groups {
        note_group(joined, &mut draft.state, &mut effects.changes);
    }
    effects.deadline = with_counts(effects.deadline, stored, &draft.state, draft.now);
    Decision {
        state: Arc::new(draft.state),
        changes: effects.changes,
        event,
        log: log.entries,
        folded: log.folded,
        sample,
        alive: effects.alive,
        last_alive: effects.last_alive,
        deadline: effects.deadline,
        outcome: effects.outcome,
    }
}

fn last_cleared(closed: &ClosedAlarm) -> LastCleared {
    LastCleared {
        kind: closed.kind(),
        id: closed.id.clone(),
        group: closed.log_group.as_ref().unwrap_or(&closed.id).clone(),
        cleared_at: closed.cleared_at,
    }
}

/// Notes with a new alarm, wherever it is stored, with which others it is logged together.
fn note_group(joined: &JoinedGroup, state: &mut DeviceState, changes: &mut [Change]) {
    let in_changes = changes.iter_mut().map(|change| &mut change.alarm);
    for alarm in state.alarms.iter_mut().chain(in_changes) {
        if alarm.id == joined.alarm {
            alarm.log_group = Some(joined.group.clone());
        }
    }
    for closed in &mut state.closed {
        if closed.id == joined.alarm {
            closed.log_group = Some(joined.group.clone());
        }
    }
}

/// Returns the deadline at which also the counts of the alarm log are written that wait.
fn with_counts(
    deadline: Deadline,
    stored: &StoredDevice,
    state: &DeviceState,
    now: Time,
) -> Deadline {
    let next = |state: &DeviceState| state.memory.log_share.as_ref()?.next_at();
    let Some(at) = next(state) else {
        return deadline;
    };
    match deadline {
        // The stored deadline is unknown here, and must not become later. It was set for the counts that waited before. For others
        // the timers look at the device at once, and set it.
        Deadline::Keep if next(&stored.state).is_none_or(|before| before > at) => Deadline::At(now),
        deadline => deadline.or_earlier(at),
    }
}

/// Renders the event of this decision and moves the state to its position.
fn render_event(
    draft: &mut Draft<'_>,
    effects: &Effects<'_>,
    has_data: bool,
    fresh: Freshness,
) -> RenderedEvent {
    let device = &draft.stored.device;
    let (position, now) = (draft.position, draft.now);
    let before = std::mem::replace(&mut draft.state.position, position);
    if before.seq > 0 && before.epoch != position.epoch {
        draft.state.memory.record_epoch(before);
    }
    if has_data && let Some(latest) = &mut draft.state.latest {
        latest.published_at = now;
    }
    let skipped = u64::from(std::mem::take(&mut draft.state.memory.unpublished));
    let kind = if effects.is_snapshot {
        PayloadKind::Snapshot
    } else {
        PayloadKind::Live
    };
    let envelope = Event {
        epoch: position.epoch,
        seq: position.seq,
        skipped,
        snapshot: effects.is_snapshot,
        retired: false,
        at: now,
        alive: effects.alive,
        measured_at: draft
            .state
            .latest
            .as_ref()
            .map(Latest::measured_at)
            .filter(|measured_at| *measured_at != now),
        traceparent: draft.traceparent.map(Into::into),
        data: None,
        alerts: None,
        changes: None,
    };
    let is_telemetry =
        has_data && skipped == 0 && !effects.is_snapshot && effects.changes.is_empty();
    if is_telemetry
        && let Some(envelope) =
            event::telemetry(&envelope, &draft.state, fresh, effects.raw_message)
    {
        return RenderedEvent {
            envelope,
            changes: None,
        };
    }
    let data = has_data
        .then(|| event::device_data(&draft.state, fresh, kind, effects.raw_message))
        .flatten()
        .map(|data| event::with_skipped(&data, skipped).unwrap_or(data));
    let is_raise =
        |change: &&Change| matches!(change.kind, ChangeKind::Raised | ChangeKind::Escalated);
    let raised_alarms: Vec<_> = effects
        .changes
        .iter()
        .filter(is_raise)
        .map(|c| &c.alarm)
        .collect();
    let alerts = if effects.is_snapshot {
        Some(event::device_alerts(
            device,
            &draft.state.alarms,
            position,
            kind,
        ))
    } else {
        (!raised_alarms.is_empty())
            .then(|| event::device_alerts(device, raised_alarms, position, kind))
    };
    let changes = (!effects.changes.is_empty())
        .then(|| event::device_alerts_changed(device, &effects.changes, position, now));
    let [data, alerts, changes] = event::mark_all_but_last([data, alerts, changes]);
    let envelope = event::to_raw(&Event {
        data: data.as_deref(),
        alerts: alerts.as_deref(),
        changes: changes.as_deref(),
        ..envelope
    });
    RenderedEvent {
        envelope: text_of(envelope),
        changes: changes.map(text_of),
    }
}

/// Returns the JSON without copying it.
fn text_of(json: Box<RawValue>) -> String {
    Box::<str>::from(json).into_string()
}

fn sample_of(state: &DeviceState, sample: &SampleOf, fresh: Freshness, now: Time) -> Sample {
    let (latest, late, quality) = match sample {
        SampleOf::Latest(latest) => (latest, false, event::data_quality(state, fresh)),
        // A late reading is never shown as the latest, so its own quality is used, not that of the state.
        SampleOf::Late(late) => (late, true, late.quality()),
    };
    let reading = &latest.reading;
    Sample {
        timestamp: now,
        reading_timestamp: reading.timestamp.clone(),
        value: reading.value,
        unit: reading.unit.clone(),
        in_alarm: event::is_in_alarm(state, fresh),
        quality,
        late,
    }
}

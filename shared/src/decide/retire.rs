//! The end of a device: its alarms are closed, clients are informed, and its positions are never used again.

use std::sync::Arc;

use super::{Deadline, Decision, Draft, Outcome, RenderedEvent};
use crate::alarm::ChangeKind;
use crate::alarm_log::AlarmLogEntry;
use crate::alarm_log::share;
use crate::event::{self, Event};

/// Retires a device. If its state was lost, its alarms are unknown, and none of them is closed.
pub(super) fn decide(mut draft: Draft<'_>, by: &str) -> Decision {
    let stored = draft.stored;
    if stored.state.latest.is_none() && !stored.lost {
        return draft.unchanged(Outcome::NotFound);
    }
    // It has no reading, so no position is skipped.
    let unpublished = u64::from(stored.state.memory.unpublished);
    draft.position.seq = draft.position.seq.saturating_sub(unpublished);
    let (now, position) = (draft.now, draft.position);
    let mut alarms = draft.alarms(now);
    alarms.retire();
    let (open, _, changes) = alarms.finish();
    // Published even if no alarm was open: a position without an event would look like a gap to clients.
    let payload = event::device_alerts_changed(&stored.device, &changes, position, now);
    let envelope = event::to_raw(&Event {
        epoch: position.epoch,
        seq: position.seq,
        skipped: 0,
        snapshot: false,
        retired: true,
        at: now,
        alive: false,
        measured_at: None,
        traceparent: draft.traceparent.map(Into::into),
        data: None,
        alerts: None,
        changes: Some(&payload),
    });
    let retired = |entry: AlarmLogEntry| AlarmLogEntry {
        change: Some(ChangeKind::Retired),
        by: Some(by.to_owned()),
        ..entry
    };
    let state_lost = stored.lost.then(|| AlarmLogEntry::state_lost(now));
    // This entry names the person even if no alarm was open.
    let device_retired = retired(AlarmLogEntry::empty(now));
    let alarms_closed = changes
        .iter()
        .map(|change| retired(AlarmLogEntry::of_change(change.kind, &change.alarm, now)));
    let counts = share::write_all(&mut draft.state.memory.log_share, now);
    draft.state.position = position;
    draft.state.alarms = open;
    Decision {
        state: Arc::new(draft.state),
        event: Some(RenderedEvent {
            envelope: envelope.get().to_owned(),
            // Retirement deletes the changes stream.
            changes: None,
        }),
        log: state_lost
            .into_iter()
            .chain(counts)
            .chain([device_retired])
            .chain(alarms_closed)
            .collect(),
        folded: 0,
        changes,
        sample: None,
        alive: false,
        last_alive: None,
        deadline: Deadline::Never,
        outcome: Outcome::Retired,
    }
}

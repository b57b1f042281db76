//! The end of a device: its alarms are closed, clients are informed, and its positions are never used again.

use super::{Deadline, Decision, Draft, Outcome, RenderedEvent};
use crate::alarm::ChangeKind;
use crate::alarm_log::AlarmLogEntry;
use crate::event::{self, Event};

/// Retires a device. One whose state was lost is retired without knowing its alarms.
pub(super) fn decide(mut draft: Draft<'_>, by: &str) -> Decision {
    let stored = draft.stored;
    if stored.state.latest.is_none() && !stored.lost {
        return draft.unchanged(Outcome::NotFound);
    }
    let (now, position) = (draft.now, draft.position);
    let mut alarms = draft.alarms();
    alarms.retire();
    let (open, changes) = alarms.finish();
    // Sent even if no alarm was open: clients would take a position without any event for a gap.
    let payload = event::device_alerts_changed(&stored.device, &changes, position, now);
    let envelope = event::to_raw(&Event {
        epoch: position.epoch,
        seq: position.seq,
        snapshot: false,
        retired: true,
        at: now,
        alive: false,
        traceparent: draft.traceparent.map(Into::into),
        data: None,
        alerts: None,
        changes: Some(&payload),
    });
    // One entry for the device, which names the person even if no alarm was open, then one per closed alarm.
    let retired = |entry: AlarmLogEntry| AlarmLogEntry {
        change: Some(ChangeKind::Retired),
        by: Some(by.to_owned()),
        ..entry
    };
    let lost = stored.lost.then(|| AlarmLogEntry::state_lost(now));
    let device = retired(AlarmLogEntry::state_lost(now));
    let closed = changes
        .iter()
        .map(|change| retired(AlarmLogEntry::of_change(change.kind, &change.alarm, now)));
    draft.state.position = position;
    draft.state.alarms = open;
    Decision {
        state: draft.state,
        event: Some(RenderedEvent {
            envelope: envelope.get().to_owned(),
            changes: None,
        }),
        log: lost.into_iter().chain([device]).chain(closed).collect(),
        changes,
        sample: None,
        alive: false,
        last_alive: None,
        deadline: Deadline::Never,
        outcome: Outcome::Retired,
    }
}

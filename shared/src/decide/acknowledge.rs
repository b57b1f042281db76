//! Decisions about acknowledgements. An acknowledgement covers only the level that the person had seen.

use super::effects::{Effects, finish};
use super::{AcknowledgeRequest, Decision, Draft, Outcome};
use crate::alarm::{self, Alarm, Change, ChangeKind};
use crate::alarm_log::AlarmLogEntry;
use crate::clock::Time;

pub(super) fn decide(mut draft: Draft<'_>, request: AcknowledgeRequest<'_>) -> Decision {
    let before = &draft.stored.state;
    let mut alarms = before.alarms.iter();
    // Of a lost state nobody has seen the alarms yet: the next reading sends them.
    let open = alarms.find(|alarm| alarm.id == request.alarm_id && !draft.stored.lost);
    let Some(alarm) = open.or(request.closed).cloned() else {
        return draft.unchanged(Outcome::NotFound);
    };
    if alarm.acknowledged.is_some() {
        return draft.unchanged(Outcome::AlreadyAcknowledged);
    }
    // A position of another epoch cannot be compared, so it covers nothing.
    let is_same_epoch = request.seen.epoch == before.position.epoch;
    let seen_seq = if is_same_epoch { request.seen.seq } else { 0 };
    if !is_same_epoch || seen_seq < alarm.reached.seq {
        return escalated(draft, alarm, request, seen_seq);
    }
    let mut effects = Effects {
        // Of a cleared alarm it covers nothing that was raised later, although the person had seen it: that is another alarm, which may
        // be logged together with it.
        seen: open.map(|_| seen_seq),
        ..Effects::of(Outcome::Acknowledged)
    };
    if let (Some(latest), Some(_)) = (&before.latest, open) {
        let mut alarms = draft.alarms(draft.now);
        let AcknowledgeRequest {
            alarm_id, by, note, ..
        } = request;
        alarms.acknowledge(alarm_id, by, note, latest.details());
        draft.take_alarms(alarms, &mut effects);
    } else {
        effects.changes = vec![acknowledged(alarm, request, draft.now)];
    }
    finish(draft, effects)
}

/// Handles an alarm that has reached a level the person had not seen. The log keeps the acknowledgement of the level that was
/// seen.
fn escalated(
    mut draft: Draft<'_>,
    alarm: Alarm,
    request: AcknowledgeRequest<'_>,
    seen: u64,
) -> Decision {
    if alarm.seen_before.is_some_and(|before| before >= seen) {
        return draft.unchanged(Outcome::EscalatedBefore);
    }
    let mut open = draft.state.alarms.iter_mut();
    if let Some(open) = open.find(|open| open.id == alarm.id) {
        open.seen_before = Some(seen);
    }
    draft.log.push(AlarmLogEntry {
        change: Some(ChangeKind::Acknowledged),
        alarm: Some(alarm),
        by: Some(request.by.to_owned()),
        note: request.note.map(str::to_owned),
        seen: Some(seen),
        ..AlarmLogEntry::empty(draft.now)
    });
    finish(draft, Effects::of(Outcome::Escalated))
}

/// Returns the change that acknowledges a closed alarm.
fn acknowledged(alarm: Alarm, request: AcknowledgeRequest<'_>, at: Time) -> Change {
    Change {
        kind: ChangeKind::Acknowledged,
        alarm: Alarm {
            acknowledged: Some(alarm::Acknowledgement {
                note: request.note.map(str::to_owned),
                ..alarm::Acknowledgement::new(request.by, at)
            }),
            ..alarm
        },
    }
}

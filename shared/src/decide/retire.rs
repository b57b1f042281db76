//! The end of a device: what stands is closed, everybody is told, and its numbers are never used again.

use super::{Draft, StoredDevice};
use crate::alarm::Change;
use crate::clock::Time;
use crate::event::{self, Event};
use crate::position::Position;

/// What is written and published when a device is retired. Nothing else is kept of it.
#[derive(Clone, Debug)]
pub struct Retirement {
    /// Who retired it.
    pub by: String,
    /// Server time.
    pub at: Time,
    /// Position of the event; a later device of the same name begins above it.
    pub position: Position,
    /// Its open alarms as they were closed, oldest first.
    pub changes: Vec<Change>,
    /// The event: its changes, perhaps none, and no data.
    pub envelope: String,
}

/// Retires a device; `None` if there is none. One whose state was lost is retired without knowing its alarms.
#[must_use]
pub fn retire(
    subject: &StoredDevice,
    by: &str,
    now: Time,
    traceparent: Option<&str>,
) -> Option<Retirement> {
    if subject.state.latest.is_none() && !subject.lost {
        return None;
    }
    let now = now.max(subject.state.memory.decided_at);
    let draft = Draft::new(subject, now);
    let position = draft.position;
    let mut alarms = draft.alarms();
    alarms.retire();
    let (_, changes) = alarms.finish();
    // Also where nothing stood: a position that no client can see is a gap.
    let told = event::device_alerts_changed(&subject.device, &changes, position, now);
    let envelope = event::to_raw(&Event {
        epoch: position.epoch,
        seq: position.seq,
        snapshot: false,
        retired: true,
        at: now,
        alive: false,
        traceparent: traceparent.map(Into::into),
        data: None,
        alerts: None,
        changes: Some(&told),
    });
    Some(Retirement {
        by: by.to_owned(),
        at: now,
        position,
        changes,
        envelope: envelope.get().to_owned(),
    })
}

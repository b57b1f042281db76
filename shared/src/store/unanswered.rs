//! Changes of alarms whose commit Redis did not answer. Whether it was carried out shows when the device is loaded next;
//! until then nobody can tell it.
//!
//! Bound: of each device its last such commit and what stands of those before it, a few changes of the one message and the
//! one deadline that are tried until they are told; at most [`MAX_DEVICES`], the changes of further ones are told nowhere.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Commit;
use crate::alarm::Change;
use crate::clock::Time;
use crate::decide::{Outcome, Subject};
use crate::device::DeviceId;
use crate::state::{DeviceState, Position};

/// More than is in hand at once anywhere.
const MAX_DEVICES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Unanswered {
    // A std mutex: held for one look-up or insertion, never across an await.
    devices: Mutex<HashMap<DeviceId, Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// They stand.
    untold: Vec<Change>,
    /// These stand if this is what the device is found with.
    unanswered: Option<(Mark, Vec<Change>)>,
}

/// What a commit leaves behind. Another process that was first with the same decision would have to have made it in the same
/// millisecond.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    position: Position,
    rev: u64,
    decided_at: Time,
}

impl Mark {
    fn of(state: &DeviceState) -> Self {
        Self {
            position: state.position,
            rev: state.rev,
            decided_at: state.memory.decided_at,
        }
    }
}

impl Unanswered {
    /// Keeps the changes of these commits unless it is told that they were answered, also where nobody waits any more.
    pub(super) fn watch<'a>(&'a self, commits: &'a [Commit<'a>]) -> Watch<'a> {
        Watch {
            unanswered: self,
            commits,
        }
    }

    /// What stands and was not told, once; that of the device's last unanswered commit if the loaded state is what that
    /// commit left.
    pub(super) fn take(&self, loaded: &Subject) -> Vec<Change> {
        let Some(held) = self.devices().remove(&loaded.device) else {
            return Vec::new();
        };
        let mut stand = held.untold;
        if let Some((left, changes)) = held.unanswered
            && left == Mark::of(&loaded.state)
        {
            stand.extend(changes);
        }
        stand
    }

    /// Keeps changes that stand until somebody tells them.
    pub(super) fn keep_untold(&self, device: &DeviceId, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.hold(device, |held| held.untold.extend(changes));
        }
    }

    fn keep(&self, commit: &Commit<'_>) {
        let Commit {
            subject, decision, ..
        } = commit;
        // What is asserted again was told when it was committed first.
        if decision.changes.is_empty() || decision.outcome == Outcome::Reasserted {
            return;
        }
        let unanswered = (Mark::of(&decision.state), decision.changes.clone());
        self.hold(&subject.device, |held| held.unanswered = Some(unanswered));
    }

    fn hold(&self, device: &DeviceId, hold: impl FnOnce(&mut Held)) {
        let mut devices = self.devices();
        if devices.len() < MAX_DEVICES || devices.contains_key(device) {
            hold(devices.entry(device.clone()).or_default());
        }
    }

    fn devices(&self) -> MutexGuard<'_, HashMap<DeviceId, Held>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits on their way.
pub(super) struct Watch<'a> {
    unanswered: &'a Unanswered,
    commits: &'a [Commit<'a>],
}

impl Watch<'_> {
    /// They were answered, whatever the answer is.
    pub(super) fn answered(mut self) {
        self.commits = &[];
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        for commit in self.commits {
            self.unanswered.keep(commit);
        }
    }
}

//! Alarm changes that are committed, or may be, and that no caller has reported yet.
//!
//! A commit without an answer from Redis is in doubt: it may have been carried out. The next load of the device shows whether it
//! was. If so, its changes are then returned to the caller, which logs and counts them.
//!
//! Bound: the last commit in doubt of each device and its unreported changes, for at most [`MAX_DEVICES`] devices. Changes of
//! further devices are neither logged nor counted.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Commit;
use super::committed_states::CommittedStates;
use crate::alarm::Change;
use crate::clock::Time;
use crate::decide::{Outcome, StoredDevice};
use crate::device::DeviceId;
use crate::position::Position;
use crate::state::DeviceState;

/// Maximum number of devices. Fewer devices are committed at the same time.
const MAX_DEVICES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct InDoubt {
    // A std mutex: held for one look-up or insertion, never across an await.
    devices: Mutex<HashMap<DeviceId, DeviceChanges>>,
}

#[derive(Debug, Default)]
struct DeviceChanges {
    /// Committed changes.
    unreported: Vec<Change>,
    /// Changes that are committed if the device is found as this commit would have left it.
    in_doubt: Option<(CommitMark, Vec<Change>)>,
}

/// Identifies the state that a commit leaves. Another process leaves the same mark only if it makes the same decision in the
/// same millisecond.
#[derive(Debug, PartialEq, Eq)]
struct CommitMark {
    position: Position,
    rev: u64,
    decided_at: Time,
}

impl CommitMark {
    fn of(state: &DeviceState) -> Self {
        Self {
            position: state.position,
            rev: state.rev,
            decided_at: state.memory.decided_at,
        }
    }
}

impl InDoubt {
    /// Keeps the changes of these commits unless [`PendingCommits::answered_except`] is called, even if the caller is dropped.
    /// The next decisions about their devices load the stored state then: it shows whether the changes are committed.
    pub(super) fn pending<'a>(
        &'a self,
        commits: &'a [Commit<'a>],
        committed_states: &'a CommittedStates,
    ) -> PendingCommits<'a> {
        PendingCommits {
            in_doubt: self,
            committed_states,
            commits,
        }
    }

    /// Removes and returns the committed changes of this device. Those of the commit in doubt are among them if the loaded
    /// state is the one it would have left.
    pub(super) fn take(&self, loaded: &StoredDevice) -> Vec<Change> {
        let Some(kept) = self.devices().remove(&loaded.device) else {
            return Vec::new();
        };
        let mut committed = kept.unreported;
        if let Some((mark, changes)) = kept.in_doubt
            && mark == CommitMark::of(&loaded.state)
        {
            committed.extend(changes);
        }
        committed
    }

    /// Keeps committed changes until the next [`InDoubt::take`].
    pub(super) fn keep_unreported(&self, device: &DeviceId, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.update(device, |kept| kept.unreported.extend(changes));
        }
    }

    fn keep_in_doubt(&self, commit: &Commit<'_>) {
        // Changes that are reasserted were reported when they were first committed.
        let changes: Vec<Change> = commit.changes().cloned().collect();
        if changes.is_empty() || commit.has(Outcome::Reasserted) {
            return;
        }
        let changes = (CommitMark::of(commit.state()), changes);
        self.update(&commit.stored.device, |kept| kept.in_doubt = Some(changes));
    }

    fn update(&self, device: &DeviceId, update: impl FnOnce(&mut DeviceChanges)) {
        let mut devices = self.devices();
        if devices.len() < MAX_DEVICES || devices.contains_key(device) {
            update(devices.entry(device.clone()).or_default());
        }
    }

    fn devices(&self) -> MutexGuard<'_, HashMap<DeviceId, DeviceChanges>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits that were sent and not answered yet. Dropped without an answer, they are in doubt.
pub(super) struct PendingCommits<'a> {
    in_doubt: &'a InDoubt,
    committed_states: &'a CommittedStates,
    commits: &'a [Commit<'a>],
}

impl PendingCommits<'_> {
    /// Records that Redis answered all commits but those with these indexes. The answer may also be an error.
    pub(super) fn answered_except(mut self, unanswered: &[usize]) {
        let commits = std::mem::take(&mut self.commits);
        for commit in unanswered.iter().filter_map(|index| commits.get(*index)) {
            self.keep(commit);
        }
    }

    fn keep(&self, commit: &Commit<'_>) {
        self.in_doubt.keep_in_doubt(commit);
        self.committed_states.in_doubt(&commit.stored.device);
    }
}

impl Drop for PendingCommits<'_> {
    fn drop(&mut self) {
        for commit in self.commits {
            self.keep(commit);
        }
    }
}

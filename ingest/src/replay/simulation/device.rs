//! One device of a simulation: what the store would hold of it.

use std::collections::VecDeque;

use shared::alarm::{Alarm, ChangeKind};
use shared::clock::Time;
use shared::decide::{Decision, RenderedEvent, StoredDevice};
use shared::device::DeviceId;
use shared::keys::MAX_CHANGES;
use shared::position::Epoch;
use shared::state::{Freshness, freshness};

/// One device.
#[derive(Debug)]
pub(super) struct SimulatedDevice {
    pub(super) stored: StoredDevice,
    /// When the timers look at it.
    pub(super) look_at: Option<Time>,
    pub(super) last_event: Option<RenderedEvent>,
    pub(super) log_rows: usize,
    pub(super) samples: usize,
    /// The alarms of the last events with changes, oldest first: the changes stream.
    changed: VecDeque<Vec<Alarm>>,
}

impl SimulatedDevice {
    pub(super) fn new(device: DeviceId, epoch: Epoch) -> Self {
        Self {
            stored: StoredDevice::unknown(device, epoch),
            look_at: None,
            last_event: None,
            log_rows: 0,
            samples: 0,
            changed: VecDeque::new(),
        }
    }

    /// Keeps a decision.
    pub(super) fn commit(&mut self, decision: Decision, now: Time) {
        let is_row =
            |change: ChangeKind| matches!(change, ChangeKind::Raised | ChangeKind::Escalated);
        let rows = decision.log.iter().filter_map(|entry| entry.change);
        self.log_rows += rows.filter(|change| is_row(*change)).count();
        self.samples += usize::from(decision.sample.is_some());
        let alive = if decision.alive {
            Some(now)
        } else {
            decision.last_alive
        };
        self.stored.last_message = self.stored.last_message.max(alive);
        if !decision.changes.is_empty() {
            if self.changed.len() >= MAX_CHANGES {
                self.changed.pop_front();
            }
            let alarms = decision.changes.into_iter().map(|change| change.alarm);
            self.changed.push_back(alarms.collect());
        }
        self.last_event = decision.event;
        self.stored.state = decision.state;
    }

    /// Returns an alarm that is closed and still among the last events with changes.
    pub(super) fn closed_alarm(&self, id: &str) -> Option<&Alarm> {
        let is_wanted = |alarm: &&Alarm| alarm.id == id;
        if self.stored.state.alarms.iter().any(|alarm| alarm.id == id) {
            return None;
        }
        let mut newest_first = self
            .changed
            .iter()
            .rev()
            .flat_map(|alarms| alarms.iter().rev());
        newest_first
            .find(is_wanted)
            .filter(|alarm| alarm.cleared_at.is_some())
    }

    pub(super) fn freshness(&self, now: Time) -> Freshness {
        freshness(&self.stored.state, self.stored.last_message, now)
    }
}

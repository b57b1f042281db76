//! What this replica knows of all devices while clients want it: their rows and their open alarms. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::clock::Time;
use shared::device::DeviceId;
use shared::position::Position;
use shared::profile::Profile;
use shared::store::{AlarmChanges, Shown};

use super::alarm_table::AlarmTable;
use super::fleet_table::FleetTable;
use super::row::Row;

/// What clients want of all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The shortest interval at which one of them wants rows; `None` if nobody wants them.
    pub(super) rows: Option<Duration>,
    pub(super) alarms: bool,
}

impl Wanted {
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// The tables, and who wants them.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(super) fleet: FleetTable,
    pub(super) alarms: AlarmTable,
    /// Whether they were read as a whole.
    pub(super) has_rows: bool,
    pub(super) has_alarms: bool,
    /// Whether clients are sent where devices are.
    pub(super) sends_locations: bool,
    /// Number of clients by the interval at which they want rows.
    row_clients: BTreeMap<Duration, usize>,
    alarm_clients: usize,
}

impl Tables {
    /// `sends_locations`: clients are sent where devices are, too.
    pub(super) fn new(sends_locations: bool) -> Self {
        Self {
            sends_locations,
            ..Self::default()
        }
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            rows: self.row_clients.keys().next().copied(),
            alarms: self.alarm_clients > 0,
        }
    }

    /// Returns the numbers of clients that want rows, and alarms.
    pub(super) fn clients(&self) -> (usize, usize) {
        (self.row_clients.values().sum(), self.alarm_clients)
    }

    pub(super) fn add_row_client(&mut self, interval: Duration) {
        if self.row_clients.is_empty() {
            // What is kept may be old.
            self.has_rows = false;
        }
        *self.row_clients.entry(interval).or_default() += 1;
    }

    pub(super) fn remove_row_client(&mut self, interval: Duration) {
        if let Some(count) = self.row_clients.get_mut(&interval) {
            *count -= 1;
            if *count == 0 {
                self.row_clients.remove(&interval);
            }
        }
    }

    pub(super) fn add_alarm_client(&mut self) {
        if self.alarm_clients == 0 {
            self.has_alarms = false;
        }
        self.alarm_clients += 1;
    }

    pub(super) fn remove_alarm_client(&mut self) {
        self.alarm_clients -= 1;
    }

    /// Forgets the rows, unless somebody wants them meanwhile.
    pub(super) fn forget_rows(&mut self) {
        if self.row_clients.is_empty() {
            self.fleet = FleetTable::default();
        }
    }

    /// Forgets the alarms, unless somebody wants them meanwhile.
    pub(super) fn forget_alarms(&mut self) {
        if self.alarm_clients == 0 {
            self.alarms = AlarmTable::default();
        }
    }

    /// Takes over the row of a device that was read. `shown`: `None` if nothing of it can be read.
    pub(super) fn update_row(
        &mut self,
        device: &DeviceId,
        shown: Option<&Shown>,
        last_message: Option<Time>,
        now: Time,
    ) {
        let readable = shown.filter(|shown| !shown.is_lost);
        let row = readable.and_then(|Shown { state, profile, .. }| {
            let row = Row::of(state, profile, last_message, now)?;
            Some(if self.sends_locations {
                row.with_location(state, profile, last_message)
            } else {
                row
            })
        });
        match row {
            Some(row) => self.fleet.set(device, row),
            None => self.fleet.doubt(device),
        }
    }

    /// Whether a device that was read has other open alarms than those that are kept.
    pub(super) fn has_other_alarms(&self, device: &DeviceId, shown: Option<&Shown>) -> bool {
        // Of a lost state some alarms may be missing.
        let readable = shown.filter(|shown| !shown.is_lost);
        readable.is_some_and(|Shown { state, .. }| {
            self.alarms
                .differs(device, state.position.epoch, &state.alarms)
        })
    }

    /// Takes over the alarms of a device that was read, and their changes since it was read last. Returns the position up to which they are
    /// known now.
    pub(super) fn update_alarms(
        &mut self,
        device: &DeviceId,
        shown: Option<&Shown>,
        changes: &AlarmChanges,
        now: Time,
    ) -> Option<Position> {
        if changes.may_lack {
            self.alarms.doubt();
        }
        let none = Profile::default();
        let profile = shown.map_or(&none, |shown| &shown.profile);
        for (position, changed) in &changes.changes {
            self.alarms.apply(device, *position, changed, profile, now);
        }
        let last = changes.changes.last().map(|(position, _)| *position);
        let Some(Shown { state, is_lost, .. }) = shown else {
            return last;
        };
        let position = state.position;
        // The changes were read behind the state, and may be newer.
        let is_overtaken = last.is_some_and(|last| last.seq > position.seq);
        // Of a lost state some alarms may be missing.
        let may_lack = *is_lost && self.alarms.has(device);
        if !is_overtaken && !may_lack {
            self.alarms
                .set(device, position, &state.alarms, profile, now);
        }
        if is_overtaken { last } else { Some(position) }
    }
}

#[cfg(test)]
mod tests;

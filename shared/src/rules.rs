//! The alarm rules: how readings change the alarms of a device. Pure; time is a parameter.
//!
//! Any reading may raise an alarm. To lower or clear one, the value must be known, in order, and measured while the fault flag
//! was not set ([`Evidence::may_lower`]).

pub mod gas;
pub mod sensor;

use std::time::Duration;

use crate::alarm::{Acknowledgement, Alarm, Change, ChangeKind, Condition, Kind};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::device::DeviceId;
use crate::forward::UnknownFields;
use crate::position::Position;
use crate::reading::Reading;

/// The open alarms of a device during one decision, and the changes made so far.
#[derive(Clone, Debug)]
pub struct Alarms<'a> {
    device: &'a DeviceId,
    now: Time,
    position: Position,
    open: Vec<Alarm>,
    changes: Vec<Change>,
}

/// The facts that an alarm shows when it is raised or changes its level.
#[derive(Clone, Copy, Debug)]
pub struct AlarmDetails<'a> {
    /// The reading that caused it; for a silent device, the latest reading.
    pub reading: &'a Reading,
    /// The value of that reading.
    pub value: Option<Decimal>,
}

/// A value, and the effect it may have on alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The value.
    pub value: Decimal,
    /// Whether it may lower or clear an alarm.
    pub may_lower: bool,
    /// Off-delay (ISA-18.2): how long the value must be back by the deadband before a level is no longer active.
    pub off_delay: Duration,
}

impl<'a> Alarms<'a> {
    /// Takes the open alarms of `device`. Changes happen at `now`, and their event gets `position`.
    #[must_use]
    pub fn new(device: &'a DeviceId, open: Vec<Alarm>, now: Time, position: Position) -> Self {
        Self {
            device,
            now,
            position,
            open,
            changes: Vec::new(),
        }
    }

    /// Returns the alarms that are open now, and the changes in order.
    #[must_use]
    pub fn finish(self) -> (Vec<Alarm>, Vec<Change>) {
        (self.open, self.changes)
    }

    /// Returns the open alarm of this kind.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&Alarm> {
        self.open.iter().find(|alarm| alarm.kind() == kind)
    }

    fn raise(
        &mut self,
        condition: Condition,
        message: String,
        threshold: Option<Decimal>,
        details: AlarmDetails<'_>,
    ) {
        let alarm = Alarm {
            id: format!(
                "{}{}_{}_{}",
                condition.id_prefix(),
                self.device.slug(),
                self.position.epoch,
                self.position.seq
            ),
            condition,
            message,
            threshold,
            value: details.value,
            unit: details.reading.unit.clone(),
            gas_type: details.reading.gas_type.clone(),
            device_name: details.reading.device_name.clone(),
            raised_at: self.now,
            changed_at: self.now,
            reading_timestamp: details.reading.timestamp.clone(),
            reached: self.position,
            acknowledged: None,
            seen_before: None,
            latched: false,
            cleared_at: None,
            active_levels: Vec::new(),
            unknown: UnknownFields::default(),
        };
        self.changes.push(Change {
            kind: ChangeKind::Raised,
            alarm: alarm.clone(),
        });
        self.open.push(alarm);
    }

    /// Changes the open alarm of `kind` and records the change.
    fn change(&mut self, kind: Kind, what: ChangeKind, edit: impl FnOnce(&mut Alarm)) {
        let index = self.open.iter().position(|alarm| alarm.kind() == kind);
        if let Some(index) = index {
            self.change_at(index, what, edit);
        }
    }

    /// Changes the open alarm with this index and records the change. `Cleared` and `Retired` close the alarm.
    fn change_at(&mut self, index: usize, what: ChangeKind, edit: impl FnOnce(&mut Alarm)) {
        edit(&mut self.open[index]);
        let alarm = if matches!(what, ChangeKind::Cleared | ChangeKind::Retired) {
            let mut cleared = self.open.remove(index);
            cleared.cleared_at = Some(self.now);
            cleared.latched = false;
            cleared.active_levels.clear();
            cleared
        } else {
            self.open[index].clone()
        };
        self.changes.push(Change { kind: what, alarm });
    }

    /// Closes every open alarm, oldest first, because the device is retired.
    pub fn retire(&mut self) {
        while !self.open.is_empty() {
            self.change_at(0, ChangeKind::Retired, |_| ());
        }
    }

    /// Changes the open alarm of `kind` without recording a change.
    fn adjust(&mut self, kind: Kind, edit: impl FnOnce(&mut Alarm)) {
        if let Some(alarm) = self.open.iter_mut().find(|alarm| alarm.kind() == kind) {
            edit(alarm);
        }
    }

    /// Acknowledges an open alarm. Levels that only latching kept active are no longer active then.
    pub fn acknowledge(
        &mut self,
        id: &str,
        by: &str,
        limits: &[gas::Limit; 3],
        details: AlarmDetails<'_>,
    ) {
        // By id, not by kind: a newer release may keep several gas alarms.
        let Some(index) = self.open.iter().position(|alarm| alarm.id == id) else {
            return;
        };
        let acknowledgement = Acknowledgement::new(by, self.now);
        self.change_at(index, ChangeKind::Acknowledged, |alarm| {
            alarm.acknowledged = Some(acknowledgement);
            alarm.latched = false;
        });
        if self.get(Kind::Gas).is_some_and(|alarm| alarm.id == id) {
            gas::release_returned_levels(self, limits, details);
        }
    }
}

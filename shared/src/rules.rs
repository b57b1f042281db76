//! The alarm rules: what one value does to one alarm. Pure; time is a parameter.
//!
//! One direction is free, the other is not: whatever a reading says may raise an alarm; to lower one, the value has to
//! be known, in order and not taken with the fault flag set ([`Evidence::may_lower`]).

pub mod gas;
pub mod sensor;

use std::time::Duration;

use crate::alarm::{Acknowledgement, Alarm, Change, ChangeKind, Condition, Kind};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::device::DeviceId;
use crate::position::Position;
use crate::reading::Reading;

/// The open alarms of a device while one decision is made, and the changes it made so far.
#[derive(Clone, Debug)]
pub struct Alarms<'a> {
    device: &'a DeviceId,
    now: Time,
    position: Position,
    open: Vec<Alarm>,
    changes: Vec<Change>,
}

/// What an alarm that is raised or changes its level is told to say.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The reading it is about: the one that raised it, or the latest for silence.
    pub reading: &'a Reading,
    /// Its value.
    pub value: Option<Decimal>,
}

/// A value and how far it may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The value.
    pub value: Decimal,
    /// Whether it may lower or clear what stands.
    pub may_lower: bool,
    /// How long it must be back before its level returns.
    pub off_delay: Duration,
}

impl<'a> Alarms<'a> {
    /// The alarms `open` of `device`, about to be changed at `now` by the event that gets `position`.
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

    /// What is open now, and what changed.
    #[must_use]
    pub fn finish(self) -> (Vec<Alarm>, Vec<Change>) {
        (self.open, self.changes)
    }

    /// The open alarm of this kind.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&Alarm> {
        self.open.iter().find(|alarm| alarm.kind() == kind)
    }

    fn raise(
        &mut self,
        condition: Condition,
        message: String,
        threshold: Option<Decimal>,
        facts: Facts<'_>,
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
            value: facts.value,
            unit: facts.reading.unit.clone(),
            gas_type: facts.reading.gas_type.clone(),
            device_name: facts.reading.device_name.clone(),
            raised_at: self.now,
            changed_at: self.now,
            reading_timestamp: facts.reading.timestamp.clone(),
            reached: self.position,
            acknowledged: None,
            seen_before: None,
            latched: false,
            cleared_at: None,
            holds: Vec::new(),
        };
        self.changes.push(Change {
            kind: ChangeKind::Raised,
            alarm: alarm.clone(),
        });
        self.open.push(alarm);
    }

    /// Changes the open alarm of `kind` and tells it.
    fn change(&mut self, kind: Kind, what: ChangeKind, edit: impl FnOnce(&mut Alarm)) {
        let Some(index) = self.open.iter().position(|alarm| alarm.kind() == kind) else {
            return;
        };
        edit(&mut self.open[index]);
        let alarm = if matches!(what, ChangeKind::Cleared | ChangeKind::Retired) {
            let mut cleared = self.open.remove(index);
            cleared.cleared_at = Some(self.now);
            cleared.latched = false;
            cleared.holds.clear();
            cleared
        } else {
            self.open[index].clone()
        };
        self.changes.push(Change { kind: what, alarm });
    }

    /// Closes every open alarm, oldest first, because the device is retired.
    pub fn retire(&mut self) {
        while let Some(kind) = self.open.first().map(Alarm::kind) {
            self.change(kind, ChangeKind::Retired, |_| ());
        }
    }

    /// Changes the open alarm of `kind` without anything to tell.
    fn adjust(&mut self, kind: Kind, edit: impl FnOnce(&mut Alarm)) {
        if let Some(alarm) = self.open.iter_mut().find(|alarm| alarm.kind() == kind) {
            edit(alarm);
        }
    }

    /// Marks an open alarm as acknowledged; latched levels whose value is back return with it.
    pub fn acknowledge(&mut self, id: &str, by: &str, limits: &[gas::Limit; 3], facts: Facts<'_>) {
        let Some(kind) = self
            .open
            .iter()
            .find(|alarm| alarm.id == id)
            .map(Alarm::kind)
        else {
            return;
        };
        let acknowledgement = Acknowledgement {
            by: by.to_owned(),
            at: self.now,
        };
        self.change(kind, ChangeKind::Acknowledged, |alarm| {
            alarm.acknowledged = Some(acknowledgement);
            alarm.latched = false;
        });
        if kind == Kind::Gas {
            gas::settle(self, limits, facts);
        }
    }
}

//! The alarm rules: how readings change the alarms of a device. Pure; time is a parameter.
//!
//! Any reading may raise an alarm. Only a reading that proves it may lower or clear one ([`Evidence::may_lower`]).
//! `ingest/README.md` has the rules as a table.

pub mod babbling;
pub mod earlier_release;
pub mod levels;
pub mod limits;
pub mod sensor;
pub mod leds;
pub mod setting;
mod chatter;

use std::time::Duration;

use crate::alarm::{
    Acknowledgement, Alarm, Change, ChangeKind, Condition, GasSide, Kind, SettingChange,
};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::device::DeviceId;
use crate::position::Position;
use crate::reading::{Reading, Side};
use crate::settings::AlarmSettings;
use crate::state::ClosedAlarm;

pub use chatter::calm_ends;
pub use levels::Evidence;

/// The moment of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Server time of the decision.
    pub now: Time,
    /// Server time at which the reading was taken: the arrival less the age by the device's own time, if that is usable.
    pub taken_at: Time,
    /// The position that the event of the decision gets.
    pub position: Position,
}

/// The open alarms of a device during one decision, and the changes made so far.
#[derive(Clone, Debug)]
pub struct Alarms<'a> {
    device: &'a DeviceId,
    moment: Moment,
    open: Vec<Alarm>,
    /// Alarms that were cleared a short while ago: a new raise continues them.
    closed: Vec<ClosedAlarm>,
    /// An earlier release works on the same devices: what it does not know is held back.
    earlier_release_at_work: bool,
    /// How long a chattering alarm must be calm.
    chatter_calm: Duration,
    /// Ids of the open alarms that an earlier release does not handle.
    unhandled: Vec<String>,
    has_held_back_danger: bool,
    /// Changed settings that are not reported now.
    settings_held_back: Vec<SettingChange>,
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

/// What a new alarm says.
#[derive(Clone, Debug)]
struct NewAlarm {
    condition: Condition,
    side: Side,
    message: String,
    threshold: Option<Decimal>,
}

impl<'a> Alarms<'a> {
    /// Takes the open alarms of `device`, and those that were cleared a short while ago.
    #[must_use]
    pub fn new(
        device: &'a DeviceId,
        open: Vec<Alarm>,
        closed: Vec<ClosedAlarm>,
        moment: Moment,
    ) -> Self {
        let mut alarms = Self {
            device,
            moment,
            open,
            closed,
            earlier_release_at_work: false,
            chatter_calm: Duration::ZERO,
            unhandled: Vec::new(),
            has_held_back_danger: false,
            settings_held_back: Vec::new(),
            changes: Vec::new(),
        };
        alarms.merge_doubles();
        alarms
    }

    /// Applies the settings of the alarm rules. Only ingest has them: acknowledgements and retirements raise
    /// nothing.
    #[must_use]
    pub fn with_settings(mut self, settings: &AlarmSettings) -> Self {
        self.chatter_calm = settings.chatter_calm;
        self.beside_earlier_release(settings.earlier_release_at_work)
    }

    /// Returns the alarms that are open now, oldest first, those that were cleared a short while ago, and the changes in order.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Alarm>, Vec<ClosedAlarm>, Vec<Change>) {
        // An alarm that was reopened is older than those beside it.
        self.open
            .sort_by(|a, b| (a.raised_at, &a.id).cmp(&(b.raised_at, &b.id)));
        (self.open, self.closed, self.changes)
    }

    /// Returns the open alarm of this kind.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&Alarm> {
        self.open.iter().find(|alarm| alarm.kind() == kind)
    }

    /// Returns the index of the highest gas level that stands, on either side; A1 is 0.
    #[must_use]
    pub fn highest_standing_level(&self) -> Option<usize> {
        let standing = self.open.iter().filter(|alarm| alarm.is_active());
        standing
            .filter_map(|alarm| alarm.condition.level_index())
            .max()
    }

    /// Raises an alarm, or continues the one of this kind that was cleared a short while ago. `edit` completes it. What an
    /// earlier release at work could not handle is held back.
    fn raise(&mut self, new: NewAlarm, details: AlarmDetails<'_>, edit: impl FnOnce(&mut Alarm)) {
        let kind = Kind::of(new.condition, new.side);
        if self.holds_back(kind) {
            self.has_held_back_danger |= kind.is_danger();
            return;
        }
        let Moment { now, position, .. } = self.moment;
        let prefix = new.condition.id_prefix();
        let id = self.device.unique_id(prefix, position.epoch, position.seq);
        let gas_side = kind.is_gas().then_some(GasSide {
            side: new.side,
            of: new.condition,
        });
        let mut alarm = Alarm {
            gas_side,
            message: new.message,
            threshold: new.threshold,
            value: details.value,
            last_active: Some(now),
            unit: details.reading.unit.clone(),
            gas_type: details.reading.gas_type.clone(),
            device_name: details.reading.device_name.clone(),
            reading_timestamp: details.reading.timestamp.clone(),
            ..Alarm::new(id, new.condition, now, position)
        };
        edit(&mut alarm);
        // An earlier release takes an id for closed once it was cleared.
        if !self.earlier_release_at_work {
            self.continue_closed(kind, &mut alarm);
        }
        chatter::count(&mut alarm, self.moment, self.chatter_calm);
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
            if what == ChangeKind::Cleared {
                self.remember_closed(&cleared);
            }
            cleared.cleared_at = Some(self.moment.now);
            cleared.latched = false;
            cleared.returned = false;
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

    /// Acknowledges an open alarm. It ends if only the acknowledgement was missing.
    pub fn acknowledge(
        &mut self,
        id: &str,
        by: &str,
        note: Option<&str>,
        details: AlarmDetails<'_>,
    ) {
        let Some(index) = self.open.iter().position(|alarm| alarm.id == id) else {
            return;
        };
        let acknowledgement = Acknowledgement {
            note: note.map(str::to_owned),
            ..Acknowledgement::new(by, self.moment.now)
        };
        self.change_at(index, ChangeKind::Acknowledged, |alarm| {
            alarm.acknowledged = Some(acknowledgement);
            alarm.latched = false;
            alarm.remembered = None;
        });
        let kind = self.open[index].kind();
        let was_returned = self.open[index].returned;
        if was_returned || kind == Kind::SettingChanged {
            self.change_at(index, ChangeKind::Cleared, |_| ());
        } else {
            // It has no effect on alarms without levels.
            levels::release_returned_levels(self, kind, [false; 3], details);
        }
    }
}

#[cfg(test)]
mod tests;

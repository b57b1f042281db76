//! What a simulation shows: readings, alarms, changes.

use serde_json::value::RawValue;
use shared::alarm::Alarm;
use shared::clock::Time;
use shared::decide::RenderedEvent;
use shared::device::DeviceId;
use shared::device_status::{DeviceStatus, device_status};
use shared::event;
use shared::position::Position;
use shared::state::DeviceState;

use super::{CommittedChange, RefusedMessage, Simulation};

impl Simulation {
    /// Returns the known devices, in the order of their serials.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.keys()
    }

    /// Returns the stored state of a device.
    #[must_use]
    pub fn state(&self, device: &DeviceId) -> Option<&DeviceState> {
        Some(&self.devices.get(device)?.stored.state)
    }

    /// Renders the normalised reading of a device as a gateway would show it now; `None` for an unknown device.
    #[must_use]
    pub fn data(&self, device: &DeviceId) -> Option<Box<RawValue>> {
        let known = self.devices.get(device)?;
        event::data(&known.stored.state, known.freshness(self.now), None)
    }

    /// Returns the status of a device as lists of devices would show it now.
    #[must_use]
    pub fn status(&self, device: &DeviceId) -> Option<DeviceStatus> {
        let known = self.devices.get(device)?;
        let state = &known.stored.state;
        let quality = event::data_quality(state, known.freshness(self.now));
        Some(device_status(state, quality))
    }

    /// Returns the open alarms of a device, oldest first.
    #[must_use]
    pub fn open_alarms(&self, device: &DeviceId) -> &[Alarm] {
        let known = self.devices.get(device);
        known.map_or(&[], |device| &device.stored.state.alarms)
    }

    /// Returns the event that the last commit of the device published, if it published one.
    #[must_use]
    pub fn last_event(&self, device: &DeviceId) -> Option<&RenderedEvent> {
        self.devices.get(device)?.last_event.as_ref()
    }

    /// Returns the number of rows that the alarm log has of a device: raises and escalations.
    #[must_use]
    pub fn log_rows(&self, device: &DeviceId) -> usize {
        self.devices.get(device).map_or(0, |device| device.log_rows)
    }

    /// Returns the number of samples that were added to the history of a device.
    #[must_use]
    pub fn samples(&self, device: &DeviceId) -> usize {
        self.devices.get(device).map_or(0, |device| device.samples)
    }

    /// Returns every alarm change so far.
    #[must_use]
    pub fn changes(&self) -> &[CommittedChange] {
        &self.changes
    }

    /// Returns every dead letter so far.
    #[must_use]
    pub fn dead_letters(&self) -> &[RefusedMessage] {
        &self.refused
    }

    /// Returns device and id of the alarm with this number; 1 is the first alarm that was raised.
    #[must_use]
    pub fn alarm_of_number(&self, number: usize) -> Option<&(DeviceId, String)> {
        self.raised.get(number.checked_sub(1)?)
    }

    /// Returns the number of different alarms of a device that were raised.
    #[must_use]
    pub fn alarms_raised(&self, device: &DeviceId) -> usize {
        self.raised
            .iter()
            .filter(|(owner, _)| owner == device)
            .count()
    }

    pub(super) fn number_of(&self, device: &DeviceId, id: &str) -> Option<usize> {
        let is_wanted = |raised: &(DeviceId, String)| raised.0 == *device && raised.1 == id;
        self.raised
            .iter()
            .rposition(is_wanted)
            .map(|index| index + 1)
    }

    /// Returns an alarm of a device as its last change left it; `None` if it never changed here.
    #[must_use]
    pub fn alarm(&self, device: &DeviceId, id: &str) -> Option<&Alarm> {
        let mut open = self.open_alarms(device).iter();
        open.find(|alarm| alarm.id == id).or_else(|| {
            let mut changes = self.changes.iter().rev();
            let change =
                changes.find(|change| change.device == *device && change.change.alarm.id == id);
            change.map(|change| &change.change.alarm)
        })
    }

    /// Returns the position of the device's last alarm change at `time` at the latest: what a person who looked then had seen of
    /// its alarms.
    #[must_use]
    pub fn position_seen_at(&self, device: &DeviceId, time: Time) -> Position {
        let mut changes = self.changes.iter().rev();
        let change = changes.find(|change| change.device == *device && change.at <= time);
        change.map_or(
            Position {
                epoch: self.epoch,
                seq: 0,
            },
            |change| change.position,
        )
    }
}

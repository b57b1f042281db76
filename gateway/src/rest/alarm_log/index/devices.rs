//! The devices of the rows, and when they were retired.

use std::collections::{HashMap, VecDeque};

use shared::device::DeviceId;
use shared::store::LogId;

#[derive(Debug)]
struct Device {
    id: DeviceId,
    rows: u32,
    /// The entries of its retirements, oldest first.
    retired: VecDeque<LogId>,
}

/// Each device is stored once.
#[derive(Debug, Default)]
pub(super) struct Devices {
    numbers: HashMap<DeviceId, u32>,
    slots: Vec<Option<Device>>,
    free: Vec<u32>,
}

impl Devices {
    pub(super) fn number(&self, device: &DeviceId) -> Option<u32> {
        self.numbers.get(device).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&DeviceId> {
        Some(&self.slot(number)?.id)
    }

    /// Returns the device of each number.
    pub(super) fn ids(&self) -> impl Iterator<Item = Option<&DeviceId>> {
        self.slots
            .iter()
            .map(|slot| slot.as_ref().map(|slot| &slot.id))
    }

    fn slot(&self, number: u32) -> Option<&Device> {
        self.slots.get(number as usize)?.as_ref()
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Device> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    fn number_or_new(&mut self, device: DeviceId) -> u32 {
        if let Some(number) = self.number(&device) {
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = Some(Device {
                id: device.clone(),
                rows: 0,
                retired: VecDeque::new(),
            });
        }
        self.numbers.insert(device, number);
        number
    }

    /// Counts a row of the device, and returns the number of the device.
    pub(super) fn add_row(&mut self, device: DeviceId) -> u32 {
        let number = self.number_or_new(device);
        if let Some(slot) = self.slot_mut(number) {
            slot.rows += 1;
        }
        number
    }

    /// Adds a retirement that is newer than all other entries.
    pub(super) fn retire_newer(&mut self, device: DeviceId, id: LogId) {
        let number = self.number_or_new(device);
        if let Some(slot) = self.slot_mut(number) {
            slot.retired.push_back(id);
        }
    }

    /// Adds a retirement that is older than all other entries.
    pub(super) fn retire_older(&mut self, device: DeviceId, id: LogId) {
        let number = self.number_or_new(device);
        if let Some(slot) = self.slot_mut(number) {
            slot.retired.push_front(id);
        }
    }

    /// Returns the first retirement of the device after this entry.
    pub(super) fn retired_after(&self, number: u32, id: LogId) -> Option<LogId> {
        let retired = &self.slot(number)?.retired;
        let first = retired.partition_point(|retired| *retired < id);
        retired.get(first).copied()
    }

    /// Counts a row less, which is the oldest of all: earlier retirements are forgotten. The device goes with its last row.
    pub(super) fn remove_oldest_row(&mut self, number: u32, id: LogId) {
        let Some(slot) = self.slot_mut(number) else {
            return;
        };
        slot.rows -= 1;
        let is_earlier = |retired: &mut LogId| *retired < id;
        while slot.retired.pop_front_if(is_earlier).is_some() {}
        if slot.rows == 0 {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u32) {
        let slot = self.slots.get_mut(number as usize);
        if let Some(device) = slot.and_then(Option::take) {
            self.numbers.remove(&device.id);
            self.free.push(number);
        }
    }

    /// Forgets the devices that have no rows, as nothing older can be read.
    pub(super) fn forget_without_rows(&mut self) {
        let numbers = (0..).zip(&self.slots);
        let without_rows = numbers.filter(|(_, slot)| slot.as_ref().is_some_and(|s| s.rows == 0));
        let without_rows: Vec<u32> = without_rows.map(|(number, _)| number).collect();
        for number in without_rows {
            self.remove(number);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }
}

//! What is known of the devices of one partition, and what a look at it says must be read. Pure.

use std::collections::HashMap;
use std::time::Duration;

use shared::clock::Time;
use shared::device::DeviceId;
use shared::position::{Epoch, Position};
use shared::store::{DeviceList, Look, LookAt, PartitionMark};

/// How long after a loss of data a device that is missing is still believed to exist: whoever remembers it writes it again.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// A message may still be committed with a time that is at most this long ago: clocks differ.
const CLOCK_MARGIN: Duration = Duration::from_secs(1);

/// What is known of the devices of one partition. Bounded by `--max-devices` of ingest.
#[derive(Debug)]
pub(super) struct PartitionView {
    number: u16,
    /// The epoch in which its devices were read.
    epoch: Option<Epoch>,
    /// `None`: every device must be read.
    mark: Option<PartitionMark>,
    /// Every device must be read as if it were the first time.
    begins_anew: bool,
    /// The last time at which a device was heard of, and whether devices of that time are asked for again.
    heard: Option<(Time, bool)>,
    devices: HashMap<DeviceId, Known>,
    /// Entries of the device list that are no devices.
    odd: u64,
    /// Until when missing devices are believed to exist.
    believed_until: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    last_message: Option<Time>,
    /// The position up to which its alarm changes are known; `None` if it was not read yet.
    position: Option<Position>,
}

/// What must be read of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ToRead {
    /// The device list.
    pub(super) list: bool,
    /// Every device, because it is not known which ones have changed.
    pub(super) whole: Option<Whole>,
    /// Devices whose alarms may have changed.
    pub(super) numbered: Vec<DeviceId>,
    /// Devices that were heard of.
    pub(super) heard: Vec<DeviceId>,
}

/// How every device is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// With the alarm changes since it was read last.
    Continued,
    /// For the first time, or after Redis may have lost data: what happened in between is not known.
    Anew,
}

/// A device to read, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceToRead {
    pub(super) device: DeviceId,
    pub(super) alarms: ReadAlarms,
}

/// What is read of the alarms of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAlarms {
    /// Nothing: only its row is wanted.
    No,
    /// Those that are open.
    Open,
    /// Every change after this seq.
    ChangesAfter(u64),
}

impl PartitionView {
    pub(super) fn new(number: u16) -> Self {
        Self {
            number,
            epoch: None,
            mark: None,
            begins_anew: false,
            heard: None,
            devices: HashMap::new(),
            odd: 0,
            believed_until: Time::from_millis(0),
        }
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Returns how to look at it. `hears`: devices that were heard of are asked for.
    pub(super) fn look(&self, hears: bool) -> LookAt {
        let (newest, is_open) = self.heard.unwrap_or((Time::from_millis(0), true));
        let since = if is_open {
            newest
        } else {
            newest + Duration::from_millis(1)
        };
        LookAt {
            partition: self.number,
            mark: self.mark,
            heard_since: (hears && self.heard.is_some()).then_some(since),
        }
    }

    /// Decides what must be read after this look, which was made at `now`. Nothing is known of a partition without an epoch.
    pub(super) fn looked(&mut self, look: &Look, now: Time) -> ToRead {
        let Some(mark) = look.mark else {
            return ToRead::default();
        };
        let is_continued = self.epoch == Some(mark.epoch());
        if !is_continued && self.epoch.is_some() {
            self.believed_until = now + BELIEVED_FOR;
        }
        if let Some((newest, _)) = self.heard {
            self.note_heard(newest, now);
        }
        for (device, last) in &look.heard {
            if let Some(known) = self.devices.get_mut(device) {
                known.last_message = Some(*last);
            }
            self.note_heard(*last, now);
        }
        let Some(numbered) = &look.numbered else {
            let whole = if is_continued && !self.begins_anew {
                Whole::Continued
            } else {
                Whole::Anew
            };
            return ToRead {
                list: true,
                whole: Some(whole),
                ..ToRead::default()
            };
        };
        let known = self.devices.len() as u64 + self.odd;
        let is_known = |device: &DeviceId| self.devices.contains_key(device);
        ToRead {
            // The numbers are equal if one was retired and another one listed.
            list: known != look.listed || !numbered.iter().all(is_known),
            whole: None,
            numbered: numbered.clone(),
            heard: look
                .heard
                .iter()
                .map(|(device, _)| device.clone())
                .collect(),
        }
    }

    fn note_heard(&mut self, last: Time, now: Time) {
        // A time in the future must not hide those that come until then.
        let last = last.min(now);
        let newest = self.heard.map_or(last, |(newest, _)| newest.max(last));
        self.heard = Some((newest, now.duration_since(newest) < CLOCK_MARGIN));
    }

    /// Takes over the device list, read at `now`. Returns the devices that are gone, and those that are new.
    pub(super) fn listed(&mut self, list: DeviceList, now: Time) -> ListChanges {
        let mut changes = ListChanges::default();
        self.odd = list.listed - list.devices.len() as u64;
        let mut before = std::mem::take(&mut self.devices);
        // Known from now on, also if there is none.
        self.heard.get_or_insert((Time::from_millis(0), true));
        for (device, last_message) in list.devices {
            let known = before.remove(&device);
            if known.is_none() {
                changes.new.push(device.clone());
            }
            if let Some(last) = last_message {
                self.note_heard(last, now);
            }
            let known = known.unwrap_or_default();
            let last_message = last_message.max(known.last_message);
            self.devices.insert(
                device,
                Known {
                    last_message,
                    ..known
                },
            );
        }
        if now < self.believed_until {
            changes.doubted = before.keys().cloned().collect();
            self.devices.extend(before);
        } else {
            changes.gone = before.into_keys().collect();
        }
        changes
    }

    /// Returns every device, to be read in this way.
    pub(super) fn all(&self, whole: Whole) -> Vec<DeviceToRead> {
        let devices = self.devices.keys();
        let read = |device: &DeviceId| match whole {
            Whole::Continued => self.with_changes(device),
            Whole::Anew => DeviceToRead {
                device: device.clone(),
                alarms: ReadAlarms::Open,
            },
        };
        devices.map(read).collect()
    }

    /// Returns a device with its alarm changes. Of one that is new, with all.
    pub(super) fn with_changes(&self, device: &DeviceId) -> DeviceToRead {
        let known = self.devices.get(device);
        let seq = known.and_then(|known| known.position).map(|at| at.seq);
        DeviceToRead {
            device: device.clone(),
            alarms: ReadAlarms::ChangesAfter(seq.unwrap_or(0)),
        }
    }

    pub(super) fn has(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    pub(super) fn last_message(&self, device: &DeviceId) -> Option<Time> {
        self.devices.get(device)?.last_message
    }

    /// Records that the alarm changes of a device are known up to this position.
    pub(super) fn read_until(&mut self, device: &DeviceId, position: Position) {
        if let Some(known) = self.devices.get_mut(device) {
            known.position = Some(position);
        }
    }

    /// Records that everything was read that a look with this mark asked for.
    pub(super) fn complete(&mut self, mark: PartitionMark) {
        self.mark = Some(mark);
        self.epoch = Some(mark.epoch());
        self.begins_anew = false;
    }

    /// Whether its devices were read.
    pub(super) fn is_known(&self) -> bool {
        self.mark.is_some()
    }

    /// Something was not read: reads every device again.
    pub(super) fn read_again(&mut self) {
        self.mark = None;
    }

    /// Reads every device again as if it were the first time. The devices stay known, so that one that is gone meanwhile is noticed.
    pub(super) fn begin_anew(&mut self) {
        self.mark = None;
        self.begins_anew = true;
        self.heard = None;
        for known in self.devices.values_mut() {
            known.position = None;
        }
    }
}

/// How a device list differs from what was known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListChanges {
    pub(super) new: Vec<DeviceId>,
    pub(super) gone: Vec<DeviceId>,
    /// Missing, shortly after a loss of data.
    pub(super) doubted: Vec<DeviceId>,
}

#[cfg(test)]
mod tests;

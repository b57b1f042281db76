//! What the statistics need to know of one partition's alarm log, kept up to date entry by entry, oldest first. Pure.
//!
//! It holds 104 bytes per raise and escalation in the log, in a buffer that may be half empty, and up to 39 for each alarm that is
//! not acknowledged.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher as _;

use serde::Serialize;
use shared::alarm::{ChangeKind, Condition, Severity};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::store::{LogId, LogPiece, LoggedEntry};

/// The raises and escalations in the log of one partition.
#[derive(Debug, Default)]
pub(super) struct LogCounts {
    /// Epoch of the partition when the first entry was read.
    epoch: Option<String>,
    /// The last entry that was read.
    last: Option<LogId>,
    /// Number of entries that were read.
    read: u64,
    /// Oldest first.
    rows: VecDeque<Row>,
    /// Number of rows that were removed from the front.
    removed: u64,
    /// The newest row of each alarm that is not acknowledged, by a hash of device and alarm. Alarms that are logged together are one.
    unacknowledged: HashMap<u64, u64>,
    /// Secret of the hash, so that nobody can make two alarms look like one.
    hasher: RandomState,
    devices: Devices,
}

/// A raise or an escalation.
#[derive(Debug)]
struct Row {
    id: LogId,
    /// Its number among all entries that were read, from 1.
    entry: u64,
    at: Time,
    device: u32,
    condition: Condition,
    severity: Severity,
    /// Seq of the position at which the alarm reached this level.
    reached: u64,
    alarm: u64,
    /// Number of the alarm's row before this one.
    previous: Option<u64>,
    is_acknowledged: bool,
    /// How many raises and escalations it stands for.
    stands_for: u32,
}

/// The devices of the rows. Each is stored once, for as long as it has rows.
#[derive(Debug, Default)]
struct Devices {
    numbers: HashMap<DeviceId, u32>,
    slots: Vec<Option<(DeviceId, u64)>>,
    free: Vec<u32>,
}

/// Which rows to count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CountFilter<'a> {
    /// Both ends are inclusive.
    pub(super) since: Option<Time>,
    pub(super) until: Option<Time>,
    pub(super) device: Option<&'a DeviceId>,
}

/// What to do after a piece of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The end of the log was reached.
    Complete,
    /// Read on after [`LogCounts::last`].
    More,
    /// Something else than the oldest entries is gone: begin again with an empty value.
    Lost,
}

impl LogCounts {
    /// Returns the entry to read on from.
    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    /// Adds the next piece of the log, and forgets what is no longer in the log.
    pub(super) fn add_piece(&mut self, piece: LogPiece, is_end: bool) -> Progress {
        if self.last.is_none() {
            self.epoch.clone_from(&piece.epoch);
        }
        let is_behind = piece.ends.is_some_and(|(_, last)| Some(last) < self.last);
        if self.epoch != piece.epoch || is_behind {
            return Progress::Lost;
        }
        for (id, entry) in piece.entries {
            self.add(id, entry);
        }
        if !is_end {
            return Progress::More;
        }
        let Some(gone) = self.read.checked_sub(piece.length) else {
            return Progress::Lost;
        };
        let first = piece.ends.map(|(first, _)| first);
        if self.forget_before(first, gone) {
            Progress::Complete
        } else {
            Progress::Lost
        }
    }

    /// Removes the rows before the first entry of the log. Returns false if the number of entries that are gone says that others
    /// are gone, too.
    fn forget_before(&mut self, first: Option<LogId>, gone: u64) -> bool {
        while let Some(row) = self.rows.front() {
            if first.is_some_and(|first| row.id >= first) {
                return row.entry > gone;
            }
            if row.entry > gone {
                return false;
            }
            self.remove_oldest();
        }
        true
    }

    fn add(&mut self, id: LogId, logged: LoggedEntry) {
        self.read += 1;
        self.last = Some(id);
        let (Ok(device), Ok(entry)) = (logged.device.parse::<DeviceId>(), logged.entry) else {
            return;
        };
        let seen = entry.acknowledgement().map(|(_, seen)| seen);
        let begins_group = entry.begins_group();
        let Some(alarm) = entry.alarm else { return };
        let key = self.hasher.hash_one((&device, alarm.group_id()));
        let folded = entry.folded;
        let is_first = match entry.change {
            _ if folded.as_ref().is_some_and(|folded| folded.raises > 0) => false,
            _ if folded.is_some() => {
                if let Some(seen) = seen {
                    self.acknowledge(key, seen);
                }
                return;
            }
            Some(ChangeKind::Raised) => begins_group,
            Some(ChangeKind::Escalated) => false,
            Some(ChangeKind::Acknowledged) => {
                if let Some(seen) = seen {
                    self.acknowledge(key, seen);
                }
                return;
            }
            _ => return,
        };
        let peak = folded.as_ref().and_then(|folded| folded.peak.as_ref());
        let (condition, severity) = match peak {
            Some(peak) => (peak.condition, peak.condition.severity()),
            None => (alarm.condition, alarm.severity()),
        };
        let number = self.removed + self.rows.len() as u64;
        let previous = self.unacknowledged.insert(key, number);
        self.rows.push_back(Row {
            id,
            entry: self.read,
            at: folded.as_ref().map_or(entry.at, |folded| folded.until),
            device: self.devices.add(device),
            condition,
            severity,
            reached: alarm.reached.seq,
            alarm: key,
            // Acknowledgements cover nothing before the first raise of the alarm.
            previous: previous.filter(|_| !is_first),
            is_acknowledged: false,
            stands_for: folded.as_ref().map_or(1, |folded| folded.raises),
        });
        if folded.is_some()
            && let Some(seen) = seen
        {
            self.acknowledge(key, seen);
        }
    }

    /// Acknowledges the rows of an alarm up to this seq.
    fn acknowledge(&mut self, alarm: u64, seen: u64) {
        let mut number = self.unacknowledged.get(&alarm).copied();
        let mut has_others = false;
        while let Some(index) = number.and_then(|number| number.checked_sub(self.removed)) {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let Some(row) = self.rows.get_mut(index) else {
                break;
            };
            row.is_acknowledged |= row.reached <= seen;
            has_others |= !row.is_acknowledged;
            number = row.previous;
        }
        if !has_others {
            self.unacknowledged.remove(&alarm);
        }
    }

    fn remove_oldest(&mut self) {
        let Some(row) = self.rows.pop_front() else {
            return;
        };
        if self.unacknowledged.get(&row.alarm) == Some(&self.removed) {
            self.unacknowledged.remove(&row.alarm);
        }
        self.removed += 1;
        self.devices.remove(row.device);
    }

    /// Adds the counts of the matching rows.
    pub(super) fn count(&self, filter: CountFilter<'_>, statistics: &mut Statistics) {
        let only = match filter.device.map(|device| self.devices.numbers.get(device)) {
            Some(None) => return,
            Some(Some(number)) => Some(*number),
            None => None,
        };
        // Entries are in the order in which Redis stored them, and none that was stored before `since` counts.
        let stored_since = filter.since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or_default()
        });
        let begin = self
            .rows
            .partition_point(|row| row.id.millis < stored_since);
        let mut by_device: HashMap<u32, u64> = HashMap::new();
        let rows = self.rows.range(begin..).filter(|row| {
            filter.since.is_none_or(|since| row.at >= since)
                && filter.until.is_none_or(|until| row.at <= until)
                && only.is_none_or(|only| row.device == only)
        });
        for row in rows {
            let count = u64::from(row.stands_for);
            statistics.add(row.condition, row.severity, row.is_acknowledged, count);
            *by_device.entry(row.device).or_default() += count;
        }
        for (number, count) in by_device {
            if let Some(device) = self.devices.get(number) {
                statistics.add_of_device(device, count);
            }
        }
    }
}

impl Devices {
    fn get(&self, number: u32) -> Option<&DeviceId> {
        let slot = self.slots.get(number as usize)?.as_ref()?;
        Some(&slot.0)
    }

    /// Counts a row of the device, and returns the number of the device.
    fn add(&mut self, device: DeviceId) -> u32 {
        if let Some(number) = self.numbers.get(&device) {
            if let Some(Some((_, rows))) = self.slots.get_mut(*number as usize) {
                *rows += 1;
            }
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = Some((device.clone(), 1));
        }
        self.numbers.insert(device, number);
        number
    }

    fn remove(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return;
        };
        let Some((device, rows)) = slot else { return };
        *rows -= 1;
        if *rows == 0 {
            self.numbers.remove(device);
            *slot = None;
            self.free.push(number);
        }
    }
}

/// The answer.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Statistics {
    total_alarms: u64,
    by_type: BTreeMap<Condition, u64>,
    by_severity: BTreeMap<Severity, u64>,
    by_device: BTreeMap<DeviceId, u64>,
    acknowledged_count: u64,
    unacknowledged_count: u64,
}

impl Statistics {
    fn add(&mut self, condition: Condition, severity: Severity, is_acknowledged: bool, count: u64) {
        self.total_alarms += count;
        *self.by_type.entry(condition).or_default() += count;
        *self.by_severity.entry(severity).or_default() += count;
        if is_acknowledged {
            self.acknowledged_count += count;
        } else {
            self.unacknowledged_count += count;
        }
    }

    fn add_of_device(&mut self, device: &DeviceId, count: u64) {
        *self.by_device.entry(device.clone()).or_default() += count;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.total_alarms += other.total_alarms;
        add_counts(&mut self.by_type, other.by_type);
        add_counts(&mut self.by_severity, other.by_severity);
        add_counts(&mut self.by_device, other.by_device);
        self.acknowledged_count += other.acknowledged_count;
        self.unacknowledged_count += other.unacknowledged_count;
    }
}

fn add_counts<K: Ord>(counts: &mut BTreeMap<K, u64>, others: BTreeMap<K, u64>) {
    for (key, count) in others {
        *counts.entry(key).or_default() += count;
    }
}

#[cfg(test)]
mod tests;

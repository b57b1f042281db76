//! The rows of all devices, and what each client still has to get of them. Pure.
//!
//! Each change of a row gets the next version, and only the newest is kept. A client has the version up to which it has everything. So one
//! that is slow, or wants rows seldom, gets the newest of each row that changed meanwhile, and what it costs here is one bit per device.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;

use super::event_size::{EventSize, text_bytes};
use super::row::Row;

/// Maximum number of devices that are gone and of which clients may still have to learn. Beyond it they get all rows again.
const MAX_GONE: usize = 1_000;

/// The rows of all devices. Bounded by `--max-devices` of ingest and [`MAX_GONE`].
#[derive(Debug, Default)]
pub(crate) struct FleetTable {
    slots: HashMap<DeviceId, usize>,
    entries: Vec<Entry>,
    /// The slots by the version of their last change.
    recent: BTreeMap<u64, usize>,
    version: u64,
    /// When rows must be shown as those of silent devices.
    going_stale: BTreeSet<(Time, usize)>,
    gone: usize,
    /// Counts how often slots were given to other devices.
    generation: u64,
}

#[derive(Debug)]
struct Entry {
    device: DeviceId,
    version: u64,
    /// `None` for a device that is gone.
    row: Option<Row>,
}

/// How far a client has got.
#[derive(Debug, Default)]
pub(crate) struct FleetCursor {
    version: u64,
    generation: u64,
    /// The slots whose rows the client has.
    shown: BitSet,
}

/// The next rows for a client.
#[derive(Debug, Default)]
pub(crate) struct FleetChunk {
    pub(crate) rows: Vec<Arc<RawValue>>,
    /// Devices whose rows the client has and that are gone, or that its filter no longer wants.
    pub(crate) removed: Vec<DeviceId>,
    /// There are more up to the version that was asked for.
    pub(crate) has_more: bool,
}

impl FleetChunk {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.removed.is_empty()
    }
}

impl FleetTable {
    /// Returns the version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the cursor of a client that has nothing.
    pub(crate) fn cursor(&self) -> FleetCursor {
        FleetCursor {
            generation: self.generation,
            ..FleetCursor::default()
        }
    }

    /// Whether the client of this cursor can be sent what has changed. If not, it must be sent everything again.
    pub(crate) fn can_continue(&self, cursor: &FleetCursor) -> bool {
        cursor.generation == self.generation
    }

    /// Replaces the row of a device.
    pub(crate) fn set(&mut self, device: &DeviceId, row: Row) {
        let slot = self.slots.get(device).copied().unwrap_or_else(|| {
            let slot = self.entries.len();
            self.slots.insert(device.clone(), slot);
            self.entries.push(Entry {
                device: device.clone(),
                version: 0,
                row: None,
            });
            self.gone += 1;
            slot
        });
        let before = self.entries[slot].row.as_ref();
        let is_same = before.is_some_and(|before| before.text.get() == row.text.get());
        if let Some(at) = before.and_then(|before| before.goes_stale_at) {
            self.going_stale.remove(&(at, slot));
        }
        if before.is_none() {
            self.gone -= 1;
        }
        if let Some(at) = row.goes_stale_at {
            self.going_stale.insert((at, slot));
        }
        self.entries[slot].row = Some(row);
        if !is_same {
            self.changed(slot);
        }
    }

    /// Removes the row of a device that is gone.
    pub(crate) fn remove(&mut self, device: &DeviceId) {
        let Some(&slot) = self.slots.get(device) else {
            return;
        };
        let Some(row) = self.entries[slot].row.take() else {
            return;
        };
        if let Some(at) = row.goes_stale_at {
            self.going_stale.remove(&(at, slot));
        }
        self.gone += 1;
        self.changed(slot);
        if self.gone > MAX_GONE {
            self.forget_gone();
        }
    }

    /// Shows a device as silent: nothing is known of it now.
    pub(crate) fn doubt(&mut self, device: &DeviceId) {
        let slot = self.slots.get(device).copied();
        if let Some(slot) = slot
            && let Some(row) = &self.entries[slot].row
            && row.goes_stale_at.is_some()
        {
            let stale = row.when_stale(device);
            self.set(&device.clone(), stale);
        }
    }

    /// Shows the devices as silent whose time has come.
    pub(crate) fn expire(&mut self, now: Time) {
        while let Some((at, slot)) = self.going_stale.first().copied()
            && at <= now
        {
            self.going_stale.pop_first();
            let entry = &mut self.entries[slot];
            if let Some(row) = &entry.row {
                entry.row = Some(row.when_stale(&entry.device));
                self.changed(slot);
            }
        }
    }

    fn changed(&mut self, slot: usize) {
        self.version += 1;
        let before = std::mem::replace(&mut self.entries[slot].version, self.version);
        self.recent.remove(&before);
        self.recent.insert(self.version, slot);
    }

    /// Gives the slots of devices that are gone to others. Every client must be sent everything again.
    fn forget_gone(&mut self) {
        self.generation += 1;
        self.gone = 0;
        self.going_stale.clear();
        self.slots.clear();
        self.recent.clear();
        self.entries.retain(|entry| entry.row.is_some());
        for (slot, entry) in self.entries.iter().enumerate() {
            self.slots.insert(entry.device.clone(), slot);
            self.recent.insert(entry.version, slot);
            let goes_stale_at = entry.row.as_ref().and_then(|row| row.goes_stale_at);
            self.going_stale.extend(goes_stale_at.map(|at| (at, slot)));
        }
    }

    /// Returns the next changes for a client up to now, as [`Self::next`] does; `None` if it must be sent everything again.
    pub(crate) fn next_changes(
        &self,
        cursor: &mut FleetCursor,
        shows: impl Fn(&DeviceId, &Row) -> Option<Arc<RawValue>>,
    ) -> Option<FleetChunk> {
        // What a client was shown says nothing about slots that were given to others.
        let can_continue = self.can_continue(cursor);
        can_continue.then(|| self.next(cursor, self.version, shows))
    }

    /// Returns the next changes for a client up to this version, oldest first, and moves its cursor behind them. `shows`: what the client
    /// is shown of a device, if it may see it and wants it.
    pub(crate) fn next(
        &self,
        cursor: &mut FleetCursor,
        until: u64,
        shows: impl Fn(&DeviceId, &Row) -> Option<Arc<RawValue>>,
    ) -> FleetChunk {
        let mut chunk = FleetChunk::default();
        if cursor.version >= until {
            return chunk;
        }
        let mut size = EventSize::default();
        let news = (Bound::Excluded(cursor.version), Bound::Included(until));
        for (version, slot) in self.recent.range(news) {
            let entry = &self.entries[*slot];
            let row = entry.row.as_ref();
            let text = row.and_then(|row| shows(&entry.device, row));
            let is_sent = text.is_some() || cursor.shown.contains(*slot);
            let bytes = text.as_ref().map_or_else(
                || text_bytes(entry.device.as_str()),
                |text| text.get().len() + 1,
            );
            if is_sent && !size.add(bytes) {
                chunk.has_more = true;
                return chunk;
            }
            cursor.version = *version;
            if let Some(text) = text {
                chunk.rows.push(text);
                cursor.shown.insert(*slot);
            } else if is_sent {
                cursor.shown.remove(*slot);
                chunk.removed.push(entry.device.clone());
            }
        }
        cursor.version = until;
        chunk
    }
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct BitSet(Vec<u64>);

impl BitSet {
    fn contains(&self, number: usize) -> bool {
        let word = self.0.get(number / 64).copied().unwrap_or_default();
        word & (1 << (number % 64)) != 0
    }

    fn insert(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }
}

#[cfg(test)]
mod tests;

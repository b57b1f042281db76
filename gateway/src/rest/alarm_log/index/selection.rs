//! Which rows a query wants, and what is read to show them.

use std::collections::{BTreeMap, HashMap};

use shared::alarm::{Condition, Severity};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::store::LogId;

use super::LogIndex;
use super::rows::{Chunk, Row};
use crate::access::permission::{Permission, Verb};
use crate::rest::alarm_log::counts::Statistics;
use crate::rest::alarm_log::place::Place;

/// Which rows a query wants.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::rest::alarm_log) struct RowFilter<'a> {
    /// Both ends are inclusive.
    pub(in crate::rest::alarm_log) since: Option<Time>,
    pub(in crate::rest::alarm_log) until: Option<Time>,
    /// Only rows before this one in the answer's order, so older ones.
    pub(in crate::rest::alarm_log) before: Option<Place>,
    pub(in crate::rest::alarm_log) device: Option<&'a DeviceId>,
    pub(in crate::rest::alarm_log) condition: Option<Condition>,
    pub(in crate::rest::alarm_log) severity: Option<Severity>,
    /// Only rows of devices that may be read.
    pub(in crate::rest::alarm_log) readable: Option<&'a Permission>,
}

/// A row that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rest::alarm_log) struct FoundRow {
    pub(in crate::rest::alarm_log) place: Place,
    entries: EntriesOfRow,
}

/// The entries that show a row as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct EntriesOfRow {
    /// The newest one that has the state of its alarm.
    state_from: LogId,
    /// The first acknowledgement that covers it.
    acknowledged: Option<LogId>,
    /// The retirement of the device after `state_from`.
    retired: Option<LogId>,
}

impl FoundRow {
    /// A row to which nothing happened later.
    #[cfg(test)]
    pub(in crate::rest::alarm_log) fn alone(place: Place) -> Self {
        let entries = EntriesOfRow {
            state_from: place.id,
            acknowledged: None,
            retired: None,
        };
        Self { place, entries }
    }

    /// Returns the entries to fold, newest first. The row comes from the last one.
    pub(in crate::rest::alarm_log) fn entries(&self) -> impl Iterator<Item = LogId> {
        let EntriesOfRow {
            state_from,
            acknowledged,
            retired,
        } = self.entries;
        let mut ids = [Some(self.place.id), Some(state_from), acknowledged, retired];
        ids.sort_unstable_by(|one, other| other.cmp(one));
        let mut last = None;
        ids.into_iter().flatten().filter(move |id| {
            let is_new = last != Some(*id);
            last = Some(*id);
            is_new
        })
    }
}

/// A filter in the numbers of one partition.
struct Numbers {
    device: Option<u32>,
    /// Whether the device with this number may be read; `None` if all may.
    readable: Option<Vec<bool>>,
    /// Whether the kind with this number matches.
    kinds: Vec<bool>,
}

impl Numbers {
    fn may_read(&self, device: u32) -> bool {
        let readable = self.readable.as_ref();
        readable.is_none_or(|readable| readable.get(device as usize) == Some(&true))
    }
}

impl LogIndex {
    /// Returns `None` if no row can match.
    fn numbers(&self, filter: &RowFilter<'_>) -> Option<Numbers> {
        let device = match filter.device {
            Some(device) => Some(self.devices.number(device)?),
            None => None,
        };
        let kinds = self.kinds.iter().map(|(condition, severity)| {
            filter.condition.is_none_or(|only| only == *condition)
                && filter.severity.is_none_or(|only| only == *severity)
        });
        let readable = filter.readable.map(|permission| {
            let is_readable = |device: &DeviceId| permission.allows(Verb::Read, device.as_str());
            let ids = self.devices.ids();
            ids.map(|id| id.is_some_and(is_readable)).collect()
        });
        Some(Numbers {
            device,
            readable,
            kinds: kinds.collect(),
        })
    }

    /// Returns the newest matching rows of this partition, newest first, at most `limit`.
    pub(in crate::rest::alarm_log) fn newest(
        &self,
        partition: u16,
        filter: &RowFilter<'_>,
        limit: usize,
    ) -> Vec<FoundRow> {
        let Some(numbers) = self.numbers(filter) else {
            return Vec::new();
        };
        let mut found: BTreeMap<Place, &Row> = BTreeMap::new();
        for chunk in self.rows.chunks() {
            let oldest = || found.first_key_value().map(|(place, _)| place.at);
            let is_older = found.len() >= limit && oldest().is_some_and(|at| chunk.until() < at);
            if is_older || !filter.may_admit(chunk.since(), chunk.until()) {
                continue;
            }
            for row in chunk.rows().rev() {
                let place = row.place(partition);
                let is_before = filter.before.is_none_or(|before| place < before);
                if is_before && filter.admits(row, &numbers) {
                    found.insert(place, row);
                    if found.len() > limit {
                        found.pop_first();
                    }
                }
            }
        }
        let newest_first = found.into_iter().rev();
        newest_first
            .map(|(place, row)| FoundRow {
                place,
                entries: self.entries_of(row),
            })
            .collect()
    }

    fn entries_of(&self, row: &Row) -> EntriesOfRow {
        let group = self.groups.get(row.group);
        let state_from = group.and_then(|group| group.state_from.get());
        // If only late acknowledgements followed, the row itself has the state.
        let state_from = state_from.map_or(row.id, |id| id.max(row.id));
        EntriesOfRow {
            state_from,
            acknowledged: row.acknowledged.get(),
            retired: self.devices.retired_after(row.device, state_from),
        }
    }

    /// Adds the counts of the matching rows.
    pub(in crate::rest::alarm_log) fn count(
        &self,
        filter: &RowFilter<'_>,
        statistics: &mut Statistics,
    ) {
        let Some(numbers) = self.numbers(filter) else {
            return;
        };
        let mut by_device: HashMap<u32, u64> = HashMap::new();
        let chunks = self.rows.chunks();
        let rows = chunks
            .filter(|chunk| filter.may_admit(chunk.since(), chunk.until()))
            .flat_map(Chunk::rows);
        for row in rows.filter(|row| filter.admits(row, &numbers)) {
            let count = u64::from(row.stands_for);
            if let Some((condition, severity)) = self.kinds.get(usize::from(row.kind)) {
                let is_acknowledged = row.acknowledged.get().is_some();
                statistics.add(*condition, *severity, is_acknowledged, count);
            }
            *by_device.entry(row.device).or_default() += count;
        }
        for (number, count) in by_device {
            if let Some(device) = self.devices.get(number) {
                statistics.add_of_device(device, count);
            }
        }
    }
}

impl RowFilter<'_> {
    /// Whether rows of these times may match.
    fn may_admit(&self, since: Time, until: Time) -> bool {
        self.since.is_none_or(|wanted| until >= wanted)
            && self.until.is_none_or(|wanted| since <= wanted)
            && self.before.is_none_or(|before| since <= before.at)
    }

    fn admits(&self, row: &Row, numbers: &Numbers) -> bool {
        self.since.is_none_or(|since| row.at >= since)
            && self.until.is_none_or(|until| row.at <= until)
            && numbers.device.is_none_or(|device| row.device == device)
            && numbers.may_read(row.device)
            && numbers.kinds.get(usize::from(row.kind)) == Some(&true)
    }
}

impl Row {
    fn place(&self, partition: u16) -> Place {
        Place {
            at: self.at,
            id: self.id,
            partition,
        }
    }
}

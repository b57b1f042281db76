//! An index of the rows of one partition's alarm log: where each is, and which later entries say what happened to its alarm. Pure.
//!
//! It is read from the newest entry backwards, as far as anybody has asked, and what is new is added. So it knows a part of the log
//! without gaps. It says the same as `LogFold` says of the whole log.
//!
//! It holds up to 160 bytes per raise and escalation: 72 of the row, and 48 of its alarm and up to 39 of an entry in a table where the
//! alarm has no other row. Until the beginning of the log was read, it holds up to 160 bytes per other entry, too: the raise may be older.

mod devices;
mod facts;
mod groups;
mod rows;
mod selection;

use std::collections::hash_map::RandomState;

use shared::alarm::{Condition, Severity};
use shared::store::{LogId, LogPiece};

use devices::Devices;
use facts::{Facts, RowFacts};
use groups::Groups;
use rows::{IdOrNone, Row, Rows};
pub(super) use selection::{FoundRow, RowFilter};

/// The rows of the part of a log that was read.
#[derive(Debug, Default)]
pub(super) struct LogIndex {
    /// Whether anything was read.
    is_begun: bool,
    /// Whether the log was read to its beginning.
    is_complete: bool,
    /// Epoch of the partition when reading began.
    epoch: Option<String>,
    /// The oldest and the newest entry that were read; `None` if the log was empty.
    ends: Option<(LogId, LogId)>,
    /// Number of entries that were read and are still there, as far as is known.
    length: u64,
    /// Number of the oldest of them. Numbers of neighbours differ by one; after the greatest comes 0.
    first_number: u32,
    rows: Rows,
    groups: Groups,
    devices: Devices,
    /// Condition and severity of rows, by the number of their kind. As few as the alarm rules know, unless a newer release wrote them.
    kinds: Vec<(Condition, Severity)>,
    /// Secret of the hash of devices and alarms, so that nobody can make two alarms look like one.
    hasher: RandomState,
}

/// What to do after a piece of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// An end of the log was reached.
    AtEnd,
    /// There is more in this direction.
    More,
    /// Something else than the oldest entries is gone: begin again with an empty value.
    Lost,
}

impl LogIndex {
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether nothing older can be read.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the oldest entry that was read.
    pub(super) fn oldest(&self) -> Option<LogId> {
        self.ends.map(|(oldest, _)| oldest)
    }

    /// Returns the newest entry that was read.
    pub(super) fn newest_entry(&self) -> Option<LogId> {
        self.ends.map(|(_, newest)| newest)
    }

    /// Returns the number of entries that were read and are still there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds what follows the newest entry, oldest first. Forgets what is no longer in the log. An empty index begins with the oldest
    /// entry of the log.
    pub(super) fn add_newer(&mut self, piece: LogPiece, is_end: bool) -> Progress {
        if !self.is_begun {
            self.begin(&piece);
            self.is_complete = true;
        }
        if self.has_lost(&piece) {
            return Progress::Lost;
        }
        for (id, logged) in piece.entries {
            let length = u32::try_from(self.length).unwrap_or(u32::MAX);
            let number = self.first_number.wrapping_add(length);
            self.length += 1;
            self.ends = Some((self.oldest().unwrap_or(id), id));
            if let Some(facts) = Facts::of(logged, &self.hasher) {
                self.note_newer(id, number, facts);
            }
        }
        if !is_end {
            return Progress::More;
        }
        if self.forget_what_is_gone(piece.ends.map(|(first, _)| first), piece.length) {
            Progress::AtEnd
        } else {
            Progress::Lost
        }
    }

    /// Adds what precedes the oldest entry, newest first. An empty index begins with the newest entry of the log.
    pub(super) fn add_older(&mut self, piece: LogPiece, is_end: bool) -> Progress {
        if !self.is_begun {
            self.begin(&piece);
        }
        if self.has_lost(&piece) {
            return Progress::Lost;
        }
        if self.is_complete {
            return Progress::AtEnd;
        }
        for (id, logged) in piece.entries {
            self.first_number = self.first_number.wrapping_sub(1);
            self.length += 1;
            self.ends = Some((id, self.newest_entry().unwrap_or(id)));
            if let Some(facts) = Facts::of(logged, &self.hasher) {
                self.note_older(id, self.first_number, facts);
            }
        }
        let first = piece.ends.map(|(first, _)| first);
        if is_end || first >= self.oldest() {
            self.complete();
            Progress::AtEnd
        } else {
            Progress::More
        }
    }

    fn begin(&mut self, piece: &LogPiece) {
        self.is_begun = true;
        self.epoch.clone_from(&piece.epoch);
    }

    /// Whether the log is another one, or has lost its newest entries.
    fn has_lost(&self, piece: &LogPiece) -> bool {
        let last = piece.ends.map(|(_, last)| last);
        self.epoch != piece.epoch || last.is_some_and(|last| Some(last) < self.newest_entry())
    }

    /// Everything from the beginning of the log on was read.
    fn complete(&mut self) {
        if !self.is_complete {
            self.is_complete = true;
            self.groups.forget_unread();
            self.devices.forget_without_rows();
        }
    }

    /// Removes the rows before the first entry of the log, which was read to its end. Returns false if the number of entries says that
    /// others are gone, too.
    fn forget_what_is_gone(&mut self, first: Option<LogId>, length: u64) -> bool {
        let has_older = first.is_some_and(|first| Some(first) < self.oldest());
        if has_older && !self.is_complete {
            return length > self.length;
        }
        self.complete();
        let Some(gone) = self.length.checked_sub(length) else {
            return false;
        };
        while let Some(row) = self.rows.oldest() {
            let is_gone = first.is_none_or(|first| row.id < first);
            let place = row.entry.wrapping_sub(self.first_number);
            if is_gone != (u64::from(place) < gone) {
                return false;
            }
            if !is_gone {
                break;
            }
            self.remove_oldest();
        }
        let gone = u32::try_from(gone).unwrap_or(u32::MAX);
        self.first_number = self.first_number.wrapping_add(gone);
        self.length = length;
        if let (Some(first), Some((_, newest))) = (first, self.ends) {
            self.ends = Some((first, newest));
        }
        true
    }

    fn remove_oldest(&mut self) {
        if let Some(row) = self.rows.pop_oldest() {
            self.groups.remove_row(row.group);
            self.devices.remove_oldest_row(row.device, row.id);
        }
    }

    fn note_newer(&mut self, id: LogId, number: u32, facts: Facts) {
        let is_complete = self.is_complete;
        let Some(alarm) = facts.alarm else {
            if !is_complete || self.devices.number(&facts.device).is_some() {
                self.devices.retire_newer(facts.device, id);
            }
            return;
        };
        let known = self.groups.newest(alarm.key);
        let known = known.filter(|_| !alarm.begins_group);
        // What happens to an alarm without rows matters only if older entries may have them.
        if known.is_none() && alarm.row.is_none() && is_complete {
            return;
        }
        let group_number = known.unwrap_or_else(|| {
            let has_unread = !is_complete && !alarm.begins_group;
            self.groups.add_newer(alarm.key, has_unread)
        });
        let Some(group) = self.groups.get_mut(group_number) else {
            return;
        };
        if !alarm.is_late_acknowledgement {
            group.state_from = id.into();
        }
        if let Some(facts_of_row) = alarm.row {
            let device = self.devices.add_row(facts.device);
            let kind = kind(&mut self.kinds, &facts_of_row);
            let row = Row::new(id, number, device, group_number, kind, &facts_of_row);
            let added = self.rows.push_newer(row);
            if let (Some(older), Some(row)) = (group.unacknowledged, self.rows.get_mut(added)) {
                row.to_older = added.wrapping_sub(older);
            }
            group.rows += 1;
            group.unacknowledged = Some(added);
            if let Some(unread) = &mut group.unread {
                unread.oldest_unacknowledged.get_or_insert(added);
            }
        }
        if let Some(seen) = alarm.seen {
            self.acknowledge(group_number, id, seen);
        }
    }

    /// Adds an acknowledgement that is newer than all entries of the group. It covers the rows up to this seq that none before it
    /// covered.
    fn acknowledge(&mut self, group_number: u32, id: LogId, seen: u64) {
        let Some(group) = self.groups.get_mut(group_number) else {
            return;
        };
        let mut next = group.unacknowledged.take();
        // The last row on the way that is still not acknowledged.
        let mut last: Option<u32> = None;
        while let Some(number) = next {
            let Some(row) = self.rows.get_mut(number) else {
                break;
            };
            next = row.older(number);
            if row.reached <= seen {
                row.acknowledged = id.into();
                continue;
            }
            row.to_older = 0;
            match last.and_then(|last| self.rows.get_mut(last).zip(Some(last))) {
                Some((newer, last)) => newer.to_older = last.wrapping_sub(number),
                None => group.unacknowledged = Some(number),
            }
            last = Some(number);
        }
        if let Some(unread) = &mut group.unread {
            unread.oldest_unacknowledged = last;
            unread.add_newer(id, seen);
        }
    }

    fn note_older(&mut self, id: LogId, number: u32, facts: Facts) {
        let Some(alarm) = facts.alarm else {
            self.devices.retire_older(facts.device, id);
            return;
        };
        let known = self.groups.unread(alarm.key);
        let group_number = known.unwrap_or_else(|| self.groups.add_older(alarm.key));
        let Some(group) = self.groups.get_mut(group_number) else {
            return;
        };
        if !alarm.is_late_acknowledgement && group.state_from.get().is_none() {
            group.state_from = id.into();
        }
        let Some(unread) = &mut group.unread else {
            return;
        };
        if let Some(seen) = alarm.seen {
            unread.add_older(id, seen);
        }
        if let Some(facts_of_row) = alarm.row {
            let acknowledged = unread.first_covering(facts_of_row.reached);
            let device = self.devices.add_row(facts.device);
            let kind = kind(&mut self.kinds, &facts_of_row);
            let row = Row {
                acknowledged: acknowledged.map_or_else(IdOrNone::default, IdOrNone::from),
                ..Row::new(id, number, device, group_number, kind, &facts_of_row)
            };
            let added = self.rows.push_older(row);
            group.rows += 1;
            if acknowledged.is_none() {
                let newer = unread.oldest_unacknowledged.replace(added);
                match newer.and_then(|newer| self.rows.get_mut(newer).zip(Some(newer))) {
                    Some((row, newer)) => row.to_older = newer.wrapping_sub(added),
                    None => group.unacknowledged = Some(added),
                }
            }
        }
        if alarm.begins_group {
            group.unread = None;
        }
    }
}

/// Returns the number of the row's kind.
fn kind(kinds: &mut Vec<(Condition, Severity)>, row: &RowFacts) -> u16 {
    let kind = (row.condition, row.severity);
    let known = kinds.iter().position(|known| *known == kind);
    let number = known.unwrap_or_else(|| {
        kinds.push(kind);
        kinds.len() - 1
    });
    u16::try_from(number).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;

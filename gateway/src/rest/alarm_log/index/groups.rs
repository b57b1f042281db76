//! The alarms of the rows. Alarms that are logged together are one group, as their rows are folded together.

use std::collections::HashMap;

use shared::store::LogId;

use super::rows::IdOrNone;

/// Number of groups that are allocated together.
const CHUNK: usize = 128;

/// The entries of a group, from its first raise on. 48 bytes, and there may be one for each row.
#[derive(Debug)]
pub(super) struct Group {
    key: u64,
    /// The newest entry that has the state of the group: all but late acknowledgements do.
    pub(super) state_from: IdOrNone,
    pub(super) rows: u32,
    /// The newest row that nobody has acknowledged. [`super::rows::Row::to_older`] leads to the others.
    pub(super) unacknowledged: Option<u32>,
    /// `None` if nothing older of the group can be read.
    pub(super) unread: Option<Box<Unread>>,
}

/// What older entries of a group need to know.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// The acknowledgements that were read and the seq that each covers, newest first. Those that cover no more than an older one does
    /// are left out.
    acknowledgements: Vec<(LogId, u64)>,
    /// The oldest row that nobody has acknowledged.
    pub(super) oldest_unacknowledged: Option<u32>,
}

/// The groups of one key.
#[derive(Debug)]
struct OfKey {
    newest: u32,
    oldest: u32,
}

/// All groups, by their number and by the hash of device and alarm, which is their key.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// All but the last have the length [`CHUNK`].
    chunks: Vec<Vec<Option<Group>>>,
    free: Vec<u32>,
    by_key: HashMap<u64, OfKey>,
}

impl Group {
    fn new(key: u64, has_unread: bool) -> Self {
        Self {
            key,
            state_from: IdOrNone::default(),
            rows: 0,
            unacknowledged: None,
            unread: has_unread.then(Box::default),
        }
    }
}

impl Unread {
    /// Adds an acknowledgement that is newer than all others.
    pub(super) fn add_newer(&mut self, id: LogId, seen: u64) {
        let newest = self.acknowledgements.first();
        if newest.is_none_or(|(_, covered)| seen > *covered) {
            self.make_room();
            self.acknowledgements.insert(0, (id, seen));
        }
    }

    /// Adds an acknowledgement that is older than all others.
    pub(super) fn add_older(&mut self, id: LogId, seen: u64) {
        let covers_no_more = |found: &mut (LogId, u64)| found.1 <= seen;
        while self.acknowledgements.pop_if(covers_no_more).is_some() {}
        self.make_room();
        self.acknowledgements.push((id, seen));
    }

    /// Most groups have one acknowledgement, and a vector would begin with room for four.
    fn make_room(&mut self) {
        if self.acknowledgements.is_empty() {
            self.acknowledgements.reserve_exact(1);
        }
    }

    /// Returns the first acknowledgement that covers this seq.
    pub(super) fn first_covering(&self, reached: u64) -> Option<LogId> {
        let mut oldest_first = self.acknowledgements.iter().rev();
        let first = oldest_first.find(|(_, seen)| *seen >= reached)?;
        Some(first.0)
    }
}

impl Groups {
    pub(super) fn get(&self, number: u32) -> Option<&Group> {
        let number = number as usize;
        self.chunks
            .get(number / CHUNK)?
            .get(number % CHUNK)?
            .as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Group> {
        let number = number as usize;
        let chunk = self.chunks.get_mut(number / CHUNK)?;
        chunk.get_mut(number % CHUNK)?.as_mut()
    }

    /// Returns the newest group of a key.
    pub(super) fn newest(&self, key: u64) -> Option<u32> {
        Some(self.by_key.get(&key)?.newest)
    }

    /// Returns the group of a key to which older entries belong, if one was begun.
    pub(super) fn unread(&self, key: u64) -> Option<u32> {
        let oldest = self.by_key.get(&key)?.oldest;
        let group = self.get(oldest)?;
        group.unread.is_some().then_some(oldest)
    }

    /// Adds a group that is newer than the others of its key.
    pub(super) fn add_newer(&mut self, key: u64, has_unread: bool) -> u32 {
        let number = self.add(Group::new(key, has_unread));
        let only = OfKey {
            newest: number,
            oldest: number,
        };
        self.by_key.entry(key).or_insert(only).newest = number;
        number
    }

    /// Adds a group that is older than the others of its key.
    pub(super) fn add_older(&mut self, key: u64) -> u32 {
        let number = self.add(Group::new(key, true));
        let only = OfKey {
            newest: number,
            oldest: number,
        };
        self.by_key.entry(key).or_insert(only).oldest = number;
        number
    }

    fn add(&mut self, group: Group) -> u32 {
        if let Some(number) = self.free.pop() {
            let index = number as usize;
            self.chunks[index / CHUNK][index % CHUNK] = Some(group);
            return number;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let last = self.chunks.last_mut().map_or(0, |last| {
            last.push(Some(group));
            last.len() - 1
        });
        u32::try_from(full + last).unwrap_or(u32::MAX)
    }

    /// Counts a row less. The group goes with its last row, so nothing older of it may be unread.
    pub(super) fn remove_row(&mut self, number: u32) {
        let Some(group) = self.get_mut(number) else {
            return;
        };
        group.rows -= 1;
        if group.rows == 0 {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u32) {
        let index = number as usize;
        let Some(group) = self.chunks[index / CHUNK][index % CHUNK].take() else {
            return;
        };
        self.free.push(number);
        if self.newest(group.key) == Some(number) {
            self.by_key.remove(&group.key);
        }
    }

    /// Forgets what only older entries need to know, as there are none.
    pub(super) fn forget_unread(&mut self) {
        let mut without_rows = Vec::new();
        let groups = self.chunks.iter_mut().flatten();
        for (number, group) in (0..).zip(groups) {
            let Some(group) = group else { continue };
            group.unread = None;
            if group.rows == 0 {
                without_rows.push(number);
            }
        }
        for number in without_rows {
            self.remove(number);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.chunks.iter().flatten().flatten().count()
    }

    #[cfg(test)]
    pub(super) fn count_keys(&self) -> usize {
        self.by_key.len()
    }
}

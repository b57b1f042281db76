//! The rows of one partition, in chunks: what is empty is at most one chunk at each end, and a search skips the chunks of other times.

use std::collections::VecDeque;

use shared::clock::Time;
use shared::store::LogId;

use super::facts::RowFacts;

/// Number of rows of a chunk.
const CHUNK: usize = 128;

/// A raise or an escalation. 72 bytes, because there may be 200 000 of them in a partition.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: LogId,
    pub(super) at: Time,
    /// Seq of the position at which the alarm reached this level.
    pub(super) reached: u64,
    /// The first acknowledgement that covers it.
    pub(super) acknowledged: IdOrNone,
    /// Its number among the entries of the log.
    pub(super) entry: u32,
    pub(super) device: u32,
    pub(super) group: u32,
    /// How far back the next older row of its group is that nobody has acknowledged; 0 if there is none. Meaningful only while nobody has
    /// acknowledged this one.
    pub(super) to_older: u32,
    /// How many raises and escalations it stands for.
    pub(super) stands_for: u32,
    /// Number of its condition and severity.
    pub(super) kind: u16,
}

/// An id, or none, in the size of an id: no entry of a stream has the id 0-0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdOrNone(LogId);

impl IdOrNone {
    pub(super) fn get(self) -> Option<LogId> {
        (self.0 != LogId::default()).then_some(self.0)
    }
}

impl From<LogId> for IdOrNone {
    fn from(id: LogId) -> Self {
        Self(id)
    }
}

/// Rows of neighbouring entries.
#[derive(Debug)]
pub(super) struct Chunk {
    rows: VecDeque<Row>,
    /// The first and the last time of its rows, of those that were removed, too.
    times: (Time, Time),
}

impl Row {
    /// A row that nobody has acknowledged.
    pub(super) fn new(
        id: LogId,
        entry: u32,
        device: u32,
        group: u32,
        kind: u16,
        facts: &RowFacts,
    ) -> Self {
        Self {
            id,
            at: facts.at,
            reached: facts.reached,
            acknowledged: IdOrNone::default(),
            entry,
            device,
            group,
            to_older: 0,
            stands_for: facts.stands_for,
            kind,
        }
    }

    /// Returns the number of the next older row of its group that nobody has acknowledged, if this is the number of the row.
    pub(super) fn older(&self, number: u32) -> Option<u32> {
        (self.to_older > 0).then(|| number.wrapping_sub(self.to_older))
    }
}

/// All rows, in the order of the log. Each has a number that it keeps. The numbers of neighbours differ by one; after the greatest
/// comes 0.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// All but the first and the last are full, and none is empty.
    chunks: VecDeque<Chunk>,
    /// Number of the oldest row.
    first: u32,
    length: usize,
}

impl Chunk {
    fn of(row: Row) -> Self {
        let times = (row.at, row.at);
        let mut rows = VecDeque::with_capacity(CHUNK);
        rows.push_back(row);
        Self { rows, times }
    }

    fn is_full(&self) -> bool {
        self.rows.len() == CHUNK
    }

    fn include(&mut self, at: Time) {
        self.times = (self.times.0.min(at), self.times.1.max(at));
    }

    /// No row is older.
    pub(super) fn since(&self) -> Time {
        self.times.0
    }

    /// No row is newer.
    pub(super) fn until(&self) -> Time {
        self.times.1
    }

    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> {
        self.rows.iter()
    }
}

impl Rows {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds a row behind the newest, and returns its number.
    pub(super) fn push_newer(&mut self, row: Row) -> u32 {
        match self.chunks.back_mut() {
            Some(chunk) if !chunk.is_full() => {
                chunk.include(row.at);
                chunk.rows.push_back(row);
            }
            _ => self.chunks.push_back(Chunk::of(row)),
        }
        self.length += 1;
        self.number_of_newest()
    }

    /// Adds a row before the oldest, and returns its number.
    pub(super) fn push_older(&mut self, row: Row) -> u32 {
        match self.chunks.front_mut() {
            Some(chunk) if !chunk.is_full() => {
                chunk.include(row.at);
                chunk.rows.push_front(row);
            }
            _ => self.chunks.push_front(Chunk::of(row)),
        }
        self.length += 1;
        self.first = self.first.wrapping_sub(1);
        self.first
    }

    fn number_of_newest(&self) -> u32 {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        self.first.wrapping_add(length).wrapping_sub(1)
    }

    pub(super) fn oldest(&self) -> Option<&Row> {
        self.chunks.front()?.rows.front()
    }

    pub(super) fn pop_oldest(&mut self) -> Option<Row> {
        let chunk = self.chunks.front_mut()?;
        let row = chunk.rows.pop_front()?;
        if chunk.rows.is_empty() {
            self.chunks.pop_front();
        }
        self.first = self.first.wrapping_add(1);
        self.length -= 1;
        Some(row)
    }

    /// Returns the row with this number; `None` if it was removed.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Row> {
        let index = usize::try_from(number.wrapping_sub(self.first)).ok()?;
        let in_first = self.chunks.front()?.rows.len();
        match index.checked_sub(in_first) {
            None => self.chunks.front_mut()?.rows.get_mut(index),
            Some(index) => {
                let chunk = self.chunks.get_mut(1 + index / CHUNK)?;
                chunk.rows.get_mut(index % CHUNK)
            }
        }
    }

    /// Newest first.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().rev()
    }
}

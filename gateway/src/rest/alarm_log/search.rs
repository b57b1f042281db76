//! Finds the newest matching rows of all partitions, and reads what is needed to show them.
//!
//! Each partition has an index of the part of its log that was read, from the newest entry backwards. A search reads older entries only
//! while rows that it wants may be among them, and one request at most [`MAX_ENTRIES`] of them. What was read is known to all later
//! searches. So a request that ends at its bound says where to go on, and the next one gets further.

use std::cmp::Reverse;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use shared::clock::Time;
use shared::store::{LoggedEntry, PIECE};

use super::filter::LogFilter;
use super::fold::{LogFold, LogRow};
use super::index::{FoundRow, RowFilter};
use super::known_logs::{KnownLogs, PartOfSearch, Reading};
use super::place::Place;
use crate::store_reader::{ReadError, StoreReader};

/// Number of partitions that one request reads at the same time.
pub(super) const CONCURRENT_PARTITIONS: usize = 8;
/// Maximum number of entries that one request reads backwards, apart from the first of each partition. Then it answers with the rows
/// found so far.
const MAX_ENTRIES: usize = 100_000;
/// Bounds of the number of entries that are read first of a partition of which nothing is known.
const FIRST_PIECE: (usize, usize) = (32, 500);
/// About so many entries are read first for each row that is wanted.
const ENTRIES_PER_ROW: usize = 4;
/// Number of rows whose entries are read together: at most four each.
const ROWS_AT_ONCE: usize = 100;

/// Which rows are wanted.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) filter: &'a LogFilter,
    /// Only rows behind this one.
    pub(super) before: Option<Place>,
    pub(super) limit: usize,
}

/// The rows that were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Newest first.
    pub(super) rows: Vec<LogRow>,
    /// Rows up to this time were not looked for, because [`MAX_ENTRIES`] were read.
    pub(super) incomplete_before: Option<Time>,
    /// Where to go on; `None` if there are certainly no more rows.
    pub(super) next: Option<Place>,
}

/// The best rows of all partitions so far.
struct Merged {
    /// Newest first, with one more than is wanted: it shows that there are more.
    rows: Vec<FoundRow>,
    /// Number of rows that are wanted.
    limit: usize,
    /// Of each partition that was not read to its beginning.
    unread: Vec<UnreadPart>,
    since: Option<Time>,
}

struct UnreadPart {
    partition: u16,
    until: Time,
    next_piece: usize,
}

impl Search<'_> {
    /// Finds the rows in these partitions, and reads them.
    pub(super) async fn run(
        &self,
        reader: &StoreReader,
        known: &KnownLogs,
        partitions: Vec<u16>,
    ) -> Result<Found, ReadError> {
        let filter = self.filter.rows(self.before);
        let mut merged = Merged {
            rows: Vec::new(),
            limit: self.limit,
            unread: Vec::new(),
            since: filter.since,
        };
        let wanted = self.limit.saturating_mul(ENTRIES_PER_ROW);
        let first_piece = wanted / partitions.len().max(1);
        let first_piece = first_piece.clamp(FIRST_PIECE.0, FIRST_PIECE.1);
        let mut readings: Vec<_> = partitions
            .into_iter()
            .map(|partition| (partition, Reading::New(first_piece)))
            .collect();
        let mut left = MAX_ENTRIES;
        while !readings.is_empty() {
            let is_older = matches!(readings[0].1, Reading::Older(_));
            let read = merged.read(reader, known, &filter, readings).await?;
            if is_older {
                left = left.saturating_sub(read);
            }
            readings = merged.next_readings(left);
        }
        self.found(reader, merged).await
    }

    /// Ends the search.
    async fn found(&self, reader: &StoreReader, mut merged: Merged) -> Result<Found, ReadError> {
        let incomplete_before = merged.newest_unread();
        let next = match incomplete_before {
            Some(until) => {
                merged.rows.retain(|row| row.place.at > until);
                let unread = Place::after_all_at(until);
                Some(self.before.map_or(unread, |before| before.min(unread)))
            }
            None if merged.may_have_more() => {
                merged.rows.truncate(self.limit);
                merged.rows.last().map(|row| row.place)
            }
            None => None,
        };
        Ok(Found {
            rows: read_rows(reader, &merged.rows).await?,
            incomplete_before,
            next,
        })
    }
}

impl Merged {
    /// Reads more of these partitions, and returns how many entries were read.
    async fn read(
        &mut self,
        reader: &StoreReader,
        known: &KnownLogs,
        filter: &RowFilter<'_>,
        readings: Vec<(u16, Reading)>,
    ) -> Result<usize, ReadError> {
        let limit = self.limit + 1;
        let parts = readings
            .into_iter()
            .map(|(partition, reading)| known.search(reader, partition, reading, filter, limit));
        let mut parts = stream::iter(parts).buffer_unordered(CONCURRENT_PARTITIONS);
        let mut read = 0;
        while let Some(part) = parts.try_next().await? {
            read += part.read;
            self.add(part);
        }
        Ok(read)
    }

    fn add(&mut self, part: PartOfSearch) {
        let partition = part.partition;
        self.unread.retain(|unread| unread.partition != partition);
        self.unread.extend(part.unread.map(|until| UnreadPart {
            partition,
            until,
            next_piece: part.next_piece,
        }));
        // A row that was found before is known better now: the sort keeps the order of equal rows.
        let before = std::mem::replace(&mut self.rows, part.rows);
        self.rows.extend(before);
        self.rows.sort_by_key(|row| Reverse(row.place));
        self.rows.dedup_by_key(|row| row.place);
        self.rows.truncate(self.limit + 1);
    }

    /// Whether a row that is wanted may be as old as this.
    fn wants(&self, until: Time) -> bool {
        let last = self.limit.saturating_sub(1);
        let oldest = self.rows.get(last).map(|row| row.place.at);
        oldest.is_none_or(|oldest| until >= oldest) && self.is_after_since(until)
    }

    fn is_after_since(&self, until: Time) -> bool {
        self.since.is_none_or(|since| until >= since)
    }

    /// Whether there may be rows behind those that are wanted. Nothing is read only to know it.
    fn may_have_more(&self) -> bool {
        let mut unread = self.unread.iter();
        self.rows.len() > self.limit || unread.any(|unread| self.is_after_since(unread.until))
    }

    /// Returns the newest time that a row may have that is wanted and was not read; `None` if there can be none.
    fn newest_unread(&self) -> Option<Time> {
        let unread = self.unread.iter().map(|unread| unread.until);
        unread.filter(|until| self.wants(*until)).max()
    }

    /// Returns what to read next, if so many entries may be read.
    fn next_readings(&self, mut left: usize) -> Vec<(u16, Reading)> {
        let unread = self.unread.iter();
        let mut behind: Vec<_> = unread.filter(|unread| self.wants(unread.until)).collect();
        // The one that was read least far decides how far the search is complete, so it is next.
        behind.sort_by_key(|unread| Reverse(unread.until));
        let mut readings = Vec::new();
        for unread in behind {
            let size = unread.next_piece.clamp(FIRST_PIECE.0, PIECE).min(left);
            if size == 0 {
                break;
            }
            left -= size;
            readings.push((unread.partition, Reading::Older(size)));
        }
        readings
    }
}

/// Reads the entries of these rows and folds them. A row that is gone meanwhile is left out.
async fn read_rows(reader: &StoreReader, found: &[FoundRow]) -> Result<Vec<LogRow>, ReadError> {
    let mut rows = Vec::with_capacity(found.len());
    for found in found.chunks(ROWS_AT_ONCE) {
        let ids = found.iter().flat_map(|row| {
            let partition = row.place.partition;
            row.entries().map(move |id| (partition, id))
        });
        let ids: Vec<_> = ids.collect();
        let entries = reader.with_timeout(reader.store.alarm_log_entries(&ids));
        let mut entries = entries.await?.into_iter();
        for row in found {
            let entries: Vec<_> = entries.by_ref().take(row.entries().count()).collect();
            rows.extend(folded(entries));
        }
    }
    Ok(rows)
}

/// Folds the entries of one row, newest first. The row comes from the last one.
pub(super) fn folded(mut entries: Vec<Option<LoggedEntry>>) -> Option<LogRow> {
    let own = entries.pop()??;
    let mut fold = LogFold::default();
    for later in entries.into_iter().flatten() {
        fold.add(later);
    }
    fold.add(own)
}

#[cfg(test)]
mod tests;

//! What this replica knows of the alarm logs. It reads as much of them as anybody has asked for, and after that only what is new.

use std::sync::Arc;

use shared::clock::Time;
use shared::store::{LogId, LogPiece, PIECE};
use tokio::sync::{Mutex, MutexGuard};

use super::counts::Statistics;
use super::index::{FoundRow, LogIndex, Progress, RowFilter};
use crate::store_reader::{ReadError, StoreReader};

/// How often a log is read again from an end of it for one request, if entries go while it is read.
const MAX_ATTEMPTS: u32 = 3;
/// Redis writes an entry after the decision, so the time of a row is at most this much after the time at which it was written: clocks differ.
const CLOCK_MARGIN_MS: u64 = 5_000;

/// The index of each partition's log. Clones share it. Bounded by the logs: see [`LogIndex`].
#[derive(Clone, Debug)]
pub(crate) struct KnownLogs {
    // Held while a partition's log is read, so that requests at the same time read it once.
    partitions: Arc<[Mutex<LogIndex>]>,
}

/// What is known of the rows of one partition that a query wants.
#[derive(Debug)]
pub(super) struct PartOfSearch {
    pub(super) partition: u16,
    /// The newest of them, newest first.
    pub(super) rows: Vec<FoundRow>,
    /// No row that was not read is newer; `None` if all were read.
    pub(super) unread: Option<Time>,
    /// How many entries to read next.
    pub(super) next_piece: usize,
    /// How many entries were read for it.
    pub(super) read: usize,
}

/// What to read of a partition's log for a search.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// What is new. If nothing was read before, or more than a piece is new, so many of the newest entries instead.
    New(usize),
    /// So many entries before those that were read.
    Older(usize),
}

impl KnownLogs {
    pub(crate) fn new(partitions: u16) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Mutex::default()).collect(),
        }
    }

    async fn lock(&self, number: u16) -> Option<MutexGuard<'_, LogIndex>> {
        Some(self.partitions.get(usize::from(number))?.lock().await)
    }

    /// Counts the matching rows of one partition, after reading all of its log that was not read.
    pub(super) async fn count(
        &self,
        reader: &StoreReader,
        number: u16,
        filter: &RowFilter<'_>,
    ) -> Result<Statistics, ReadError> {
        let mut statistics = Statistics::default();
        let Some(mut index) = self.lock(number).await else {
            return Ok(statistics);
        };
        let mut attempts = 1;
        loop {
            let mut progress = Progress::More;
            while progress == Progress::More {
                (progress, _) = read_newer(reader, number, &mut index).await?;
            }
            while progress != Progress::Lost && !index.is_complete() {
                (progress, _) = read_older(reader, number, &mut index, PIECE).await?;
            }
            // What goes while it is read is missing in the answer, and the next request begins again.
            if progress == Progress::AtEnd || attempts == MAX_ATTEMPTS {
                break;
            }
            *index = LogIndex::default();
            attempts += 1;
        }
        index.count(filter, &mut statistics);
        Ok(statistics)
    }

    /// Reads more of one partition's log, and returns the newest rows of it that match, at most `limit`.
    pub(super) async fn search(
        &self,
        reader: &StoreReader,
        number: u16,
        reading: Reading,
        filter: &RowFilter<'_>,
        limit: usize,
    ) -> Result<PartOfSearch, ReadError> {
        let Some(mut index) = self.lock(number).await else {
            return Ok(PartOfSearch {
                partition: number,
                rows: Vec::new(),
                unread: None,
                next_piece: PIECE,
                read: 0,
            });
        };
        let mut read = 0;
        let size = match reading {
            Reading::Older(size) => size,
            Reading::New(size) => {
                if index.is_begun() {
                    let (progress, count) = read_newer(reader, number, &mut index).await?;
                    read += count;
                    // If much is new, reading on would take long, and the newest rows are wanted first.
                    if progress != Progress::AtEnd {
                        *index = LogIndex::default();
                    }
                }
                if index.is_begun() { 0 } else { size }
            }
        };
        if size > 0 && !index.is_complete() {
            let (progress, count) = read_older(reader, number, &mut index, size).await?;
            read += count;
            if progress == Progress::Lost {
                *index = LogIndex::default();
                let (_, count) = read_older(reader, number, &mut index, size).await?;
                read += count;
            }
        }
        Ok(PartOfSearch {
            partition: number,
            rows: index.newest(number, filter, limit),
            unread: unread(&index),
            next_piece: usize::try_from(index.length()).unwrap_or(PIECE),
            read,
        })
    }
}

/// Reads the next newer piece, and returns the number of its entries.
async fn read_newer(
    reader: &StoreReader,
    number: u16,
    index: &mut LogIndex,
) -> Result<(Progress, usize), ReadError> {
    let piece = reader.store.alarm_log_after(number, index.newest_entry());
    let piece = reader.with_timeout(piece).await?;
    let count = piece.entries.len();
    let is_end = count < PIECE || newest_of(&piece) == piece.ends.map(|(_, last)| last);
    Ok((index.add_newer(piece, is_end), count))
}

fn newest_of(piece: &LogPiece) -> Option<LogId> {
    piece.entries.last().map(|(id, _)| *id)
}

/// Reads the next older piece, and returns the number of its entries.
async fn read_older(
    reader: &StoreReader,
    number: u16,
    index: &mut LogIndex,
    size: usize,
) -> Result<(Progress, usize), ReadError> {
    let size = size.clamp(1, PIECE);
    let piece = reader.store.alarm_log_before(number, index.oldest(), size);
    let piece = reader.with_timeout(piece).await?;
    let count = piece.entries.len();
    Ok((index.add_older(piece, count < size), count))
}

/// Returns the newest time that a row may have that was not read; `None` if all were read.
fn unread(index: &LogIndex) -> Option<Time> {
    let oldest = index.oldest().filter(|_| !index.is_complete())?;
    let until = oldest.millis.saturating_add(CLOCK_MARGIN_MS);
    Some(Time::from_millis(i64::try_from(until).unwrap_or(i64::MAX)))
}

//! Counts of the rows of the alarm log. Each replica reads the log once, in pieces, when it is first asked, and after that only what
//! is new.

use std::sync::Arc;

use shared::store::PIECE;
use tokio::sync::Mutex;

use super::counts::{CountFilter, LogCounts, Progress, Statistics};
use crate::store_reader::{ReadError, StoreReader};

/// How often a log is read again from its beginning for one answer, if entries go while it is read.
const MAX_ATTEMPTS: u32 = 3;

/// What is known of the log of each partition. Clones share it. Bounded by the log: see [`LogCounts`].
#[derive(Clone, Debug)]
pub(crate) struct LogStatistics {
    // Held while a partition's log is read, so that requests at the same time read it once.
    partitions: Arc<[Mutex<LogCounts>]>,
}

impl LogStatistics {
    pub(crate) fn new(partitions: u16) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Mutex::default()).collect(),
        }
    }

    /// Counts the matching rows of one partition, after reading what is new in its log.
    pub(super) async fn of_partition(
        &self,
        reader: &StoreReader,
        number: u16,
        filter: CountFilter<'_>,
    ) -> Result<Statistics, ReadError> {
        let mut statistics = Statistics::default();
        let Some(counts) = self.partitions.get(usize::from(number)) else {
            return Ok(statistics);
        };
        let mut counts = counts.lock().await;
        let mut attempts = 1;
        loop {
            let piece = reader.store.alarm_log_after(number, counts.last());
            let piece = reader.with_timeout(piece).await?;
            let is_end = piece.entries.len() < PIECE;
            match counts.add_piece(piece, is_end) {
                Progress::More => {}
                Progress::Lost if attempts < MAX_ATTEMPTS => {
                    *counts = LogCounts::default();
                    attempts += 1;
                }
                // What goes while it is read is missing in the answer, and the next request begins again.
                Progress::Complete | Progress::Lost => break,
            }
        }
        counts.count(filter, &mut statistics);
        Ok(statistics)
    }
}

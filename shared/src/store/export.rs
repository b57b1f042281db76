//! Exports the alarm logs of all partitions as one, oldest entry first. Writes nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, Value};

use super::reply::{entries, stream_bound, wrong_answer};
use super::{LoggedEntry, StoreError};
use crate::clock::{Time, millis};
use crate::keys::{self, PartitionKeys};
use crate::redis::{CommandConnection, RedisConfig, RedisConnector, ServiceRole};

/// Maximum number of entries in memory at the same time, over all partitions: about 16 MB with entries of 1 KB.
const MAX_BUFFERED: usize = 16_384;
/// Maximum number of entries read at once from one partition.
const MAX_PAGE: usize = 500;
/// The same with 1024 partitions.
const MIN_PAGE: usize = 16;

/// Where an export starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With the oldest entry.
    Beginning,
    /// At this time.
    At(Time),
    /// This long before now, by the clock of Redis.
    Ago(Duration),
}

/// Reads the entries that were written before it was opened.
#[derive(Debug)]
pub struct LogReader {
    redis: CommandConnection,
    cursors: Vec<Cursor>,
    /// The oldest buffered entry of each partition.
    heads: BinaryHeap<Reverse<(StreamId, usize)>>,
    page: usize,
    since: String,
    until: String,
    refused: Vec<String>,
}

/// The two parts of a stream id, milliseconds and number. Streams are ordered by them.
type StreamId = (u64, u64);

/// How far one partition has been read.
#[derive(Debug, Default)]
struct Cursor {
    buffered: VecDeque<(StreamId, LoggedEntry)>,
    /// Id of the last entry that was read.
    last: Option<String>,
    at_end: bool,
}

impl LogReader {
    /// Connects and reads the first page of each partition. The number of partitions is read from Redis.
    ///
    /// # Errors
    /// Redis is unavailable, or no service ever recorded a number of partitions there.
    pub async fn open(config: RedisConfig, since: Since) -> Result<Self, StoreError> {
        let mut redis = RedisConnector::new(config, ServiceRole::Ingest, Arc::default())
            .reader()
            .await?;
        let mut pipe = redis::pipe();
        pipe.cmd("TIME").cmd("GET").arg(keys::PARTITIONS);
        let ((seconds, micros), partitions): ((i64, i64), Option<u16>) = pipe
            .query_async(&mut redis)
            .await
            .map_err(StoreError::Unavailable)?;
        let Some(partitions) = partitions else {
            let key = keys::PARTITIONS;
            return Err(StoreError::Unusable(format!(
                "it has no key `{key}`: no service ever wrote to it, or it was emptied"
            )));
        };
        let now = Time::from_millis(seconds * 1000 + micros / 1000);
        let since = match since {
            Since::Beginning => None,
            Since::At(time) => Some(time),
            Since::Ago(age) => {
                let since = now.as_millis().saturating_sub(millis(age));
                Some(Time::from_millis(since))
            }
        };
        // The present millisecond may still get entries. The one before is complete.
        let until = Time::from_millis(now.as_millis() - 1);
        let partitions = usize::from(partitions);
        let mut reader = Self {
            redis,
            cursors: (0..partitions).map(|_| Cursor::default()).collect(),
            heads: BinaryHeap::with_capacity(partitions),
            page: (MAX_BUFFERED / partitions.max(1)).clamp(MIN_PAGE, MAX_PAGE),
            since: stream_bound(since, "-"),
            until: stream_bound(Some(until), "+"),
            refused: Vec::new(),
        };
        for index in 0..partitions {
            reader.fill(index).await?;
        }
        Ok(reader)
    }

    /// Returns the next entry; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<LoggedEntry>, StoreError> {
        let Some(Reverse((_, index))) = self.heads.pop() else {
            return Ok(None);
        };
        let next = self.cursors[index].buffered.pop_front();
        self.fill(index).await?;
        Ok(next.map(|(_, entry)| entry))
    }

    /// Returns one sentence for each partition whose log could not be read.
    #[must_use]
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Reads pages of this partition until an entry is buffered or none is left, and adds the entry to the heads.
    async fn fill(&mut self, index: usize) -> Result<(), StoreError> {
        let partition = u16::try_from(index).unwrap_or_default();
        loop {
            let cursor = &mut self.cursors[index];
            if let Some((id, _)) = cursor.buffered.front() {
                self.heads.push(Reverse((*id, index)));
                return Ok(());
            }
            if cursor.at_end {
                return Ok(());
            }
            let from = match &cursor.last {
                Some(last) => format!("({last}"),
                None => self.since.clone(),
            };
            let key = PartitionKeys::new(partition).log();
            let page = redis::cmd("XRANGE")
                .arg(&key)
                .arg(from)
                .arg(&self.until)
                .arg("COUNT")
                .arg(self.page)
                .query_async::<Value>(&mut self.redis)
                .await;
            let entries = match page {
                Ok(page) => entries(page).map_err(StoreError::Unavailable)?,
                Err(err) if err.code() == Some("WRONGTYPE") => {
                    self.refused.push(format!("`{key}` is not a stream"));
                    Vec::new()
                }
                Err(err) => return Err(StoreError::Unavailable(err)),
            };
            cursor.at_end = entries.len() < self.page;
            for entry in entries {
                let id = stream_id(&entry.id).map_err(StoreError::Unavailable)?;
                cursor.last = Some(entry.id.clone());
                cursor
                    .buffered
                    .push_back((id, LoggedEntry::read(partition, &entry)));
            }
        }
    }
}

fn stream_id(text: &str) -> Result<StreamId, RedisError> {
    let parts = text.split_once('-');
    let parts = parts.and_then(|(ms, seq)| Some((ms.parse().ok()?, seq.parse().ok()?)));
    parts.ok_or_else(|| wrong_answer("a stream entry without a number"))
}

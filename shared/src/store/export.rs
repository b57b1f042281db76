//! The alarm logs of all partitions as one, oldest line first, for taking them elsewhere. Writes nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::read::{Entry, entries, stream_bound};
use super::write::StoredLine;
use super::{StoreError, wrong_answer};
use crate::alarm::{Alarm, ChangeKind};
use crate::clock::Time;
use crate::keys::{self, PartitionKeys};
use crate::redis::{RedisConfig, RedisConnector};

/// Lines held at the same time, over all partitions: with lines of about 1 KB some 16 MB.
const HELD: usize = 16_384;
/// A page of one partition has at most and at least so many lines; the least counts from 1024 partitions on.
const LONGEST_PAGE: usize = 500;
const SHORTEST_PAGE: usize = 16;

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Whatever is kept.
    Beginning,
    /// This moment.
    At(Time),
    /// So long before now, by the clock of Redis.
    Ago(Duration),
}

/// One line of the log with everything that is stored of it.
#[derive(Clone, Debug)]
pub struct LoggedLine {
    /// Id of the row, as REST has it.
    pub id: String,
    /// Device, as it is written there.
    pub device: String,
    /// When Redis took it: what orders the lines.
    pub written: Time,
    /// What it says.
    pub content: Content,
}

/// What a line says.
#[derive(Clone, Debug)]
pub enum Content {
    /// A transition.
    Transition(Box<Transition>),
    /// Something that we cannot read, as it is written.
    Unreadable(String),
}

/// A transition of an alarm or of a device.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Server time of the decision.
    pub at: Time,
    /// What happened; `None`: the device's state was lost.
    pub change: Option<ChangeKind>,
    /// The alarm as the change left it; `None` where it concerns the device.
    pub alarm: Option<Alarm>,
    /// Who acknowledged or retired.
    pub by: Option<String>,
    /// The seq an acknowledgement covers.
    pub seen: Option<u64>,
    /// W3C `traceparent` of what caused it, where that was sampled.
    pub trace: Option<String>,
}

/// Reads the logs up to the moment at which it was opened.
#[derive(Debug)]
pub struct LogReader {
    redis: MultiplexedConnection,
    cursors: Vec<Cursor>,
    /// The oldest line that is held of each partition.
    heads: BinaryHeap<Reverse<(StreamId, usize)>>,
    page: usize,
    since: String,
    until: String,
    refused: Vec<String>,
}

/// Time and number, by which a stream is ordered.
type StreamId = (u64, u64);

/// How far one partition has been read.
#[derive(Debug, Default)]
struct Cursor {
    held: VecDeque<(StreamId, LoggedLine)>,
    /// Id of the last entry that was read.
    last: Option<String>,
    at_end: bool,
}

impl LogReader {
    /// Connects and reads the first page of each partition. How many there are is taken from Redis.
    ///
    /// # Errors
    /// Redis is away, or never was ours: no service ever recorded a number of partitions there.
    pub async fn open(config: RedisConfig, since: Since) -> Result<Self, StoreError> {
        let mut redis = RedisConnector::new(config, Arc::default()).reader().await?;
        let mut pipe = redis::pipe();
        pipe.cmd("TIME").cmd("GET").arg(keys::PARTITIONS);
        let ((seconds, micros), partitions): ((i64, i64), Option<u16>) = pipe
            .query_async(&mut redis)
            .await
            .map_err(StoreError::Away)?;
        let Some(partitions) = partitions else {
            let key = keys::PARTITIONS;
            return Err(StoreError::Unusable(format!(
                "no `{key}` there: no service ever wrote to it, or it was emptied"
            )));
        };
        let now = Time::from_millis(seconds * 1000 + micros / 1000);
        let since = match since {
            Since::Beginning => None,
            Since::At(time) => Some(time),
            Since::Ago(age) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Some(Time::from_millis(now.as_millis().saturating_sub(age)))
            }
        };
        // More may come within the present millisecond; no more comes within the last one.
        let until = Time::from_millis(now.as_millis() - 1);
        let partitions = usize::from(partitions);
        let mut reader = Self {
            redis,
            cursors: (0..partitions).map(|_| Cursor::default()).collect(),
            heads: BinaryHeap::with_capacity(partitions),
            page: (HELD / partitions.max(1)).clamp(SHORTEST_PAGE, LONGEST_PAGE),
            since: stream_bound(since, "-"),
            until: stream_bound(Some(until), "+"),
            refused: Vec::new(),
        };
        for index in 0..partitions {
            reader.fill(index).await?;
        }
        Ok(reader)
    }

    /// The next line, or none at the end.
    pub async fn next(&mut self) -> Result<Option<LoggedLine>, StoreError> {
        let Some(Reverse((_, index))) = self.heads.pop() else {
            return Ok(None);
        };
        let line = self.cursors[index].held.pop_front();
        self.fill(index).await?;
        Ok(line.map(|(_, line)| line))
    }

    /// Partitions whose log is no log, a sentence each: the others were read all the same.
    #[must_use]
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Makes sure that a line of this partition is held unless none is left, and puts it among the heads.
    async fn fill(&mut self, index: usize) -> Result<(), StoreError> {
        let partition = u16::try_from(index).unwrap_or_default();
        loop {
            let cursor = &mut self.cursors[index];
            if let Some((id, _)) = cursor.held.front() {
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
            let found = match page {
                Ok(page) => entries(page).map_err(StoreError::Away)?,
                Err(err) if err.code() == Some("WRONGTYPE") => {
                    self.refused.push(format!("`{key}` is no stream"));
                    Vec::new()
                }
                Err(err) => return Err(StoreError::Away(err)),
            };
            cursor.at_end = found.len() < self.page;
            for entry in found {
                let id = stream_id(&entry.id).map_err(StoreError::Away)?;
                cursor.last = Some(entry.id.clone());
                cursor
                    .held
                    .push_back((id, logged_line(partition, id, &entry)));
            }
        }
    }
}

fn stream_id(text: &str) -> Result<StreamId, RedisError> {
    let parts = text.split_once('-');
    let parts = parts.and_then(|(ms, seq)| Some((ms.parse().ok()?, seq.parse().ok()?)));
    parts.ok_or_else(|| wrong_answer("a stream entry without a number"))
}

/// Whatever the entry is, there is a line for it.
fn logged_line(partition: u16, (millis, _): StreamId, entry: &Entry) -> LoggedLine {
    let field = |name| {
        let bytes = entry.fields.get(name).map(Vec::as_slice);
        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
    };
    let raw = field("line");
    let content = match serde_json::from_str::<StoredLine>(&raw) {
        Ok(line) => Content::Transition(Box::new(Transition {
            at: line.at,
            change: line.change,
            alarm: line.alarm,
            by: line.by,
            seen: line.seen,
            trace: line.trace,
        })),
        Err(_) => Content::Unreadable(raw),
    };
    LoggedLine {
        id: format!("log-{partition}-{}", entry.id),
        device: field("device"),
        written: Time::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
        content,
    }
}

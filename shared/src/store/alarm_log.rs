//! Reads the alarm log.

use std::fmt;
use std::str::FromStr;

use redis::{FromRedisValue as _, RedisResult, Value};

use super::reply::{Entry, entries, items, text, wrong_answer};
use super::{Store, StoreError};
use crate::alarm_log::AlarmLogEntry;
use crate::clock::Time;
use crate::keys::PartitionKeys;

/// Maximum number of entries of a piece.
pub const PIECE: usize = 2_000;

/// The place of an entry in the log of its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    /// When Redis stored it, in milliseconds.
    pub millis: u64,
    /// Distinguishes what was stored in the same millisecond.
    pub number: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

impl FromStr for LogId {
    type Err = redis::RedisError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('-');
        let id = parts.and_then(|(millis, number)| {
            Some(Self {
                millis: millis.parse().ok()?,
                number: number.parse().ok()?,
            })
        });
        id.ok_or_else(|| wrong_answer("an id of a stream"))
    }
}

/// A piece of a partition's log.
#[derive(Clone, Debug)]
pub struct LogPiece {
    /// In the order of reading. Fewer than asked for are the end of the log.
    pub entries: Vec<(LogId, LoggedEntry)>,
    /// The first and the last entry of the whole log; `None` if it is empty.
    pub ends: Option<(LogId, LogId)>,
    /// Number of entries of the whole log.
    pub length: u64,
    /// Epoch of the partition, as text. After another one, entries may be gone.
    pub epoch: Option<String>,
}

impl LogPiece {
    fn read(partition: u16, answer: Value) -> RedisResult<Self> {
        let mut parts = items(answer)?.into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        let found = entries(next())?;
        let id = |value| -> RedisResult<Option<LogId>> {
            text(value)?.map(|text| text.parse()).transpose()
        };
        let (first, last) = (id(next())?, id(next())?);
        let entries = found.iter().map(|entry| {
            let logged = LoggedEntry::read(partition, entry);
            Ok((entry.id.parse()?, logged))
        });
        Ok(Self {
            entries: entries.collect::<RedisResult<_>>()?,
            ends: first.zip(last),
            length: u64::from_redis_value(next())?,
            epoch: text(next())?,
        })
    }
}

/// An entry of the alarm log with its row id.
#[derive(Clone, Debug)]
pub struct LoggedEntry {
    /// Id of the row: letters, digits, `_` and `-`.
    pub id: String,
    /// Serial of the device, as it is written in the log.
    pub device: String,
    /// When Redis stored it; entries are in this order.
    pub written: Time,
    /// The entry, or its text if it cannot be read.
    pub entry: Result<AlarmLogEntry, String>,
}

impl LoggedEntry {
    pub(super) fn read(partition: u16, found: &Entry) -> Self {
        let field = |name| {
            let bytes = found.fields.get(name).map(Vec::as_slice);
            String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
        };
        let millis = found.id.split_once('-').map(|(millis, _)| millis.parse());
        let line = field("line");
        Self {
            id: format!("log-{partition}-{}", found.id),
            device: field("device"),
            written: Time::from_millis(millis.and_then(Result::ok).unwrap_or_default()),
            entry: serde_json::from_str(&line).map_err(|_| line),
        }
    }
}

impl Store {
    /// Returns the next newer entries of a partition's alarm log, oldest first: at most [`PIECE`] after this one, or from the
    /// beginning.
    pub async fn alarm_log_after(
        &self,
        partition: u16,
        after: Option<LogId>,
    ) -> Result<LogPiece, StoreError> {
        self.alarm_log_piece(partition, "newer", after, PIECE).await
    }

    /// Returns the next older entries of a partition's alarm log, newest first: at most `count`, and at most [`PIECE`], before this
    /// one, or from the end.
    pub async fn alarm_log_before(
        &self,
        partition: u16,
        before: Option<LogId>,
        count: usize,
    ) -> Result<LogPiece, StoreError> {
        let count = count.min(PIECE);
        self.alarm_log_piece(partition, "older", before, count)
            .await
    }

    async fn alarm_log_piece(
        &self,
        partition: u16,
        direction: &str,
        from: Option<LogId>,
        count: usize,
    ) -> Result<LogPiece, StoreError> {
        let from = from.map(|id| id.to_string());
        let answer = self
            .run(|scripts, pipe| {
                let keys = PartitionKeys::new(partition);
                pipe.cmd("EVALSHA").arg(&scripts.log_piece);
                pipe.arg(2).arg(keys.log()).arg(keys.partition());
                pipe.arg(direction);
                pipe.arg(from.as_deref().unwrap_or_default()).arg(count);
            })
            .await?;
        LogPiece::read(partition, answer).map_err(StoreError::Unavailable)
    }

    /// Returns these entries of the alarm logs of partitions, in this order; `None` for those that are no longer there.
    pub async fn alarm_log_entries(
        &self,
        ids: &[(u16, LogId)],
    ) -> Result<Vec<Option<LoggedEntry>>, StoreError> {
        let answers = self
            .run_each(ids.len(), |_, index, pipe| {
                let (partition, id) = ids[index];
                let id = id.to_string();
                pipe.cmd("XRANGE").arg(PartitionKeys::new(partition).log());
                pipe.arg(&id).arg(&id);
            })
            .await?;
        let read = |((partition, _), answer): (&(u16, LogId), RedisResult<Value>)| {
            let answer = answer.map_err(|err| self.answer_error(err))?;
            let found = entries(answer).map_err(StoreError::Unavailable)?;
            Ok(found
                .first()
                .map(|entry| LoggedEntry::read(*partition, entry)))
        };
        ids.iter().zip(answers).map(read).collect()
    }
}

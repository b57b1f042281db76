//! Reads the alarm log.

use std::str::FromStr;

use redis::{FromRedisValue as _, RedisResult, Value};

use super::reply::{Entry, entries, items, stream_bound, text, wrong_answer};
use super::{Store, StoreError};
use crate::alarm_log::AlarmLogEntry;
use crate::clock::Time;
use crate::keys::PartitionKeys;

/// Maximum number of entries of a page.
const PAGE: usize = 500;

/// Maximum number of entries of a piece that is read on from.
pub const PIECE: usize = 2_000;

/// The place of an entry in the log of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    /// When Redis stored it, in milliseconds.
    pub millis: u64,
    /// Tells apart what was stored in the same millisecond.
    pub number: u64,
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

/// The entries of a partition's log after an id.
#[derive(Clone, Debug)]
pub struct LogPiece {
    /// At most [`PIECE`], oldest first. Fewer are the end of the log.
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
    /// Returns a page of a partition's alarm log, newest first: entries older than `before`, a row id of that partition, and not
    /// older than `since`. An empty page is the end of the log.
    pub async fn alarm_log(
        &self,
        partition: u16,
        before: Option<&str>,
        since: Option<Time>,
    ) -> Result<Vec<LoggedEntry>, StoreError> {
        let newest = match before.and_then(stream_id_of_row) {
            Some(id) => format!("({id}"),
            None => "+".to_owned(),
        };
        let answer = self
            .run(|_, pipe| {
                pipe.cmd("XREVRANGE");
                pipe.arg(PartitionKeys::new(partition).log());
                pipe.arg(&newest).arg(stream_bound(since, "-"));
                pipe.arg("COUNT").arg(PAGE);
            })
            .await?;
        let entries = entries(answer).map_err(StoreError::Unavailable)?;
        Ok(entries
            .iter()
            .map(|entry| LoggedEntry::read(partition, entry))
            .collect())
    }

    /// Returns the next piece of a partition's alarm log after this entry, oldest first.
    pub async fn alarm_log_after(
        &self,
        partition: u16,
        after: Option<LogId>,
    ) -> Result<LogPiece, StoreError> {
        let after = after.map(|id| format!("{}-{}", id.millis, id.number));
        let answer = self
            .run(|scripts, pipe| {
                let keys = PartitionKeys::new(partition);
                pipe.cmd("EVALSHA").arg(&scripts.log_after);
                pipe.arg(2).arg(keys.log()).arg(keys.partition());
                pipe.arg(after.as_deref().unwrap_or_default()).arg(PIECE);
            })
            .await?;
        LogPiece::read(partition, answer).map_err(StoreError::Unavailable)
    }
}

fn stream_id_of_row(row: &str) -> Option<&str> {
    let (_, id) = row.strip_prefix("log-")?.split_once('-')?;
    Some(id)
}

//! Reads the parts of Redis replies that the typed conversions of the redis crate do not cover.

use std::collections::HashMap;

use redis::{FromRedisValue, RedisError, RedisResult, Value};

use crate::clock::Time;
use crate::device::DeviceId;
use crate::position::Position;

/// Creates the error for a reply that the command or script should never return.
pub(super) fn wrong_answer(what: &'static str) -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, what).into()
}

/// Returns the items of an array; nil is an empty array.
pub(super) fn items(answer: Value) -> RedisResult<Vec<Value>> {
    match answer {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(wrong_answer("expected an array")),
    }
}

/// Reads a text that may be missing. RESP3 returns scores as doubles, and scripts return a missing value as false.
pub(super) fn text(value: Value) -> RedisResult<Option<String>> {
    match value {
        Value::Nil | Value::Boolean(false) => Ok(None),
        Value::Double(number) => Ok(Some(number.to_string())),
        // Bytes that are not UTF-8 make one state unreadable. They must not fail the whole reply.
        Value::BulkString(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        value => Ok(Some(String::from_redis_value(value)?)),
    }
}

/// Reads bytes that may be missing.
pub(super) fn bytes(value: Value) -> RedisResult<Option<Vec<u8>>> {
    match value {
        Value::Nil | Value::Boolean(false) => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        value => Ok(Some(Vec::from_redis_value(value)?)),
    }
}

/// Converts a score of a sorted set to a time.
#[expect(
    clippy::cast_possible_truncation,
    reason = "scores are whole milliseconds below 2^53"
)]
pub(super) fn time_of_score(score: f64) -> Time {
    Time::from_millis(score as i64)
}

/// Reads the names of a sorted set, with their scores as times. A name need not be text: one that is not must not hide the others.
pub(super) fn scored_names(value: Value) -> RedisResult<Vec<(Vec<u8>, Time)>> {
    let names = Vec::<(Vec<u8>, f64)>::from_redis_value(value)?.into_iter();
    Ok(names
        .map(|(name, score)| (name, time_of_score(score)))
        .collect())
}

/// Returns the device of such a name, if it is one.
pub(super) fn device_of(name: &[u8]) -> Option<DeviceId> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// An entry of a stream.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) fields: HashMap<String, Vec<u8>>,
}

/// Returns whether a text may be the id of an entry of a stream.
#[must_use]
pub fn is_entry_id(text: &str) -> bool {
    let is_number = |part: &str| {
        (1..=20).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.split_once('-')
        .is_some_and(|(millis, number)| is_number(millis) && is_number(number))
}

/// Returns the entries of a stream, in the order of the reply.
pub(super) fn entries(answer: Value) -> RedisResult<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in items(answer)? {
        let mut parts = items(entry)?.into_iter();
        let id = text(parts.next().unwrap_or(Value::Nil))?;
        let id = id.ok_or_else(|| wrong_answer("a stream entry without an id"))?;
        let fields = HashMap::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
        found.push(Entry { id, fields });
    }
    Ok(found)
}

impl Entry {
    /// Returns a field as text.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        std::str::from_utf8(self.fields.get(field)?).ok()
    }

    /// Returns the time in an id that Redis made.
    pub(super) fn written(&self) -> Option<Time> {
        let (millis, _) = self.id.split_once('-')?;
        millis.parse().ok().map(Time::from_millis)
    }

    /// Returns the position of an entry whose id is `<seq>-0` and that has a field `epoch`.
    pub(super) fn position(&self) -> Option<Position> {
        let (seq, _) = self.id.split_once('-')?;
        Some(Position {
            epoch: self.text("epoch")?.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }
}

/// Returns a bound for a range of stream ids; without a time it is `open_end`, which is `-` or `+`.
pub(super) fn stream_bound(time: Option<Time>, open_end: &str) -> String {
    time.map_or_else(
        || open_end.to_owned(),
        |time| time.as_millis().max(0).to_string(),
    )
}

//! The reading half: what the gateway answers from.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, RedisResult, Value};

use super::codec::{bytes, items, text};
use super::write::StoredLine;
use super::{
    IngestStatus, Loaded, LogEntry, Snapshot, Store, StoreError, StoredChanges, StoredEvent,
    Survey, codec, wrong_answer,
};
use crate::alarm::Alarm;
use crate::clock::Time;
use crate::device::DeviceId;
use crate::keys::{self, PartitionKeys};
use crate::position::Position;
use crate::state::DeviceState;

/// Entries of one page of the alarm log.
const LOG_PAGE: usize = 500;

impl Store {
    /// Reads one device at one moment, with its events from `since` on where that is given.
    pub async fn snapshot(
        &self,
        device: &DeviceId,
        since: Option<u64>,
    ) -> Result<Snapshot, StoreError> {
        let answer = self
            .run(|scripts, pipe| {
                self.state_call(&scripts.snapshot, device, pipe);
                pipe.arg(since.map_or_else(String::new, |seq| seq.to_string()));
            })
            .await?;
        let mut parts = items(answer).map_err(StoreError::Away)?.into_iter();
        let mut part = || parts.next().unwrap_or(Value::Nil);
        let subject = match self.loaded(device, Ok(part()))? {
            Loaded::Device(subject) => *subject,
            Loaded::Refused(reason) => return Err(StoreError::Refused(reason)),
        };
        if subject.lost {
            return Err(StoreError::Refused("its state cannot be read".to_owned()));
        }
        let events = entries(part()).map_err(StoreError::Away)?;
        let changes = entries(part()).map_err(StoreError::Away)?;
        let born_after = match &subject.state.latest {
            Some(_) => subject.state.memory.born_after,
            None => subject.seq_floor,
        };
        Ok(Snapshot {
            born_after,
            epoch: subject.epoch,
            state: subject.state.latest.is_some().then_some(subject.state),
            last_message: subject.last_message,
            events: events.into_iter().filter_map(stored_event).collect(),
            changes: changes.into_iter().filter_map(stored_changes).collect(),
        })
    }

    /// Every device with the time of its last message, in no order.
    pub async fn devices(&self) -> Result<Vec<(DeviceId, Option<Time>)>, StoreError> {
        let partitions = usize::from(self.partitions());
        let answers = self
            .run_each(partitions, |_, index, pipe| {
                let number = u16::try_from(index).unwrap_or_default();
                let seen = PartitionKeys::new(number).seen();
                pipe.cmd("ZRANGE")
                    .arg(seen)
                    .arg(0)
                    .arg(-1)
                    .arg("WITHSCORES");
            })
            .await?;
        let mut devices = Vec::new();
        for answer in answers {
            let found = match answer.map_err(|err| self.answer_error(err)) {
                Ok(found) => found,
                // One partition whose index is broken does not hide the others.
                Err(StoreError::Refused(_)) => continue,
                Err(err) => return Err(err),
            };
            let pairs = Vec::<(String, f64)>::from_redis_value(found);
            for (device, score) in pairs.map_err(|err| StoreError::Away(err.into()))? {
                let last = (score > 0.0).then(|| codec::millis(score));
                devices.extend(device.parse().ok().map(|device: DeviceId| (device, last)));
            }
        }
        Ok(devices)
    }

    /// How many devices there are.
    pub async fn count_devices(&self) -> Result<u64, StoreError> {
        let partitions = usize::from(self.partitions());
        let answers = self
            .run_each(partitions, |_, index, pipe| {
                let number = u16::try_from(index).unwrap_or_default();
                pipe.cmd("ZCARD").arg(PartitionKeys::new(number).seen());
            })
            .await?;
        let mut count = 0;
        for answer in answers {
            count += match answer.map_err(|err| self.answer_error(err)) {
                Ok(found) => u64::from_redis_value(found).unwrap_or_default(),
                // An index of the wrong type counts as empty: its devices are refused one by one.
                Err(StoreError::Refused(_)) => 0,
                Err(err) => return Err(err),
            };
        }
        Ok(count)
    }

    /// The epochs of all partitions, what they retired, and the canary's count, read on the connection that commits use.
    ///
    /// A partition without an epoch has lost its data: then the connection is given up, since the next one opens one.
    pub async fn survey(&self) -> Result<Survey, StoreError> {
        let partitions = usize::from(self.partitions());
        let answers = self
            .run_each(partitions + 1, |_, index, pipe| {
                match u16::try_from(index) {
                    Ok(number) if index < partitions => {
                        let hash = PartitionKeys::new(number).partition();
                        pipe.cmd("HMGET").arg(hash).arg("epoch").arg("retired");
                    }
                    _ => {
                        pipe.cmd("GET").arg(keys::CANARY);
                    }
                }
            })
            .await?;
        let mut epochs = Vec::with_capacity(partitions);
        let mut retired = Vec::with_capacity(partitions);
        let mut canary = 0;
        for (index, answer) in answers.into_iter().enumerate() {
            let found = match answer.map_err(|err| self.answer_error(err)) {
                Ok(found) => found,
                // A partition that cannot be used does not stop the others.
                Err(StoreError::Refused(_)) => {
                    epochs.push(None);
                    retired.push(None);
                    continue;
                }
                Err(err) => return Err(err),
            };
            if index == partitions {
                let count = text(found).map_err(StoreError::Away)?;
                canary = count.and_then(|count| count.parse().ok()).unwrap_or(0);
                continue;
            }
            let mut fields = items(found).map_err(StoreError::Away)?.into_iter();
            let mut field = || text(fields.next().unwrap_or(Value::Nil));
            let Some(epoch) = field().map_err(StoreError::Away)? else {
                return Err(self.epoch_gone(wrong_answer("a partition without an epoch")));
            };
            epochs.push(epoch.parse().ok());
            let seq = field().map_err(StoreError::Away)?;
            retired.push(seq.and_then(|seq| seq.parse().ok()));
        }
        Ok(Survey {
            epochs,
            retired,
            canary,
        })
    }

    /// States of these devices, in their order; `None` where a device is unknown or unreadable.
    pub async fn states(
        &self,
        devices: &[DeviceId],
    ) -> Result<Vec<Option<(DeviceState, Option<Time>)>>, StoreError> {
        /// Keeps one answer within a few megabytes.
        const CHUNK: usize = 500;
        let mut states = Vec::with_capacity(devices.len());
        for chunk in devices.chunks(CHUNK) {
            for loaded in self.load(chunk).await? {
                states.push(match loaded {
                    Loaded::Device(subject) if subject.state.latest.is_some() => {
                        Some((subject.state, subject.last_message))
                    }
                    Loaded::Device(_) | Loaded::Refused(_) => None,
                });
            }
        }
        Ok(states)
    }

    /// The last payload of the device as received (valid JSON).
    pub async fn raw_payload(&self, device: &DeviceId) -> Result<Option<Vec<u8>>, StoreError> {
        let answer = self
            .run(|_, pipe| {
                pipe.cmd("HGET")
                    .arg(self.keys(device).device(device))
                    .arg("raw");
            })
            .await?;
        // Nothing is kept of it where the reading was asserted again.
        let raw = bytes(answer).map_err(StoreError::Away)?;
        Ok(raw.filter(|raw| !raw.is_empty()))
    }

    /// Open alarms and the newest closed ones, at most `bound` in all, oldest raise first; `None` for an unknown device.
    pub async fn alarms(
        &self,
        device: &DeviceId,
        bound: usize,
    ) -> Result<Option<Vec<Alarm>>, StoreError> {
        let snapshot = self.snapshot(device, Some(u64::MAX)).await?;
        let Some(state) = snapshot.state else {
            return Ok(None);
        };
        Ok(Some(fold_alarms(&state.alarms, snapshot.changes, bound)))
    }

    /// Samples of the device's history, JSON objects, oldest first, of server times within the bounds (inclusive),
    /// the newest `limit` of them.
    pub async fn history(
        &self,
        device: &DeviceId,
        since: Option<Time>,
        until: Option<Time>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let answer = self
            .run(|_, pipe| {
                pipe.cmd("XREVRANGE").arg(self.keys(device).history(device));
                pipe.arg(stream_bound(until, "+"))
                    .arg(stream_bound(since, "-"));
                pipe.arg("COUNT").arg(limit);
            })
            .await?;
        let newest_first = entries(answer).map_err(StoreError::Away)?;
        let samples = newest_first.into_iter().rev();
        Ok(samples
            .filter_map(|mut entry| entry.fields.remove("s"))
            .collect())
    }

    /// One page of a partition's alarm log, newest first, of entries older than `before` (a row id of that
    /// partition; `None` starts at `until`) and not older than `since`. An empty page is the end.
    pub async fn alarm_log(
        &self,
        partition: u16,
        before: Option<&str>,
        since: Option<Time>,
        until: Option<Time>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let newest = match before.and_then(stream_id_of_row) {
            Some(id) => format!("({id}"),
            None => stream_bound(until, "+"),
        };
        let answer = self
            .run(|_, pipe| {
                pipe.cmd("XREVRANGE")
                    .arg(PartitionKeys::new(partition).log());
                pipe.arg(&newest).arg(stream_bound(since, "-"));
                pipe.arg("COUNT").arg(LOG_PAGE);
            })
            .await?;
        let found = entries(answer).map_err(StoreError::Away)?;
        Ok(found
            .into_iter()
            .filter_map(|entry| log_entry(partition, &entry))
            .collect())
    }

    /// What the ingests report.
    pub async fn ingest_status(&self) -> Result<IngestStatus, StoreError> {
        let answers = self
            .run_each(2, |_, index, pipe| {
                if index == 0 {
                    pipe.cmd("ZREVRANGE")
                        .arg(keys::INGEST_MEMBERS)
                        .arg(0)
                        .arg(0)
                        .arg("WITHSCORES");
                } else {
                    pipe.cmd("HGET").arg(keys::INGEST_LISTENING).arg("topics");
                }
            })
            .await?;
        let mut answers = answers.into_iter();
        let mut next = || {
            answers
                .next()
                .unwrap_or(Ok(Value::Nil))
                .map_err(|err| self.answer_error(err))
        };
        let newest = Vec::<(String, f64)>::from_redis_value(next()?);
        let newest = newest.map_err(|err| StoreError::Away(err.into()))?;
        let topics = text(next()?).map_err(StoreError::Away)?.unwrap_or_default();
        let now = self.link.now();
        let age = newest.first().map(|(_, score)| {
            let age_ms = now.millis_since(codec::millis(*score)).max(0);
            Duration::from_millis(age_ms.unsigned_abs())
        });
        Ok(IngestStatus {
            age,
            topics: topics.lines().map(str::to_owned).collect(),
        })
    }

    /// Devices whose deadline has passed, and when, at most `limit` per partition.
    pub async fn due(&self, now: Time, limit: usize) -> Result<Vec<(DeviceId, Time)>, StoreError> {
        let partitions = usize::from(self.partitions());
        let answers = self
            .run_each(partitions, |_, index, pipe| {
                let number = u16::try_from(index).unwrap_or_default();
                pipe.cmd("ZRANGEBYSCORE")
                    .arg(PartitionKeys::new(number).deadlines());
                pipe.arg("-inf")
                    .arg(now.as_millis())
                    .arg("WITHSCORES")
                    .arg("LIMIT")
                    .arg(0)
                    .arg(limit);
            })
            .await?;
        let mut due = Vec::new();
        for answer in answers {
            // One partition whose index is broken does not stop the others.
            let Ok(found) = answer else { continue };
            let found = Vec::<(String, f64)>::from_redis_value(found).unwrap_or_default();
            due.extend(found.into_iter().filter_map(|(name, at)| {
                let device = name.parse::<DeviceId>().ok()?;
                Some((device, super::codec::millis(at)))
            }));
        }
        Ok(due)
    }
}

/// Open alarms and the newest closed ones, oldest raise first. The last change of an alarm tells how it was left.
fn fold_alarms(open: &[Alarm], changes: Vec<StoredChanges>, bound: usize) -> Vec<Alarm> {
    let mut closed: HashMap<String, Alarm> = HashMap::new();
    for alarm in changes.into_iter().flat_map(|entry| entry.alarms) {
        closed.insert(alarm.id.clone(), alarm);
    }
    let is_open = |alarm: &Alarm| open.iter().any(|other| other.id == alarm.id);
    let mut closed: Vec<Alarm> = closed
        .into_values()
        .filter(|alarm| alarm.cleared_at.is_some() && !is_open(alarm))
        .collect();
    closed.sort_by(|a, b| (b.raised_at, &b.id).cmp(&(a.raised_at, &a.id)));
    closed.truncate(bound.saturating_sub(open.len()));
    closed.extend(open.iter().cloned());
    closed.sort_by(|a, b| (a.raised_at, &a.id).cmp(&(b.raised_at, &b.id)));
    closed
}

/// One stream entry.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) fields: HashMap<String, Vec<u8>>,
}

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
    fn text(&self, field: &str) -> Option<&str> {
        std::str::from_utf8(self.fields.get(field)?).ok()
    }

    fn position(&self) -> Option<Position> {
        let (seq, _) = self.id.split_once('-')?;
        Some(Position {
            epoch: self.text("epoch")?.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }
}

fn stored_event(mut entry: Entry) -> Option<StoredEvent> {
    Some(StoredEvent {
        position: entry.position()?,
        bytes: entry.fields.remove("event")?,
    })
}

fn stored_changes(mut entry: Entry) -> Option<StoredChanges> {
    Some(StoredChanges {
        position: entry.position()?,
        alarms: serde_json::from_str(entry.text("alarms")?).ok()?,
        payload: entry.fields.remove("payload")?,
    })
}

/// A line that cannot be read still is an entry: only an empty page is the end.
fn log_entry(partition: u16, entry: &Entry) -> Option<LogEntry> {
    let (millis, _) = entry.id.split_once('-')?;
    let line = entry
        .text("line")
        .and_then(|line| serde_json::from_str(line).ok());
    let line = line.unwrap_or_else(|| StoredLine {
        at: Time::from_millis(millis.parse().unwrap_or_default()),
        change: None,
        alarm: None,
        by: None,
        seen: None,
        trace: None,
    });
    Some(LogEntry {
        id: format!("log-{partition}-{}", entry.id),
        device: entry.text("device")?.parse().ok()?,
        change: line.change,
        at: line.at,
        alarm: line.alarm,
        acknowledged: line.by.zip(line.seen),
    })
}

fn stream_id_of_row(row: &str) -> Option<&str> {
    let (_, id) = row.strip_prefix("log-")?.split_once('-')?;
    Some(id)
}

pub(super) fn stream_bound(time: Option<Time>, open_end: &str) -> String {
    time.map_or_else(
        || open_end.to_owned(),
        |time| time.as_millis().max(0).to_string(),
    )
}

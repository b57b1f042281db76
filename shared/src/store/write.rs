//! The writing half: the commit, dead letters, the report of an ingest.

use redis::{FromRedisValue, Pipeline, RedisResult, Value};
use serde::{Deserialize, Serialize};

use super::codec::{self, changed_fields, json};
use super::{Loaded, MAX_REPORT_AGE, Store, StoreError};
use crate::alarm::{Alarm, ChangeKind};
use crate::clock::Time;
use crate::decide::{Deadline, Decision, StoredDevice};
use crate::device::DeviceId;
use crate::keys;
use crate::position::Epoch;
use crate::redis::{Scripts, open_epoch};
use crate::trace::TraceContext;

/// How much is kept of what grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Samples of one device.
    pub history_max: u64,
    /// Age of a sample in milliseconds.
    pub history_age_ms: i64,
    /// Lines of one partition's alarm log.
    pub log_max: u64,
    /// Age of a line in milliseconds.
    pub log_age_ms: i64,
}

/// One decision to carry out.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// What it started from.
    pub subject: &'a StoredDevice,
    /// The decision.
    pub decision: &'a Decision,
    /// The payload as received, where it becomes the latest.
    pub raw: Option<&'a [u8]>,
    /// How much to keep; `None` where the settings are not known (an acknowledgement): nothing but the hard bound of the
    /// alarm log.
    pub bounds: Option<Bounds>,
    /// Where it stands in its trace, for the alarm log.
    pub trace: Option<TraceContext>,
}

/// What became of a commit.
#[derive(Clone, Debug)]
pub enum Committed {
    /// It was written at this server time.
    Done(Time),
    /// The state had moved: decide again from this.
    Conflict(Loaded),
}

/// A message that can never be processed.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// A short constant.
    pub reason: &'a str,
    /// What is wrong, for the maker of the device.
    pub detail: &'a str,
    /// Topic it came on.
    pub topic: &'a str,
    /// The bytes, or their beginning; cut at [`Self::MAX_BYTES`].
    pub payload: &'a [u8],
    /// How many bytes there were.
    pub size: usize,
}

impl DeadLetter<'_> {
    /// So many bytes of a payload are kept.
    pub const MAX_BYTES: usize = 16 * 1024;
}

/// One line of the alarm log as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredLine {
    pub(super) at: Time,
    pub(super) change: Option<ChangeKind>,
    pub(super) alarm: Option<Alarm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<String>,
}

impl Store {
    /// Reads what deciding needs of these devices, in their order, in one round trip.
    pub async fn load(&self, devices: &[DeviceId]) -> Result<Vec<Loaded>, StoreError> {
        let answers = self
            .run_each(devices.len(), |scripts, index, pipe| {
                self.state_call(&scripts.load, &devices[index], pipe);
            })
            .await?;
        let answers = answers.into_iter().zip(devices);
        answers
            .map(|(answer, device)| match self.loaded(device, answer) {
                // One device never stops the others.
                Err(StoreError::Refused(reason)) => Ok(Loaded::Refused(reason)),
                loaded => loaded,
            })
            .collect()
    }

    /// Carries decisions out, at most one per device, in one round trip. Each succeeds or is refused on its own.
    pub async fn commit(
        &self,
        commits: &[Commit<'_>],
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        let pending = self.in_doubt.pending(commits);
        let answers = self
            .run_each(commits.len(), |scripts, index, pipe| {
                self.commit_call(scripts, &commits[index], pipe);
            })
            .await?;
        pending.answered();
        let answers = answers.into_iter().zip(commits);
        Ok(answers
            .map(|(answer, commit)| {
                let committed = self.committed(&commit.subject.device, answer)?;
                if let Committed::Done(at) = committed {
                    self.committed_states.keep(commit, at);
                }
                Ok(committed)
            })
            .collect())
    }

    /// Keeps messages that can never be processed, at most about `max` of them in all.
    pub async fn dead_letter(
        &self,
        letters: &[DeadLetter<'_>],
        max: u64,
    ) -> Result<(), StoreError> {
        let now = self.link.now();
        let answers = self
            .run_each(letters.len(), |_, index, pipe| {
                let letter = &letters[index];
                let kept = letter.payload.len().min(DeadLetter::MAX_BYTES);
                pipe.cmd("XADD")
                    .arg(keys::DEAD_LETTERS)
                    .arg("MAXLEN")
                    .arg("~")
                    .arg(max)
                    .arg("*");
                pipe.arg("reason")
                    .arg(letter.reason)
                    .arg("detail")
                    .arg(letter.detail);
                pipe.arg("topic")
                    .arg(letter.topic)
                    .arg("at")
                    .arg(now.to_iso());
                pipe.arg("size").arg(letter.size);
                pipe.arg("payload").arg(&letter.payload[..kept]);
            })
            .await?;
        let failed = answers.into_iter().find_map(Result::err);
        let Some(err) = failed.map(|err| self.answer_error(err)) else {
            return Ok(());
        };
        if matches!(err, StoreError::Refused(_)) {
            // What stands in the way of the stream is kept under another name.
            let aside = format!("{}:aside:{}", keys::DEAD_LETTERS, now.as_millis());
            self.run(|_, pipe| {
                pipe.cmd("RENAME").arg(keys::DEAD_LETTERS).arg(&aside);
            })
            .await?;
            tracing::error!(aside, "the key of the dead letters was no stream");
        }
        Err(err)
    }

    /// Reports that this ingest has a live subscription; answers since when some ingest has had one.
    pub async fn report(&self, client_id: &str, topics: &[String]) -> Result<Time, StoreError> {
        let answer = self
            .run(|scripts, pipe| {
                pipe.cmd("EVALSHA").arg(&scripts.heartbeat).arg(2);
                pipe.arg(keys::INGEST_MEMBERS).arg(keys::INGEST_LISTENING);
                pipe.arg(client_id)
                    .arg(MAX_REPORT_AGE.as_millis().to_string());
                pipe.arg(topics.join("\n"));
            })
            .await?;
        let since = i64::from_redis_value(answer).map_err(redis::RedisError::from);
        Ok(Time::from_millis(since.map_err(StoreError::Away)?))
    }

    /// Withdraws the report of an ingest that stops.
    pub async fn withdraw(&self, client_id: &str) -> Result<(), StoreError> {
        let withdrawn = self.run(|_, pipe| {
            pipe.cmd("ZREM").arg(keys::INGEST_MEMBERS).arg(client_id);
        });
        withdrawn.await.map(drop)
    }

    /// Lets the canary sing: counts on, and publishes the count, the way a commit does. Answers the count.
    pub async fn beat(&self) -> Result<u64, StoreError> {
        let sung = self.run(|scripts, pipe| {
            pipe.cmd("EVALSHA").arg(&scripts.canary).arg(2);
            pipe.arg(keys::CANARY).arg(keys::CANARY_CHANNEL);
        });
        let count = u64::from_redis_value(sung.await?).map_err(redis::RedisError::from);
        count.map_err(StoreError::Away)
    }

    /// Looks at a device again only at `time`: nothing can be decided about it now.
    pub async fn postpone(&self, device: &DeviceId, time: Time) -> Result<(), StoreError> {
        let postponed = self.run(|_, pipe| {
            pipe.cmd("ZADD")
                .arg(self.keys(device).deadlines())
                .arg("XX");
            pipe.arg(time.as_millis()).arg(device.as_str());
        });
        postponed.await.map(drop)
    }

    /// Gives up the epoch of a device's partition: its numbering is lost, and must not be met again.
    pub async fn give_up_epoch(&self, device: &DeviceId, epoch: Epoch) -> Result<(), StoreError> {
        let run_id = self.link.connection().await?.run_id;
        let partition = device.partition(self.partitions());
        let given_up = self.run(|scripts, pipe| {
            open_epoch(pipe, scripts, partition, &run_id, Some(epoch));
        });
        given_up.await.map(drop)
    }

    pub(super) fn loaded(
        &self,
        device: &DeviceId,
        answer: RedisResult<Value>,
    ) -> Result<Loaded, StoreError> {
        let loaded = codec::loaded(device, answer.map_err(|err| self.answer_error(err))?);
        loaded.map_err(|err| self.epoch_gone(err))
    }

    /// An answer without an epoch comes from a server that lost its data: the next connection opens a new one.
    pub(super) fn epoch_gone(&self, err: redis::RedisError) -> StoreError {
        self.link.discard_current();
        StoreError::Away(err)
    }

    pub(super) fn committed(
        &self,
        device: &DeviceId,
        answer: RedisResult<Value>,
    ) -> Result<Committed, StoreError> {
        let value = answer.map_err(|err| self.answer_error(err))?;
        if let Value::Array(found) = &value
            && let [Value::BulkString(kind), Value::Int(at)] = found.as_slice()
            && kind == b"ok"
        {
            return Ok(Committed::Done(Time::from_millis(*at)));
        }
        match self.loaded(device, Ok(value))? {
            Loaded::Refused(reason) => Err(StoreError::Refused(reason)),
            loaded @ Loaded::Device(_) => Ok(Committed::Conflict(loaded)),
        }
    }

    pub(super) fn state_call(&self, script: &str, device: &DeviceId, pipe: &mut Pipeline) {
        let keys = self.keys(device);
        pipe.cmd("EVALSHA").arg(script).arg(5);
        pipe.arg(keys.device(device))
            .arg(keys.partition())
            .arg(keys.seen());
        pipe.arg(keys.events(device)).arg(keys.changes(device));
        pipe.arg(device.as_str());
    }

    fn commit_call(&self, scripts: &Scripts, commit: &Commit<'_>, pipe: &mut Pipeline) {
        let Commit {
            subject, decision, ..
        } = *commit;
        let device = &subject.device;
        let keys = self.keys(device);
        pipe.cmd("EVALSHA").arg(&scripts.commit).arg(11);
        pipe.arg(keys.device(device))
            .arg(keys.partition())
            .arg(keys.seen());
        pipe.arg(keys.events(device))
            .arg(keys.changes(device))
            .arg(keys.deadlines());
        pipe.arg(keys.changed())
            .arg(keys.log())
            .arg(keys.history(device));
        pipe.arg(keys.quarantine()).arg(keys.channel(device));

        pipe.arg(device.as_str());
        pipe.arg(&subject.stored_rev);
        pipe.arg(subject.epoch.to_string());
        match &decision.event {
            Some(event) => {
                pipe.arg(decision.state.position.seq).arg(&event.envelope);
                pipe.arg(event.changes.as_deref().unwrap_or_default());
                let alarms: Vec<&Alarm> = decision.changes.iter().map(|c| &c.alarm).collect();
                pipe.arg(json(&alarms));
            }
            None => {
                pipe.arg("").arg("").arg("").arg("");
            }
        }
        let is_listed = subject.state.latest.is_some();
        match (decision.alive, decision.heard) {
            (true, _) => pipe.arg("now"),
            (false, Some(heard)) => pipe.arg(heard.as_millis()),
            (false, None) if is_listed => pipe.arg(""),
            (false, None) => pipe.arg(0),
        };
        match decision.deadline {
            Deadline::Keep => pipe.arg("keep"),
            Deadline::Never => pipe.arg("never"),
            Deadline::At(time) => pipe.arg(time.as_millis()),
        };
        pipe.arg(
            decision
                .sample
                .as_deref()
                .filter(|_| commit.bounds.is_some())
                .unwrap_or_default(),
        );
        pipe.arg(keys::MAX_EVENTS)
            .arg(keys::MAX_CHANGES)
            .arg(keys::MAX_QUARANTINE);
        match &commit.bounds {
            Some(bounds) => {
                pipe.arg(bounds.history_max).arg(bounds.history_age_ms);
                pipe.arg(bounds.log_max).arg(bounds.log_age_ms);
            }
            None => {
                pipe.arg("").arg("").arg(keys::MAX_LOG).arg("");
            }
        }
        pipe.arg(if subject.lost { "1" } else { "" });

        let mut fields = changed_fields(&subject.state, &decision.state);
        if let Some(raw) = commit.raw {
            fields.push(("raw", raw.to_vec()));
        }
        pipe.arg(fields.len() * 2);
        for (field, value) in fields {
            pipe.arg(field).arg(value);
        }
        for line in &decision.log {
            let acknowledged = line.acknowledged.as_ref();
            pipe.arg(json(&StoredLine {
                at: decision.state.memory.decided_at,
                change: line.change,
                alarm: line.alarm.clone(),
                by: acknowledged.map(|(by, _)| by.clone()),
                seen: acknowledged.map(|(_, seen)| *seen),
                trace: commit.trace.as_ref().map(TraceContext::to_string),
            }));
        }
    }
}

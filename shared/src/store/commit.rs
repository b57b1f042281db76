//! Loads what decisions need and commits them: one round trip for many devices, one script call for each.

use redis::{Pipeline, RedisResult, Value};

use super::codec::{self, changed_fields, json};
use super::memory::{ReserveLeft, is_out_of_memory};
use super::{Store, StoreError};
use crate::alarm::Change;
use crate::clock::Time;
use crate::decide::{Deadline, Decision, Outcome, StoredDevice};
use crate::device::DeviceId;
use crate::keys;
use crate::position::Epoch;
use crate::redis::{Scripts, open_epoch};
use crate::sample::Sample;
use crate::state::DeviceState;

/// Bounds of what grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Samples in the history of one device.
    pub history_max: u64,
    /// Age of a sample in milliseconds.
    pub history_age_ms: i64,
    /// Entries in the alarm log of one partition.
    pub log_max: u64,
    /// Age of an entry in milliseconds.
    pub log_age_ms: i64,
}

/// Decisions to carry out at once.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The state from which the first one started.
    pub stored: &'a StoredDevice,
    /// The decisions, at least one, each from the state that the one before it leaves.
    pub decisions: &'a [Decision],
    /// The payload as received, if it is stored with the latest reading. It is not stored while Redis is full.
    pub raw: Option<&'a [u8]>,
    /// `None` in a process that does not know the configured bounds: then no sample is written, and the alarm log is bounded
    /// by [`keys::MAX_LOG`] alone.
    pub bounds: Option<Bounds>,
}

impl Commit<'_> {
    /// The state after the commit.
    pub(super) fn state(&self) -> &DeviceState {
        let last = self.decisions.last();
        last.map_or(&self.stored.state, |decision| &decision.state)
    }

    /// The alarm changes, in order.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.decisions.iter().flat_map(|decision| &decision.changes)
    }

    /// Whether one of the decisions has this outcome.
    pub(super) fn has(&self, outcome: Outcome) -> bool {
        self.decisions
            .iter()
            .any(|decision| decision.outcome == outcome)
    }

    /// Whether a message proves the device alive.
    pub(super) fn is_alive(&self) -> bool {
        self.decisions.iter().any(|decision| decision.alive)
    }

    /// The newest earlier time at which a message proved the device alive, if the index may have lost it.
    pub(super) fn last_alive(&self) -> Option<Time> {
        let times = self.decisions.iter().map(|decision| decision.last_alive);
        times.max().flatten()
    }

    /// When to evaluate the device again.
    fn deadline(&self) -> Deadline {
        let mut deadlines = self
            .decisions
            .iter()
            .rev()
            .map(|decision| decision.deadline);
        let decided = deadlines.find(|deadline| *deadline != Deadline::Keep);
        decided.unwrap_or(Deadline::Keep)
    }

    /// Whether the device is not stored yet.
    fn is_of_new_device(&self) -> bool {
        self.stored.state.latest.is_none() && !self.stored.lost
    }

    /// What a commit that Redis refused may write all the same; `None` if it stays refused.
    fn memory_within(&self, reserve: ReserveLeft) -> Option<Memory> {
        match reserve {
            ReserveLeft::ForAll => Some(Memory::Full),
            ReserveLeft::ForAlarms if concerns_alarms(self.decisions) => Some(Memory::Full),
            ReserveLeft::ForAlarms => (!self.is_of_new_device()).then_some(Memory::OnlyReplace),
            ReserveLeft::Nothing => None,
        }
    }

    /// The samples to store: none without bounds, and none while Redis is full.
    fn samples(&self, memory: Memory) -> impl Iterator<Item = &Sample> {
        let is_stored = self.bounds.is_some() && memory == Memory::Free;
        let decisions = if is_stored { self.decisions } else { &[] };
        decisions
            .iter()
            .filter_map(|decision| decision.sample.as_ref())
    }
}

/// Whether decisions may use the whole reserve while Redis is full: they change alarms, add to the alarm log, write a lost state
/// again, end a device, or show a danger that becomes an alarm only after a delay.
pub(crate) fn concerns_alarms(decisions: &[Decision]) -> bool {
    decisions.iter().any(|decision| {
        !decision.changes.is_empty()
            || !decision.log.is_empty()
            || matches!(decision.outcome, Outcome::Reasserted | Outcome::Retired)
            || decision.shows_danger()
    })
}

/// What a commit may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// Redis has memory for everything.
    Free,
    /// Redis is full: only what must not be lost.
    Full,
    /// The rest of the reserve is for alarms: only what replaces what the device has stored.
    OnlyReplace,
}

/// The answer of Redis to a script that writes.
type Answer = Result<Value, StoreError>;

/// The result of a commit.
#[derive(Clone, Debug)]
pub enum Committed {
    /// It was written at this server time.
    Done(Time),
    /// The stored state had changed: decide again from this one.
    Conflict(Loaded),
}

/// The result of loading a device.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// The state; it is empty for an unknown device.
    Device(Box<StoredDevice>),
    /// A key has the wrong type: this device cannot be committed.
    Refused(String),
}

impl Loaded {
    /// Returns the state, or the refusal as an error.
    pub fn device(self) -> Result<Box<StoredDevice>, StoreError> {
        match self {
            Self::Device(stored) => Ok(stored),
            Self::Refused(reason) => Err(StoreError::Refused(reason)),
        }
    }
}

impl Store {
    /// Loads these devices, in their order, in one round trip.
    pub async fn load(&self, devices: &[DeviceId]) -> Result<Vec<Loaded>, StoreError> {
        let answers = self
            .run_each(devices.len(), |scripts, index, pipe| {
                self.call_state_script(&scripts.load, &devices[index], pipe);
            })
            .await?;
        let answers = answers.into_iter().zip(devices);
        answers
            .map(|(answer, device)| refusal_as_loaded(self.loaded(device, answer)))
            .collect()
    }

    /// Loads one device.
    pub async fn load_one(&self, device: &DeviceId) -> Result<Loaded, StoreError> {
        let answer = self.run(|scripts, pipe| {
            self.call_state_script(&scripts.load, device, pipe);
        });
        let loaded = match answer.await {
            Ok(answer) => self.loaded(device, Ok(answer)),
            Err(err) => Err(err),
        };
        refusal_as_loaded(loaded)
    }

    /// Writes decisions, at most one per device, in one round trip. Each succeeds or fails on its own.
    pub async fn commit(
        &self,
        commits: &[Commit<'_>],
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        let pending = self.in_doubt.pending(commits);
        let answers = self
            .run_each(commits.len(), |scripts, index, pipe| {
                self.call_write_script(scripts, &commits[index], Memory::Free, pipe);
            })
            .await?;
        let is_refused = |answer: &RedisResult<Value>| answer.as_ref().is_err_and(is_out_of_memory);
        let refused = answers.iter().enumerate();
        let refused = refused.filter(|(_, answer)| is_refused(answer));
        let refused: Vec<usize> = refused.map(|(index, _)| index).collect();
        let answers = answers.into_iter();
        let mut answers: Vec<Answer> = answers
            .map(|answer| answer.map_err(|err| self.answer_error(err)))
            .collect();
        let unanswered = self.commit_when_full(commits, &refused, &mut answers).await;
        pending.answered_except(&unanswered);
        let answers = answers.into_iter().zip(commits);
        Ok(answers
            .map(|(answer, commit)| {
                let committed = self.committed(&commit.stored.device, answer)?;
                if let Committed::Done(at) = committed {
                    self.committed_states.record(commit, at);
                }
                Ok(committed)
            })
            .collect())
    }

    /// Carries out commits that were refused for lack of memory, as far as the reserve allows. `refused` are their indexes. Returns
    /// the indexes of those that were sent again and got no answer. An error replaces only the answers of refused commits: the
    /// others are done.
    async fn commit_when_full(
        &self,
        commits: &[Commit<'_>],
        refused: &[usize],
        answers: &mut [Answer],
    ) -> Vec<usize> {
        if refused.is_empty() {
            return Vec::new();
        }
        // If that is not known, the refusals stand.
        let Ok(reserve) = self.reserve_left().await else {
            return Vec::new();
        };
        let mut again = Vec::with_capacity(refused.len());
        for &index in refused {
            let commit = &commits[index];
            match commit.memory_within(reserve) {
                Some(memory) => again.push((index, memory)),
                // It is not tried again. That would hold up what arrived after it.
                None if reserve == ReserveLeft::ForAlarms => {
                    answers[index] = Err(StoreError::RedisFull);
                }
                None => {}
            }
        }
        let sent = self.run_each(again.len(), |scripts, index, pipe| {
            let (commit, memory) = again[index];
            self.call_write_script(scripts, &commits[commit], memory, pipe);
        });
        match sent.await {
            Ok(new_answers) => {
                for ((index, _), answer) in again.into_iter().zip(new_answers) {
                    if answer.is_ok() {
                        let samples = commits[index].samples(Memory::Free).count();
                        self.memory.count_unstored_samples(samples);
                    }
                    answers[index] = answer.map_err(|err| self.answer_error(err));
                }
                Vec::new()
            }
            Err(err) => {
                let again: Vec<usize> = again.into_iter().map(|(index, _)| index).collect();
                for &index in &again {
                    answers[index] = Err(err.clone());
                }
                again
            }
        }
    }

    /// Opens a new epoch in the partition of a device whose seq is lost, so that no position is used twice.
    pub async fn give_up_epoch(&self, device: &DeviceId, epoch: Epoch) -> Result<(), StoreError> {
        let run_id = self.connector.connection().await?.run_id;
        let partition = device.partition(self.partitions());
        let answer = self.run(|scripts, pipe| {
            open_epoch(pipe, scripts, partition, &run_id, Some(epoch));
        });
        answer.await.map(drop)
    }

    /// Reads an answer of a script that loads a device.
    pub(super) fn loaded(
        &self,
        device: &DeviceId,
        answer: RedisResult<Value>,
    ) -> Result<Loaded, StoreError> {
        let loaded = codec::decode_answer(device, answer.map_err(|err| self.answer_error(err))?);
        loaded.map_err(|err| self.missing_epoch(err))
    }

    /// Handles a partition without an epoch: the server has lost its data. The next connection opens new epochs.
    pub(super) fn missing_epoch(&self, err: redis::RedisError) -> StoreError {
        self.connector.discard_current();
        StoreError::Unavailable(err)
    }

    fn committed(&self, device: &DeviceId, answer: Answer) -> Result<Committed, StoreError> {
        let value = answer?;
        if let Value::Array(found) = &value
            && let [Value::BulkString(kind), Value::Int(at)] = found.as_slice()
            && kind == b"ok"
        {
            return Ok(Committed::Done(Time::from_millis(*at)));
        }
        let newer = self.loaded(device, Ok(value))?.device()?;
        Ok(Committed::Conflict(Loaded::Device(newer)))
    }

    /// Calls a script that answers with the state of a device. Keys and arguments: see `state.lua`.
    pub(super) fn call_state_script(&self, script: &str, device: &DeviceId, pipe: &mut Pipeline) {
        pipe.cmd("EVALSHA").arg(script).arg(5);
        self.state_keys(device, pipe);
        pipe.arg(device.as_str());
    }

    fn state_keys(&self, device: &DeviceId, pipe: &mut Pipeline) {
        let keys = self.keys(device);
        pipe.arg(keys.device(device))
            .arg(keys.partition())
            .arg(keys.seen())
            .arg(keys.events(device))
            .arg(keys.changes(device));
    }

    /// Calls `retire.lua` or `commit.lua`. The order of keys and arguments is that of the names at the top of each script.
    fn call_write_script(
        &self,
        scripts: &Scripts,
        commit: &Commit<'_>,
        memory: Memory,
        pipe: &mut Pipeline,
    ) {
        let is_retired = commit.has(Outcome::Retired);
        let device = &commit.stored.device;
        let keys = self.keys(device);
        pipe.cmd("EVALSHA");
        if is_retired {
            pipe.arg(&scripts.retire).arg(10);
        } else {
            let script = match memory {
                Memory::Free => &scripts.commit,
                Memory::Full | Memory::OnlyReplace => &scripts.commit_when_full,
            };
            pipe.arg(script).arg(11);
        }
        self.state_keys(device, pipe);
        pipe.arg(keys.deadlines())
            .arg(keys.changed())
            .arg(keys.log())
            .arg(keys.history(device))
            .arg(keys.channel(device));
        if !is_retired {
            pipe.arg(keys.quarantine());
        }

        pipe.arg(device.as_str())
            .arg(&commit.stored.stored_rev)
            .arg(commit.stored.epoch.to_string());
        if is_retired {
            retire_arguments(commit, pipe);
        } else {
            commit_arguments(commit, memory, pipe);
        }
        for entry in commit.decisions.iter().flat_map(|decision| &decision.log) {
            pipe.arg(json(entry));
        }
    }
}

/// Turns the refusal of one device into a value, so that it does not fail the other devices.
fn refusal_as_loaded(loaded: Result<Loaded, StoreError>) -> Result<Loaded, StoreError> {
    match loaded {
        Err(StoreError::Refused(reason)) => Ok(Loaded::Refused(reason)),
        loaded => loaded,
    }
}

fn retire_arguments(commit: &Commit<'_>, pipe: &mut Pipeline) {
    let mut events = commit
        .decisions
        .iter()
        .filter_map(|decision| decision.event.as_ref());
    let envelope = events.next().map(|event| &event.envelope);
    pipe.arg(commit.state().position.seq)
        .arg(envelope.map_or("", String::as_str))
        .arg(keys::MAX_LOG);
}

fn commit_arguments(commit: &Commit<'_>, memory: Memory, pipe: &mut Pipeline) {
    index_arguments(commit, pipe);
    bound_arguments(commit, memory, pipe);
    pipe.arg(if commit.stored.lost { "1" } else { "" });
    pipe.arg(if memory == Memory::OnlyReplace {
        ""
    } else {
        "1"
    });
    event_arguments(commit, pipe);
    let samples: Vec<&Sample> = commit.samples(memory).collect();
    pipe.arg(samples.len());
    for sample in samples {
        pipe.arg(sample.encode());
    }
    let mut fields = changed_fields(&commit.stored.state, commit.state());
    if let Some(raw) = commit.raw {
        // An empty one replaces that of another reading.
        let kept = if memory == Memory::Free { raw } else { b"" };
        fields.push(("raw", kept.to_vec()));
    }
    pipe.arg(fields.len() * 2);
    for (field, value) in fields {
        pipe.arg(field).arg(value);
    }
}

/// Adds the number of events, and for each of them its seq, envelope, payload for the changes stream, and changed alarms.
fn event_arguments(commit: &Commit<'_>, pipe: &mut Pipeline) {
    let events = commit.decisions.iter().filter_map(|decision| {
        let event = decision.event.as_ref()?;
        Some((decision, event))
    });
    pipe.arg(events.clone().count());
    for (decision, event) in events {
        let alarms: Vec<_> = decision.changes.iter().map(|c| &c.alarm).collect();
        pipe.arg(decision.state.position.seq)
            .arg(&event.envelope)
            .arg(event.changes.as_deref().unwrap_or_default())
            .arg(json(&alarms));
    }
}

/// Adds the arguments `alive`, `deadline`.
fn index_arguments(commit: &Commit<'_>, pipe: &mut Pipeline) {
    let is_listed = commit.stored.state.latest.is_some();
    match (commit.is_alive(), commit.last_alive()) {
        (true, _) => pipe.arg("now"),
        (false, Some(last_alive)) => pipe.arg(last_alive.as_millis()),
        (false, None) if is_listed => pipe.arg(""),
        (false, None) => pipe.arg(0),
    };
    match commit.deadline() {
        Deadline::Keep => pipe.arg("keep"),
        Deadline::Never => pipe.arg("never"),
        Deadline::At(time) => pipe.arg(time.as_millis()),
    };
}

/// Adds the arguments `max_events`, `max_changes`, `max_quarantine`, `history_max`, `history_age_ms`, `log_max`,
/// `log_age_ms`.
fn bound_arguments(commit: &Commit<'_>, memory: Memory, pipe: &mut Pipeline) {
    // The reserve is for alarms. Events that are not kept are missed only by clients that come back, who then get a snapshot.
    let max_events = match memory {
        Memory::Free => keys::MAX_EVENTS,
        Memory::Full | Memory::OnlyReplace => keys::MIN_EVENTS,
    };
    pipe.arg(max_events)
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
}

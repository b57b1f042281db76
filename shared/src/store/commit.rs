//! Loads what decisions need and commits them: one round trip for many devices, one script call for each.

mod writes;

use redis::{Cmd, Pipeline, RedisResult, RedisWrite as _, Value};

use self::writes::{Memory, commit_arguments, retire_arguments, usual_arguments};
use super::codec::{self, json};
use super::memory::ReserveLeft;
use super::stored_events::StoredForms;
use super::{Store, StoreError};
use crate::clock::Time;
use crate::decide::{Outcome, StoredDevice};
use crate::device::DeviceId;
use crate::position::Epoch;
use crate::redis::{Scripts, open_epoch};
use crate::rollup::Width;

pub(crate) use self::writes::concerns_alarms;
pub use self::writes::{Bounds, Commit};

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
        self.commit_by(commits, true).await
    }

    /// As [`Store::commit`]. `by_usual_script`: usual commits are tried with the script for them first.
    pub(super) async fn commit_by(
        &self,
        commits: &[Commit<'_>],
        by_usual_script: bool,
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        // Nothing may be left of a retired device.
        let rollups = if commits.iter().any(|commit| commit.has(Outcome::Retired)) {
            self.known_rollup_widths().await?
        } else {
            [].into()
        };
        let pending = self.in_doubt.pending(commits, &self.committed_states);
        let forms = commits.iter().map(|commit| self.stored_forms(commit));
        let mut forms: Vec<StoredForms> = forms.collect();
        let answers = self
            .run_each(commits.len(), |scripts, index, pipe| {
                let (commit, forms) = (&commits[index], &forms[index]);
                if by_usual_script && commit.is_usual() {
                    self.call_usual_script(scripts, commit, forms, pipe);
                } else {
                    let call = WriteCall::new(commit, forms, Memory::Free, &rollups);
                    self.call_write_script(scripts, call, pipe);
                }
            })
            .await?;
        let mut answers: Vec<Answer> = answers
            .into_iter()
            .map(|answer| answer.map_err(|err| self.answer_error(err)))
            .collect();
        self.load_changed(commits, &mut answers).await;
        let others = indexes(&answers, |answer| {
            answer
                .as_ref()
                .is_ok_and(|answer| is_word(answer, b"other"))
        });
        let others = self.commit_others(commits, &forms, &rollups, others, &mut answers);
        let mut unanswered = others.await;
        let refused = indexes(&answers, |answer| {
            answer.as_ref().is_err_and(StoreError::is_out_of_memory)
        });
        for &index in &refused {
            forms[index] = StoredForms::all_whole(commits[index].decisions);
        }
        let again = self.commit_when_full(commits, &forms, &rollups, &refused, &mut answers);
        unanswered.extend(again.await);
        pending.answered_except(&unanswered);
        let answers = answers.into_iter().zip(commits).zip(forms);
        Ok(answers
            .map(|((answer, commit), forms)| {
                let device = &commit.stored.device;
                let by_usual_script = matches!(answer, Ok(Value::Int(_)));
                let committed = self.committed(device, answer);
                match committed {
                    Ok(Committed::Done(at)) => {
                        let deadline_by = commit.deadline_by(by_usual_script);
                        self.committed_states
                            .record(commit, at, deadline_by, forms.whole);
                    }
                    Ok(Committed::Conflict(_)) => self.committed_states.conflicted(device),
                    Err(_) => self.committed_states.in_doubt(device),
                }
                committed
            })
            .collect())
    }

    /// How the events of a commit are stored. While this process is refused for lack of memory, it removes old events, and with them
    /// those from which others differ. An event of another process whose whole one is gone cannot be replayed: clients that missed it
    /// get a snapshot.
    fn stored_forms(&self, commit: &Commit<'_>) -> StoredForms {
        if self.full().is_some() {
            return StoredForms::all_whole(commit.decisions);
        }
        let whole = self.committed_states.whole_event(&commit.stored.device);
        StoredForms::new(commit.decisions, whole)
    }

    /// Loads the devices of which the script for usual commits says that their state has changed.
    async fn load_changed(&self, commits: &[Commit<'_>], answers: &mut [Answer]) {
        let changed = indexes(answers, |answer| {
            answer
                .as_ref()
                .is_ok_and(|answer| is_word(answer, b"changed"))
        });
        let loaded = self.run_each(changed.len(), |scripts, index, pipe| {
            let device = &commits[changed[index]].stored.device;
            self.call_state_script(&scripts.load, device, pipe);
        });
        match loaded.await {
            Ok(loaded) => {
                for (&index, loaded) in changed.iter().zip(loaded) {
                    answers[index] = loaded.map_err(|err| self.answer_error(err));
                }
            }
            Err(err) => {
                for &index in &changed {
                    answers[index] = Err(err.clone());
                }
            }
        }
    }

    /// Carries out the commits with these indexes, which the script for usual ones left to the other script. Returns the indexes
    /// of those that got no answer.
    async fn commit_others(
        &self,
        commits: &[Commit<'_>],
        forms: &[StoredForms],
        rollups: &[Width],
        others: Vec<usize>,
        answers: &mut [Answer],
    ) -> Vec<usize> {
        if others.is_empty() {
            return others;
        }
        let sent = self.run_each(others.len(), |scripts, index, pipe| {
            let (commit, forms) = (&commits[others[index]], &forms[others[index]]);
            let call = WriteCall::new(commit, forms, Memory::Free, rollups);
            self.call_write_script(scripts, call, pipe);
        });
        match sent.await {
            Ok(new_answers) => {
                for (index, answer) in others.into_iter().zip(new_answers) {
                    answers[index] = answer.map_err(|err| self.answer_error(err));
                }
                Vec::new()
            }
            Err(err) => {
                for &index in &others {
                    answers[index] = Err(err.clone());
                }
                others
            }
        }
    }

    /// Carries out commits that were refused for lack of memory, as far as the reserve allows. `refused` are their indexes. Returns
    /// the indexes of those that were sent again and got no answer. An error replaces only the answers of refused commits: the
    /// others are done.
    async fn commit_when_full(
        &self,
        commits: &[Commit<'_>],
        forms: &[StoredForms],
        rollups: &[Width],
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
            let (index, memory) = again[index];
            let call = WriteCall::new(&commits[index], &forms[index], memory, rollups);
            self.call_write_script(scripts, call, pipe);
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
        if let Value::Int(at) = value {
            return Ok(Committed::Done(Time::from_millis(at)));
        }
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

    /// Calls `commit_usual.lua`.
    fn call_usual_script(
        &self,
        scripts: &Scripts,
        commit: &Commit<'_>,
        forms: &StoredForms,
        pipe: &mut Pipeline,
    ) {
        /// Nearly every call fits without growing.
        const ARGUMENTS: usize = 32;
        const BYTES: usize = 4096;
        let device = &commit.stored.device;
        let keys = self.keys(device);
        let has_deadline = commit.usual_deadline().is_some();
        let mut call = Cmd::with_capacity(ARGUMENTS, BYTES);
        call.arg("EVALSHA").arg(&scripts.commit_usual);
        call.arg(if has_deadline { 7 } else { 6 })
            .arg(keys.device(device))
            .arg(keys.partition())
            .arg(keys.seen())
            .arg(keys.events(device))
            .arg(keys.history(device))
            .arg(keys.channel(device));
        if has_deadline {
            call.arg(keys.deadlines());
        }
        call.arg(device.as_str()).arg(&commit.stored.stored_rev);
        call.write_arg_fmt(commit.stored.epoch);
        usual_arguments(commit, forms, &mut call);
        pipe.add_command(call);
    }

    /// Calls `retire.lua` or `commit.lua`. The order of keys and arguments is that of the names at the top of each script.
    fn call_write_script(&self, scripts: &Scripts, call: WriteCall<'_>, pipe: &mut Pipeline) {
        let WriteCall {
            commit,
            forms,
            memory,
            rollups,
        } = call;
        let is_retired = commit.has(Outcome::Retired);
        let device = &commit.stored.device;
        let keys = self.keys(device);
        pipe.cmd("EVALSHA");
        if is_retired {
            pipe.arg(&scripts.retire).arg(10 + rollups.len());
        } else {
            let script = match memory {
                Memory::Free => &scripts.commit,
                Memory::Full | Memory::OnlyReplace => &scripts.commit_when_full,
            };
            pipe.arg(script).arg(11);
        }
        self.state_keys(device, pipe);
        pipe.arg(keys.deadlines())
            .arg(keys.listings())
            .arg(keys.log())
            .arg(keys.history(device))
            .arg(keys.channel(device));
        if is_retired {
            for width in rollups {
                pipe.arg(keys.rollup(device, *width));
            }
        } else {
            pipe.arg(keys.quarantine());
        }

        pipe.arg(device.as_str())
            .arg(&commit.stored.stored_rev)
            .arg(commit.stored.epoch.to_string());
        if is_retired {
            retire_arguments(commit, pipe);
        } else {
            commit_arguments(commit, forms, memory, pipe);
        }
        for entry in commit.decisions.iter().flat_map(|decision| &decision.log) {
            pipe.arg(json(entry));
        }
    }
}

/// A call of a script that writes.
#[derive(Clone, Copy)]
struct WriteCall<'a> {
    commit: &'a Commit<'a>,
    forms: &'a StoredForms,
    memory: Memory,
    /// The rollups that a retired device may have.
    rollups: &'a [Width],
}

impl<'a> WriteCall<'a> {
    fn new(
        commit: &'a Commit<'a>,
        forms: &'a StoredForms,
        memory: Memory,
        rollups: &'a [Width],
    ) -> Self {
        Self {
            commit,
            forms,
            memory,
            rollups,
        }
    }
}

/// Returns the indexes of these answers.
fn indexes(answers: &[Answer], is_wanted: impl Fn(&Answer) -> bool) -> Vec<usize> {
    let answers = answers.iter().enumerate();
    let wanted = answers.filter(|(_, answer)| is_wanted(answer));
    wanted.map(|(index, _)| index).collect()
}

/// Whether `commit_usual.lua` has answered with this word.
fn is_word(answer: &Value, word: &[u8]) -> bool {
    matches!(answer, Value::Array(found) if matches!(&found[..], [Value::BulkString(found)] if found == word))
}

/// Turns the refusal of one device into a value, so that it does not fail the other devices.
fn refusal_as_loaded(loaded: Result<Loaded, StoreError>) -> Result<Loaded, StoreError> {
    match loaded {
        Err(StoreError::Refused(reason)) => Ok(Loaded::Refused(reason)),
        loaded => loaded,
    }
}

//! What a commit writes: the decisions, and the arguments of `commit.lua` and `retire.lua`.

use std::sync::Arc;

use redis::{Cmd, Pipeline, RedisWrite as _};

use crate::alarm::Change;
use crate::clock::Time;
use crate::decide::{Deadline, Decision, Outcome, StoredDevice};
use crate::keys;
use crate::sample::Sample;
use crate::state::DeviceState;
use crate::store::codec::{Field, changed_fields, json};
use crate::store::memory::ReserveLeft;
use crate::store::stored_events::StoredForms;

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
    pub(in crate::store) fn state(&self) -> &Arc<DeviceState> {
        let last = self.decisions.last();
        last.map_or(&self.stored.state, |decision| &decision.state)
    }

    /// The alarm changes, in order.
    pub(in crate::store) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.decisions.iter().flat_map(|decision| &decision.changes)
    }

    /// Whether one of the decisions has this outcome.
    pub(in crate::store) fn has(&self, outcome: Outcome) -> bool {
        self.decisions
            .iter()
            .any(|decision| decision.outcome == outcome)
    }

    /// Whether a message proves the device alive.
    pub(in crate::store) fn is_alive(&self) -> bool {
        self.decisions.iter().any(|decision| decision.alive)
    }

    /// The newest earlier time at which a message proved the device alive, if the index may have lost it.
    pub(in crate::store) fn last_alive(&self) -> Option<Time> {
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

    /// By when the device is looked at again after this commit; `None` if that is not known. `by_usual_script`: `commit_usual.lua`
    /// has written it, which leaves an earlier deadline as it is.
    pub(in crate::store) fn deadline_by(&self, by_usual_script: bool) -> Option<Time> {
        match self.deadline() {
            Deadline::Keep => self.stored.deadline_by,
            Deadline::Never => None,
            Deadline::At(time) if by_usual_script && !self.writes_deadline(time) => {
                self.stored.deadline_by
            }
            Deadline::At(time) => Some(time),
        }
    }

    /// The deadline that a usual commit writes.
    pub(super) fn usual_deadline(&self) -> Option<Time> {
        match self.deadline() {
            Deadline::At(time) => self.writes_deadline(time).then_some(time),
            Deadline::Keep | Deadline::Never => None,
        }
    }

    /// Whether a usual commit must write this deadline: no earlier one is known to be stored that has not passed.
    fn writes_deadline(&self, time: Time) -> bool {
        let now = self.state().memory.decided_at;
        let is_stored = |stored: Time| stored <= time && stored > now;
        !self.stored.deadline_by.is_some_and(is_stored)
    }

    /// Whether it is what nearly every message is: one event of a device that is stored, without a change of an alarm and without an
    /// entry in the log. `commit_usual.lua` writes it.
    pub(in crate::store) fn is_usual(&self) -> bool {
        let [decision] = self.decisions else {
            return false;
        };
        let has_bounds = decision.sample.is_none() || self.bounds.is_some();
        matches!(decision.outcome, Outcome::Message(_))
            && decision.event.is_some()
            && decision.changes.is_empty()
            && decision.log.is_empty()
            && decision.alive
            && decision.last_alive.is_none()
            && decision.deadline != Deadline::Never
            && has_bounds
            && self.stored.state.latest.is_some()
            && !self.stored.lost
    }

    /// Whether the device is not stored yet.
    fn is_of_new_device(&self) -> bool {
        self.stored.state.latest.is_none() && !self.stored.lost
    }

    /// What a commit that Redis refused may write all the same; `None` if it stays refused.
    pub(super) fn memory_within(&self, reserve: ReserveLeft) -> Option<Memory> {
        match reserve {
            ReserveLeft::ForAll => Some(Memory::Full),
            ReserveLeft::ForAlarms if concerns_alarms(self.decisions) => Some(Memory::Full),
            ReserveLeft::ForAlarms => (!self.is_of_new_device()).then_some(Memory::OnlyReplace),
            ReserveLeft::Nothing => None,
        }
    }

    /// The samples to store: none without bounds, and none while Redis is full.
    pub(super) fn samples(&self, memory: Memory) -> impl Iterator<Item = &Sample> {
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
pub(super) enum Memory {
    /// Redis has memory for everything.
    Free,
    /// Redis is full: only what must not be lost.
    Full,
    /// The rest of the reserve is for alarms: only what replaces what the device has stored.
    OnlyReplace,
}

pub(super) fn retire_arguments(commit: &Commit<'_>, pipe: &mut Pipeline) {
    let mut events = commit
        .decisions
        .iter()
        .filter_map(|decision| decision.event.as_ref());
    let envelope = events.next().map(|event| &event.envelope);
    pipe.arg(commit.state().position.seq)
        .arg(envelope.map_or("", String::as_str))
        .arg(keys::MAX_LOG);
}

/// The fields that nearly every usual commit writes, beside the payload. `commit_usual.lua` knows their names.
const USUAL_FIELDS: [Field; 6] = [
    Field::Rev,
    Field::Seq,
    Field::Order,
    Field::Fingerprints,
    Field::Latest,
    Field::Memory,
];

/// Adds the arguments of `commit_usual.lua` behind the epoch.
pub(super) fn usual_arguments(commit: &Commit<'_>, forms: &StoredForms, call: &mut Cmd) {
    let [decision] = commit.decisions else {
        return;
    };
    let seq = decision.state.position.seq;
    let envelope = decision.event.as_ref().map_or("", |event| &event.envelope);
    call.write_arg_fmt(format_args!("{seq}-0"));
    call.arg(envelope).arg(forms.diff(0));
    match &decision.sample {
        Some(sample) => call.arg(sample.encode()),
        None => call.arg(""),
    };
    match commit.usual_deadline() {
        Some(deadline) => call.write_arg_fmt(deadline.as_millis()),
        None => call.write_arg(b""),
    }
    let started_at = commit.stored.state.position.seq;
    let bounds = commit.bounds.filter(|_| decision.sample.is_some());
    match bounds {
        _ if started_at / keys::TRIM_EVERY == seq / keys::TRIM_EVERY => call.write_arg(b""),
        Some(bounds) => call.write_arg_fmt(format_args!(
            "{} {} {}",
            keys::MAX_STORED_EVENTS,
            bounds.history_max,
            bounds.history_age_ms
        )),
        None => call.write_arg_fmt(format_args!("{} - -", keys::MAX_STORED_EVENTS)),
    }
    let state = commit.state();
    let fields = changed_fields(&commit.stored.state, state);
    let has_names = fields != USUAL_FIELDS || commit.raw.is_none();
    for field in fields {
        if has_names {
            call.arg(field.name());
        }
        field
            .write(state, &mut call.writer_for_next_arg())
            .expect("structs of strings and numbers always serialise");
    }
    if let Some(raw) = commit.raw {
        if has_names {
            call.arg("raw");
        }
        call.arg(raw);
    }
}

pub(super) fn commit_arguments(
    commit: &Commit<'_>,
    forms: &StoredForms,
    memory: Memory,
    pipe: &mut Pipeline,
) {
    index_arguments(commit, pipe);
    bound_arguments(commit, memory, pipe);
    pipe.arg(if commit.stored.lost { "1" } else { "" });
    pipe.arg(if memory == Memory::OnlyReplace {
        ""
    } else {
        "1"
    });
    event_arguments(commit, forms, pipe);
    let samples: Vec<&Sample> = commit.samples(memory).collect();
    pipe.arg(samples.len());
    for sample in samples {
        pipe.arg(sample.encode());
    }
    let state = commit.state();
    let fields = changed_fields(&commit.stored.state, state);
    pipe.arg((fields.len() + usize::from(commit.raw.is_some())) * 2);
    for field in fields {
        pipe.arg(field.name()).arg(field.value(state));
    }
    if let Some(raw) = commit.raw {
        // An empty one replaces that of another reading.
        let kept = if memory == Memory::Free { raw } else { b"" };
        pipe.arg("raw").arg(kept);
    }
}

/// Adds the number of events, and for each of them its seq, envelope, difference, payload for the changes stream, and changed alarms.
fn event_arguments(commit: &Commit<'_>, forms: &StoredForms, pipe: &mut Pipeline) {
    let events = commit.decisions.iter().filter_map(|decision| {
        let event = decision.event.as_ref()?;
        Some((decision, event))
    });
    pipe.arg(events.clone().count());
    for (index, (decision, event)) in events.enumerate() {
        let alarms: Vec<_> = decision.changes.iter().map(|c| &c.alarm).collect();
        pipe.arg(decision.state.position.seq)
            .arg(&event.envelope)
            .arg(forms.diff(index))
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
        Memory::Free => keys::MAX_STORED_EVENTS,
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

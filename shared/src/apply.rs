//! State → decide → commit → on conflict decide again: the one loop both services use.

mod retire;

use crate::alarm::{Alarm, Change};
use crate::decide::{Acknowledge, Decision, Input, Outcome, Subject, decide};
use crate::device::DeviceId;
use crate::state::{DeviceState, Position, Settings};
use crate::store::{Bounds, Commit, Committed, Loaded, Store, StoreError};
use crate::telemetry;
use crate::trace::Trace;

pub use retire::{Retired, retire};

/// One thing that happened to one device.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// Whose.
    pub device: DeviceId,
    /// What.
    pub input: Input<'a>,
    /// The payload as received, where it may become the latest.
    pub raw: Option<&'a [u8]>,
    /// Where it stands in its trace.
    pub trace: Option<Trace>,
}

/// What deciding and keeping are configured with.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The alarm rules' settings.
    pub settings: Settings,
    /// How much is kept of what grows.
    pub bounds: Bounds,
    /// Whether devices that were never heard of are taken; false once the limit of devices is reached.
    pub accept_new: bool,
}

/// Every conflict means that another writer got ahead; so many in a row mean that the state cannot be compared.
const MAX_CONFLICTS: u32 = 1_000;

/// What became of one piece of work.
#[derive(Debug)]
pub struct Applied {
    /// The decision that stands. Its changes begin with those of an earlier try that Redis carried out without answering.
    pub decision: Decision,
    /// How often the state had moved in between.
    pub conflicts: u32,
}

/// Applies work to different devices, each device at most once, in as few round trips as possible.
///
/// The outer error means that nothing is known of what was not committed before: try again, marked as a second
/// delivery. An inner one concerns that device alone.
pub async fn apply(
    store: &Store,
    work: &[Work<'_>],
    rules: &Rules,
) -> Result<Vec<Result<Applied, StoreError>>, StoreError> {
    let devices: Vec<DeviceId> = work.iter().map(|item| item.device.clone()).collect();
    let clock = store.clock();
    let mut done: Vec<Option<Result<Applied, StoreError>>> = Vec::new();
    done.resize_with(work.len(), || None);
    let mut earlier: Vec<Vec<Change>> = vec![Vec::new(); work.len()];
    let mut open: Vec<(usize, Loaded, u32)> = Vec::new();
    for (index, loaded) in store.load(&devices).await?.into_iter().enumerate() {
        open.push((index, loaded, 0));
    }
    while !open.is_empty() {
        let mut round: Vec<(usize, Box<Subject>, Decision, u32)> = Vec::new();
        for (index, loaded, conflicts) in open.drain(..) {
            let is_reading = matches!(work[index].input, Input::Reading(_));
            let loaded = reasserted(store, loaded, Some(rules.bounds)).await?;
            let loaded = match loaded {
                Loaded::Subject(subject) if subject.lost && is_reading => {
                    renumber(store, subject).await?
                }
                loaded => loaded,
            };
            let subject = match loaded {
                Loaded::Subject(subject) => subject,
                Loaded::Refused(reason) => {
                    done[index] = Some(Err(StoreError::Refused(reason)));
                    continue;
                }
            };
            earlier[index].extend(store.answered_late(&subject));
            if !rules.accept_new && subject.state.latest.is_none() && !subject.lost {
                done[index] = Some(Err(StoreError::TooManyDevices));
                continue;
            }
            let settings = Some(&rules.settings);
            let item = &work[index];
            let decision = traced(item.trace, |traceparent| {
                let now = clock.now();
                decide(&subject, &item.input, now, settings, traceparent)
            });
            if decision.outcome.is_empty() || is_idle(&subject, &decision) {
                done[index] = Some(Ok(Applied {
                    decision,
                    conflicts,
                }));
            } else {
                round.push((index, subject, decision, conflicts));
            }
        }
        let commits: Vec<Commit<'_>> = round
            .iter()
            .map(|(index, subject, decision, _)| Commit {
                subject,
                decision,
                raw: work[*index].raw.filter(|_| moves_latest(decision)),
                bounds: Some(rules.bounds),
                trace: work[*index].trace.map(|trace| told(trace, decision)),
            })
            .collect();
        let answers = store.commit(&commits).await?;
        for ((index, _, decision, conflicts), answer) in round.into_iter().zip(answers) {
            match answer {
                Ok(Committed::Done(_)) => {
                    done[index] = Some(Ok(Applied {
                        decision,
                        conflicts,
                    }));
                }
                Ok(Committed::Conflict(_)) if conflicts >= MAX_CONFLICTS => {
                    let reason = "its state moved again and again".to_owned();
                    done[index] = Some(Err(StoreError::Refused(reason)));
                }
                Ok(Committed::Conflict(loaded)) => open.push((index, loaded, conflicts + 1)),
                // Whether this one was written is not known; the others of the batch are told the same.
                Err(err @ StoreError::Away(_)) => return Err(err),
                Err(err) => done[index] = Some(Err(err)),
            }
        }
    }
    let done = done.into_iter().flatten().zip(earlier);
    Ok(done
        .map(|(result, earlier)| {
            let mut applied = result?;
            applied.decision.changes.splice(..0, earlier);
            Ok(applied)
        })
        .collect())
}

/// Decides in a trace. One that turns out to change an alarm is told whatever its share says: then it is decided once more,
/// so that what is published and logged says so.
fn traced(trace: Option<Trace>, decide: impl Fn(Option<&str>) -> Decision) -> Decision {
    let Some(trace) = trace else {
        return decide(None);
    };
    // What is not sampled is not told to others: they would take it for a trace without a beginning.
    let header = trace.is_sampled().then(|| trace.to_string());
    let decision = decide(header.as_deref());
    if trace.is_sampled() || decision.changes.is_empty() {
        return decision;
    }
    decide(Some(&trace.sampled().to_string()))
}

/// The trace of a decision, sampled if it changes an alarm.
#[must_use]
pub fn told(trace: Trace, decision: &Decision) -> Trace {
    if decision.changes.is_empty() {
        trace
    } else {
        trace.sampled()
    }
}

/// Asserts again what this process committed and the stored states have lost. `devices` are looked at whether anything is
/// remembered of them or not; answers how many were behind. Without `bounds` no sample is added to the history.
pub async fn reassert(
    store: &Store,
    devices: &[DeviceId],
    bounds: Option<Bounds>,
) -> Result<usize, StoreError> {
    /// Keeps one round trip within a few megabytes.
    const CHUNK: usize = 200;
    let mut count = 0;
    for chunk in devices.chunks(CHUNK) {
        let mut open = store.load(chunk).await?;
        let mut rounds = 0;
        while !open.is_empty() && rounds < MAX_CONFLICTS {
            rounds += 1;
            let mut behind: Vec<(Box<Subject>, Decision, bool)> = Vec::new();
            for loaded in open.drain(..) {
                // One that cannot be used is told by the next of its messages.
                let Loaded::Subject(subject) = loaded else {
                    continue;
                };
                if let Some(remembered) = store.missing_from(&subject) {
                    let now = store.clock().now();
                    let decision = decide(&subject, &Input::Reassert(&remembered), now, None, None);
                    let taken_at = |state: &DeviceState| state.latest.as_ref().map(|l| l.taken_at);
                    let is_other = taken_at(&decision.state) != taken_at(&subject.state);
                    behind.push((subject, decision, is_other));
                }
            }
            let commits: Vec<Commit<'_>> = behind
                .iter()
                .map(|(subject, decision, is_other)| Commit {
                    subject,
                    decision,
                    // The payload of an older reading must not stand beside it.
                    raw: is_other.then_some(b""),
                    bounds,
                    trace: None,
                })
                .collect();
            let answers = store.commit(&commits).await?;
            for ((subject, ..), committed) in behind.iter().zip(answers) {
                match committed {
                    Ok(Committed::Done(_)) => count += 1,
                    Ok(Committed::Conflict(loaded)) => open.push(loaded),
                    Err(err @ StoreError::Away(_)) => return Err(err),
                    Err(err) => {
                        let error = crate::lines::chain(&err);
                        tracing::error!(error, device.id = %crate::lines::shown(&subject.device), "cannot be asserted again");
                        store.give_up_memory(&subject.device, subject.epoch);
                    }
                }
            }
        }
    }
    if count > 0 {
        store.count_reasserted(count);
        tracing::warn!(
            devices = count,
            "Redis went back: asserted again what it had lost"
        );
    }
    Ok(count)
}

/// The same for one device that was loaded, before anything is decided about it.
async fn reasserted(
    store: &Store,
    loaded: Loaded,
    bounds: Option<Bounds>,
) -> Result<Loaded, StoreError> {
    let Loaded::Subject(subject) = loaded else {
        return Ok(loaded);
    };
    if store.missing_from(&subject).is_none() {
        return Ok(Loaded::Subject(subject));
    }
    reassert(store, std::slice::from_ref(&subject.device), bounds).await?;
    let mut loaded = store.load(std::slice::from_ref(&subject.device)).await?;
    Ok(loaded.pop().unwrap_or(Loaded::Subject(subject)))
}

/// A lost state of which not even the streams tell the numbering goes on in a new epoch: no position is met again.
async fn renumber(store: &Store, subject: Box<Subject>) -> Result<Loaded, StoreError> {
    if subject.seq_floor > 0 {
        return Ok(Loaded::Subject(subject));
    }
    store.give_up_epoch(&subject.device, subject.epoch).await?;
    let mut loaded = store.load(std::slice::from_ref(&subject.device)).await?;
    Ok(loaded.pop().unwrap_or(Loaded::Subject(subject)))
}

/// A timer that found nothing to do, and no later moment to look again, has nothing to write.
fn is_idle(subject: &Subject, decision: &Decision) -> bool {
    decision.outcome == Outcome::Timer && subject.state.latest.is_none()
}

fn moves_latest(decision: &Decision) -> bool {
    use crate::order::Class;
    matches!(
        decision.outcome,
        Outcome::Reading(Class::Next(_) | Class::Tie(_))
    )
}

/// What came of a request of somebody: the answer, and what it changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered<T> {
    /// The answer.
    pub answer: T,
    /// Transitions of alarms that were committed with it.
    pub changes: Vec<Change>,
}

impl<T> Answered<T> {
    fn unchanged(answer: T) -> Self {
        Self {
            answer,
            changes: Vec::new(),
        }
    }
}

/// Answer to an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// It covers the alarm (or did already).
    Covered,
    /// The alarm reached a level that had not been seen: it stays unacknowledged.
    Escalated,
    /// There is no such alarm.
    NotFound,
}

/// Acknowledges an alarm of a device. `seen` is the position the operator had seen; `None`: as first read here.
pub async fn acknowledge(
    store: &Store,
    device: &DeviceId,
    alarm_id: &str,
    by: &str,
    seen: Option<Position>,
) -> Result<Answered<Acknowledged>, StoreError> {
    let clock = store.clock();
    let trace = telemetry::here();
    let mut loaded = store.load(std::slice::from_ref(device)).await?.pop();
    let mut first_read = None;
    let mut changes = Vec::new();
    loop {
        let subject = match loaded {
            Some(Loaded::Subject(subject)) => subject,
            Some(Loaded::Refused(reason)) => return Err(StoreError::Refused(reason)),
            None => return Ok(Answered::unchanged(Acknowledged::NotFound)),
        };
        changes.extend(store.answered_late(&subject));
        // Fixed by the first read: a position that did not exist then cannot have been seen.
        let first = *first_read.get_or_insert(subject.state.position);
        let seen = match seen {
            None => first,
            Some(seen) if seen.epoch == first.epoch => Position {
                seq: seen.seq.min(first.seq),
                ..seen
            },
            Some(other) => other,
        };
        // Read after the state: if anything closes in between, the compare refuses and all is read again.
        let closed = if is_open(&subject, alarm_id) {
            None
        } else {
            closed_alarm(store, device, alarm_id).await?
        };
        let input = Input::Acknowledge(Acknowledge {
            id: alarm_id,
            by,
            seen,
            closed: closed.as_ref(),
        });
        let decision = traced(trace, |traceparent| {
            decide(&subject, &input, clock.now(), None, traceparent)
        });
        let (answer, is_written) = match decision.outcome {
            Outcome::Acknowledged => (Acknowledged::Covered, true),
            Outcome::AlreadyAcknowledged => (Acknowledged::Covered, false),
            Outcome::Escalated => (Acknowledged::Escalated, true),
            Outcome::EscalatedBefore => (Acknowledged::Escalated, false),
            _ => (Acknowledged::NotFound, false),
        };
        if !is_written {
            return Ok(Answered { answer, changes });
        }
        let commit = Commit {
            subject: &subject,
            decision: &decision,
            raw: None,
            bounds: None,
            trace: trace.map(|trace| told(trace, &decision)),
        };
        match store.commit(&[commit]).await?.pop() {
            Some(Ok(Committed::Conflict(newer))) => loaded = Some(newer),
            Some(Ok(Committed::Done(_))) => {
                changes.extend(decision.changes);
                return Ok(Answered { answer, changes });
            }
            Some(Err(err)) => return Err(err),
            None => return Ok(Answered::unchanged(Acknowledged::NotFound)),
        }
    }
}

fn is_open(subject: &Subject, alarm_id: &str) -> bool {
    subject
        .state
        .alarms
        .iter()
        .any(|alarm| alarm.id == alarm_id)
}

async fn closed_alarm(
    store: &Store,
    device: &DeviceId,
    alarm_id: &str,
) -> Result<Option<Alarm>, StoreError> {
    let alarms = store
        .alarms(device, crate::keys::MAX_CHANGES)
        .await?
        .unwrap_or_default();
    Ok(alarms
        .into_iter()
        .find(|alarm| alarm.id == alarm_id && alarm.cleared_at.is_some()))
}

//! State → decide → commit → on conflict decide again: the one loop both services use.

mod retire;

use crate::alarm::{Alarm, Change};
use crate::decide::{Acknowledge, Decision, Input, Outcome, StoredDevice, decide};
use crate::device::DeviceId;
use crate::error_chain::error_chain;
use crate::position::Position;
use crate::state::{AlarmSettings, DeviceState};
use crate::store::{Bounds, Commit, Committed, Loaded, Store, StoreError};
use crate::telemetry;
use crate::trace::TraceContext;

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
    pub trace: Option<TraceContext>,
}

/// What deciding and keeping are configured with.
#[derive(Clone, Debug)]
pub struct ApplyConfig {
    /// The alarm rules' settings.
    pub settings: AlarmSettings,
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

/// Applies work to different devices, each device at most once, in as few round trips as possible. One result for each
/// piece of work, in its order.
///
/// An error for which [`StoreError::is_passing`] says nothing of the work: it may have been carried out. Try again, marked
/// as a second delivery. Any other concerns that device alone.
pub async fn apply(
    store: &Store,
    work: &[Work<'_>],
    rules: &ApplyConfig,
) -> Vec<Result<Applied, StoreError>> {
    let mut batch = Batch {
        store,
        work,
        rules,
        items: work.iter().map(|item| Item::of(store, item)).collect(),
    };
    let failed = batch.run().await.err();
    batch.finish(failed)
}

/// Work that is being applied.
struct Batch<'a> {
    store: &'a Store,
    work: &'a [Work<'a>],
    rules: &'a ApplyConfig,
    items: Vec<Item<'a>>,
}

/// What is known of one piece of work so far.
struct Item<'a> {
    done: Option<Result<Applied, StoreError>>,
    /// Changes of an earlier try.
    earlier: Unreported<'a>,
    conflicts: u32,
}

/// Changes of a device that stand and that nobody has told yet. Dropped, also where nobody waits for the answer any more,
/// they are kept for the next who asks.
struct Unreported<'a> {
    store: &'a Store,
    device: &'a DeviceId,
    changes: Vec<Change>,
}

impl<'a> Unreported<'a> {
    fn of(store: &'a Store, device: &'a DeviceId) -> Self {
        Self {
            store,
            device,
            changes: Vec::new(),
        }
    }

    /// Somebody tells them.
    fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

impl Drop for Unreported<'_> {
    fn drop(&mut self) {
        let changes = self.take();
        self.store.keep_unreported(self.device, changes);
    }
}

/// A decision that waits for its commit.
struct Decided {
    index: usize,
    subject: Box<StoredDevice>,
    decision: Decision,
}

impl Batch<'_> {
    /// Until every piece is done. An error says nothing of those that are not.
    async fn run(&mut self) -> Result<(), StoreError> {
        let devices: Vec<DeviceId> = self.work.iter().map(|item| item.device.clone()).collect();
        let loaded = self.store.load(&devices).await?;
        let mut open: Vec<(usize, Loaded)> = loaded.into_iter().enumerate().collect();
        while !open.is_empty() {
            let mut round = Vec::new();
            for (index, loaded) in open {
                match self.decide(index, loaded).await {
                    Ok(decided) => round.extend(decided),
                    Err(err) if err.is_passing() => return Err(err),
                    Err(err) => self.items[index].done = Some(Err(err)),
                }
            }
            open = self.commit(round).await?;
        }
        Ok(())
    }

    /// `None` where there is nothing to commit.
    async fn decide(
        &mut self,
        index: usize,
        loaded: Loaded,
    ) -> Result<Option<Decided>, StoreError> {
        let (store, rules) = (self.store, self.rules);
        let work = &self.work[index];
        let loaded = match reasserted(store, loaded, Some(rules.bounds)).await? {
            Loaded::Device(subject) if subject.lost && matches!(work.input, Input::Reading(_)) => {
                renumber(store, subject).await?
            }
            loaded => loaded,
        };
        let item = &mut self.items[index];
        let subject = match loaded {
            Loaded::Device(subject) => subject,
            Loaded::Refused(reason) => {
                item.done = Some(Err(StoreError::Refused(reason)));
                return Ok(None);
            }
        };
        item.earlier.changes.extend(store.take_unreported(&subject));
        if !rules.accept_new && subject.state.latest.is_none() && !subject.lost {
            item.done = Some(Err(StoreError::TooManyDevices));
            return Ok(None);
        }
        let decision = traced(work.trace, |traceparent| {
            let now = store.clock().now();
            decide(
                &subject,
                &work.input,
                now,
                Some(&rules.settings),
                traceparent,
            )
        });
        if decision.outcome.is_empty() || is_idle(&subject, &decision) {
            item.finish(decision);
            return Ok(None);
        }
        Ok(Some(Decided {
            index,
            subject,
            decision,
        }))
    }

    /// Answers with what has to be decided again.
    async fn commit(&mut self, round: Vec<Decided>) -> Result<Vec<(usize, Loaded)>, StoreError> {
        let commits: Vec<Commit<'_>> = round
            .iter()
            .map(|decided| {
                let work = &self.work[decided.index];
                let decision = &decided.decision;
                Commit {
                    subject: &decided.subject,
                    decision,
                    raw: work.raw.filter(|_| moves_latest(decision)),
                    bounds: Some(self.rules.bounds),
                    trace: work.trace.map(|trace| told(trace, decision)),
                }
            })
            .collect();
        let answers = self.store.commit(&commits).await?;
        let mut open = Vec::new();
        let mut failed = None;
        for (decided, answer) in round.into_iter().zip(answers) {
            let index = decided.index;
            let item = &mut self.items[index];
            match answer {
                Ok(Committed::Done(_)) => item.finish(decided.decision),
                Ok(Committed::Conflict(_)) if item.conflicts >= MAX_CONFLICTS => {
                    let reason = "its state moved again and again".to_owned();
                    item.done = Some(Err(StoreError::Refused(reason)));
                }
                Ok(Committed::Conflict(loaded)) => {
                    item.conflicts += 1;
                    open.push((index, loaded));
                }
                // The others were answered for themselves.
                Err(err) if err.is_passing() => failed = Some(err),
                Err(err) => item.done = Some(Err(err)),
            }
        }
        failed.map_or(Ok(open), Err)
    }

    /// The results. What is not done `failed`.
    fn finish(self, failed: Option<StoreError>) -> Vec<Result<Applied, StoreError>> {
        let failed =
            failed.unwrap_or_else(|| StoreError::Unusable("the batch broke off".to_owned()));
        let items = self.items.into_iter();
        items
            .map(|mut item| {
                let mut applied = item.done.unwrap_or_else(|| Err(failed.clone()))?;
                applied.decision.changes.splice(..0, item.earlier.take());
                Ok(applied)
            })
            .collect()
    }
}

impl<'a> Item<'a> {
    fn of(store: &'a Store, work: &'a Work<'_>) -> Self {
        Self {
            done: None,
            earlier: Unreported::of(store, &work.device),
            conflicts: 0,
        }
    }

    fn finish(&mut self, decision: Decision) {
        self.done = Some(Ok(Applied {
            decision,
            conflicts: self.conflicts,
        }));
    }
}

/// Decides in a trace. One that turns out to change an alarm is told whatever its share says: then it is decided once more,
/// so that what is published and logged says so.
fn traced(trace: Option<TraceContext>, decide: impl Fn(Option<&str>) -> Decision) -> Decision {
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
pub fn told(trace: TraceContext, decision: &Decision) -> TraceContext {
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
            let mut behind: Vec<(Box<StoredDevice>, Decision, bool)> = Vec::new();
            for loaded in open.drain(..) {
                // One that cannot be used is told by the next of its messages.
                let Loaded::Device(subject) = loaded else {
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
                    Err(err) if err.is_passing() => return Err(err),
                    Err(err) => {
                        let error = error_chain(&err);
                        tracing::error!(error, device.id = %subject.device.for_log(), "cannot be asserted again");
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
    let Loaded::Device(subject) = loaded else {
        return Ok(loaded);
    };
    if store.missing_from(&subject).is_none() {
        return Ok(Loaded::Device(subject));
    }
    reassert(store, std::slice::from_ref(&subject.device), bounds).await?;
    let mut loaded = store.load(std::slice::from_ref(&subject.device)).await?;
    Ok(loaded.pop().unwrap_or(Loaded::Device(subject)))
}

/// A lost state of which not even the streams tell the numbering goes on in a new epoch: no position is met again.
async fn renumber(store: &Store, subject: Box<StoredDevice>) -> Result<Loaded, StoreError> {
    if subject.seq_floor > 0 {
        return Ok(Loaded::Device(subject));
    }
    store.give_up_epoch(&subject.device, subject.epoch).await?;
    let mut loaded = store.load(std::slice::from_ref(&subject.device)).await?;
    Ok(loaded.pop().unwrap_or(Loaded::Device(subject)))
}

/// A timer that found nothing to do, and no later moment to look again, has nothing to write.
fn is_idle(subject: &StoredDevice, decision: &Decision) -> bool {
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
    let trace = telemetry::current_trace();
    let mut loaded = store.load(std::slice::from_ref(device)).await?.pop();
    let mut first_read = None;
    let mut unreported = Unreported::of(store, device);
    loop {
        let subject = match loaded {
            Some(Loaded::Device(subject)) => subject,
            Some(Loaded::Refused(reason)) => return Err(StoreError::Refused(reason)),
            None => return Ok(Answered::unchanged(Acknowledged::NotFound)),
        };
        unreported.changes.extend(store.take_unreported(&subject));
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
            let changes = unreported.take();
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
                unreported.changes.extend(decision.changes);
                let changes = unreported.take();
                return Ok(Answered { answer, changes });
            }
            Some(Err(err)) => return Err(err),
            None => return Ok(Answered::unchanged(Acknowledged::NotFound)),
        }
    }
}

fn is_open(subject: &StoredDevice, alarm_id: &str) -> bool {
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

//! The commit loop: load, decide, commit, and decide again about the devices whose state changed in between.
//!
//! Messages are decided from the state that this process committed last, where it has one. Only the commit shows whether that is
//! still the stored state. So a decision from it that needs no commit is made again, from the loaded state.
//!
//! If Redis has lost a state that this process committed, that state is written again in a separate commit before the job
//! decides. A conflict means that another writer committed first. A device has at most [`MAX_CONFLICTS`] conflicts.

use super::job::{Decided, Job};
use crate::alarm::Change;
use crate::decide::{CommittedState, Decision, Input, Outcome, StoredDevice, decide};
use crate::device::DeviceId;
use crate::error_chain::error_chain;
use crate::state::DeviceState;
use crate::store::{Applicant, Commit, Committed, Loaded, Store, StoreError, concerns_alarms};

/// A device with more conflicts than this is refused: its stored state cannot be compared.
const MAX_CONFLICTS: u32 = 1_000;

/// A decision that was carried out.
#[derive(Debug)]
pub struct Applied {
    /// The decision. Its changes begin with those of earlier commits that no caller has reported yet.
    pub decision: Decision,
    /// How often another writer committed first, so that it was decided again.
    pub conflicts: u32,
}

/// Runs one job that makes one decision.
pub(super) async fn run_one(store: &Store, job: Job<'_>) -> Result<Decision, StoreError> {
    let mut item = Item::new(store, job);
    let failure = run(store, std::slice::from_mut(&mut item)).await.err();
    let applied = item.finish(failure.as_ref())?.pop();
    applied
        .map(|applied| applied.decision)
        .ok_or_else(|| StoreError::Unusable("the commit loop decided nothing".to_owned()))
}

/// Runs jobs of different devices, all of them in the same round trips. If one device fails, the others do not. A result has what was
/// applied for each decision of the job, in order.
pub(super) async fn run_all(
    store: &Store,
    jobs: Vec<Job<'_>>,
) -> Vec<Result<Vec<Applied>, StoreError>> {
    let jobs = jobs.into_iter();
    let mut items: Vec<Item<'_>> = jobs.map(|job| Item::new(store, job)).collect();
    let failure = run(store, &mut items).await.err();
    let items = items.into_iter();
    items.map(|item| item.finish(failure.as_ref())).collect()
}

/// Devices to decide about, by the index of their item.
type Undecided = Vec<(usize, Loaded)>;

/// Runs until every job has a result. If this returns an error, every job without a result failed with that error.
async fn run(store: &Store, items: &mut [Item<'_>]) -> Result<(), StoreError> {
    let mut undecided = Vec::with_capacity(items.len());
    let mut to_load = Vec::new();
    for (index, item) in items.iter_mut().enumerate() {
        match item.last_committed(store) {
            Some(stored) => undecided.push((index, Loaded::Device(stored))),
            None => to_load.push(index),
        }
    }
    undecided.extend(load(store, items, &to_load).await?);
    while !undecided.is_empty() {
        let mut round = Vec::new();
        let mut to_load = Vec::new();
        for (index, loaded) in undecided {
            let item = &mut items[index];
            match item.decide(store, loaded).await {
                Ok(Next::Commit(decided)) => round.push((index, decided)),
                Ok(Next::Load) => to_load.push(index),
                Ok(Next::Done) => {}
                Err(err) if err.is_transient() => return Err(err),
                Err(err) => item.result = Some(Err(err)),
            }
        }
        let round = with_places(store, items, round).await?;
        undecided = commit(store, items, round).await?;
        undecided.extend(load(store, items, &to_load).await?);
    }
    Ok(())
}

async fn load(
    store: &Store,
    items: &[Item<'_>],
    indexes: &[usize],
) -> Result<Undecided, StoreError> {
    if indexes.is_empty() {
        return Ok(Vec::new());
    }
    let devices = indexes.iter().map(|index| items[*index].device());
    let devices: Vec<DeviceId> = devices.cloned().collect();
    let loaded = store.load(&devices).await?;
    Ok(indexes.iter().copied().zip(loaded).collect())
}

/// Asks for places for the unknown devices of a round. Returns the devices that may be committed. If the places cannot be used, that is
/// an error of the unknown devices alone.
async fn with_places<'a>(
    store: &Store,
    items: &mut [Item<'_>],
    round: Vec<(usize, Decided<'a>)>,
) -> Result<Vec<(usize, Decided<'a>)>, StoreError> {
    // All jobs of one call have the same settings.
    let Some(places) = round.iter().find_map(|(_, decided)| decided.needs_place) else {
        return Ok(round);
    };
    let needs_place = |decided: &Decided<'_>| decided.needs_place.is_some();
    // A device that Redis has no memory for must not take a place.
    let is_only_for_alarms = store.refuses_new_devices().await?;
    let has_memory =
        |decided: &Decided<'_>| !is_only_for_alarms || concerns_alarms(&decided.decisions);
    let mut committable = Vec::with_capacity(round.len());
    let mut unknown = Vec::new();
    for (index, decided) in round {
        if !needs_place(&decided) {
            committable.push((index, decided));
        } else if has_memory(&decided) {
            unknown.push((index, decided));
        } else {
            items[index].result = Some(Err(StoreError::RedisFull));
        }
    }
    let applicants = unknown.iter().map(|(_, decided)| Applicant {
        device: decided.stored.device.clone(),
        in_danger: decided.in_danger(),
    });
    let applicants: Vec<Applicant> = applicants.collect();
    let mut admitted = match store.admit(&applicants, places).await {
        Ok(admitted) => admitted.into_iter(),
        Err(err) if err.is_transient() => return Err(err),
        Err(err) => {
            for (index, decided) in unknown {
                let err = match &err {
                    StoreError::PlacesUnusable { reason, .. } => StoreError::PlacesUnusable {
                        reason: reason.clone(),
                        in_danger: decided.in_danger(),
                    },
                    err => err.clone(),
                };
                items[index].result = Some(Err(err));
            }
            return Ok(committable);
        }
    };
    for (index, decided) in unknown {
        if admitted.next() == Some(true) {
            committable.push((index, decided));
        } else {
            let in_danger = decided.in_danger();
            items[index].result = Some(Err(StoreError::TooManyDevices { in_danger }));
        }
    }
    Ok(committable)
}

/// Commits one round. Returns the devices to decide about again: those with a conflict, and those whose state was reasserted.
async fn commit(
    store: &Store,
    items: &mut [Item<'_>],
    round: Vec<(usize, Decided<'_>)>,
) -> Result<Undecided, StoreError> {
    let commits: Vec<Commit<'_>> = round
        .iter()
        .map(|(index, decided)| Commit {
            stored: &decided.stored,
            decisions: &decided.decisions,
            raw: decided.raw,
            bounds: items[*index].job.bounds(),
        })
        .collect();
    let answers = store.commit(&commits).await?;
    let mut undecided = Vec::new();
    let mut reasserted = Vec::new();
    let mut reload = Vec::new();
    let mut failed = None;
    let mut retired = Vec::new();
    for ((index, decided), answer) in round.into_iter().zip(answers) {
        let item = &mut items[index];
        let is_reassertion = decided.is_reassertion();
        match answer {
            Ok(Committed::Done(_)) if is_reassertion => reasserted.push(index),
            Ok(Committed::Done(at)) => {
                let mut decisions = decided.decisions.iter();
                if decisions.any(|decision| decision.outcome == Outcome::Retired) {
                    retired.push((item.device().clone(), at));
                }
                item.done(decided.decisions);
            }
            Ok(Committed::Conflict(_)) if item.conflicts >= MAX_CONFLICTS => {
                let reason = format!("another writer was faster {MAX_CONFLICTS} times in a row");
                item.result = Some(Err(StoreError::Refused(reason)));
            }
            Ok(Committed::Conflict(newer)) => {
                item.conflicts += 1;
                undecided.push((index, newer));
            }
            // The answers about the other devices are still handled.
            Err(err) if err.is_transient() => failed = Some(err),
            Err(err) if is_reassertion => {
                let error = error_chain(&err);
                let device = &decided.stored.device;
                tracing::error!(error, device.id = %device.for_log(), "cannot write a lost state again");
                store.give_up_reasserting(device, decided.stored.epoch);
                reload.push(index);
            }
            Err(err) => item.result = Some(Err(err)),
        }
    }
    if !reasserted.is_empty() {
        store.count_reasserted(reasserted.len());
        tracing::warn!(
            devices = reasserted.len(),
            "Redis had lost committed states: they were written again"
        );
        reload.append(&mut reasserted);
    }
    // The device is gone whether this succeeds or not. A place that stays is freed later.
    if !retired.is_empty()
        && let Err(err) = store.release(&retired).await
    {
        let error = error_chain(&err);
        tracing::debug!(error, "cannot free the places of retired devices yet");
    }
    if let Some(err) = failed {
        return Err(err);
    }
    if !reload.is_empty() {
        undecided.extend(load(store, items, &reload).await?);
    }
    Ok(undecided)
}

/// Decides to write a committed state again of which Redis has lost a part.
fn reassert<'a>(
    store: &Store,
    stored: Box<StoredDevice>,
    committed: &CommittedState,
) -> Decided<'a> {
    let now = store.clock().now();
    let decision = decide(&stored, Input::Reassertion(committed), now, None);
    // The stored payload belongs to another reading. It must not stay beside this one.
    let taken_at = |state: &DeviceState| state.latest.as_ref().map(|latest| latest.taken_at);
    let is_other_reading = taken_at(&decision.state) != taken_at(&stored.state);
    Decided {
        stored,
        decisions: vec![decision],
        raw: is_other_reading.then_some(b""),
        needs_place: None,
    }
}

/// A job and its progress.
struct Item<'a> {
    job: Job<'a>,
    result: Option<Result<Vec<Applied>, StoreError>>,
    /// Alarm changes of earlier commits.
    earlier: Unreported<'a>,
    conflicts: u32,
    /// The next decision starts from the state that this process committed last, which may be outdated.
    is_from_memory: bool,
}

/// What follows a decision.
enum Next<'a> {
    Commit(Decided<'a>),
    /// It must be made again, from the stored state.
    Load,
    /// There is nothing to commit.
    Done,
}

impl<'a> Item<'a> {
    fn new(store: &'a Store, job: Job<'a>) -> Self {
        Self {
            earlier: Unreported {
                store,
                device: job.device(),
                changes: Vec::new(),
            },
            job,
            result: None,
            conflicts: 0,
            is_from_memory: false,
        }
    }

    /// Returns the state that this process committed last, if the job may decide from it.
    fn last_committed(&mut self, store: &Store) -> Option<Box<StoredDevice>> {
        let stored = self
            .job
            .may_skip_load()
            .then(|| store.last_committed(self.device()))
            .flatten();
        self.is_from_memory = stored.is_some();
        stored
    }

    fn device(&self) -> &DeviceId {
        self.job.device()
    }

    /// Decides about a device.
    async fn decide(&mut self, store: &Store, loaded: Loaded) -> Result<Next<'a>, StoreError> {
        let stored = loaded.device()?;
        let is_from_memory = std::mem::take(&mut self.is_from_memory);
        if self.job.reports_changes() {
            let unreported = store.take_unreported(&stored);
            self.earlier.changes.extend(unreported);
        }
        if self.job.reasserts()
            && let Some(committed) = store.missing_from(&stored)
        {
            return Ok(Next::Commit(reassert(store, stored, &committed)));
        }
        let decided = self.job.decide(store, stored).await?;
        // There is also nothing to write if the index lists a deadline of a device without a readable state.
        let is_without_state = decided.stored.state.latest.is_none();
        let has_nothing = |decision: &Decision| {
            let outcome = decision.outcome;
            outcome.is_unchanged() || (outcome == Outcome::Deadline && is_without_state)
        };
        if !decided.decisions.iter().all(has_nothing) {
            return Ok(Next::Commit(decided));
        }
        if is_from_memory {
            return Ok(Next::Load);
        }
        self.done(decided.decisions);
        Ok(Next::Done)
    }

    /// The conflicts count with the first decision.
    fn done(&mut self, decisions: Vec<Decision>) {
        let mut conflicts = std::mem::take(&mut self.conflicts);
        let applied = decisions.into_iter().map(|decision| Applied {
            decision,
            conflicts: std::mem::take(&mut conflicts),
        });
        self.result = Some(Ok(applied.collect()));
    }

    fn finish(mut self, failure: Option<&StoreError>) -> Result<Vec<Applied>, StoreError> {
        let mut applied = match (self.result.take(), failure) {
            (Some(result), _) => result?,
            (None, Some(failure)) => return Err(failure.clone()),
            (None, None) => {
                let reason = "the commit loop ended early".to_owned();
                return Err(StoreError::Unusable(reason));
            }
        };
        if let Some(first) = applied.first_mut() {
            let earlier = std::mem::take(&mut self.earlier.changes);
            first.decision.changes.splice(..0, earlier);
        }
        Ok(applied)
    }
}

/// Committed alarm changes that were not reported yet. If they are dropped, even because the caller was cancelled, the next
/// job of the device reports them.
struct Unreported<'a> {
    store: &'a Store,
    device: &'a DeviceId,
    changes: Vec<Change>,
}

impl Drop for Unreported<'_> {
    fn drop(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        self.store.keep_unreported(self.device, changes);
    }
}

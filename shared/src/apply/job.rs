//! A job for one device, and how each kind of job decides.

use super::{
    Acknowledging, ApplyConfig, Bounds, Cause, DeviceId, Places, Position, Store, StoreError,
    TraceContext, Work,
};
use crate::alarm::Alarm;
use crate::decide::{AcknowledgeRequest, Decision, Input, Outcome, StoredDevice, decide};
use crate::keys::MAX_CHANGES;

/// A job for one device.
pub(super) enum Job<'a> {
    /// Messages and deadlines of the device, in order.
    Work {
        run: &'a [Work<'a>],
        config: &'a ApplyConfig,
    },
    Acknowledge(AcknowledgeJob<'a>),
    Retire {
        device: &'a DeviceId,
        by: &'a str,
        trace: Option<TraceContext>,
    },
    /// Only writes a state again that Redis has lost.
    Reassert {
        device: &'a DeviceId,
        bounds: Option<Bounds>,
    },
}

/// A request to acknowledge an alarm.
pub(super) struct AcknowledgeJob<'a> {
    pub(super) device: &'a DeviceId,
    pub(super) request: Acknowledging<'a>,
    /// The position at the first read. A position that did not exist then cannot have been seen.
    pub(super) first_read: Option<Position>,
    pub(super) trace: Option<TraceContext>,
}

/// Decisions in a row, each from the state that the one before it leaves, and the payload to store with them.
pub(super) struct Decided<'a> {
    /// The state before the first.
    pub(super) stored: Box<StoredDevice>,
    pub(super) decisions: Vec<Decision>,
    pub(super) raw: Option<&'a [u8]>,
    /// The places there are, if the device is unknown and needs one before it is committed.
    pub(super) needs_place: Option<Places>,
}

impl Decided<'_> {
    /// Whether a message of an unknown device shows a danger.
    pub(super) fn in_danger(&self) -> bool {
        self.decisions.iter().any(Decision::shows_danger)
    }

    pub(super) fn is_reassertion(&self) -> bool {
        let mut decisions = self.decisions.iter();
        decisions.any(|decision| decision.outcome == Outcome::Reasserted)
    }
}

impl<'a> Job<'a> {
    pub(super) fn device(&self) -> &'a DeviceId {
        match self {
            Self::Work { run, .. } => &run[0].device,
            Self::Acknowledge(job) => job.device,
            Self::Retire { device, .. } | Self::Reassert { device, .. } => device,
        }
    }

    /// Bounds of history and alarm log; `None` in a process that does not write history.
    pub(super) fn bounds(&self) -> Option<Bounds> {
        match self {
            Self::Work { config, .. } => Some(config.bounds),
            Self::Acknowledge(_) | Self::Retire { .. } => None,
            Self::Reassert { bounds, .. } => *bounds,
        }
    }

    /// Whether a state that Redis has lost is written again before the job decides.
    pub(super) fn reasserts(&self) -> bool {
        matches!(self, Self::Work { .. } | Self::Reassert { .. })
    }

    /// Whether it may decide from the state that this process committed last. An operator sees what is stored. A deadline is rare,
    /// and what it decides depends on what other processes have heard.
    pub(super) fn may_skip_load(&self) -> bool {
        let is_message = |work: &Work<'_>| matches!(work.cause, Cause::Message { .. });
        matches!(self, Self::Work { run, .. } if run.iter().all(is_message))
    }

    /// Whether the caller reports the alarm changes of the result.
    pub(super) fn reports_changes(&self) -> bool {
        !matches!(self, Self::Reassert { .. })
    }

    /// Decides from the stored state. Called again with a newer state after each conflict.
    pub(super) async fn decide(
        &mut self,
        store: &Store,
        stored: Box<StoredDevice>,
    ) -> Result<Decided<'a>, StoreError> {
        match self {
            Self::Work { run, config } => decide_run(store, stored, run, config).await,
            Self::Acknowledge(job) => job.decide(store, stored).await,
            Self::Retire { by, trace, .. } => {
                let stored = ensure_numbering(store, stored).await?;
                let input = Input::Retirement { by };
                let decision = decide_in_trace(store, &stored, input, *trace);
                Ok(without_payload(stored, decision))
            }
            Self::Reassert { .. } => {
                let decision = Decision::unchanged(&stored, Outcome::NothingMissing);
                Ok(without_payload(stored, decision))
            }
        }
    }
}

fn without_payload<'a>(stored: Box<StoredDevice>, decision: Decision) -> Decided<'a> {
    Decided {
        stored,
        decisions: vec![decision],
        raw: None,
        needs_place: None,
    }
}

async fn decide_run<'a>(
    store: &Store,
    mut stored: Box<StoredDevice>,
    run: &'a [Work<'a>],
    config: &ApplyConfig,
) -> Result<Decided<'a>, StoreError> {
    let is_message = |work: &Work<'_>| matches!(work.cause, Cause::Message { .. });
    let has_message = run.iter().any(is_message);
    if has_message {
        stored = ensure_numbering(store, stored).await?;
    }
    let is_new = has_message && stored.state.latest.is_none() && !stored.lost;
    let settings = &config.settings;
    let mut decisions: Vec<Decision> = Vec::with_capacity(run.len());
    let mut latest_raw = None;
    let mut next: Option<StoredDevice> = None;
    for (index, work) in run.iter().enumerate() {
        let before = next.as_ref().unwrap_or(&stored);
        let input = match &work.cause {
            Cause::Message { message, .. } => Input::Message { message, settings },
            Cause::Deadline { listening } => Input::Deadline {
                listening: *listening,
                settings,
            },
        };
        let decision = decide_in_trace(store, before, input, work.trace);
        if let Cause::Message { raw, .. } = work.cause
            && decision.moves_latest()
        {
            latest_raw = Some(raw);
        }
        if index + 1 < run.len() {
            next = Some(before.after(&decision));
        }
        decisions.push(decision);
    }
    if is_new && !config.admit.matches(&stored.device) {
        let in_danger = decisions.iter().any(Decision::shows_danger);
        return Err(StoreError::NotAdmitted { in_danger });
    }
    Ok(Decided {
        stored,
        decisions,
        raw: latest_raw,
        needs_place: config.places.filter(|_| is_new),
    })
}

impl AcknowledgeJob<'_> {
    async fn decide<'a>(
        &mut self,
        store: &Store,
        stored: Box<StoredDevice>,
    ) -> Result<Decided<'a>, StoreError> {
        let seen = self.seen_position(&stored);
        let Acknowledging {
            alarm_id, by, note, ..
        } = self.request;
        let is_open = |alarm: &Alarm| alarm.id == alarm_id;
        // Read after the state: if the alarm closes in between, the commit conflicts and both are read again.
        let closed = if stored.state.alarms.iter().any(is_open) {
            None
        } else {
            closed_alarm(store, self.device, alarm_id).await?
        };
        let input = Input::Acknowledge(AcknowledgeRequest {
            alarm_id,
            by,
            note,
            seen,
            closed: closed.as_ref(),
        });
        let decision = decide_in_trace(store, &stored, input, self.trace);
        Ok(without_payload(stored, decision))
    }

    /// Returns the position that the person had seen, but at most the position at which the state was read first.
    fn seen_position(&mut self, stored: &StoredDevice) -> Position {
        let first = *self.first_read.get_or_insert(stored.state.position);
        match self.request.seen {
            None => first,
            Some(seen) if seen.epoch == first.epoch => Position {
                seq: seen.seq.min(first.seq),
                ..seen
            },
            Some(of_other_epoch) => of_other_epoch,
        }
    }
}

async fn closed_alarm(
    store: &Store,
    device: &DeviceId,
    alarm_id: &str,
) -> Result<Option<Alarm>, StoreError> {
    let alarms = store.alarms(device, MAX_CHANGES).await?;
    let mut alarms = alarms.unwrap_or_default().into_iter();
    Ok(alarms.find(|alarm| alarm.id == alarm_id && alarm.cleared_at.is_some()))
}

/// Decides, and adds the trace to the event and the log entries. A decision that changes an alarm is always sampled: it is
/// made once more, so that its event carries the sampled `traceparent`.
fn decide_in_trace(
    store: &Store,
    stored: &StoredDevice,
    input: Input<'_>,
    trace: Option<TraceContext>,
) -> Decision {
    let now = store.clock().now();
    let Some(trace) = trace else {
        return decide(stored, input, now, None);
    };
    // A trace that is not sampled is not published: other processes would record spans without the first ones of the trace.
    let header = trace.is_sampled().then(|| trace.to_string());
    let mut decision = decide(stored, input, now, header.as_deref());
    let trace = sampled_if_alarm_changed(trace, &decision);
    if header.is_none() && trace.is_sampled() {
        decision = decide(stored, input, now, Some(&trace.to_string()));
    }
    for entry in &mut decision.log {
        entry.trace = Some(trace.to_string());
    }
    decision
}

/// Returns the trace of a decision, marked as sampled if the decision changes an alarm.
#[must_use]
pub fn sampled_if_alarm_changed(trace: TraceContext, decision: &Decision) -> TraceContext {
    if decision.changes.is_empty() {
        trace
    } else {
        trace.sampled()
    }
}

/// Opens a new epoch if the state is lost and the streams contain no seq either: a position must never be used twice.
async fn ensure_numbering(
    store: &Store,
    stored: Box<StoredDevice>,
) -> Result<Box<StoredDevice>, StoreError> {
    if !stored.lost || stored.seq_floor > 0 {
        return Ok(stored);
    }
    store.give_up_epoch(&stored.device, stored.epoch).await?;
    store.load_one(&stored.device).await?.device()
}

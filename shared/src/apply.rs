//! Applies inputs to stored devices: load, decide, commit. Both services change devices through this module alone.
//!
//! [`apply`] takes messages and deadlines of many devices, [`acknowledge`] and [`retire`] a request of a person, and
//! [`reassert`] writes states again that Redis has lost. All of them run the loop in `commit_loop`.

mod commit_loop;
mod job;

use crate::alarm::Change;
use crate::decide::{Message, Outcome};
use crate::device::DeviceId;
use crate::listening::Listening;
use crate::position::Position;
use crate::settings::{AlarmSettings, SerialPatterns};
use crate::store::{Bounds, Places, Store, StoreError};
use crate::telemetry;
use crate::trace::TraceContext;

pub use self::commit_loop::Applied;
use self::commit_loop::{run_all, run_one};
pub use self::job::sampled_if_alarm_changed;
use self::job::{AcknowledgeJob, Job};

/// A message or deadline of one device, to be decided about.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// The device.
    pub device: DeviceId,
    /// The cause of the decision.
    pub cause: Cause<'a>,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
}

/// The cause of a decision about a device.
#[derive(Clone, Debug)]
pub enum Cause<'a> {
    /// A message arrived.
    Message {
        /// The parsed message.
        message: Message<'a>,
        /// Its payload as received.
        raw: &'a [u8],
    },
    /// A deadline passed.
    Deadline {
        /// When at least one ingest replica has been receiving messages.
        listening: Listening,
    },
}

/// Settings for applying work.
#[derive(Clone, Debug)]
pub struct ApplyConfig {
    /// Settings of the alarm rules.
    pub settings: AlarmSettings,
    /// Bounds of history and alarm log.
    pub bounds: Bounds,
    /// The serials of unknown devices that are accepted.
    pub admit: SerialPatterns,
    /// How many devices there may be. `None`: there is no limit.
    pub places: Option<Places>,
}

/// Maximum number of messages of one device to apply at once. If no answer comes they are applied again, and a device recognises
/// only so many as known.
pub const MAX_RUN: usize = crate::order::MAX_FINGERPRINTS;

/// Applies work in as few round trips as possible. Work of one device that stands side by side is decided in this order and
/// committed at once; each device may have only one such run, of at most [`MAX_RUN`]. Returns one result for each piece of work, in the same order.
///
/// An error for which [`StoreError::is_transient`] is true leaves open whether the work was carried out: try again, with the
/// message marked as a second delivery. Any other error concerns that device alone.
pub async fn apply(
    store: &Store,
    work: &[Work<'_>],
    config: &ApplyConfig,
) -> Vec<Result<Applied, StoreError>> {
    let runs: Vec<&[Work<'_>]> = work.chunk_by(|a, b| a.device == b.device).collect();
    let jobs = runs.iter().map(|run| Job::Work { run, config });
    let results = run_all(store, jobs.collect()).await;
    let results = results.into_iter().zip(runs);
    results
        .flat_map(|(result, run)| match result {
            Ok(applied) => applied.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(err) => run.iter().map(|_| Err(err.clone())).collect(),
        })
        .collect()
}

/// The result of a request, and the alarm changes to report.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered<T> {
    /// The result.
    pub answer: T,
    /// Alarm changes that are committed and were not reported yet.
    pub changes: Vec<Change>,
}

/// Answer to an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The alarm is acknowledged.
    Covered,
    /// The alarm has reached a level that had not been seen: it stays unacknowledged.
    Escalated,
    /// There is no such alarm.
    NotFound,
}

/// What a person acknowledges.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledging<'a> {
    /// Id of the alarm.
    pub alarm_id: &'a str,
    /// Name of the person.
    pub by: &'a str,
    /// What the person writes beside it.
    pub note: Option<&'a str>,
    /// The position the person had seen; without it, the position at which the state is read first.
    pub seen: Option<Position>,
}

/// Acknowledges an alarm of a device.
pub async fn acknowledge(
    store: &Store,
    device: &DeviceId,
    request: Acknowledging<'_>,
) -> Result<Answered<Acknowledged>, StoreError> {
    let job = Job::Acknowledge(AcknowledgeJob {
        device,
        request,
        first_read: None,
        trace: telemetry::current_trace(),
    });
    let decision = run_one(store, job).await?;
    Ok(Answered {
        answer: match decision.outcome {
            Outcome::Acknowledged | Outcome::AlreadyAcknowledged => Acknowledged::Covered,
            Outcome::Escalated | Outcome::EscalatedBefore => Acknowledged::Escalated,
            _ => Acknowledged::NotFound,
        },
        changes: decision.changes,
    })
}

/// Answer to a retirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retired {
    /// Everything stored of the device is deleted.
    Done,
    /// There is no such device.
    NotFound,
}

/// Retires a device: its alarms are closed as `retired` and everything stored of it is deleted. Its next message makes a new
/// device.
pub async fn retire(
    store: &Store,
    device: &DeviceId,
    by: &str,
) -> Result<Answered<Retired>, StoreError> {
    // A retirement ends alarms or a device: it is always sampled.
    let trace = telemetry::current_trace().map(TraceContext::sampled);
    // An ingest may have been started with other ones since. Nothing may be left of the device.
    store.rollup_widths().await?;
    let job = Job::Retire { device, by, trace };
    let decision = run_one(store, job).await?;
    Ok(Answered {
        answer: match decision.outcome {
            Outcome::Retired => Retired::Done,
            _ => Retired::NotFound,
        },
        changes: decision.changes,
    })
}

/// Writes the committed states of these devices again if Redis has lost them. Without `bounds` no sample is added to the
/// history. A device whose keys cannot be used is logged and left as it is.
pub async fn reassert(
    store: &Store,
    devices: &[DeviceId],
    bounds: Option<Bounds>,
) -> Result<(), StoreError> {
    /// Keeps one round trip within a few megabytes.
    const CHUNK: usize = 200;
    for chunk in devices.chunks(CHUNK) {
        let jobs = chunk.iter().map(|device| Job::Reassert { device, bounds });
        for result in run_all(store, jobs.collect()).await {
            match result {
                Err(err) if err.is_transient() => return Err(err),
                // A device that cannot even be loaded is reported by its next message.
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(())
}

//! The end of a device, decided again until it is written.

use super::{Answered, renumber};
use crate::decide;
use crate::device::DeviceId;
use crate::store::{Committed, Loaded, Store, StoreError};
use crate::telemetry;

/// Answer to a retirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retired {
    /// Nothing is stored of the device any more.
    Done,
    /// There is no such device.
    NotFound,
}

/// Retires a device: its alarms close as `retired`, everything stored of it goes, and the next message makes a new one.
pub async fn retire(
    store: &Store,
    device: &DeviceId,
    by: &str,
) -> Result<Answered<Retired>, StoreError> {
    let clock = store.clock();
    // It ends alarms, or a device: always told.
    let trace = telemetry::current_trace().map(|trace| trace.sampled().to_string());
    let mut loaded = store.load(std::slice::from_ref(device)).await?.pop();
    loop {
        let subject = match loaded {
            // Where not even the streams tell the numbering, the event gets its position in a new epoch.
            Some(Loaded::Device(subject)) if subject.lost && subject.seq_floor == 0 => {
                renumber(store, subject).await?
            }
            Some(other) => other,
            None => return Ok(Answered::unchanged(Retired::NotFound)),
        };
        let subject = match subject {
            Loaded::Device(subject) => subject,
            Loaded::Refused(reason) => return Err(StoreError::Refused(reason)),
        };
        let Some(retirement) = decide::retire(&subject, by, clock.now(), trace.as_deref()) else {
            return Ok(Answered::unchanged(Retired::NotFound));
        };
        match store
            .retire(&subject, &retirement, trace.as_deref())
            .await?
        {
            Committed::Done(_) => {
                return Ok(Answered {
                    answer: Retired::Done,
                    changes: retirement.changes,
                });
            }
            Committed::Conflict(newer) => loaded = Some(newer),
        }
    }
}

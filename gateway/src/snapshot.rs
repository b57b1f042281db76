//! What REST reads from Redis, each time within a deadline: a request must not outlive the patience of who asked.

use std::future::Future;
use std::time::Duration;

use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::state::DeviceState;
use shared::store::{Store, StoreError};
use tokio::time::timeout;

/// Why a read brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store said so.
    #[error("the store could not answer")]
    Store(#[source] StoreError),
    /// It did not answer within the deadline.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// The store as requests use it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reads {
    pub(crate) store: Store,
    pub(crate) deadline: Duration,
}

/// A device as it is stored, with the payload its latest reading came from.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) state: DeviceState,
    pub(crate) last_message: Option<Time>,
    pub(crate) raw: Option<Box<RawValue>>,
}

impl Reads {
    /// Waits for `read` until the deadline.
    pub(crate) async fn within<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ReadError> {
        match timeout(self.deadline, read).await {
            Ok(answer) => answer.map_err(ReadError::Store),
            Err(_) => Err(ReadError::TimedOut(self.deadline)),
        }
    }

    /// The device's state and the time of its last message; `None` if it was never heard of.
    pub(crate) async fn device(
        &self,
        device: &DeviceId,
    ) -> Result<Option<(DeviceState, Option<Time>)>, ReadError> {
        let snapshot = self.within(self.store.snapshot(device, None)).await?;
        Ok(snapshot.state.map(|state| (state, snapshot.last_message)))
    }

    /// The same with the raw payload of the latest reading.
    pub(crate) async fn device_with_raw(
        &self,
        device: &DeviceId,
    ) -> Result<Option<Stored>, ReadError> {
        // Two reads: only if the device did not change around the second do they belong together. A detector that
        // changes faster than three round trips is answered with the newest of both.
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let Some((before, _)) = self.device(device).await? else {
                return Ok(None);
            };
            let raw = self.within(self.store.raw_payload(device)).await?;
            let Some((state, last_message)) = self.device(device).await? else {
                return Ok(None);
            };
            // A device that was retired and came back may meet the same rev again.
            let is_same = before.rev == state.rev && before.position == state.position;
            if is_same || attempts == 0 {
                let raw = raw.and_then(|bytes| String::from_utf8(bytes).ok());
                let raw = raw.and_then(|text| RawValue::from_string(text).ok());
                return Ok(Some(Stored {
                    state,
                    last_message,
                    raw,
                }));
            }
        }
    }
}

//! Reads from Redis for REST. Each read has a deadline, because the client stops waiting at some point.

use std::future::Future;
use std::time::Duration;

use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::state::DeviceState;
use shared::store::{Store, StoreError};
use tokio::time::timeout;

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The store failed.
    #[error("the store could not answer")]
    Store(#[source] StoreError),
    /// The store did not answer before the deadline.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// The store, as requests use it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StoreReader {
    pub(crate) store: Store,
    pub(crate) timeout: Duration,
}

/// A stored device, with the payload of its latest reading.
#[derive(Debug)]
pub(crate) struct DeviceWithPayload {
    pub(crate) state: DeviceState,
    pub(crate) last_message: Option<Time>,
    /// The payload as received; `None` if it is no longer stored or is not JSON.
    pub(crate) payload: Option<Box<RawValue>>,
}

/// Maximum number of reads of a payload whose device changes during the read.
const MAX_ATTEMPTS: u32 = 3;

impl StoreReader {
    /// Waits for `read`, but not longer than the timeout.
    pub(crate) async fn with_timeout<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ReadError> {
        match timeout(self.timeout, read).await {
            Ok(answer) => answer.map_err(ReadError::Store),
            Err(_) => Err(ReadError::TimedOut(self.timeout)),
        }
    }

    /// Reads the device's state and the time of its last message; `None` for an unknown device.
    pub(crate) async fn device(
        &self,
        device: &DeviceId,
    ) -> Result<Option<(DeviceState, Option<Time>)>, ReadError> {
        let snapshot = self.with_timeout(self.store.snapshot(device, None)).await?;
        Ok(snapshot.state.map(|state| (state, snapshot.last_message)))
    }

    /// Reads the same, and the payload of the latest reading.
    ///
    /// State and payload are read separately. They belong together only if the state is the same before and after the
    /// payload was read. For a device that changes too fast, the newest of both is returned.
    pub(crate) async fn device_with_payload(
        &self,
        device: &DeviceId,
    ) -> Result<Option<DeviceWithPayload>, ReadError> {
        let mut attempt = 1;
        loop {
            let Some((before, _)) = self.device(device).await? else {
                return Ok(None);
            };
            let payload = self.with_timeout(self.store.raw_payload(device)).await?;
            let Some((state, last_message)) = self.device(device).await? else {
                return Ok(None);
            };
            // The position too, because a device that was retired and came back may reach the same revision again.
            let is_same = before.rev == state.rev && before.position == state.position;
            if is_same || attempt == MAX_ATTEMPTS {
                let text = payload.and_then(|bytes| String::from_utf8(bytes).ok());
                return Ok(Some(DeviceWithPayload {
                    state,
                    last_message,
                    payload: text.and_then(|text| RawValue::from_string(text).ok()),
                }));
            }
            attempt += 1;
        }
    }
}

//! Reads devices for clients: state, events and alarms.

use std::collections::HashMap;
use std::sync::Arc;

use redis::Value;

use super::reply::{Entry, bytes, entries, items};
use super::stored_events::{self, StoredEvent};
use super::{Loaded, Store, StoreError};
use crate::alarm::Alarm;
use crate::clock::Time;
use crate::device::DeviceId;
use crate::position::{Epoch, Position};
use crate::state::DeviceState;

/// One device, read atomically.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The present epoch of its partition.
    pub epoch: Epoch,
    /// The device's state; `None` for an unknown device.
    pub state: Option<DeviceState>,
    /// Server time of the last message that proved the device alive.
    pub last_message: Option<Time>,
    /// Published events with `seq >= since`, oldest first; none without `since`.
    pub events: Vec<StoredEvent>,
    /// All stored alarm changes, oldest first; none without `since`.
    pub changes: Vec<StoredChanges>,
    /// The seq before the device's first event. For an unknown device: the seq before the first event it would have.
    pub born_after: u64,
}

/// An entry of a device's changes stream.
#[derive(Clone, Debug)]
pub struct StoredChanges {
    /// Its position.
    pub position: Position,
    /// Payload of `device:alerts:changed` as JSON.
    pub payload: Vec<u8>,
    /// The alarm after each change, in the order of the changes.
    pub alarms: Vec<Alarm>,
}

impl Store {
    /// Reads one device atomically. With `since`, also reads its events from that seq on, and its alarm changes.
    pub async fn snapshot(
        &self,
        device: &DeviceId,
        since: Option<u64>,
    ) -> Result<Snapshot, StoreError> {
        let answer = self
            .run(|scripts, pipe| {
                self.call_state_script(&scripts.snapshot, device, pipe);
                let first = since.map(stored_events::first_to_read);
                pipe.arg(first.map_or_else(String::new, |seq| seq.to_string()));
            })
            .await?;
        let mut parts = items(answer).map_err(StoreError::Unavailable)?.into_iter();
        let mut part = || parts.next().unwrap_or(Value::Nil);
        let stored = self.loaded(device, Ok(part()))?.device()?;
        if stored.lost {
            return Err(StoreError::Refused(
                "the stored state cannot be read".to_owned(),
            ));
        }
        let events = entries(part()).map_err(StoreError::Unavailable)?;
        let changes = entries(part()).map_err(StoreError::Unavailable)?;
        let born_after = match &stored.state.latest {
            Some(_) => stored.state.memory.born_after,
            None => stored.seq_floor,
        };
        Ok(Snapshot {
            born_after,
            epoch: stored.epoch,
            state: stored
                .state
                .latest
                .is_some()
                .then_some(Arc::unwrap_or_clone(stored.state)),
            last_message: stored.last_message,
            events: stored_events::read(events, since.unwrap_or_default()),
            changes: changes.into_iter().filter_map(stored_changes).collect(),
        })
    }

    /// Returns the states of these devices, in the same order. `None`: the device is unknown or unreadable.
    pub async fn states(
        &self,
        devices: &[DeviceId],
    ) -> Result<Vec<Option<(DeviceState, Option<Time>)>>, StoreError> {
        /// Limits one answer to a few megabytes.
        const CHUNK: usize = 500;
        let mut states = Vec::with_capacity(devices.len());
        for chunk in devices.chunks(CHUNK) {
            for loaded in self.load(chunk).await? {
                states.push(match loaded {
                    Loaded::Device(stored) if stored.state.latest.is_some() => {
                        Some((Arc::unwrap_or_clone(stored.state), stored.last_message))
                    }
                    Loaded::Device(_) | Loaded::Refused(_) => None,
                });
            }
        }
        Ok(states)
    }

    /// Returns the payload of the latest reading as received (valid JSON); `None` if it is not stored.
    pub async fn raw_payload(&self, device: &DeviceId) -> Result<Option<Vec<u8>>, StoreError> {
        let answer = self
            .run(|_, pipe| {
                pipe.cmd("HGET");
                pipe.arg(self.keys(device).device(device)).arg("raw");
            })
            .await?;
        // Empty if the reading was stored while Redis was full, or if the state was reasserted (committed again after Redis lost it).
        let raw = bytes(answer).map_err(StoreError::Unavailable)?;
        Ok(raw.filter(|raw| !raw.is_empty()))
    }

    /// Returns all open alarms and the newest closed ones, ordered by the time they were raised. Closed alarms are left out beyond
    /// `bound` alarms in all. `None` for an unknown device.
    pub async fn alarms(
        &self,
        device: &DeviceId,
        bound: usize,
    ) -> Result<Option<Vec<Alarm>>, StoreError> {
        let snapshot = self.snapshot(device, Some(u64::MAX)).await?;
        let Some(state) = snapshot.state else {
            return Ok(None);
        };
        Ok(Some(open_and_closed(
            &state.alarms,
            snapshot.changes,
            bound,
        )))
    }
}

/// Returns all open alarms and the newest closed ones, ordered by the time they were raised. A closed alarm is as its last change
/// left it.
fn open_and_closed(open: &[Alarm], changes: Vec<StoredChanges>, bound: usize) -> Vec<Alarm> {
    let mut last_by_id: HashMap<String, Alarm> = HashMap::new();
    for alarm in changes.into_iter().flat_map(|entry| entry.alarms) {
        last_by_id.insert(alarm.id.clone(), alarm);
    }
    let is_open = |alarm: &Alarm| open.iter().any(|other| other.id == alarm.id);
    let mut alarms: Vec<Alarm> = last_by_id
        .into_values()
        .filter(|alarm| alarm.cleared_at.is_some() && !is_open(alarm))
        .collect();
    alarms.sort_by(|a, b| (b.raised_at, &b.id).cmp(&(a.raised_at, &a.id)));
    alarms.truncate(bound.saturating_sub(open.len()));
    alarms.extend(open.iter().cloned());
    alarms.sort_by(|a, b| (a.raised_at, &a.id).cmp(&(b.raised_at, &b.id)));
    alarms
}

fn stored_changes(mut entry: Entry) -> Option<StoredChanges> {
    Some(StoredChanges {
        position: entry.position()?,
        alarms: serde_json::from_str(entry.text("alarms")?).ok()?,
        payload: entry.fields.remove("payload")?,
    })
}

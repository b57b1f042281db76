//! A device whose clock moved and then stopped: it repeats the same bytes.

use std::time::Duration;

use crate::clock::{Time, millis};
use crate::forward::UnknownFields;

use super::Arrival;
use super::state::{OrderState, SameBytes};

/// The same bytes must arrive at least this often.
const FROZEN_ARRIVALS: u32 = 3;

/// Returns the first arrival of the same bytes, if they have been arriving for longer than `limit` although the time of the device
/// moved before. It is over once its time moves.
///
/// Only messages count, so a silent device is not frozen, and a device begins to be frozen only with a message.
#[must_use]
pub fn frozen_since(state: &OrderState, limit: Duration) -> Option<Time> {
    let same = state.same_bytes.as_ref()?;
    let is_frozen = state.time_has_moved
        && same.count >= FROZEN_ARRIVALS
        && same.last.millis_since(same.since) > millis(limit);
    is_frozen.then_some(same.since)
}

impl OrderState {
    /// Counts the bytes of a message that was neither redelivered nor retained. Must be called before its time is counted.
    pub(super) fn count_bytes(&mut self, arrival: Arrival, limit: Duration) {
        self.time_has_moved |= self.moves_time(arrival);
        let is_frozen = frozen_since(self, limit).is_some();
        if let Some(same) = &mut self.same_bytes {
            if same.fingerprint == arrival.fingerprint {
                same.count = same.count.saturating_add(1);
                same.last = arrival.at;
                return;
            }
            let has_no_time = same.time.is_none() && arrival.device_time.is_none();
            if has_no_time {
                // The values change and there is no time: the device has no clock any more.
                self.time_has_moved = false;
            } else if is_frozen && same.time == arrival.device_time {
                return;
            }
        }
        self.same_bytes = Some(SameBytes {
            fingerprint: arrival.fingerprint,
            time: arrival.device_time,
            since: arrival.at,
            last: arrival.at,
            count: 1,
            unknown: UnknownFields::default(),
        });
    }

    fn moves_time(&self, arrival: Arrival) -> bool {
        let repeated = self.repeated.as_ref().map(|repeated| repeated.time);
        let latest = self.latest_time.filter(|_| !self.is_latest_retained());
        let mut earlier = [repeated, latest].into_iter().flatten();
        let is_later = |time: Time| earlier.any(|earlier| time > earlier);
        arrival.device_time.is_some_and(is_later)
    }
}

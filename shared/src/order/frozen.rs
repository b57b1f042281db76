//! A device whose clock moved and then stopped: it repeats known bytes of one time. A message without a value may show that its clock
//! moves. It is no reading that stands still: what is wrong then is that there is none.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{Time, millis};
use crate::forward::UnknownFields;

use super::device_time::is_before_clocks;
use super::state::{OrderState, SameBytes};
use super::{Arrival, Class};

/// Known bytes with a value must arrive at least this often.
const FROZEN_ARRIVALS: u32 = 3;
/// So many messages in a row without time, all with new bytes, show that the device has no clock any more.
const WITHOUT_CLOCK: u32 = 3;

/// Returns the arrival of the last new bytes, if only known ones of the same time have been arriving for longer than `limit` although the time of the
/// device moved before. It is over once its time moves.
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
    /// Whether the message shows that the device has a clock that runs: its time is later than one before it. A time that cannot be
    /// read moves if its text changes. Must be called before the message is ordered.
    pub(super) fn moves_time(&self, arrival: Arrival) -> bool {
        let repeated = self.repeated.as_ref().map(|repeated| repeated.time);
        let latest = self.latest_time.filter(|_| !self.is_latest_retained());
        let mut earlier = [repeated, latest].into_iter().flatten();
        let is_later = |time: Time| earlier.any(|earlier| time > earlier);
        let text_before = || self.same_bytes.as_ref()?.unreadable_time;
        let has_other_text = |text| text_before().is_some_and(|before| before != text);
        arrival.device_time.is_some_and(is_later)
            || arrival.unreadable_time.is_some_and(has_other_text)
    }

    /// Counts the bytes of a message that was neither redelivered nor retained, after it was ordered.
    pub(super) fn count_bytes(
        &mut self,
        fingerprints: &VecDeque<u64>,
        arrival: Arrival,
        class: Class,
        limit: Duration,
    ) {
        let is_frozen = frozen_since(self, limit).is_some();
        if let Some(same) = &mut self.same_bytes {
            let is_known = same.fingerprint == arrival.fingerprint
                || fingerprints.contains(&arrival.fingerprint);
            if is_known && same.has_time_of(arrival) {
                if arrival.has_value {
                    same.count = same.count.saturating_add(1);
                    same.last = arrival.at;
                }
                same.without_time = 0;
                return;
            }
            if is_known && same.is_after(arrival) {
                return;
            }
            let has_time = arrival.device_time.or(same.time).is_some()
                || arrival.unreadable_time.or(same.unreadable_time).is_some();
            if !has_time {
                // The values change and there is no time: the device has no clock any more.
                self.time_has_moved = false;
            } else if is_frozen && (is_known || !same.is_ended_by(arrival, class)) {
                if same.without_time < WITHOUT_CLOCK {
                    return;
                }
                self.time_has_moved = false;
            }
        }
        self.same_bytes = Some(SameBytes {
            fingerprint: arrival.fingerprint,
            time: arrival.device_time,
            unreadable_time: arrival.unreadable_time,
            since: arrival.at,
            last: arrival.at,
            count: u32::from(arrival.has_value),
            without_time: 0,
            unknown: UnknownFields::default(),
        });
    }
}

impl SameBytes {
    /// Whether a message with new bytes shows that the clock runs again. One without time may be a single odd message.
    fn is_ended_by(&mut self, arrival: Arrival, class: Class) -> bool {
        let is_latest = matches!(class, Class::Next(_) | Class::Tie(_));
        // A text that stands still may be all that is left of a clock.
        if arrival.device_time.is_none()
            && arrival
                .unreadable_time
                .is_none_or(|text| Some(text) == self.unreadable_time)
        {
            self.without_time = self.without_time.saturating_add(1);
            return false;
        }
        self.without_time = 0;
        is_latest && !self.has_time_of(arrival)
    }

    /// Whether the message is an older one by a time that can be true: one that is repeated.
    fn is_after(&self, arrival: Arrival) -> bool {
        let time = arrival.device_time.filter(|time| !is_before_clocks(*time));
        time.is_some_and(|time| Some(time) < self.time)
    }

    fn has_time_of(&self, arrival: Arrival) -> bool {
        arrival.device_time == self.time && arrival.unreadable_time == self.unreadable_time
    }
}

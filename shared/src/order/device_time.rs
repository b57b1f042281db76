//! Whether the device time of a message can be true.

use crate::clock::{Time, millis};
use crate::forward::UnknownFields;

use super::offset::Deviation;
use super::state::{OrderState, RepeatedDeviceTime};
use super::{Arrival, OrderSettings, TIE_MS};

/// 2015-01-01 UTC. A device time before it is unusable.
const OLDEST_TIME: Time = Time::from_millis(1_420_070_400_000);
/// A device time is stuck if it arrived unchanged at least this often, and the first arrival is more than [`STUCK_MS`] ago.
/// Arrivals within [`TIE_MS`] count as one: when the network comes back, several readings of the second in which it went away may
/// arrive at once.
const STUCK_ARRIVALS: u32 = 3;
/// Minimum age of the first arrival of a stuck device time, see [`STUCK_ARRIVALS`].
const STUCK_MS: i64 = 10_000;
/// The device time of a message, judged by what is known of the device's clock.
#[derive(Clone, Copy, Debug)]
pub(super) enum DeviceTime {
    /// Missing, unreadable, before 2015, or stuck.
    Unusable,
    /// Further back than a backlog may be. It is unusable, unless the clock proves to be set.
    TooFarBack { time: Time, offset_ms: i64 },
    /// It may be true.
    Usable {
        time: Time,
        offset_ms: i64,
        deviation: Deviation,
    },
}

/// Whether the time is one of a clock that was never set.
pub(super) fn is_before_clocks(time: Time) -> bool {
    time < OLDEST_TIME
}

impl OrderState {
    pub(super) fn count_time(&mut self, arrival: Arrival) {
        let before = self.repeated.take();
        let Some(time) = arrival.device_time else {
            return;
        };
        self.repeated = Some(match before {
            Some(repeated)
                if repeated.time == time && arrival.at.millis_since(repeated.last) < TIE_MS =>
            {
                repeated
            }
            Some(repeated) if repeated.time == time => RepeatedDeviceTime {
                count: repeated.count.saturating_add(1),
                last: arrival.at,
                ..repeated
            },
            _ => RepeatedDeviceTime {
                time,
                since: arrival.at,
                count: 1,
                last: arrival.at,
                unknown: UnknownFields::default(),
            },
        });
    }

    /// Whether the clock stands still at this time. A time that a later one has overtaken is an old message that is repeated.
    fn is_stuck(&self, time: Time, now: Time) -> bool {
        if self.latest_time.is_some_and(|latest| time < latest) {
            return false;
        }
        self.repeated.as_ref().is_some_and(|repeated| {
            repeated.time == time
                && repeated.count >= STUCK_ARRIVALS
                && now.millis_since(repeated.since) > STUCK_MS
        })
    }

    pub(super) fn judge(&self, arrival: Arrival, settings: &OrderSettings) -> DeviceTime {
        let Some(time) = arrival.device_time else {
            return DeviceTime::Unusable;
        };
        if is_before_clocks(time) || self.is_stuck(time, arrival.at) {
            return DeviceTime::Unusable;
        }
        let offset_ms = arrival.at.millis_since(time);
        if self.age_ms(offset_ms) > millis(settings.backlog_max) {
            return DeviceTime::TooFarBack { time, offset_ms };
        }
        DeviceTime::Usable {
            time,
            offset_ms,
            deviation: self.deviation(offset_ms, settings),
        }
    }
}

//! How a reading becomes the latest, and what is then known of it.

use crate::clock::{Time, millis};
use crate::forward::UnknownFields;

use super::device_time::DeviceTime;
use super::state::{Gap, LatestDoubt, OrderState};
use super::{Arrival, Class, DeviceClock, OrderSettings};

/// A clock with a larger usual offset from server time is marked as suspect.
const SUSPECT_MS: i64 = 5 * 60 * 1_000;

impl OrderState {
    /// Takes a retained message as the first reading of a device. Nothing is learnt from it.
    pub(super) fn take_retained(&mut self, clock: DeviceTime, arrival: Arrival) -> Class {
        let usable = match clock {
            DeviceTime::Usable { time, .. } => Some(time),
            DeviceTime::Unusable | DeviceTime::TooFarBack { .. } => None,
        };
        self.take(arrival, usable);
        self.latest_usable = usable.is_some();
        self.latest_doubt = Some(LatestDoubt {
            retained: true,
            ..LatestDoubt::new(arrival)
        });
        let offset_ms = usable.map_or(0, |time| arrival.at.millis_since(time));
        Class::Next(DeviceClock {
            age_ms: usable.map(|_| 0),
            clock_suspect: usable.is_none() || is_suspect(offset_ms),
            may_be_old: false,
        })
    }

    /// Takes a reading as the latest whose device time counts.
    pub(super) fn take_in_order(&mut self, time: Time, arrival: Arrival, settings: &OrderSettings) {
        if let Some(from) = self.latest_time
            && time.millis_since(from) > millis(settings.offline_after)
        {
            self.gap = Some(Gap {
                from,
                to: time,
                unknown: UnknownFields::default(),
            });
        }
        self.take(arrival, Some(time));
        self.latest_usable = true;
    }

    /// Takes the first reading of a clock that was set as the latest. The usual offset is that of the new clock already.
    pub(super) fn take_set_clock(
        &mut self,
        time: Time,
        offset_ms: i64,
        arrival: Arrival,
    ) -> DeviceClock {
        self.take(arrival, Some(time));
        self.latest_usable = true;
        self.gap = None;
        DeviceClock {
            clock_suspect: true,
            ..self.device_clock(offset_ms)
        }
    }

    /// Takes a reading as the latest. Without a time, the newest earlier one is kept.
    pub(super) fn take(&mut self, arrival: Arrival, time: Option<Time>) {
        self.latest_fingerprint = Some(arrival.fingerprint);
        self.latest_arrival = arrival.at;
        self.latest_time = time.or(self.latest_time);
        self.latest_usable = false;
        self.latest_doubt = None;
        self.late = None;
    }

    pub(super) fn device_clock(&self, offset_ms: i64) -> DeviceClock {
        DeviceClock {
            age_ms: Some(self.age_ms(offset_ms).max(0)),
            clock_suspect: self.usual_ms().is_some_and(is_suspect),
            may_be_old: false,
        }
    }

    /// Returns the doubt about the latest reading.
    pub(super) fn latest_doubt(&self) -> Option<&LatestDoubt> {
        self.latest_doubt.as_ref().filter(|doubt| {
            Some(doubt.fingerprint) == self.latest_fingerprint
                && doubt.arrival == self.latest_arrival
        })
    }

    pub(super) fn is_latest_retained(&self) -> bool {
        self.latest_doubt().is_some_and(|doubt| doubt.retained)
    }
}

impl LatestDoubt {
    /// Creates a doubt about a reading that becomes the latest, without any facts yet.
    pub(super) fn new(arrival: Arrival) -> Self {
        Self {
            fingerprint: arrival.fingerprint,
            arrival: arrival.at,
            newest: None,
            ahead: None,
            retained: false,
            unknown: UnknownFields::default(),
        }
    }
}

/// Returns the newest device time that a reading with this arrival can have.
pub(super) fn newest_time(at: Time, usual_ms: i64) -> Time {
    Time::from_millis(at.as_millis().saturating_sub(usual_ms))
}

fn is_suspect(offset_ms: i64) -> bool {
    offset_ms.saturating_abs() > SUSPECT_MS
}

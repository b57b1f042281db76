//! Readings that are older than the latest, and how they show that the clock was set back.

use crate::clock::Time;
use crate::forward::UnknownFields;

use super::offset::Deviation;
use super::state::{Gap, LateRun, OrderState};
use super::{Arrival, Class, LateReading};

/// Minimum time between the arrivals of two late readings that show that the clock was set back. A burst shows nothing.
const SET_BACK_SPAN_MS: i64 = 2_000;
/// By how much more the device's clock may advance between these two readings than ours.
const SET_BACK_SLACK_MS: i64 = 2_000;
impl OrderState {
    /// A reading whose device time is before the latest one.
    pub(super) fn order_late(
        &mut self,
        time: Time,
        offset_ms: i64,
        deviation: Deviation,
        arrival: Arrival,
    ) -> Class {
        let late = Class::Late(LateReading {
            is_proved_old: arrival.dup,
            age_ms: self.age_ms(offset_ms).max(0),
        });
        let is_backlog = self.gap.as_ref().is_some_and(|gap| gap.contains(time));
        if arrival.dup || is_backlog {
            return late;
        }
        let run = LateRun::extend(self.late.take(), time, arrival.at);
        if run.shows_set_back(time, arrival.at) {
            self.learn_anew(offset_ms, arrival.at);
            return Class::Next(self.take_set_clock(time, offset_ms, arrival));
        }
        if self.learn_unusual(deviation == Deviation::Ahead, offset_ms, arrival.at) {
            return Class::Next(self.take_set_clock(time, offset_ms, arrival));
        }
        self.late = Some(run);
        late
    }
}

impl LateRun {
    /// Returns the run of late readings after this one. It begins anew with a reading that is older than the first: readings
    /// that come in reverse order show no clock that runs.
    fn extend(before: Option<Self>, time: Time, at: Time) -> Self {
        match before {
            Some(run) if time >= run.first_time => Self {
                last_time: time,
                count: run.count.saturating_add(u32::from(time > run.last_time)),
                ..run
            },
            _ => Self {
                first_time: time,
                first_arrival: at,
                last_time: time,
                count: 1,
                unknown: UnknownFields::default(),
            },
        }
    }

    fn shows_set_back(&self, time: Time, now: Time) -> bool {
        let passed_ms = now.millis_since(self.first_arrival);
        let advanced_ms = time.millis_since(self.first_time);
        passed_ms >= SET_BACK_SPAN_MS && advanced_ms <= passed_ms.saturating_add(SET_BACK_SLACK_MS)
    }
}

impl Gap {
    fn contains(&self, time: Time) -> bool {
        self.from < time && time < self.to
    }
}

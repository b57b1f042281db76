//! The order of a device's messages: each one is next, tie, late, repeated, duplicate or ignored.
//!
//! # Whose time counts
//!
//! Readings are ordered by the device's own time, because messages can overtake each other on their way. But a device's clock can
//! be wrong, so its time counts only as long as it can be true. It is **unusable**, and the order of arrival counts, if it
//!
//! * is missing or unreadable,
//! * lies before 2015 (a clock that lost its battery),
//! * stands still: it arrives for the third time, more than 10 s after the first (arrivals within 2 s count as one),
//! * or lies further back than `--backlog-max`.
//!
//! # The usual offset
//!
//! The offset of a reading is its arrival minus its device time: how far the clock is off, plus how long the message took. The
//! smallest offset of the last 24 h in which the device was heard is the **usual** one. It says how new a reading can be, and how
//! old one is: its age is its offset minus the usual one.
//!
//! * A reading within the tolerance (`--clock-tolerance`) of the usual offset is learnt from.
//! * A reading that is **ahead** by more would be from the future. It counts as the newest that is possible, with age 0. It is not
//!   learnt from, and readings with right times that follow do not look late because of it.
//! * A reading that is **behind** by more was delayed, and its age says so. It is not learnt from: a backlog that arrives after an
//!   outage shows its real age until it reaches the present.
//! * Three or more in a row that are all ahead or all behind, over at least 30 s, mean that the clock was set, if their offset stays
//!   the same. The usual offset is then learnt anew from them. The offset of a backlog shrinks, because it is sent faster than it was
//!   recorded. That of a slow clock grows. So neither is mistaken for a clock that was set.
//!
//! # Late readings
//!
//! A reading is **late** if its device time is before that of the latest. It never becomes the latest, unless the clock was set
//! back. This is so if another late reading arrives at least 2 s after the first, with none in order between them, and its
//! time has advanced no more than 2 s further than the arrivals. There are two exceptions:
//!
//! * After an outage the newest reading may arrive first and the backlog behind it. Late readings whose times lie in the last gap
//!   between readings in order that was longer than the silence limit are such a backlog.
//! * A redelivered message (DUP) is old because the broker has kept it.
//!
//! # Ties
//!
//! Two readings with the same device time cannot be ordered, nor can two without usable time that arrive within 2 s. The same holds
//! for a redelivered message without usable time, and for a reading that follows one without usable time, or one that was ahead,
//! if that one may have been taken later. Such a reading becomes the latest, and may raise at once but not lower.
//!
//! # Duplicates and retained messages
//!
//! A message is a **duplicate** if its bytes are among the last 64 of the device and it is redelivered, retained, or older than the
//! latest. Known bytes whose time is ahead or too far back are **repeated**: they may be an old message, or come from a clock that
//! starts at the same time again. So they may raise, and do nothing else. A message also is a duplicate if its bytes are those of the latest; without usable time only within 2 s, because a device
//! without a clock may send the same value again.
//!
//! A **retained** message is the first reading of an unknown device. It says nothing about the device's clock, so any live message
//! replaces it. One of a known device never changes the order.

mod device_time;
mod frozen;
mod late;
mod latest;
mod offset;
mod state;

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Time;

use device_time::DeviceTime;
pub use frozen::frozen_since;
use latest::newest_time;
use offset::Deviation;
pub use offset::MAX_OFFSET_MINIMA;
pub use state::{
    Gap, LateRun, LatestDoubt, OffsetMinimum, OrderState, RepeatedDeviceTime, SameBytes, UnusualRun,
};

/// Maximum number of fingerprints remembered per device.
pub const MAX_FINGERPRINTS: usize = 64;

/// Two messages without a usable time cannot be ordered if the time between their arrivals is at most this. Readings that cannot
/// be ordered must be this far apart before the later one may lower what the earlier one raised.
pub const TIE_MS: i64 = 2_000;

/// Settings for the order of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderSettings {
    /// The silence limit.
    pub offline_after: Duration,
    /// A device time further back than this, by the device's usual clock offset, is unusable.
    pub backlog_max: Duration,
    /// By how much a device time may be ahead of the newest time that is possible.
    pub clock_tolerance: Duration,
}

/// The properties of a message that decide its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Fingerprint of the raw bytes.
    pub fingerprint: u64,
    /// The device's own time; `None` if it is missing or unreadable.
    pub device_time: Option<Time>,
    /// Fingerprint of the device's own time as it was sent, if it cannot be read.
    pub unreadable_time: Option<u64>,
    /// The message has a value. Without one nothing is measured that could stand still.
    pub has_value: bool,
    /// The message may have been delivered before: it has MQTT's DUP flag, or its commit is being retried.
    pub dup: bool,
    /// MQTT's RETAIN flag: the broker stored the message, so it does not prove the device alive.
    pub retain: bool,
    /// Server time of the arrival.
    pub at: Time,
}

/// The order of a message among those of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Newer than the latest: becomes the latest.
    Next(DeviceClock),
    /// Cannot be ordered against the latest: becomes the latest, may raise alarms, never lowers one.
    Tie(DeviceClock),
    /// Older than the latest: goes only into the history, and may raise alarms.
    Late(LateReading),
    /// Retained by the broker, from a device that is already known, and newer than the latest: may raise alarms, and has no other
    /// effect.
    RetainedNewer,
    /// Known bytes whose time does not say how old they are: may raise alarms, and has no other effect.
    Repeated,
    /// Already processed: its reading is not evaluated again.
    Duplicate,
    /// Retained, from a device that is already known, and not newer than the latest: has no effect.
    Ignored,
}

/// A reading that is older than the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateReading {
    /// It is certainly older, since it was redelivered and its usable device time is before the latest's.
    pub is_proved_old: bool,
    /// Age of the reading at its arrival, corrected by the usual clock offset.
    pub age_ms: i64,
}

/// The device's clock, judged by the time of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceClock {
    /// Age of the reading at its arrival, corrected by the usual clock offset; `None` if the device's time is unusable.
    pub age_ms: Option<i64>,
    /// The clock is more than 5 min off, was set, is ahead of the newest possible time, or is unusable.
    pub clock_suspect: bool,
    /// The bytes are known, and the time does not show that they are new: the reading lowers nothing.
    pub may_be_old: bool,
}

/// Classifies a message. Returns its class and the order state after the message. `known` is false for a device without any
/// reading.
#[must_use]
pub fn classify(
    state: &OrderState,
    fingerprints: &VecDeque<u64>,
    known: bool,
    arrival: Arrival,
    settings: &OrderSettings,
) -> (Class, OrderState) {
    let mut next = if known {
        state.clone()
    } else {
        OrderState {
            unknown: state.unknown.clone(),
            ..OrderState::default()
        }
    };
    next.adopt_offsets();
    let is_live = !arrival.dup && !arrival.retain;
    if is_live {
        next.time_has_moved |= next.moves_time(arrival);
        next.count_time(arrival);
    }
    let clock = next.judge(arrival, settings);
    let class = if known && next.is_duplicate(fingerprints, clock, arrival) {
        Class::Duplicate
    } else if known && arrival.retain {
        // It proves nothing about the device's clock, so the state stays as it is.
        return (next.order_retained(clock), state.clone());
    } else if known && OrderState::is_repeated(fingerprints, clock, arrival) {
        Class::Repeated
    } else {
        let may_be_old = known && next.may_be_old(fingerprints, clock, arrival);
        match next.order(clock, arrival, settings) {
            Class::Next(clock) => Class::Next(DeviceClock {
                may_be_old,
                ..clock
            }),
            Class::Tie(clock) => Class::Tie(DeviceClock {
                may_be_old,
                ..clock
            }),
            class => class,
        }
    };
    if is_live {
        next.count_bytes(fingerprints, arrival, class, settings.offline_after);
    }
    (class, next)
}

/// Remembers a fingerprint. If there are more than [`MAX_FINGERPRINTS`], the oldest is dropped.
pub fn remember(fingerprints: &mut VecDeque<u64>, fingerprint: u64) {
    if fingerprints.contains(&fingerprint) {
        return;
    }
    if fingerprints.len() >= MAX_FINGERPRINTS {
        fingerprints.pop_front();
    }
    fingerprints.push_back(fingerprint);
}

impl OrderState {
    fn is_duplicate(
        &self,
        fingerprints: &VecDeque<u64>,
        clock: DeviceTime,
        arrival: Arrival,
    ) -> bool {
        let ahead = self.latest_doubt().and_then(|doubt| doubt.ahead);
        let is_older = match clock {
            DeviceTime::Unusable | DeviceTime::TooFarBack { .. } => false,
            DeviceTime::Usable { time, .. } => {
                // A latest reading without usable time arrived after the newest time that is known.
                let is_replaced = !self.latest_usable && Some(time) == self.latest_time;
                is_replaced || Some(time) < self.latest_time.max(ahead)
            }
        };
        let is_known = fingerprints.contains(&arrival.fingerprint);
        if is_known && (arrival.dup || arrival.retain || is_older) {
            return true;
        }
        let repeats_latest = self.latest_fingerprint == Some(arrival.fingerprint);
        let since_latest = arrival.at.millis_since(self.latest_arrival);
        let is_usable = !matches!(clock, DeviceTime::Unusable);
        repeats_latest && (is_usable || since_latest <= TIE_MS)
    }

    /// Known bytes whose time does not say how old they are: an old message that is repeated, or a clock that starts at the same
    /// time again and again.
    fn is_repeated(fingerprints: &VecDeque<u64>, clock: DeviceTime, arrival: Arrival) -> bool {
        let is_doubtful = match clock {
            DeviceTime::TooFarBack { .. } => true,
            DeviceTime::Usable { deviation, .. } => deviation == Deviation::Ahead,
            DeviceTime::Unusable => false,
        };
        is_doubtful && fingerprints.contains(&arrival.fingerprint)
    }

    /// Whether the bytes are known and their time is that of the latest reading, missing, or one that a clock without battery has after
    /// each boot, although the device has a clock that runs. A bridge may repeat them.
    fn may_be_old(
        &self,
        fingerprints: &VecDeque<u64>,
        clock: DeviceTime,
        arrival: Arrival,
    ) -> bool {
        let says_nothing = match clock {
            DeviceTime::Usable { time, .. } => Some(time) == self.latest_time,
            DeviceTime::TooFarBack { .. } => true,
            DeviceTime::Unusable => {
                self.time_has_moved
                    && arrival
                        .device_time
                        .is_none_or(device_time::is_before_clocks)
            }
        };
        says_nothing && fingerprints.contains(&arrival.fingerprint)
    }

    fn order(&mut self, clock: DeviceTime, arrival: Arrival, settings: &OrderSettings) -> Class {
        if arrival.retain {
            return self.take_retained(clock, arrival);
        }
        if self.is_latest_retained() {
            self.latest_time = None;
        }
        match clock {
            DeviceTime::Unusable => self.order_by_arrival(arrival),
            DeviceTime::TooFarBack { time, offset_ms } => {
                if self.learn_unusual(false, offset_ms, arrival.at) {
                    return Class::Next(self.take_set_clock(time, offset_ms, arrival));
                }
                self.order_by_arrival(arrival)
            }
            DeviceTime::Usable {
                time,
                offset_ms,
                deviation,
            } => {
                if Some(time) < self.latest_time {
                    return self.order_late(time, offset_ms, deviation, arrival);
                }
                self.order_by_time(time, offset_ms, deviation, arrival, settings)
            }
        }
    }

    /// A retained message of a known device.
    fn order_retained(&self, clock: DeviceTime) -> Class {
        match (clock, self.latest_time) {
            (DeviceTime::Usable { time, .. }, Some(latest)) if time > latest => {
                Class::RetainedNewer
            }
            _ => Class::Ignored,
        }
    }

    fn order_by_arrival(&mut self, arrival: Arrival) -> Class {
        let since_latest = arrival.at.millis_since(self.latest_arrival);
        let is_close = !self.latest_usable && since_latest <= TIE_MS;
        // A redelivered message is older than it looks, and nobody knows by how much.
        let has_latest = self.latest_fingerprint.is_some() && !self.is_latest_retained();
        let is_tie = has_latest && (is_close || arrival.dup);
        let usual_ms = self.usual_ms();
        self.take(arrival, None);
        self.latest_doubt = usual_ms.map(|usual_ms| LatestDoubt {
            newest: Some(newest_time(arrival.at, usual_ms)),
            ..LatestDoubt::new(arrival)
        });
        let clock = DeviceClock {
            age_ms: None,
            clock_suspect: true,
            may_be_old: false,
        };
        if is_tie {
            Class::Tie(clock)
        } else {
            Class::Next(clock)
        }
    }

    /// A reading whose device time is not before the latest one.
    fn order_by_time(
        &mut self,
        time: Time,
        offset_ms: i64,
        deviation: Deviation,
        arrival: Arrival,
        settings: &OrderSettings,
    ) -> Class {
        let is_ahead = deviation == Deviation::Ahead;
        let is_tie = self.may_be_older_than_latest(time, is_ahead);
        let usual_ms = self.usual_ms();
        let clock = if deviation == Deviation::Usual {
            self.learn(offset_ms, arrival.at);
            self.take_in_order(time, arrival, settings);
            self.device_clock(offset_ms)
        } else if self.learn_unusual(is_ahead, offset_ms, arrival.at) {
            self.take_set_clock(time, offset_ms, arrival)
        } else if is_ahead {
            self.take(arrival, self.latest_time);
            self.latest_usable = true;
            self.latest_doubt = Some(LatestDoubt {
                newest: usual_ms.map(|usual_ms| newest_time(arrival.at, usual_ms)),
                ahead: Some(time),
                ..LatestDoubt::new(arrival)
            });
            DeviceClock {
                age_ms: Some(0),
                clock_suspect: true,
                may_be_old: false,
            }
        } else {
            self.take_in_order(time, arrival, settings);
            self.device_clock(offset_ms)
        };
        if is_tie {
            Class::Tie(clock)
        } else {
            Class::Next(clock)
        }
    }

    /// Whether the latest reading may have been taken at this time or later.
    fn may_be_older_than_latest(&self, time: Time, is_ahead: bool) -> bool {
        if self.latest_time == Some(time) {
            return true;
        }
        let Some(doubt) = self.latest_doubt() else {
            return false;
        };
        let is_newest_later = doubt.newest.is_some_and(|newest| time < newest);
        let is_ahead_less = is_ahead && doubt.ahead.is_some_and(|ahead| time <= ahead);
        is_newest_later || is_ahead_less
    }
}

#[cfg(test)]
mod tests;

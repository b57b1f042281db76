//! The order of a device's messages: each one is next, tie, late, duplicate or ignored.
//!
//! Messages are ordered by the device's own time, even if its clock is wrong. If that time is unusable (missing, unreadable
//! or stuck), they are ordered by arrival.

mod state;

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Time;
use crate::forward::UnknownFields;

pub use state::{LateRun, OrderState, RepeatedDeviceTime};

/// Maximum number of fingerprints remembered per device.
pub const MAX_FINGERPRINTS: usize = 64;

/// Maximum number of recent clock offsets kept per device. An offset is arrival time minus device time, so it contains the
/// delay of the message. The smallest one has the least delay and is taken as the device's usual offset.
const MAX_OFFSETS: usize = 8;
/// A device time is stuck if it arrived unchanged at least this often, and the first arrival is more than [`STUCK_MS`] ago.
const STUCK_ARRIVALS: u32 = 3;
/// Minimum age of the first arrival of a stuck device time, see [`STUCK_ARRIVALS`].
const STUCK_MS: i64 = 10_000;
/// Two messages without a usable time cannot be ordered if the time between their arrivals is at most this.
const TIE_MS: i64 = 2_000;
/// After this many late readings in a row, the device's clock is taken to be set back.
const CLOCK_SET_READINGS: u32 = 3;
/// Minimum time over which these readings must arrive: a backlog that arrives in a burst does not show that a clock was set.
const CLOCK_SET_SPAN_MS: i64 = 2_000;
/// By how much the time that passed on the device's clock may differ from the time between the arrivals. A tenth of the time
/// between the arrivals is allowed if that is more.
const CLOCK_SET_SLACK_MS: i64 = 1_500;
/// A clock with a larger offset from server time is marked as suspect.
const SUSPECT_MS: i64 = 5 * 60 * 1_000;

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
    /// Without a reading, by its type: it only proves the device alive. (Not decided by the order.)
    SignOfLife,
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
    /// The clock is more than 5 min off, was set back, or is unusable.
    pub clock_suspect: bool,
}

/// Classifies a message. Returns its class and the order state after the message. `known` is false for a device without any
/// reading.
#[must_use]
pub fn classify(
    state: &OrderState,
    fingerprints: &VecDeque<u64>,
    known: bool,
    arrival: Arrival,
    _settings: &OrderSettings,
) -> (Class, OrderState) {
    let mut next = state.clone();
    if !arrival.dup && !arrival.retain {
        next.repeated = count_repeats(state.repeated.as_ref(), arrival);
    }
    let usable_time = arrival.device_time.filter(|time| {
        let repeated = next.repeated.as_ref();
        let repeated = repeated.filter(|repeated| repeated.time == *time);
        repeated.is_none_or(|repeated| !is_stuck(repeated, arrival.at))
    });
    let class = if known && is_duplicate(state, fingerprints, usable_time, arrival) {
        Class::Duplicate
    } else if known && arrival.retain {
        Class::Ignored
    } else {
        compare_with_latest(state, &mut next, known, usable_time, arrival)
    };
    (class, next)
}

/// Returns since when the same payload arrives, if that is longer than `limit`.
#[must_use]
pub fn frozen_since(_state: &OrderState, _now: Time, _limit: Duration) -> Option<Time> {
    None
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

fn count_repeats(
    before: Option<&RepeatedDeviceTime>,
    arrival: Arrival,
) -> Option<RepeatedDeviceTime> {
    let time = arrival.device_time?;
    Some(match before {
        Some(repeated) if repeated.time == time => RepeatedDeviceTime {
            count: repeated.count.saturating_add(1),
            ..repeated.clone()
        },
        _ => RepeatedDeviceTime {
            time,
            since: arrival.at,
            count: 1,
            unknown: UnknownFields::default(),
        },
    })
}

fn is_stuck(repeated: &RepeatedDeviceTime, now: Time) -> bool {
    repeated.count >= STUCK_ARRIVALS && now.millis_since(repeated.since) > STUCK_MS
}

fn is_duplicate(
    state: &OrderState,
    fingerprints: &VecDeque<u64>,
    usable_time: Option<Time>,
    arrival: Arrival,
) -> bool {
    let redelivered = arrival.dup || arrival.retain;
    let is_known = fingerprints.contains(&arrival.fingerprint);
    let is_older =
        matches!((usable_time, state.latest_time), (Some(time), Some(latest)) if time < latest);
    if is_known && (redelivered || is_older) {
        return true;
    }
    let repeats_latest = state.latest_fingerprint == Some(arrival.fingerprint);
    let since_latest = arrival.at.millis_since(state.latest_arrival);
    repeats_latest && (usable_time.is_some() || since_latest <= TIE_MS)
}

fn compare_with_latest(
    state: &OrderState,
    next: &mut OrderState,
    known: bool,
    usable_time: Option<Time>,
    arrival: Arrival,
) -> Class {
    let Some(time) = usable_time else {
        if known && arrival.dup {
            // A redelivered message of unknown age. Messages that arrived after its first delivery may be newer.
            return Class::Late(LateReading {
                is_proved_old: false,
                age_ms: 0,
            });
        }
        let since_latest = arrival.at.millis_since(state.latest_arrival);
        let is_tie = known && !state.latest_usable && since_latest <= TIE_MS;
        let clock = make_latest(next, None, false, arrival);
        return if is_tie {
            Class::Tie(clock)
        } else {
            Class::Next(clock)
        };
    };
    match state.latest_time {
        Some(latest) if known && time < latest => {
            let run = extend_late_run(state.late.as_ref(), time, arrival.at);
            if is_clock_set_back(&run, arrival.at) {
                next.offsets_ms.clear();
                return Class::Next(make_latest(next, Some(time), true, arrival));
            }
            next.late = Some(run);
            Class::Late(LateReading {
                is_proved_old: arrival.dup,
                age_ms: 0,
            })
        }
        Some(latest) if known && time == latest => {
            Class::Tie(make_latest(next, Some(time), false, arrival))
        }
        _ => Class::Next(make_latest(next, Some(time), false, arrival)),
    }
}

/// Records the arrival as the latest. `was_set_back`: the device's clock was set back.
fn make_latest(
    next: &mut OrderState,
    time: Option<Time>,
    was_set_back: bool,
    arrival: Arrival,
) -> DeviceClock {
    next.latest_fingerprint = Some(arrival.fingerprint);
    next.latest_arrival = arrival.at;
    next.latest_usable = time.is_some();
    next.late = None;
    let Some(time) = time else {
        return DeviceClock {
            age_ms: None,
            clock_suspect: true,
        };
    };
    next.latest_time = Some(time);
    let offset_ms = arrival.at.millis_since(time);
    if next.offsets_ms.len() >= MAX_OFFSETS {
        next.offsets_ms.pop_front();
    }
    next.offsets_ms.push_back(offset_ms);
    let usual_ms = next.offsets_ms.iter().min().copied().unwrap_or(offset_ms);
    DeviceClock {
        age_ms: Some(offset_ms.saturating_sub(usual_ms)),
        clock_suspect: was_set_back || offset_ms.saturating_abs() > SUSPECT_MS,
    }
}

/// Returns the run of late readings after this one. A reading that does not fit the run begins a new one.
fn extend_late_run(before: Option<&LateRun>, time: Time, at: Time) -> LateRun {
    let new_run = LateRun {
        first_time: time,
        first_arrival: at,
        last_time: time,
        count: 1,
        unknown: UnknownFields::default(),
    };
    let Some(run) = before else { return new_run };
    let advanced_ms = time.millis_since(run.first_time);
    let passed_ms = at.millis_since(run.first_arrival);
    let slack_ms = CLOCK_SET_SLACK_MS.max(passed_ms / 10);
    let keeps_pace = advanced_ms.saturating_sub(passed_ms).saturating_abs() <= slack_ms;
    if time < run.last_time || !keeps_pace {
        return new_run;
    }
    // A clock with whole seconds may show the same second twice. Such a repeat is not counted and does not end the run.
    let advances = u32::from(time > run.last_time);
    LateRun {
        last_time: time,
        count: run.count.saturating_add(advances),
        ..run.clone()
    }
}

fn is_clock_set_back(run: &LateRun, now: Time) -> bool {
    run.count >= CLOCK_SET_READINGS && now.millis_since(run.first_arrival) >= CLOCK_SET_SPAN_MS
}

#[cfg(test)]
mod tests;

//! Next, tie, late, duplicate or ignored: one pure function of what is known and what arrived.
//!
//! Order is the device's own time, whatever its offset from ours. Where that time is unusable (missing, unreadable,
//! or standing still), arrival decides.

use std::collections::VecDeque;

use crate::clock::Time;
use crate::state::{LateRun, OrderState, Standing};

/// How many fingerprints of a device are remembered.
pub const MAX_FINGERPRINTS: usize = 64;

/// How many recent clock offsets decide what is usual.
const MAX_OFFSETS: usize = 8;
/// From this arrival on a device time that did not move is unusable …
const STANDING_ARRIVALS: u32 = 3;
/// … if it has been standing for longer than this.
const STANDING_MS: i64 = 10_000;
/// Arrivals without usable time this close to each other cannot be ordered.
const TIE_MS: i64 = 2_000;
/// So many late readings in a row may be a clock that was set.
const CLOCK_SET_READINGS: u32 = 3;
/// They must be spread over at least this time: a backlog that is handed over in a burst proves nothing.
const CLOCK_SET_SPAN_MS: i64 = 2_000;
/// How far the device times may run ahead of or behind their arrivals, at the least.
const CLOCK_SET_SLACK_MS: i64 = 1_500;
/// A clock further off than this is told.
const SUSPECT_MS: i64 = 5 * 60 * 1_000;

/// What arrived, as far as order is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Fingerprint of the raw bytes.
    pub fingerprint: u64,
    /// The device's own time, if it can be read.
    pub device_time: Option<Time>,
    /// The broker says it may have delivered it before (a second try of our own counts as this).
    pub dup: bool,
    /// The broker kept it: no sign of life.
    pub retain: bool,
    /// Server time.
    pub at: Time,
}

/// What an arrival is to its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Newer than everything: becomes the latest.
    Next(Taken),
    /// Cannot be ordered against the latest: becomes the latest, may raise, never lowers.
    Tie(Taken),
    /// Older than the latest: history only, may raise.
    Late,
    /// Seen before: decides nothing.
    Duplicate,
    /// Retained, of a device that is already known: decides nothing.
    Ignored,
}

/// What is known about the clock of a reading that becomes the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Age by the device's usual clock offset; `None` if its time is unusable.
    pub age_ms: Option<i64>,
    /// The clock is more than 5 min off, was set back, or is unusable.
    pub clock_suspect: bool,
}

/// Decides what an arrival is and what to remember of it. `known` is false for a device without any reading.
#[must_use]
pub fn classify(
    state: &OrderState,
    fingerprints: &VecDeque<u64>,
    known: bool,
    arrival: Arrival,
) -> (Class, OrderState) {
    let mut next = state.clone();
    if !arrival.dup && !arrival.retain {
        next.standing = standing(state.standing, arrival);
    }
    let usable_time = arrival.device_time.filter(|time| {
        let still = next.standing.filter(|standing| standing.time == *time);
        still.is_none_or(|standing| !is_stuck(standing, arrival.at))
    });
    let class = if known && is_duplicate(state, fingerprints, usable_time, arrival) {
        Class::Duplicate
    } else if known && arrival.retain {
        Class::Ignored
    } else {
        place(state, &mut next, known, usable_time, arrival)
    };
    (class, next)
}

/// Remembers a fingerprint; the oldest goes when [`MAX_FINGERPRINTS`] are exceeded.
pub fn remember(fingerprints: &mut VecDeque<u64>, fingerprint: u64) {
    if fingerprints.contains(&fingerprint) {
        return;
    }
    if fingerprints.len() >= MAX_FINGERPRINTS {
        fingerprints.pop_front();
    }
    fingerprints.push_back(fingerprint);
}

fn standing(before: Option<Standing>, arrival: Arrival) -> Option<Standing> {
    let time = arrival.device_time?;
    Some(match before {
        Some(standing) if standing.time == time => Standing {
            count: standing.count.saturating_add(1),
            ..standing
        },
        _ => Standing {
            time,
            since: arrival.at,
            count: 1,
        },
    })
}

fn is_stuck(standing: Standing, now: Time) -> bool {
    standing.count >= STANDING_ARRIVALS && now.millis_since(standing.since) > STANDING_MS
}

fn is_duplicate(
    state: &OrderState,
    fingerprints: &VecDeque<u64>,
    usable_time: Option<Time>,
    arrival: Arrival,
) -> bool {
    let redelivered = arrival.dup || arrival.retain;
    let seen = fingerprints.contains(&arrival.fingerprint);
    let is_older =
        matches!((usable_time, state.latest_time), (Some(time), Some(latest)) if time < latest);
    if seen && (redelivered || is_older) {
        return true;
    }
    let repeats_latest = state.latest_fingerprint == Some(arrival.fingerprint);
    let since_latest = arrival.at.millis_since(state.latest_arrival);
    repeats_latest && (usable_time.is_some() || since_latest <= TIE_MS)
}

fn place(
    state: &OrderState,
    next: &mut OrderState,
    known: bool,
    usable_time: Option<Time>,
    arrival: Arrival,
) -> Class {
    let Some(time) = usable_time else {
        if known && arrival.dup {
            // Redelivered, of unknown age: what arrived since may be newer, whatever arrives last.
            return Class::Late;
        }
        let since_latest = arrival.at.millis_since(state.latest_arrival);
        let is_tie = known && !state.latest_usable && since_latest <= TIE_MS;
        let taken = take(next, None, false, arrival);
        return if is_tie {
            Class::Tie(taken)
        } else {
            Class::Next(taken)
        };
    };
    match state.latest_time {
        Some(latest) if known && time < latest => {
            let run = late_run(state.late, time, arrival.at);
            if is_clock_set(run, arrival.at) {
                next.offsets_ms.clear();
                return Class::Next(take(next, Some(time), true, arrival));
            }
            next.late = Some(run);
            Class::Late
        }
        Some(latest) if known && time == latest => {
            Class::Tie(take(next, Some(time), false, arrival))
        }
        _ => Class::Next(take(next, Some(time), false, arrival)),
    }
}

/// Makes the arrival the latest.
fn take(next: &mut OrderState, time: Option<Time>, was_set: bool, arrival: Arrival) -> Taken {
    next.latest_fingerprint = Some(arrival.fingerprint);
    next.latest_arrival = arrival.at;
    next.latest_usable = time.is_some();
    next.late = None;
    let Some(time) = time else {
        return Taken {
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
    Taken {
        age_ms: Some(offset_ms.saturating_sub(usual_ms)),
        clock_suspect: was_set || offset_ms.saturating_abs() > SUSPECT_MS,
    }
}

fn late_run(before: Option<LateRun>, time: Time, at: Time) -> LateRun {
    let fresh = LateRun {
        first_time: time,
        first_arrival: at,
        last_time: time,
        count: 1,
    };
    let Some(run) = before else { return fresh };
    let advanced_ms = time.millis_since(run.first_time);
    let passed_ms = at.millis_since(run.first_arrival);
    let slack_ms = CLOCK_SET_SLACK_MS.max(passed_ms / 10);
    let keeps_pace = advanced_ms.saturating_sub(passed_ms).saturating_abs() <= slack_ms;
    if time < run.last_time || !keeps_pace {
        return fresh;
    }
    // A clock of whole seconds shows the same one twice: that neither counts nor breaks the row.
    let advances = u32::from(time > run.last_time);
    LateRun {
        last_time: time,
        count: run.count.saturating_add(advances),
        ..run
    }
}

fn is_clock_set(run: LateRun, now: Time) -> bool {
    run.count >= CLOCK_SET_READINGS && now.millis_since(run.first_arrival) >= CLOCK_SET_SPAN_MS
}

#[cfg(test)]
mod tests;

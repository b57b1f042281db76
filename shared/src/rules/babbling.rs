//! Devices that send more than their rate. Every value is still judged, but history and telemetry are thinned.
//!
//! A device has an allowance of messages (a token bucket). It grows with the rate, up to ten seconds of it, and each message takes one: at
//! twice the rate it is used up after ten seconds, at one and a half times the rate after twenty. The time is that at which
//! readings were taken: a backlog that is sent at once was recorded at its rate, and is within it.

use std::time::Duration;

use super::sensor::Finding;
use super::{AlarmDetails, Alarms};
use crate::alarm::{Condition, Kind};
use crate::clock::{Time, millis};
use crate::forward::UnknownFields;
use crate::state::SendingRate;

/// The rate is an average over this time.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts a message that was taken at this time. Returns whether it is within the rate, in messages per second. 0: there is no limit.
pub fn count(memory: &mut Option<SendingRate>, taken_at: Time, per_second: u32) -> bool {
    if per_second == 0 {
        *memory = None;
        return true;
    }
    let most = full(per_second);
    let rate = memory.get_or_insert_with(|| SendingRate {
        at: taken_at,
        allowance: most,
        unknown: UnknownFields::default(),
    });
    rate.allowance = allowance_at(rate, taken_at, per_second);
    rate.at = rate.at.max(taken_at);
    let is_within = rate.allowance >= ONE;
    if is_within {
        rate.allowance -= ONE;
    }
    is_within
}

/// Returns when the next message is within the rate.
#[must_use]
pub fn next_at(rate: &SendingRate, per_second: u32) -> Time {
    reaches_at(rate, ONE, per_second)
}

/// Returns when a device is no longer taken for a babbling one, if it sends nothing more.
#[must_use]
pub fn calm_at(rate: &SendingRate, per_second: u32) -> Time {
    reaches_at(rate, full(per_second) / 2, per_second)
}

/// One message, in the unit of [`SendingRate::allowance`]: with it, the allowance grows by the rate in one millisecond.
const ONE: i64 = 1_000;

fn full(per_second: u32) -> i64 {
    i64::from(per_second).saturating_mul(millis(WINDOW))
}

fn allowance_at(rate: &SendingRate, now: Time, per_second: u32) -> i64 {
    let passed_ms = now.millis_since(rate.at).max(0);
    let grown = passed_ms.saturating_mul(i64::from(per_second));
    rate.allowance.saturating_add(grown).min(full(per_second))
}

fn reaches_at(rate: &SendingRate, wanted: i64, per_second: u32) -> Time {
    let missing = wanted.saturating_sub(rate.allowance).max(0);
    let per_ms = i64::from(per_second.max(1));
    let wait_ms = missing.div_euclid(per_ms) + i64::from(missing % per_ms > 0);
    rate.at + Duration::from_millis(wait_ms.unsigned_abs())
}

impl Alarms<'_> {
    /// Raises or clears the alarm of a device that sends more than its rate. `is_above`: the message of this decision does.
    pub fn evaluate_babbling(
        &mut self,
        rate: Option<&SendingRate>,
        is_above: bool,
        per_second: u32,
        details: AlarmDetails<'_>,
    ) {
        let now = self.moment.now;
        let is_calm = rate.is_none_or(|rate| per_second == 0 || calm_at(rate, per_second) <= now);
        let finding = match (is_above, is_calm) {
            (true, _) => Finding::Holds,
            (false, true) => Finding::Ceased,
            (false, false) => Finding::Unknown,
        };
        if finding == Finding::Ceased && self.get(Kind::Babbling).is_none() {
            return;
        }
        // The text stays while the alarm is open, so it says only what is certain all the time.
        self.set(Condition::Babbling, finding, details, || {
            let text = format!("Detector sends more than {per_second} messages/s");
            text.as_str().into()
        });
    }
}

#[cfg(test)]
mod tests;

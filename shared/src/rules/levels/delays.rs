//! Off-delays: how long a value must be back before its level is no longer active.

use super::release_returned_levels;
use crate::alarm::{Alarm, Kind};
use crate::clock::Time;
use crate::rules::{AlarmDetails, Alarms};

/// Ends the off-delays that are over, and releases the levels that are back, or calm again.
pub fn end_off_delays(
    alarms: &mut Alarms<'_>,
    returned_levels: [bool; 3],
    details: AlarmDetails<'_>,
) {
    let now = alarms.moment.now;
    for kind in Kind::WITH_LEVELS {
        alarms.adjust(kind, |alarm| {
            for level in alarm.active_levels.iter_mut().flatten() {
                if level.off_delay_ends.is_some_and(|end| end <= now) {
                    level.off_delay_ends = None;
                    level.returned = true;
                }
            }
        });
        release_returned_levels(alarms, kind, returned_levels, details);
    }
}

/// Cancels the running off-delays, because the present value is unknown or not trusted.
pub fn cancel_off_delays(alarms: &mut Alarms<'_>) {
    for kind in Kind::WITH_LEVELS {
        alarms.adjust(kind, |alarm| {
            for level in alarm.active_levels.iter_mut().flatten() {
                level.off_delay_ends = None;
                // Only chattering keeps it active. It must not end with the calm, since nothing shows that the gas is gone.
                level.returned &= level.latching;
            }
        });
    }
}

/// Returns the time at which the next off-delay of this alarm ends; `None` if none is running.
#[must_use]
pub fn next_off_delay_end(alarm: &Alarm) -> Option<Time> {
    let levels = alarm.active_levels.iter().flatten();
    levels.filter_map(|level| level.off_delay_ends).min()
}

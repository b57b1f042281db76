//! Chattering alarms: one excursion is one alarm, however noisy the value is.
//!
//! A raise within [`REOPEN`] of the clearing continues the same alarm. From the third raise or renewed escalation within a
//! short time on, the alarm stays open, counting, until it has been calm for a while (`chatter_calm` of the settings; zero turns
//! all of this off). Times are those at which the readings were taken, so a backlog that arrives at once is not taken for
//! chattering, and one that brings the rest of an excursion long after the end was seen continues its alarm.

use std::time::Duration;

use super::{Alarms, Moment};
use crate::alarm::{Alarm, Kind};
use crate::clock::{Time, millis};
use crate::state::ClosedAlarm;

/// A raise by a reading that was taken within this time after the clearing, or before it, continues the alarm.
const REOPEN: Duration = Duration::from_mins(1);
/// So many raises within [`window`] make an alarm chattering.
const RAISES: usize = Alarm::MAX_RAISES;
/// Maximum number of cleared alarms that are remembered, the newest ones: one of each kind of this release.
const MAX_CLOSED: usize = 13;

/// The time within which [`RAISES`] raises make an alarm of this kind chattering.
fn window(kind: Kind) -> Duration {
    match kind {
        Kind::GasHigh | Kind::GasLow | Kind::OverRange => Duration::from_mins(1),
        _ => Duration::from_mins(30),
    }
}

/// A backlog may bring the beginning of an excursion that was seen only later: so long before its alarm was raised.
const EARLIER: Duration = Duration::from_mins(30);

/// Counts a raise or an escalation of the alarm by a reading taken at this time. `calm`: how long it must be calm then.
pub(super) fn count(alarm: &mut Alarm, moment: Moment, calm: Duration) {
    let Moment { now, taken_at, .. } = moment;
    if calm.is_zero() {
        return;
    }
    if alarm.raises.len() >= RAISES {
        alarm.raises.remove(0);
    }
    alarm.raises.push(taken_at);
    let is_full = alarm.raises.len() >= RAISES;
    let first = alarm.raises.first().copied().unwrap_or(taken_at);
    let is_often = is_full && taken_at.millis_since(first) <= millis(window(alarm.kind()));
    if is_often || chatters(alarm, now) {
        // The calm counts from now on, so that a backlog beside live readings is one row, however old it is.
        alarm.chatters_until = Some(now + calm);
    }
}

/// Whether the alarm stays open although its condition no longer holds, because it chatters.
pub(super) fn chatters(alarm: &Alarm, now: Time) -> bool {
    alarm.chatters_until.is_some_and(|until| now < until)
}

/// Returns when the alarm, or one of its levels, ends, if only chattering keeps it open.
#[must_use]
pub fn calm_ends(alarm: &Alarm) -> Option<Time> {
    let mut levels = alarm.active_levels.iter().flatten();
    let waits = alarm.ceased || levels.any(|level| level.returned);
    alarm.chatters_until.filter(|_| waits)
}

impl Alarms<'_> {
    /// Remembers an alarm that is being cleared.
    pub(super) fn remember_closed(&mut self, alarm: &Alarm) {
        let kind = alarm.kind();
        self.closed.retain(|closed| closed.kind() != kind);
        if self.closed.len() >= MAX_CLOSED {
            self.closed.remove(0);
        }
        self.closed.push(ClosedAlarm {
            id: alarm.id.clone(),
            condition: alarm.condition,
            side: alarm.side(),
            raised_at: alarm.raised_at,
            count: alarm.count,
            raises: alarm.raises.clone(),
            cleared_at: self.moment.now,
            taken_at: self.moment.taken_at,
            log_group: alarm.log_group.clone(),
        });
    }

    /// Makes a new alarm continue the one of its kind that was cleared a short while ago, and forgets it there.
    pub(super) fn continue_closed(&mut self, kind: Kind, alarm: &mut Alarm) {
        if self.chatter_calm.is_zero() {
            return;
        }
        let Some(index) = self.closed.iter().position(|closed| closed.kind() == kind) else {
            return;
        };
        let closed = &self.closed[index];
        let taken_at = self.moment.taken_at;
        let began = closed.raises.first().copied().unwrap_or(closed.raised_at);
        let began = began.min(closed.raised_at) - EARLIER;
        // Silence begins and ends by our clock, however old the reading is that ends it.
        let ended = if kind == Kind::DeviceOffline {
            closed.cleared_at
        } else {
            closed.taken_at
        };
        if taken_at < began || taken_at > ended + REOPEN {
            // Its raises still count, so that a condition that comes and goes for a long time becomes one alarm.
            alarm.raises.clone_from(&closed.raises);
            return;
        }
        let closed = self.closed.remove(index);
        alarm.id = closed.id;
        alarm.raised_at = closed.raised_at;
        alarm.count = closed.count.saturating_add(1);
        alarm.raises = closed.raises;
        alarm.log_group = closed.log_group;
    }
}

//! One level of an alarm, evaluated alone.

use super::{Evidence, other_side};
use crate::alarm::ActiveLevel;
use crate::clock::Time;
use crate::order::TIE_MS;
use crate::reading::Side;
use crate::rules::limits::Limit;

/// Evaluates one level. `limit` is `None` if the level is not used on this side now.
pub(super) fn evaluate_level(
    level: Option<ActiveLevel>,
    limit: Option<Limit>,
    side: Side,
    evidence: Evidence,
    now: Time,
) -> Option<ActiveLevel> {
    let alarm_side = side;
    let side = match (limit, &level) {
        (Some(limit), _) => limit.side,
        (None, Some(level)) => level.side.unwrap_or(side),
        (None, None) => side,
    };
    let level = level.map(|level| ActiveLevel {
        side: other_side(alarm_side, side),
        ..level
    });
    let value = evidence.value(side);
    let governs_before = |level: &ActiveLevel| level.stored_limit(side);
    let before = level.as_ref().and_then(governs_before);
    // After a change of settings, the limit that raised the alarm counts as well, until the change is acknowledged.
    // Then a level without a present limit, such as one that is no longer used, has nothing left to keep it active.
    let before = before.filter(|_| evidence.keeps_limits);
    let is_reached = |limit: Limit| limit.is_reached(value);
    if limit.is_some_and(is_reached) || before.is_some_and(is_reached) {
        let known = level.unwrap_or_default();
        let governing = more_sensitive(limit, before)?;
        return Some(ActiveLevel {
            level: Some(governing.level),
            deadband: Some(governing.deadband),
            latching: latches(Some(&known), limit, evidence),
            reached_at: Some(now),
            off_delay_ends: None,
            returned: false,
            ..known
        });
    }
    let level = level?;
    let limits = [limit, before];
    let governing = more_sensitive(limit, before);
    let level = ActiveLevel {
        latching: latches(Some(&level), limit, evidence),
        level: governing.map_or(level.level, |limit| Some(limit.level)),
        deadband: governing.map_or(level.deadband, |limit| Some(limit.deadband)),
        ..level
    };
    let is_back = limits.iter().flatten().all(|limit| limit.is_back(value));
    if !is_back {
        return Some(ActiveLevel {
            reached_at: Some(now),
            off_delay_ends: None,
            returned: false,
            ..level
        });
    }
    let reached_at = level.reached_at.unwrap_or_default();
    let is_undecided = evidence.is_tie && now.millis_since(reached_at) < TIE_MS;
    let is_less_sensitive = before.is_some_and(|before| before.is_lost_by(limit));
    if level.returned || !evidence.may_lower || is_undecided || is_less_sensitive {
        return Some(level);
    }
    let end = level.off_delay_ends.unwrap_or(now + evidence.off_delay);
    let returned = end <= now;
    Some(ActiveLevel {
        off_delay_ends: (!returned).then_some(end),
        returned,
        ..level
    })
}

/// Only a reading that may lower switches latching off, and only once the change of settings is acknowledged.
fn latches(level: Option<&ActiveLevel>, limit: Option<Limit>, evidence: Evidence) -> bool {
    let before = level.is_some_and(|level| level.latching);
    match limit.and_then(|limit| limit.latching) {
        Some(true) => true,
        Some(false) if evidence.may_lower && !evidence.keeps_limits => false,
        _ => before,
    }
}

/// Of two limits on one side, returns the one that is reached first.
fn more_sensitive(first: Option<Limit>, second: Option<Limit>) -> Option<Limit> {
    match (first, second) {
        (Some(first), Some(second)) => {
            let is_second = match first.side {
                Side::Low => second.level > first.level,
                Side::High | Side::Unknown(_) => second.level < first.level,
            };
            Some(if is_second { second } else { first })
        }
        (first, second) => first.or(second),
    }
}

impl ActiveLevel {
    /// Returns the limit that governed the level so far; `None` if an earlier release did not store it.
    pub(super) fn stored_limit(&self, side: Side) -> Option<Limit> {
        Some(Limit {
            level: self.level?,
            side,
            deadband: self.deadband.unwrap_or_default(),
            latching: Some(self.latching),
            used: true,
        })
    }
}

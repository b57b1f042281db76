//! Levels of both sides in one gas alarm, as releases with one gas alarm per device leave them.

use super::Alarms;
use crate::alarm::{Alarm, GasSide, Kind};
use crate::reading::Side;

/// Returns the side of a level if it is not that of its alarm.
pub(super) fn of_level(alarm: &Alarm, index: usize) -> Option<Side> {
    alarm.active_levels.get(index)?.as_ref()?.side
}

/// Whether the alarm has levels of the other side.
pub(super) fn has_other(alarm: Option<&Alarm>) -> bool {
    alarm.is_some_and(|alarm| {
        let mut levels = alarm.active_levels.iter().flatten();
        levels.any(|level| level.side.is_some())
    })
}

/// Returns the second side if it is not the first one.
#[must_use]
pub fn other_than(first: Side, second: Side) -> Option<Side> {
    (Kind::gas(first) != Kind::gas(second)).then_some(second)
}

/// Moves levels to the alarm of their side, if one is open.
pub(super) fn hand_over(alarms: &mut Alarms<'_>) {
    for (kind, other) in [(Kind::GasHigh, Kind::GasLow), (Kind::GasLow, Kind::GasHigh)] {
        if alarms.get(other).is_none_or(|alarm| alarm.returned) {
            continue;
        }
        let mut moved = Vec::new();
        alarms.adjust(kind, |alarm| {
            for (index, level) in alarm.active_levels.iter_mut().enumerate() {
                if let Some(level) = level.take_if(|level| level.side.is_some()) {
                    moved.push((index, level));
                }
            }
        });
        alarms.adjust(other, |alarm| {
            for (index, mut level) in moved {
                let length = alarm.active_levels.len().max(index + 1);
                alarm.active_levels.resize(length, None);
                level.side = None;
                alarm.active_levels[index].get_or_insert(level);
            }
        });
    }
}

/// Makes this the side of the alarm. Its levels stay on theirs.
pub(super) fn change_to(alarm: &mut Alarm, side: Side) {
    let before = alarm.side();
    for level in alarm.active_levels.iter_mut().flatten() {
        level.side = other_than(side, level.side.unwrap_or(before));
    }
    alarm.gas_side = Some(GasSide {
        side,
        of: alarm.condition,
    });
}

//! What a release with earlier rules has written, completed with what the present rules need.
//!
//! Such a release keeps the fields that it does not know, and changes those beside them. So the fields may be missing, or may
//! belong to an earlier moment.

use crate::alarm::{Alarm, Condition, GasSide, RememberedLevel};
use crate::reading::Side;
use crate::rules::levels;
use crate::state::{DeviceMemory, DeviceState, Latest, LedMemory};

/// Whether the last write of the state was by a release with earlier rules.
fn is_touched(rev: u64, memory: &DeviceMemory) -> bool {
    rev != memory.rules_rev
}

/// Forgets what is known of messages in a row, if an earlier release has decided about some of them.
pub(super) fn forget_rows(state: &mut DeviceState) {
    if !is_touched(state.rev, &state.memory) {
        return;
    }
    state.order.unusual = None;
    state.order.same_bytes = None;
    state.memory.leds = LedMemory::default();
    state.memory.repaired_in_row = 0;
}

/// Completes the alarms of the field `alarms`.
pub(super) fn complete_all(
    alarms: &mut [Alarm],
    latest: Option<&Latest>,
    memory: &DeviceMemory,
    rev: u64,
) {
    let context = Context {
        latest,
        known_sides: memory.sides,
        is_touched: is_touched(rev, memory),
    };
    for alarm in alarms {
        complete(alarm, context);
    }
}

/// What is known beside an alarm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context<'a> {
    /// The latest reading.
    pub(super) latest: Option<&'a Latest>,
    /// The sides that the device sent last.
    pub(super) known_sides: [Option<Side>; 3],
    /// See [`is_touched`].
    pub(super) is_touched: bool,
}

/// Completes an alarm of the field `alarms`. In doubt it is more alarming, not less.
pub(super) fn complete(alarm: &mut Alarm, context: Context<'_>) {
    let Context {
        latest,
        known_sides,
        is_touched,
    } = context;
    let side_of = |index: usize| {
        let known = known_sides[index].or(known_sides[0]).unwrap_or_default();
        latest.map_or(known, |latest| latest.sides[index])
    };
    let mut was_moved = false;
    if let Some(index) = alarm.condition.level_index() {
        was_moved = alarm.gas_side.is_none_or(|gas| gas.of != alarm.condition);
        if was_moved {
            // It takes the side of its level.
            alarm.gas_side = Some(GasSide {
                side: side_of(index),
                of: alarm.condition,
            });
        }
        if was_moved || is_touched {
            complete_peak(alarm, index);
        }
    }
    // The condition may have held in the latest reading.
    let last_taken = latest.map(|latest| latest.taken_at);
    if is_touched {
        alarm.last_active = alarm.last_active.max(last_taken);
    }
    if !alarm.kind().has_levels() {
        return;
    }
    let (side, shown) = (alarm.side(), alarm.condition.level_index());
    let is_gas = shown.is_some();
    let threshold = alarm.threshold;
    for (index, level) in alarm.active_levels.iter_mut().enumerate() {
        let Some(level) = level else { continue };
        let is_unknown = level.level.is_none();
        if is_unknown && (index == shown.unwrap_or(0)) {
            level.level = threshold;
        } else if is_unknown && is_gas {
            level.level = latest.and_then(|latest| latest.levels.get(index).copied());
        }
        if is_gas && index < known_sides.len() && (is_unknown || was_moved) {
            level.side = levels::other_side(side, side_of(index));
        }
        if is_touched {
            level.reached_at = level.reached_at.max(last_taken);
        }
    }
}

/// An earlier release has moved the alarm to a higher level, or has acknowledged it.
fn complete_peak(alarm: &mut Alarm, index: usize) {
    if alarm.peak.and_then(Condition::level_index) < Some(index) {
        alarm.peak = Some(alarm.condition);
        alarm.peak_value = alarm.value;
    }
    if alarm.acknowledged.is_some() {
        alarm.remembered = None;
        return;
    }
    let remembered = alarm
        .remembered
        .and_then(|known| known.condition.level_index());
    if remembered < Some(index) {
        alarm.remembered = alarm.threshold.map(|threshold| RememberedLevel {
            condition: alarm.condition,
            threshold,
        });
    }
}

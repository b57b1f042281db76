//! What a message leaves open, from what the device sent last.

use super::Message;
use crate::decimal::Decimal;
use crate::reading::{PayloadFacts, Reading};
use crate::state::DeviceMemory;

/// Returns the message with its numbers scaled by the `Decimal Point` that the device sent last, if the message needs one and does
/// not have it. Otherwise a scaled integer would be shown as a value. `None` if the message stays as it is.
pub(super) fn scaled<'a>(message: &Message<'a>, memory: &DeviceMemory) -> Option<Message<'a>> {
    let sent = message.facts.as_sent.as_ref()?;
    let point = memory.decimal_point?;
    let places = point.as_digit()?;
    let scale = |number: Option<Decimal>| number.map(|number| number.scale_down(places));
    let mut message = message.clone();
    let Message { reading, facts, .. } = &mut message;
    reading.value = scale(sent.value);
    let others = sent.other_values.iter();
    facts.other_values = others.map(|other| other.scale_down(places)).collect();
    for (index, setting) in reading.levels.iter_mut().enumerate() {
        setting.level = scale(sent.levels[index]);
        setting.hysteresis = scale(sent.hysteresis[index]);
        facts.levels_unreadable[index] &= setting.level.is_none();
    }
    [reading.span_low, reading.span_high] = sent.span.map(scale);
    reading.decimal_point = point;
    reading.doubtful = true;
    Some(message)
}

/// A latching flag that is unreadable keeps its last known value. If there is none, it counts as latching: the alarm stays until
/// somebody acknowledges it.
pub(super) fn with_latching(
    mut reading: Reading,
    facts: &PayloadFacts,
    memory: &DeviceMemory,
) -> Reading {
    for (index, setting) in reading.levels.iter_mut().enumerate() {
        if facts.latching_unreadable[index] && memory.latching[index].is_none() {
            setting.latching = Some(Decimal::from_int(1));
        }
    }
    reading
}

//! Fills in settings that a message lacks, or that cannot be trusted, from the last ones the device sent.

use std::sync::Arc;

use super::Message;
use crate::decimal::Decimal;
use crate::reading::{PayloadFacts, Reading, Side};
use crate::rules::limits::Levels;
use crate::settings::AlarmSettings;
use crate::state::DeviceMemory;

/// Returns the message with its numbers scaled by the `Decimal Point` that the device sent last, if the message needs one and does
/// not have it. Otherwise a scaled integer would be shown as a value. `None` if the message stays as it is.
pub(super) fn scaled<'a>(message: &Message<'a>, memory: &DeviceMemory) -> Option<Message<'a>> {
    let sent = message.facts.as_sent.as_ref()?;
    let point = memory.decimal_point?;
    let places = point.as_digit()?;
    let scale = |number: Option<Decimal>| number.map(|number| number.scale_down(places));
    let mut message = message.clone();
    let facts = &mut message.facts;
    let reading = Arc::make_mut(&mut message.reading);
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
    // It is not certain that the number was meant like that.
    reading.unclear = true;
    Some(message)
}

/// A message that is broken teaches no settings, so it must not be judged by them where they are less sensitive than those that are
/// known or assumed.
pub(super) fn with_known_settings(
    reading: Arc<Reading>,
    memory: &DeviceMemory,
    settings: &AlarmSettings,
) -> Arc<Reading> {
    let mut reading = Arc::unwrap_or_clone(reading);
    let own = std::mem::take(&mut reading.levels);
    let known = Levels::of(&reading, [false; 3], memory, settings);
    for (index, (setting, own)) in reading.levels.iter_mut().zip(own).enumerate() {
        let is_known = memory.levels[index].is_some() || known.used[index];
        let known_level = Some(known.levels[index]).filter(|_| is_known);
        setting.level = match (own.level, known_level) {
            (Some(own), Some(known_level)) => Some(match known.sides[index] {
                Side::Low => own.max(known_level),
                _ => own.min(known_level),
            }),
            (own, _) => own,
        };
        let latching = own.latching.max(memory.latching[index]);
        let is_on = |flag: &Decimal| *flag >= Decimal::from_int(1);
        setting.latching = latching.filter(is_on).or(memory.latching[index]);
        setting.unknown = own.unknown;
    }
    reading.span_low = memory.span[0].or(reading.span_low);
    reading.span_high = memory.span[1].or(reading.span_high);
    Arc::new(reading)
}

/// A latching flag that is unreadable keeps its last known value. If there is none, it counts as latching: the alarm stays until
/// somebody acknowledges it.
pub(super) fn with_latching(
    mut reading: Arc<Reading>,
    facts: &PayloadFacts,
    memory: &DeviceMemory,
) -> Arc<Reading> {
    for (index, is_unreadable) in facts.latching_unreadable.into_iter().enumerate() {
        if is_unreadable && memory.latching[index].is_none() {
            Arc::make_mut(&mut reading).levels[index].latching = Some(Decimal::from_int(1));
        }
    }
    reading
}

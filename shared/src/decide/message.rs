//! Decisions about messages.

use super::effects::{Effects, SampleOf, finish};
use super::limits::{limits, range_limit};
use super::{Deadline, Decision, Draft, Message, Outcome, deadline};
use crate::alarm::Condition;
use crate::clock::{Time, millis};
use crate::decimal::Decimal;
use crate::forward::UnknownFields;
use crate::order::{self, Arrival, Class, DeviceClock};
use crate::reading::{Reading, Side};
use crate::rules::gas;
use crate::rules::{Alarms, Evidence};
use crate::settings::AlarmSettings;
use crate::state::{DeviceMemory, Latest};

/// Levels of a device that never sent its own; they are those of the system this one replaces.
const DEFAULT_LEVELS: [i32; 3] = [250, 500, 1000];
/// A reading committed at more than this age is at most `uncertain`.
const MAX_AGE_MS: i64 = 30_000;

pub(super) fn decide(
    mut draft: Draft<'_>,
    message: &Message<'_>,
    settings: &AlarmSettings,
) -> Decision {
    let before = &draft.stored.state;
    let is_known = before.latest.is_some();
    let arrival = Arrival {
        fingerprint: message.fingerprint,
        device_time: message.reading.device_time,
        dup: message.dup,
        retain: message.retain,
        at: draft.now,
    };
    let (class, order) = order::classify(
        &before.order,
        &before.fingerprints,
        is_known,
        arrival,
        &settings.order(),
    );
    let outcome = Outcome::Message(class);
    if class == Class::Ignored {
        return draft.unchanged(outcome);
    }
    draft.state.order = order;
    order::remember(&mut draft.state.fingerprints, message.fingerprint);
    draft.state.memory.silence_limit_ms = millis(settings.offline_after);

    let is_redelivered = class == Class::Duplicate && message.dup;
    let alive = !message.retain && !is_redelivered;
    let mut alarms = draft.alarms();
    if alive {
        alarms.clear_offline();
    }
    let mut effects = Effects {
        alive,
        ..Effects::of(outcome)
    };
    match class {
        Class::Next(clock) | Class::Tie(clock) => {
            let in_order = matches!(class, Class::Next(_));
            let latest = make_latest(
                &mut draft,
                message.reading.clone(),
                clock,
                message.retain,
                in_order,
            );
            evaluate_latest(&mut alarms, &latest, settings);
            effects.sample = Some(SampleOf::Latest(latest.clone()));
            effects.moves_latest = true;
            effects.raw_message = message.live_raw_message;
            draft.state.latest = Some(latest);
        }
        Class::Late(_) => {
            let late = with_known_levels(&before.memory, message.reading.clone(), draft.now);
            if let Some(latest) = &before.latest {
                evaluate_late(&mut alarms, &late, latest, settings);
            }
            effects.sample = Some(SampleOf::Late(late));
        }
        Class::RetainedNewer | Class::Duplicate | Class::Ignored => {}
    }
    let (open, changes) = alarms.finish();
    draft.state.alarms = open;
    effects.changes = changes;
    effects.deadline = if alive || !is_known {
        deadline::next(&draft.state, draft.now, settings)
    } else {
        Deadline::Keep
    };
    finish(draft, effects)
}

/// Completes a reading with the levels it is evaluated by: its own, else the last known ones, else the defaults.
fn with_known_levels(known: &DeviceMemory, reading: Reading, now: Time) -> Latest {
    let mut doubtful = false;
    let levels = std::array::from_fn(|index| {
        let level = reading.levels[index].level.or(known.levels[index]);
        doubtful |= level.is_none();
        level.unwrap_or_else(|| Decimal::from_int(DEFAULT_LEVELS[index]))
    });
    let known_side = |index: usize| reading.levels[index].side.or(known.sides[index]);
    // A newer release wrote this side, and this one does not know which values it means.
    doubtful |= (0..3).any(|index| matches!(known_side(index), Some(Side::Unknown(_))));
    let first = known_side(0).unwrap_or_default();
    let sides = std::array::from_fn(|index| known_side(index).unwrap_or(first));
    let mut reading = reading;
    for (setting, latching) in reading.levels.iter_mut().zip(known.latching) {
        setting.latching = setting.latching.or(latching);
    }
    Latest {
        reading,
        levels,
        sides,
        taken_at: now,
        published_at: now,
        age_ms: None,
        doubtful,
        clock_suspect: false,
        in_order: false,
        unknown: UnknownFields::default(),
    }
}

/// Remembers the levels of a reading, which becomes the latest.
fn make_latest(
    draft: &mut Draft<'_>,
    reading: Reading,
    clock: DeviceClock,
    retained: bool,
    in_order: bool,
) -> Latest {
    let memory = &mut draft.state.memory;
    for (index, setting) in reading.levels.iter().enumerate() {
        memory.levels[index] = setting.level.or(memory.levels[index]);
        memory.sides[index] = setting.side.or(memory.sides[index]);
        memory.latching[index] = setting.latching.or(memory.latching[index]);
    }
    let latest = with_known_levels(&draft.state.memory, reading, draft.now);
    let is_old = clock.age_ms.is_some_and(|age| age > MAX_AGE_MS);
    Latest {
        age_ms: clock.age_ms,
        doubtful: latest.doubtful || is_old || retained,
        clock_suspect: clock.clock_suspect,
        in_order,
        ..latest
    }
}

/// Returns the value of the latest reading, and whether it may lower an alarm; `None` without a value.
fn evidence(latest: &Latest, settings: &AlarmSettings) -> Option<Evidence> {
    Some(Evidence {
        value: latest.reading.value?,
        may_lower: latest.in_order && !latest.reading.has_fault() && !latest.reading.unclear,
        off_delay: settings.alarm_off_delay,
    })
}

fn evaluate_latest(alarms: &mut Alarms<'_>, latest: &Latest, settings: &AlarmSettings) {
    let reading = &latest.reading;
    let details = latest.details();
    let may_clear = latest.in_order && !reading.unclear;
    alarms.set(
        Condition::SensorFault,
        reading.has_fault(),
        may_clear,
        details,
    );
    alarms.set(
        Condition::ReadingInvalid,
        reading.value.is_none(),
        may_clear,
        details,
    );
    let Some(evidence) = evidence(latest, settings) else {
        gas::cancel_off_delays(alarms);
        return;
    };
    if reading.has_fault() || reading.unclear {
        gas::cancel_off_delays(alarms);
    }
    gas::evaluate(alarms, &limits(latest, settings), evidence, details);
    gas::evaluate_over_range(alarms, range_limit(reading, settings), evidence, details);
}

fn evaluate_late(
    alarms: &mut Alarms<'_>,
    late: &Latest,
    latest: &Latest,
    settings: &AlarmSettings,
) {
    let Some(value) = late.reading.value else {
        return;
    };
    gas::evaluate_late(
        alarms,
        (&limits(late, settings), value, late.details()),
        (
            &limits(latest, settings),
            evidence(latest, settings),
            latest.details(),
        ),
    );
}

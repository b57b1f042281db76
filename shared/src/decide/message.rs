//! Decisions about messages.

use std::sync::Arc;

use super::effects::{Effects, SampleOf, finish};
use super::judge::{Judgement, Role};
use super::{Deadline, Decision, Draft, Message, Outcome, deadline, last_known};
use crate::alarm::Condition;
use crate::clock::{Time, millis};
use crate::order::{self, Arrival, Class, DeviceClock};
use crate::reading::{Reading, Repair};
use crate::rules::babbling;
use crate::rules::limits::Limits;
use crate::rules::sensor::Finding;
use crate::rules::setting::{self, Assumed};
use crate::rules::{AlarmDetails, Alarms, leds};
use crate::settings::AlarmSettings;
use crate::state::{DeviceMemory, Freshness, Latest, freshness};

/// A reading committed at more than this age is at most `uncertain`.
const MAX_AGE_MS: i64 = 30_000;

pub(super) fn decide(
    mut draft: Draft<'_>,
    message: &Message<'_>,
    settings: &AlarmSettings,
) -> Decision {
    let before = &draft.stored.state;
    let scaled = last_known::scaled(message, &before.memory);
    let message = scaled.as_ref().unwrap_or(message);
    let is_known = before.latest.is_some();
    let is_unreadable = message.facts.repair == Repair::Unreadable;
    if is_unreadable && !is_known {
        // An unreadable payload may name any device, and must not create one.
        return draft.unchanged(Outcome::NotFound);
    }
    if is_sign_of_life(message, settings) {
        return sign_of_life(draft, message, settings);
    }
    let (class, order) = order::classify(
        &before.order,
        &before.fingerprints,
        is_known,
        Arrival {
            fingerprint: message.fingerprint,
            device_time: message.reading.device_time,
            unreadable_time: message.facts.unreadable_time,
            has_value: message.reading.value.is_some(),
            dup: message.dup,
            retain: message.retain,
            at: draft.now,
        },
        &settings.order(),
    );
    let outcome = Outcome::Message(class);
    if class == Class::Ignored {
        return draft.unchanged(outcome);
    }
    draft.state.order = order;
    order::remember(&mut draft.state.fingerprints, message.fingerprint);
    draft.state.memory.silence_limit_ms = millis(settings.offline_after);
    draft.state.memory.log_burst = settings.stored_log_burst();

    let is_redelivered = class == Class::Duplicate && message.dup;
    let alive = !message.retain && !is_redelivered;
    if alive {
        draft.state.memory.unheard = None;
    }
    let mut alarms = draft
        .alarms(taken_at(class, draft.now))
        .with_settings(settings);
    let is_above_rate = is_above_rate(&mut draft.state.memory, message, class, draft.now, settings);
    let mut effects = Effects {
        alive,
        may_wait: is_above_rate,
        ..Effects::of(outcome)
    };
    // Whether the latest reading refutes what this older one raised.
    let mut is_denied = false;
    match class {
        Class::Next(clock) | Class::Tie(clock) => {
            count_repairs(&mut draft, message);
            draft.state.memory.unsampled = is_above_rate;
            let latest = becomes_latest(&mut draft, &mut alarms, message, (class, clock), settings);
            effects.sample = (!is_above_rate).then(|| SampleOf::Latest(latest.clone()));
            effects.moves_latest = true;
            effects.raw_message = message.live_raw_message;
            draft.state.latest = Some(latest);
        }
        Class::Late(late) => {
            count_repairs(&mut draft, message);
            let judgement = raise_only(&draft, &mut alarms, message, settings);
            // A latest reading that is no longer fresh does not show that the gas is gone.
            let is_fresh = || {
                let last_message = draft.stored.last_message;
                freshness(before, last_message, draft.now) == Freshness::Fresh
            };
            if late.is_proved_old
                && let Some(latest) = &before.latest
                && latest.in_order
                && is_fresh()
            {
                is_denied = true;
                let memory = &draft.state.memory;
                Judgement::again(latest, memory, settings).apply(&mut alarms, settings, memory);
            }
            effects.sample = (!is_above_rate).then_some(SampleOf::Late(judgement.latest));
        }
        Class::RetainedNewer | Class::Repeated => {
            raise_only(&draft, &mut alarms, message, settings);
        }
        Class::Duplicate | Class::Ignored => {}
    }
    evaluate_frozen(&draft, &mut alarms, class, settings);
    let details = AlarmDetails {
        value: message.reading.value,
        reading: &message.reading,
    };
    let rate = draft.state.memory.sending.as_ref();
    alarms.evaluate_babbling(rate, is_above_rate, settings.device_rate, details);
    let has_held_back_danger = alarms.has_held_back_danger();
    draft.take_alarms(alarms, &mut effects);
    if !is_denied {
        mark_latest(&mut draft, class, has_held_back_danger);
    }
    effects.deadline = if alive || !is_known {
        next_deadline(&draft, settings)
    } else {
        Deadline::Keep
    };
    finish(draft, effects)
}

/// Notes beside the latest reading what a message has raised and no other reading has denied.
fn mark_latest(draft: &mut Draft<'_>, class: Class, has_held_back_danger: bool) {
    let only_raises = matches!(
        class,
        Class::Late(_) | Class::RetainedNewer | Class::Repeated
    );
    let has_changes = draft.state.alarms != draft.stored.state.alarms;
    let Some(latest) = &mut draft.state.latest else {
        return;
    };
    latest.held_back |= has_held_back_danger;
    if only_raises && has_changes {
        // What it raised stands until the next reading in order.
        latest.in_order = false;
    }
}

/// Whether the message has no value and its type says that it needs none.
fn is_sign_of_life(message: &Message<'_>, settings: &AlarmSettings) -> bool {
    let message_type = &message.reading.message_type;
    !message.facts.has_value_key
        && message.facts.repair != Repair::Unreadable
        && settings.alive_message_types.contains(message_type)
}

fn sign_of_life(mut draft: Draft<'_>, message: &Message<'_>, settings: &AlarmSettings) -> Decision {
    let before = &draft.stored.state;
    let is_repeated = message.dup && before.fingerprints.contains(&message.fingerprint);
    if before.latest.is_none() || message.retain || is_repeated {
        return draft.unchanged(Outcome::Message(Class::Ignored));
    }
    order::remember(&mut draft.state.fingerprints, message.fingerprint);
    draft.state.memory.silence_limit_ms = millis(settings.offline_after);
    draft.state.memory.log_burst = settings.stored_log_burst();
    draft.state.memory.unheard = None;
    let deadline = next_deadline(&draft, settings);
    finish(
        draft,
        Effects {
            alive: true,
            deadline,
            ..Effects::of(Outcome::SignOfLife)
        },
    )
}

/// Returns the next deadline of a device that is alive.
fn next_deadline(draft: &Draft<'_>, settings: &AlarmSettings) -> Deadline {
    let silent_since = deadline::silent_since(&draft.state, draft.now);
    deadline::next(
        &draft.state,
        silent_since,
        (draft.now, None),
        None,
        settings,
    )
}

/// Returns the server time at which the reading was taken.
fn taken_at(class: Class, now: Time) -> Time {
    let age_ms = match class {
        Class::Next(clock) | Class::Tie(clock) => clock.age_ms.unwrap_or(0),
        Class::Late(late) => late.age_ms,
        Class::RetainedNewer | Class::Repeated | Class::Duplicate | Class::Ignored => 0,
    };
    now - std::time::Duration::from_millis(age_ms.max(0).unsigned_abs())
}

/// Counts the message, and returns whether the device sends more than its rate. Redelivered and retained messages do not count.
fn is_above_rate(
    memory: &mut DeviceMemory,
    message: &Message<'_>,
    class: Class,
    now: Time,
    settings: &AlarmSettings,
) -> bool {
    if message.dup || message.retain {
        return false;
    }
    let rate = match class {
        Class::Late(_) => &mut memory.sending_late,
        _ => &mut memory.sending,
    };
    !babbling::count(rate, taken_at(class, now), settings.device_rate)
}

fn count_repairs(draft: &mut Draft<'_>, message: &Message<'_>) {
    let memory = &mut draft.state.memory;
    let kinds = message.facts.repair_kinds;
    if message.facts.repair != Repair::Unimportant {
        memory.repaired_in_row = 0;
        return;
    }
    let common = kinds & memory.repairs_in_row;
    if memory.repaired_in_row == 0 || common == 0 {
        memory.repaired_in_row = 1;
        memory.repairs_in_row = kinds;
    } else {
        memory.repaired_in_row = memory.repaired_in_row.saturating_add(1);
        memory.repairs_in_row = common;
    }
}

/// Evaluates a reading that becomes the latest. It may raise and lower alarms, and teaches the settings of the device.
fn becomes_latest(
    draft: &mut Draft<'_>,
    alarms: &mut Alarms<'_>,
    message: &Message<'_>,
    (class, clock): (Class, DeviceClock),
    settings: &AlarmSettings,
) -> Latest {
    let facts = &message.facts;
    let reading = match &draft.stored.state.latest {
        Some(latest) if facts.repair == Repair::Unreadable => {
            Arc::new(salvaged(&latest.reading, message))
        }
        _ => Arc::clone(&message.reading),
    };
    let reading = if facts.repair >= Repair::Important {
        last_known::with_known_settings(reading, &draft.state.memory, settings)
    } else {
        reading
    };
    let role = Role::Latest {
        is_tie: matches!(class, Class::Tie(_)),
        is_retained: message.retain,
    };
    let memory = &mut draft.state.memory;
    // The limits by which alarms stand that the settings of this reading must not end.
    let before = draft.stored.state.latest.as_ref();
    let before = before.zip(alarms.with_active_level());
    let before_limits = before.map(|(latest, _)| Limits::of(latest, memory, settings));
    let has_settings = facts.repair < Repair::Important && !message.retain;
    let mut changes = if has_settings {
        let assumed = before.map(|(latest, alarm)| Assumed {
            unit: &alarm.unit,
            decimal_point: latest.reading.decimal_point,
        });
        setting::learn(
            memory,
            &reading,
            facts,
            alarms.holds_back_settings(),
            assumed,
        )
    } else {
        Vec::new()
    };
    let mut judgement = Judgement::of(reading, facts, role, (memory, draft.now), settings);
    let limits = judgement.limits(memory, settings);
    if let Some(before) = before_limits.filter(|_| has_settings) {
        let is_held_back = alarms.holds_back_settings();
        let is_reported = !is_held_back && !memory.has_unreported_loss;
        let lost = alarms.lost_levels(Some(&before).filter(|_| is_reported), &limits);
        memory.has_unreported_loss = is_held_back && !lost.is_empty();
        for lost in lost {
            if changes.iter().all(|known| known.field != lost.field) {
                changes.push(lost);
            }
        }
    }
    alarms.settings_changed(changes, judgement.latest.details());
    judgement.may_lower &= !alarms.has_changed_quantity() && !clock.may_be_old;
    judgement.apply(alarms, settings, memory);
    let latest = &judgement.latest;
    let mut led_memory = memory.leds.clone();
    leds::evaluate(
        alarms,
        &mut led_memory,
        &latest.reading,
        &limits.gas,
        (facts.leds_sent, judgement.may_lower),
        latest.details(),
    );
    memory.leds = led_memory;
    let is_recent = clock.age_ms.unwrap_or(0) < millis(settings.offline_after);
    if is_recent && !message.retain {
        let ceased = Finding::Ceased;
        alarms.set(
            Condition::DeviceOffline,
            ceased,
            latest.details(),
            Default::default,
        );
    }
    let is_old = clock.age_ms.is_some_and(|age| age > MAX_AGE_MS);
    Latest {
        age_ms: clock.age_ms,
        doubtful: latest.doubtful || is_old || message.retain,
        clock_suspect: clock.clock_suspect,
        in_order: judgement.may_lower
            && !matches!(class, Class::Tie(_))
            && facts.other_values.is_empty(),
        ..judgement.latest
    }
}

/// Evaluates a message that may raise alarms and has no other effect on them.
fn raise_only(
    draft: &Draft<'_>,
    alarms: &mut Alarms<'_>,
    message: &Message<'_>,
    settings: &AlarmSettings,
) -> Judgement {
    let reading = Arc::clone(&message.reading);
    let memory = &draft.state.memory;
    let at = (memory, draft.now);
    let judgement = Judgement::of(reading, &message.facts, Role::RaiseOnly, at, settings);
    judgement.apply(alarms, settings, memory);
    judgement
}

/// Returns the latest reading with what could be read of an unreadable payload: without a value, and never less alarming.
fn salvaged(latest: &Reading, message: &Message<'_>) -> Reading {
    let found = &message.reading;
    Reading {
        value: None,
        timestamp: found.timestamp.clone(),
        device_time: found.device_time,
        levels: found.levels.clone(),
        leds: std::array::from_fn(|index| found.leds[index].max(latest.leds[index])),
        sensor_fault: found.sensor_fault.max(latest.sensor_fault),
        own_alarm: found.own_alarm || latest.own_alarm,
        doubtful: true,
        ..latest.clone()
    }
}

/// Raises or clears the alarm of a detector that repeats one payload with a device time that stands still.
fn evaluate_frozen(
    draft: &Draft<'_>,
    alarms: &mut Alarms<'_>,
    class: Class,
    settings: &AlarmSettings,
) {
    let Some(latest) = &draft.state.latest else {
        return;
    };
    let (order, now) = (&draft.state.order, draft.now);
    let since = order::frozen_since(order, settings.offline_after);
    let moves_latest = matches!(class, Class::Next(_) | Class::Tie(_));
    let finding = Finding::of(since.is_some(), moves_latest, false);
    alarms.set(Condition::ReadingFrozen, finding, latest.details(), || {
        let seconds = since.map_or(0, |since| now.millis_since(since) / 1_000);
        format!("Same payload for {seconds} s").as_str().into()
    });
}

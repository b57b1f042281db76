//! Decisions about a deadline that has passed: silence, or the end of an off-delay.

use super::effects::{Effects, finish};
use super::limits::limits;
use super::{Deadline, Decision, Draft, Outcome};
use crate::alarm::Kind;
use crate::clock::{Time, millis};
use crate::rules::gas;
use crate::settings::AlarmSettings;
use crate::state::{DeviceState, Freshness, freshness};

/// Returns the next deadline: the earlier of the end of the silence that starts at `alive_at` and the end of the next off-delay.
pub(super) fn next(state: &DeviceState, alive_at: Time, settings: &AlarmSettings) -> Deadline {
    let silence = state
        .alarm(Kind::DeviceOffline)
        .is_none()
        .then(|| alive_at + settings.offline_after);
    // Only of the alarms whose off-delays this release ends. Any other would stay due, and be written again at every look.
    let off_delay = gas::WITH_OFF_DELAY
        .iter()
        .filter_map(|kind| state.alarm(*kind))
        .filter_map(gas::next_off_delay_end)
        .min();
    match [silence, off_delay].into_iter().flatten().min() {
        Some(time) => Deadline::At(time),
        None => Deadline::Never,
    }
}

pub(super) fn decide(
    mut draft: Draft<'_>,
    listening_since: Time,
    settings: &AlarmSettings,
) -> Decision {
    let stored = draft.stored;
    let Some(latest) = stored.state.latest.as_ref() else {
        return draft.unchanged(Outcome::Deadline);
    };
    let now = draft.now;
    // Silence begins only when an ingest replica begins to receive messages.
    let alive_at = stored.last_message.unwrap_or_default().max(listening_since);
    let silent_ms = now.millis_since(alive_at);
    let details = latest.details();
    let mut alarms = draft.alarms();
    let limit_ms = millis(settings.offline_after);
    draft.state.memory.silence_limit_ms = limit_ms;
    if freshness(&draft.state, stored.last_message, now) == Freshness::Fresh {
        gas::end_off_delays(&mut alarms, &limits(latest, settings), details);
    } else {
        gas::cancel_off_delays(&mut alarms);
    }
    if silent_ms >= limit_ms {
        alarms.raise_offline(silent_ms / 1_000, details);
    }
    let (open, changes) = alarms.finish();
    draft.state.alarms = open;
    let deadline = next(&draft.state, alive_at, settings);
    finish(
        draft,
        Effects {
            changes,
            deadline,
            ..Effects::of(Outcome::Deadline)
        },
    )
}

//! Decisions about a deadline that has passed: silence, or the end of an off-delay or of chattering.

use std::time::Duration;

use super::effects::{Effects, SampleOf, finish};
use super::{Deadline, Decision, Draft, Outcome, StoredDevice, retire};
use crate::alarm::{Alarm, Condition, Kind};
use crate::clock::{Time, millis};
use crate::forward::UnknownFields;
use crate::listening::Listening;
use crate::rules::babbling;
use crate::rules::calm_ends;
use crate::rules::levels;
use crate::rules::sensor::Finding;
use crate::settings::AlarmSettings;
use crate::state::{DeviceMemory, DeviceState, Freshness, Latest, Unheard, freshness};

/// How soon a device is looked at again whose silence began in the past. Only the deadline itself shows since when an ingest listens.
const AGAIN: Duration = Duration::from_secs(1);

/// How soon a device is looked at again that may be forgotten once somebody acknowledges its silence.
const FORGET_AGAIN: Duration = Duration::from_mins(10);

/// Who retires a device that is forgotten, in the alarm log.
const FORGOTTEN_BY: &str = "--forget-after";

/// Whether a device is forgotten from which nothing was heard for this long: somebody has acknowledged that it is offline, and no other
/// alarm is open.
fn is_forgotten(state: &DeviceState, unheard_ms: Option<i64>, settings: &AlarmSettings) -> bool {
    let after = settings.forget_after;
    let is_silence = |alarm: &Alarm| {
        let is_known = alarm.acknowledged.is_some() && alarm.is_active();
        alarm.kind() == Kind::DeviceOffline && is_known
    };
    !after.is_zero()
        && unheard_ms.is_some_and(|unheard_ms| unheard_ms >= millis(after))
        && !state.alarms.is_empty()
        && state.alarms.iter().all(is_silence)
}

/// Returns since when nothing was heard from a device, counted in time in which this system listened. `None` if that is less than
/// the silence limit, or not known yet.
fn unheard(
    stored: &StoredDevice,
    listening: Listening,
    now: Time,
    limit_ms: i64,
) -> Option<Unheard> {
    let heard_at = stored.last_message.unwrap_or_default();
    let total_ms = listening.total_ms(now);
    let known = stored.state.memory.unheard.as_ref();
    // A message may have come since then. If Redis has lost how long this system has listened, the count begins again.
    let known = known.filter(|known| known.heard_at == heard_at && known.listened_ms <= total_ms);
    if known.is_some() {
        return known.cloned();
    }
    // A device that is known only by a retained message may have begun at any time: its count begins now.
    let alive_at = stored
        .last_message
        .map_or(now, |heard_at| heard_at.max(listening.since));
    let unheard_ms = now.millis_since(alive_at);
    let is_silent = stored.last_message.is_none() || unheard_ms >= limit_ms;
    is_silent.then(|| Unheard {
        heard_at,
        listened_ms: total_ms.saturating_sub(unheard_ms),
        unknown: UnknownFields::default(),
    })
}

/// Returns the next deadline. The silence starts at `silent_since`. Delays up to `handled` have been looked at. Nothing at all has been
/// heard for `unheard_ms` of listening, or less than the silence limit.
pub(super) fn next(
    state: &DeviceState,
    silent_since: Time,
    (now, handled): (Time, Option<Time>),
    unheard_ms: Option<i64>,
    settings: &AlarmSettings,
) -> Deadline {
    let offline = state.alarm(Kind::DeviceOffline);
    let is_heard = offline.is_none_or(|alarm| !alarm.is_active());
    let silence = is_heard.then(|| {
        (silent_since + settings.offline_after).max(now + AGAIN.min(settings.offline_after))
    });
    // Only of the alarms whose delays this release ends. Any other would stay due, and be written again at every look.
    let is_known = |kind| !matches!(kind, Kind::Unknown(_));
    let known = state.alarms.iter().filter(|alarm| is_known(alarm.kind()));
    let delays = known.filter_map(|alarm| {
        let off_delay = levels::next_off_delay_end(alarm).filter(|_| alarm.kind().has_levels());
        let ends = off_delay.into_iter().chain(calm_ends(alarm));
        // While the device is silent, a level stays active although its delay is over.
        ends.filter(|end| handled.is_none_or(|handled| *end > handled))
            .min()
    });
    let memory = &state.memory;
    let rate = memory.sending.as_ref().filter(|_| settings.device_rate > 0);
    let is_unpublished = memory.unsampled || memory.unpublished > 0;
    let publication = rate
        .filter(|_| is_unpublished)
        .map(|rate| babbling::next_at(rate, settings.device_rate));
    let is_babbling = state.alarm(Kind::Babbling).is_some_and(Alarm::is_active);
    let calm = rate
        .filter(|_| is_babbling)
        .map(|rate| babbling::calm_at(rate, settings.device_rate));
    let rates = publication.into_iter().chain(calm);
    let rates = rates.filter(|time| handled.is_none_or(|handled| *time > handled));
    let forgotten = offline
        .filter(|alarm| alarm.is_active() && !settings.forget_after.is_zero())
        .map(|_| now + until_forgotten(unheard_ms, settings));
    let all = silence.into_iter().chain(delays).chain(rates);
    match all.chain(forgotten).min() {
        Some(time) => Deadline::At(time),
        None => Deadline::Never,
    }
}

/// Returns how long it takes until a device that is offline may be forgotten.
fn until_forgotten(unheard_ms: Option<i64>, settings: &AlarmSettings) -> Duration {
    let Some(unheard_ms) = unheard_ms else {
        // The count begins as soon as the device has been silent for its limit. After that it survives interruptions.
        return settings.offline_after.max(AGAIN);
    };
    let unheard = Duration::from_millis(unheard_ms.max(0).unsigned_abs());
    let left = settings.forget_after.saturating_sub(unheard);
    // The acknowledgement that it may wait for does not change the deadline, so the device is looked at again.
    if left.is_zero() { FORGET_AGAIN } else { left }
}

/// Returns the earlier of two times: that of the last message, and that at which the reading shown was taken.
pub(super) fn silent_since(state: &DeviceState, alive_at: Time) -> Time {
    let measured_at = state.latest.as_ref().map(Latest::measured_at);
    measured_at.map_or(alive_at, |measured_at| measured_at.min(alive_at))
}

/// Whether the latest reading may be published now, if it was not because the device sends more than its rate. It counts as a message then.
fn may_publish_latest(memory: &mut DeviceMemory, now: Time, settings: &AlarmSettings) -> bool {
    let is_unpublished = memory.unsampled || memory.unpublished > 0;
    let per_second = settings.device_rate;
    let rate = memory.sending.as_ref();
    let is_due =
        rate.is_none_or(|rate| per_second == 0 || babbling::next_at(rate, per_second) <= now);
    is_unpublished && is_due && babbling::count(&mut memory.sending, now, per_second)
}

pub(super) fn decide(
    mut draft: Draft<'_>,
    listening: Listening,
    settings: &AlarmSettings,
) -> Decision {
    let stored = draft.stored;
    let Some(latest) = stored.state.latest.as_ref() else {
        return draft.unchanged(Outcome::Deadline);
    };
    let now = draft.now;
    let last_message = stored.last_message.unwrap_or_default();
    // Silence begins only when an ingest replica begins to receive messages.
    let alive_at = last_message.max(listening.since);
    let silent_since = silent_since(&stored.state, last_message).max(listening.since);
    let silent_ms = now.millis_since(silent_since);
    let limit_ms = millis(settings.offline_after);
    let unheard = unheard(stored, listening, now, limit_ms);
    let unheard_ms = unheard
        .as_ref()
        .map(|unheard| listening.total_ms(now).saturating_sub(unheard.listened_ms));
    if is_forgotten(&stored.state, unheard_ms, settings) {
        return retire::decide(draft, FORGOTTEN_BY);
    }
    draft.state.memory.unheard = unheard;
    let details = latest.details();
    let mut alarms = draft.alarms(now).with_settings(settings);
    draft.state.memory.silence_limit_ms = limit_ms;
    draft.state.memory.log_burst = settings.stored_log_burst();
    let is_fresh = freshness(&draft.state, stored.last_message, now) == Freshness::Fresh;
    if is_fresh {
        levels::end_off_delays(&mut alarms, settings.returned_levels, details);
    } else {
        levels::cancel_off_delays(&mut alarms);
    }
    alarms.end_calm();
    let is_within_rate = may_publish_latest(&mut draft.state.memory, now, settings);
    let rate = draft.state.memory.sending.as_ref();
    alarms.evaluate_babbling(rate, false, settings.device_rate, details);
    if silent_ms >= limit_ms {
        let seconds = silent_ms / 1_000;
        let has_messages = now.millis_since(alive_at) < limit_ms;
        alarms.set(Condition::DeviceOffline, Finding::Holds, details, || {
            let what = if has_messages {
                "new reading"
            } else {
                "message"
            };
            format!("No {what} from the detector for {seconds} s")
                .as_str()
                .into()
        });
    }
    let mut effects = Effects {
        may_wait: !is_within_rate,
        ..Effects::of(Outcome::Deadline)
    };
    if is_within_rate && std::mem::take(&mut draft.state.memory.unsampled) {
        effects.sample = Some(SampleOf::Latest(latest.clone()));
    }
    draft.take_alarms(alarms, &mut effects);
    effects.deadline = next(
        &draft.state,
        silent_since,
        (now, Some(now)),
        unheard_ms,
        settings,
    );
    finish(draft, effects)
}

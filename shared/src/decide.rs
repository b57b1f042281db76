//! `(state, input, now, settings) → (state', changes, event, deadline)`: everything that is decided about a device.
//!
//! Pure: no clock, no I/O. The store carries a decision out only if the state it started from still stands.

mod event;
mod reading;
mod reassert;
mod retire;

use serde_json::value::RawValue;

use crate::alarm::{Acknowledgement, Alarm, Change, ChangeKind};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::device::DeviceId;
use crate::order::Class;
use crate::position::{Epoch, Position};
use crate::reading::{Reading, Side};
use crate::rules::gas::{self, Limit};
use crate::rules::{Alarms, Facts};
use crate::state::{AlarmSettings, DeviceState, Freshness, Latest, ZeroLevel, freshness};

pub use reassert::CommittedState;
pub use retire::{Retirement, retire};

/// The state a decision starts from, as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDevice {
    /// Whose state.
    pub device: DeviceId,
    /// The partition's present epoch.
    pub epoch: Epoch,
    /// `rev` and `seq` as they are stored, a blank between them, which the commit compares. A device that was retired
    /// and came back may meet a `rev` again, but never a `seq`.
    pub stored_rev: Vec<u8>,
    /// The state; empty for a device that was never heard of.
    pub state: DeviceState,
    /// The lowest seq that is certainly taken, where the state does not know it.
    pub seq_floor: u64,
    /// The stored state could not be read, or is gone: what was known before is lost.
    pub lost: bool,
    /// Server time of the last message that proved the device alive.
    pub last_message: Option<Time>,
}

/// What happened to a device.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every input is a reading")]
pub enum Input<'a> {
    /// A message that could be parsed.
    Reading(Message<'a>),
    /// A deadline passed while somebody listens, without interruption since this moment.
    Timer {
        /// Start of the listening.
        listening_since: Time,
    },
    /// Somebody acknowledges an alarm.
    Acknowledge(Acknowledge<'a>),
    /// Redis went back behind what this process committed last.
    Reassert(&'a CommittedState),
}

/// A parsed message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What it says.
    pub reading: Reading,
    /// Fingerprint of its bytes.
    pub fingerprint: u64,
    /// Delivered before, perhaps.
    pub dup: bool,
    /// Kept by the broker.
    pub retain: bool,
    /// The payload, where it is told live.
    pub live_raw_message: Option<&'a RawValue>,
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledge<'a> {
    /// Id of the alarm.
    pub id: &'a str,
    /// Name of the person.
    pub by: &'a str,
    /// The position the person had seen.
    pub seen: Position,
    /// The alarm, where it is closed and the alerts array still holds it.
    pub closed: Option<&'a Alarm>,
}

/// What is to be written and published. The state's `rev` is one above the one it started from.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The state after it.
    pub state: DeviceState,
    /// Changes of alarms, in order.
    pub changes: Vec<Change>,
    /// What is published, if clients must see this commit; its position is the state's.
    pub event: Option<RenderedEvent>,
    /// Lines for the alarm log.
    pub log: Vec<LogLine>,
    /// A sample for the history, as JSON.
    pub sample: Option<String>,
    /// Whether the message proves the device alive.
    pub alive: bool,
    /// An earlier moment at which it was proved alive, which the index may have lost.
    pub heard: Option<Time>,
    /// When to look at the device again.
    pub deadline: Deadline,
    /// What it came to.
    pub outcome: Outcome,
}

/// The bytes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedEvent {
    /// The envelope with all payloads.
    pub envelope: String,
    /// Payload of `device:alerts:changed` alone, for the changes stream.
    pub changes: Option<String>,
}

/// One line of the alarm log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// What happened; `None`: the stored state was lost.
    pub change: Option<ChangeKind>,
    /// The alarm as it was left.
    pub alarm: Option<Alarm>,
    /// For an acknowledgement: who, and the seq it covers (0: none).
    pub acknowledged: Option<(String, u64)>,
}

impl LogLine {
    /// What happened to an alarm. `seen`: what an acknowledgement covers, else what the alarm had reached.
    fn of(change: ChangeKind, alarm: &Alarm, seen: Option<u64>) -> Self {
        let acknowledgement = alarm.acknowledged.as_ref();
        Self {
            change: Some(change),
            alarm: Some(alarm.clone()),
            acknowledged: acknowledgement
                .filter(|_| change == ChangeKind::Acknowledged)
                .map(|by| (by.by.clone(), seen.unwrap_or(alarm.reached.seq))),
        }
    }
}

/// When to look at a device again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// As before.
    Keep,
    /// At this moment.
    At(Time),
    /// Not until something happens.
    Never,
}

/// What a decision came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A reading was placed.
    Reading(Class),
    /// A deadline was looked at.
    Timer,
    /// The acknowledgement covers the alarm.
    Acknowledged,
    /// The alarm had been acknowledged before: nothing to write.
    AlreadyAcknowledged,
    /// The alarm reached a level that had not been seen: it stays unacknowledged.
    Escalated,
    /// The same again, for a level that was acknowledged before: nothing to write.
    EscalatedBefore,
    /// There is no such alarm: nothing to write.
    NotFound,
    /// What Redis had lost is asserted again.
    Reasserted,
}

impl Outcome {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(
            self,
            Self::AlreadyAcknowledged
                | Self::EscalatedBefore
                | Self::NotFound
                | Self::Reading(Class::Ignored)
        )
    }
}

/// Decides. `settings` are not needed for an acknowledgement.
#[must_use]
pub fn decide(
    subject: &StoredDevice,
    input: &Input<'_>,
    now: Time,
    settings: Option<&AlarmSettings>,
    traceparent: Option<&str>,
) -> Decision {
    let now = now.max(subject.state.memory.decided_at);
    let draft = Draft::new(subject, now);
    match (input, settings) {
        (Input::Reading(message), Some(settings)) => {
            reading::decide(draft, message, settings, traceparent)
        }
        (Input::Timer { listening_since }, Some(settings)) => {
            timer(draft, *listening_since, settings, traceparent)
        }
        (Input::Acknowledge(request), _) => acknowledge(draft, *request, traceparent),
        (Input::Reassert(remembered), _) => reassert::decide(draft, remembered, traceparent),
        (Input::Reading(_) | Input::Timer { .. }, None) => draft.nothing(Outcome::NotFound),
    }
}

/// A decision in the making.
struct Draft<'a> {
    subject: &'a StoredDevice,
    now: Time,
    /// The position an event of this decision gets.
    position: Position,
    state: DeviceState,
    log: Vec<LogLine>,
}

impl<'a> Draft<'a> {
    fn new(subject: &'a StoredDevice, now: Time) -> Self {
        let before = &subject.state;
        let mut state = before.clone();
        state.rev = before.rev.saturating_add(1);
        state.memory.decided_at = now;
        if before.latest.is_none() {
            state.memory.born_after = subject.seq_floor;
        }
        Self {
            subject,
            now,
            position: Position {
                epoch: subject.epoch,
                seq: before.position.seq.max(subject.seq_floor).saturating_add(1),
            },
            state,
            log: Vec::new(),
        }
    }

    fn alarms(&self) -> Alarms<'a> {
        let open = self.state.alarms.clone();
        Alarms::new(&self.subject.device, open, self.now, self.position)
    }

    fn nothing(self, outcome: Outcome) -> Decision {
        Decision {
            state: self.subject.state.clone(),
            changes: Vec::new(),
            event: None,
            log: self.log,
            sample: None,
            alive: false,
            heard: None,
            deadline: Deadline::Keep,
            outcome,
        }
    }
}

/// When to look again: at the end of the silence that starts at `heard`, or when a level may return.
fn deadline(state: &DeviceState, heard: Time, settings: &AlarmSettings) -> Deadline {
    let silence = state
        .alarm(crate::alarm::Kind::DeviceOffline)
        .is_none()
        .then(|| heard + settings.offline_after);
    let due = state
        .alarms
        .iter()
        .filter_map(gas::next_off_delay_end)
        .min();
    match [silence, due].into_iter().flatten().min() {
        Some(time) => Deadline::At(time),
        None => Deadline::Never,
    }
}

fn timer(
    mut draft: Draft<'_>,
    listening_since: Time,
    settings: &AlarmSettings,
    traceparent: Option<&str>,
) -> Decision {
    let subject = draft.subject;
    let Some(latest) = subject.state.latest.as_ref() else {
        return draft.nothing(Outcome::Timer);
    };
    let now = draft.now;
    let heard = subject
        .last_message
        .unwrap_or_default()
        .max(listening_since);
    let silent_ms = now.millis_since(heard);
    let facts = latest.facts();
    let mut alarms = draft.alarms();
    let limit_ms = i64::try_from(settings.offline_after.as_millis()).unwrap_or(i64::MAX);
    draft.state.memory.silence_limit_ms = limit_ms;
    if freshness(&draft.state, subject.last_message, now) == Freshness::Fresh {
        gas::end_off_delays(&mut alarms, &limits(latest, settings), facts);
    } else {
        gas::cancel_off_delays(&mut alarms);
    }
    if silent_ms >= limit_ms {
        alarms.raise_offline(silent_ms / 1_000, facts);
    }
    let (open, changes) = alarms.finish();
    draft.state.alarms = open;
    let deadline = deadline(&draft.state, heard, settings);
    event::finish(
        draft,
        event::Effects {
            changes,
            deadline,
            ..event::Effects::of(Outcome::Timer)
        },
        traceparent,
    )
}

fn acknowledge(
    mut draft: Draft<'_>,
    request: Acknowledge<'_>,
    traceparent: Option<&str>,
) -> Decision {
    let before = &draft.subject.state;
    let open = before.alarms.iter().find(|alarm| alarm.id == request.id);
    let Some(alarm) = open.or(request.closed).cloned() else {
        return draft.nothing(Outcome::NotFound);
    };
    if alarm.acknowledged.is_some() {
        return draft.nothing(Outcome::AlreadyAcknowledged);
    }
    let same_epoch = request.seen.epoch == before.position.epoch;
    if !same_epoch || request.seen.seq < alarm.reached.seq {
        // What was seen under another epoch covers nothing.
        let seen = if same_epoch { request.seen.seq } else { 0 };
        if alarm.seen_before.is_some_and(|before| before >= seen) {
            return draft.nothing(Outcome::EscalatedBefore);
        }
        if let Some(open) = draft
            .state
            .alarms
            .iter_mut()
            .find(|open| open.id == alarm.id)
        {
            open.seen_before = Some(seen);
        }
        draft.log.push(LogLine {
            change: Some(ChangeKind::Acknowledged),
            alarm: Some(alarm),
            acknowledged: Some((request.by.to_owned(), seen)),
        });
        return event::finish(draft, event::Effects::of(Outcome::Escalated), traceparent);
    }
    let changes = if let (Some(latest), Some(_)) = (&before.latest, open) {
        let mut alarms = draft.alarms();
        alarms.acknowledge(request.id, request.by, &told_limits(latest), latest.facts());
        let (open, changes) = alarms.finish();
        draft.state.alarms = open;
        changes
    } else {
        vec![acknowledged(alarm, request.by, draft.now)]
    };
    let commit = event::Effects {
        changes,
        seen: Some(request.seen.seq),
        ..event::Effects::of(Outcome::Acknowledged)
    };
    event::finish(draft, commit, traceparent)
}

/// A closed alarm, acknowledged.
fn acknowledged(alarm: Alarm, by: &str, at: Time) -> Change {
    let by = by.to_owned();
    Change {
        kind: ChangeKind::Acknowledged,
        alarm: Alarm {
            acknowledged: Some(Acknowledgement { by, at }),
            ..alarm
        },
    }
}

/// The levels as the rules judge them.
fn limits(latest: &Latest, settings: &AlarmSettings) -> [Limit; 3] {
    let mut limits = told_limits(latest);
    let reading = &latest.reading;
    for (limit, setting) in limits.iter_mut().zip(&reading.levels) {
        limit.deadband = if setting.hysteresis.is_positive() {
            setting.hysteresis
        } else {
            percent_deadband(limit, reading, settings)
        };
        limit.used = settings.zero_level == ZeroLevel::Value || limit.level != Decimal::ZERO;
    }
    limits
}

/// The deadband in percent of the span the device sends, or of the level where it sends none.
///
/// At most half of what lies between the level and the safe end of the span: 2 % of 2000 would keep a level of 35 for
/// ever, since no value is 40 below it.
fn percent_deadband(limit: &Limit, reading: &Reading, settings: &AlarmSettings) -> Decimal {
    let percent = settings.alarm_deadband;
    let (Some(span), Some(high)) = (span(reading), reading.span_high) else {
        return limit.level.percent(percent);
    };
    let room = match limit.side {
        Side::High => limit.level - reading.span_low.unwrap_or_default(),
        Side::Low => high - limit.level,
    };
    let deadband = span.percent(percent);
    let half = room.percent(Decimal::from_int(50));
    if room.is_positive() {
        deadband.min(half)
    } else {
        deadband
    }
}

/// The levels as they are told to people: what needs no settings.
fn told_limits(latest: &Latest) -> [Limit; 3] {
    std::array::from_fn(|index| {
        let setting = &latest.reading.levels[index];
        Limit {
            level: latest.levels[index],
            side: latest.sides[index],
            deadband: Decimal::ZERO,
            latching: setting.latching.map(|flag| flag >= Decimal::from_int(1)),
            used: true,
        }
    })
}

/// The measuring range, where the device sends one.
fn span(reading: &Reading) -> Option<Decimal> {
    let high = reading.span_high?;
    let span = high - reading.span_low.unwrap_or_default();
    span.is_positive().then_some(span)
}

impl Latest {
    fn facts(&self) -> Facts<'_> {
        Facts {
            reading: &self.reading,
            value: self.reading.value,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

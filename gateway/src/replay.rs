//! Decides what to send a client about a device: exactly the events it missed, or a snapshot that is marked as one. Pure.
//!
//! The same logic serves a new subscription (with or without the client's last position) and the members of a device of
//! which this replica missed an event. For them, `since` is the position up to which this replica has sent them everything.

mod changed_fields;
mod shared_frames;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::{self, Event, PayloadKind};
use shared::keys::MAX_CHANGES;
use shared::position::Position;
use shared::state::{DeviceState, Freshness, freshness};
use shared::store::{Snapshot, StoredChanges, StoredEvent};

use crate::event_names::{DEVICE_ALERTS, DEVICE_ALERTS_CHANGED, DEVICE_DATA, DEVICE_DATA_CHANGED};
use shared_frames::SharedFrames;

/// An event published for a device, with payloads that all members share.
#[derive(Clone, Debug)]
pub(crate) struct PublishedEvent {
    pub(crate) position: Position,
    /// Number of positions before it that have no event, because it has the newer reading.
    pub(crate) skipped: u64,
    /// Server time of the commit.
    pub(crate) at: Time,
    /// The message behind it proves the device alive.
    pub(crate) alive: bool,
    /// Server time at which the reading that is shown was taken.
    pub(crate) measured_at: Time,
    /// The device was retired by this event.
    pub(crate) retired: bool,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) data: Option<Arc<RawValue>>,
    pub(crate) alerts: Option<Arc<RawValue>>,
    pub(crate) changes: Option<Arc<RawValue>>,
    frames: SharedFrames,
}

/// A published event for clients that have the reading before and want only the changed fields.
#[derive(Debug)]
pub(crate) struct ChangedEvent<'a> {
    event: &'a PublishedEvent,
    data: Box<RawValue>,
    frames: SharedFrames,
}

/// The packets that bring one client up to date, in order.
#[derive(Clone, Debug)]
pub(crate) struct CatchUp {
    pub(crate) packets: Vec<(&'static str, Arc<RawValue>)>,
    /// The last position among the packets; without packets, the position the client already has.
    pub(crate) position: Position,
    pub(crate) outcome: Outcome,
}

/// How complete a catch-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every event after the client's position, or none because it missed none.
    Recovered,
    /// Every alarm change after the client's position, then a snapshot.
    Snapshot,
    /// A snapshot. Alarm changes after the client's position may be missing.
    AlarmsIncomplete,
}

impl Outcome {
    /// Every code, in the order of the variants.
    pub(crate) const CODES: [&'static str; 3] = ["recovered", "snapshot", "alarms_incomplete"];

    /// Returns the code in metrics.
    pub(crate) fn code(self) -> &'static str {
        Self::CODES[self as usize]
    }
}

impl CatchUp {
    pub(crate) fn is_recovered(&self) -> bool {
        self.outcome == Outcome::Recovered
    }

    /// Returns the packets to send, in order.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (&'static str, &Arc<RawValue>)> {
        self.packets.iter().map(|(name, payload)| (*name, payload))
    }
}

impl PublishedEvent {
    /// Reads the envelope. The payloads are not parsed, and their bytes stay as they are: only an event of a release that did
    /// not have the field `more` gets it here.
    ///
    /// # Errors
    /// The bytes are not an event.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let event: Event<'_> = serde_json::from_slice(bytes)?;
        let payloads = [event.data, event.alerts, event.changes];
        let payloads = payloads.map(|payload| payload.map(ToOwned::to_owned));
        let [data, alerts, changes] =
            event::mark_all_but_last(payloads).map(|payload| payload.map(Arc::from));
        Ok(Self {
            position: Position {
                epoch: event.epoch,
                seq: event.seq,
            },
            skipped: event.skipped,
            at: event.at,
            alive: event.alive,
            measured_at: event.measured_at.unwrap_or(event.at),
            retired: event.retired,
            traceparent: event.traceparent.as_deref().map(Arc::from),
            data,
            alerts,
            changes,
            frames: SharedFrames::default(),
        })
    }

    /// Returns whether it directly follows the position.
    pub(crate) fn follows(&self, before: Position) -> bool {
        let next = before.seq.checked_add(1);
        let next = next.and_then(|next| next.checked_add(self.skipped));
        self.position.epoch == before.epoch && next == Some(self.position.seq)
    }

    /// Returns whether alarms changed. Then all of its payloads must arrive.
    pub(crate) fn has_alarm_changes(&self) -> bool {
        self.alerts.is_some() || self.changes.is_some()
    }

    /// Its packets as WebSocket frames, which all clients share. `compressed`: those for clients with which compression was agreed on.
    pub(crate) fn frames(&self, compressed: bool) -> &Bytes {
        let packets = self.packets();
        let packets = packets.map(|(name, payload)| (name, &**payload));
        self.frames.get(packets, compressed)
    }

    /// Returns its packets for clients that only want the changed fields of a reading, and have the reading `before` since the
    /// position `base`. `None` if they need the packets as they are.
    pub(crate) fn changed(&self, before: &RawValue, base: Position) -> Option<ChangedEvent<'_>> {
        let data = changed_fields::render(before, base, self.data.as_deref()?)?;
        Some(ChangedEvent {
            event: self,
            data,
            frames: SharedFrames::default(),
        })
    }

    /// Its packets, in the order in which clients get them.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (&'static str, &Arc<RawValue>)> + Clone {
        [
            (DEVICE_DATA, &self.data),
            (DEVICE_ALERTS, &self.alerts),
            (DEVICE_ALERTS_CHANGED, &self.changes),
        ]
        .into_iter()
        .filter_map(|(name, payload)| Some((name, payload.as_ref()?)))
    }
}

impl ChangedEvent<'_> {
    /// Its packets as WebSocket frames, as [`PublishedEvent::frames`].
    pub(crate) fn frames(&self, compressed: bool) -> &Bytes {
        let others = self
            .event
            .packets()
            .filter(|(name, _)| *name != DEVICE_DATA);
        let others = others.map(|(name, payload)| (name, &**payload));
        let packets = std::iter::once((DEVICE_DATA_CHANGED, &*self.data)).chain(others);
        self.frames.get(packets, compressed)
    }
}

/// Returns the packets for a client that subscribes. `since` is its last position; `None` if it has none.
pub(crate) fn for_subscription(
    device: &DeviceId,
    since: Option<Position>,
    snapshot: &Snapshot,
    now: Time,
) -> CatchUp {
    let Some(since) = since else {
        return fresh(device, None, snapshot, now);
    };
    let mut catch_up = catch_up(device, since, snapshot, now);
    if catch_up.is_recovered() {
        // Replayed events are as fresh as when they were published. The last one shown must have its present freshness.
        let stale = stale_data(snapshot, now);
        let packets = &mut catch_up.packets;
        packets.extend(stale.map(|data| (DEVICE_DATA, data)));
    }
    catch_up
}

/// Returns the events that a client at `since` missed, or a snapshot. Does not say whether the device has gone stale since
/// its last event.
pub(crate) fn catch_up(
    device: &DeviceId,
    since: Position,
    snapshot: &Snapshot,
    now: Time,
) -> CatchUp {
    match missed(since, snapshot) {
        Some(events) => replayed(since, &events),
        None => fresh(device, Some(since), snapshot, now),
    }
}

/// Renders the last `device:data` again, marked as stale, if the device is too old to be shown as current.
pub(crate) fn stale_data(snapshot: &Snapshot, now: Time) -> Option<Arc<RawValue>> {
    let state = snapshot.state.as_ref()?;
    match freshness(state, snapshot.last_message, now) {
        // A device that was never heard alive has no silence limit. It was shown as such from the start.
        Freshness::Fresh | Freshness::Unheard => None,
        Freshness::Stale => device_data(state, Freshness::Stale, PayloadKind::Stale),
    }
}

/// Copies the `device:data` sent last and marks it as stale, for the time in which Redis cannot be read.
///
/// The bytes are edited, since nothing else is known. Quotes within a JSON string are escaped, so the first
/// `"alarm_status":"` and the last `"data_quality":"` belong to the reading, even if the device's payload contains the same
/// text. The copy has neither `more` nor `snapshot`: clients have the position already, and no other event of it follows.
pub(crate) fn stale_copy(data: &RawValue) -> Option<Arc<RawValue>> {
    let text = replace_value(
        data.get(),
        data.get().find(ALARM_STATUS)? + ALARM_STATUS.len(),
        "ALARM",
    )?;
    let quality = text.rfind(DATA_QUALITY)? + DATA_QUALITY.len();
    let text = replace_value(&text, quality, "offline")?;
    let fields = event::fields_without_more(&text)?;
    let fields = fields.strip_suffix(SNAPSHOT).unwrap_or(fields);
    let marked = format!(r#"{fields},"stale":true}}"#);
    RawValue::from_string(marked).ok().map(Arc::from)
}

const ALARM_STATUS: &str = r#""alarm_status":""#;
const DATA_QUALITY: &str = r#""data_quality":""#;
const SNAPSHOT: &str = r#","snapshot":true"#;

/// Replaces the text from `start` up to the next quote.
fn replace_value(text: &str, start: usize, value: &str) -> Option<String> {
    let rest = text.get(start..)?;
    let end = start + rest.find('"')?;
    Some(format!("{}{value}{}", &text[..start], &text[end..]))
}

/// Renders the payload of `device:data` for the stored reading, as if it were fresh.
pub(crate) fn current_data(snapshot: &Snapshot, kind: PayloadKind) -> Option<Arc<RawValue>> {
    device_data(snapshot.state.as_ref()?, Freshness::Fresh, kind)
}

/// Returns the readings after `since` that were committed at `from` or later. Empty if the stream has a gap after `since`.
pub(crate) fn readings(
    since: Position,
    snapshot: &Snapshot,
    from: Option<Time>,
) -> Vec<Arc<RawValue>> {
    let events = missed(since, snapshot).unwrap_or_default().into_iter();
    events
        .filter(|event| from.is_none_or(|from| event.at >= from))
        .filter_map(|event| event.data)
        .collect()
}

/// Returns the position of a snapshot. For an unknown device: number 0 of the partition's present epoch.
pub(crate) fn position(snapshot: &Snapshot) -> Position {
    let unknown = Position {
        epoch: snapshot.epoch,
        seq: 0,
    };
    snapshot
        .state
        .as_ref()
        .map_or(unknown, |state| state.position)
}

/// Returns every event after `since`, if the stream still holds the entry at `since` and all that follow it without a gap.
/// The position after which the device began is treated as an entry: 0, or the one at which an earlier device of that name
/// was retired.
///
/// The entry's epoch shows whether it is the event that the client saw. After that entry the stream is authoritative, even
/// where its epoch changes.
pub(crate) fn missed(since: Position, snapshot: &Snapshot) -> Option<Vec<PublishedEvent>> {
    let is_beginning = since.epoch == snapshot.epoch && since.seq == snapshot.born_after;
    let after: &[StoredEvent] = if is_beginning {
        &snapshot.events
    } else {
        let seen = snapshot
            .events
            .iter()
            .position(|event| event.position == since)?;
        &snapshot.events[seen + 1..]
    };
    let mut seq = since.seq;
    let mut events = Vec::with_capacity(after.len());
    for stored in after {
        let event = PublishedEvent::parse(&stored.bytes).ok()?;
        let before = Position {
            seq,
            ..stored.position
        };
        if !event.follows(before) || event.position != stored.position {
            return None;
        }
        seq = stored.position.seq;
        events.push(event);
    }
    let state = snapshot.state.as_ref();
    let last = state.map_or(snapshot.born_after, |state| state.position.seq);
    (seq == last).then_some(events)
}

fn replayed(since: Position, events: &[PublishedEvent]) -> CatchUp {
    let packets = events.iter().flat_map(PublishedEvent::packets);
    CatchUp {
        packets: packets
            .map(|(name, payload)| (name, Arc::clone(payload)))
            .collect(),
        position: events.last().map_or(since, |event| event.position),
        outcome: Outcome::Recovered,
    }
}

fn fresh(device: &DeviceId, since: Option<Position>, snapshot: &Snapshot, now: Time) -> CatchUp {
    let position = position(snapshot);
    let mut packets = Vec::new();
    let mut outcome = Outcome::Snapshot;
    if let Some(since) = since {
        let changes = changes_after(since, &snapshot.changes);
        packets.extend(changes.iter().filter_map(|stored| {
            let payload = serde_json::from_slice::<Box<RawValue>>(&stored.payload).ok()?;
            // It was the last event of its position. Without the other events, the client has that position only with the
            // snapshot.
            let payload = event::with_more(payload);
            Some((DEVICE_ALERTS_CHANGED, Arc::from(payload)))
        }));
        // A payload that cannot be read is a change that the client does not get.
        let are_readable = packets.len() == changes.len();
        if !are_readable || !has_all_changes(since, snapshot) {
            outcome = Outcome::AlarmsIncomplete;
        }
    }
    if let Some(state) = &snapshot.state {
        let freshness = freshness(state, snapshot.last_message, now);
        let data = event::device_data(state, freshness, PayloadKind::Snapshot, None);
        let has_alerts = since.is_some() || !state.alarms.is_empty();
        let alerts = has_alerts
            .then(|| event::device_alerts(device, &state.alarms, position, PayloadKind::Snapshot));
        let [data, alerts] = event::mark_all_but_last([data, alerts]);
        packets.extend(data.map(|data| (DEVICE_DATA, Arc::from(data))));
        packets.extend(alerts.map(|alerts| (DEVICE_ALERTS, Arc::from(alerts))));
    } else if let Some(since) = since.filter(|since| since.epoch == snapshot.epoch) {
        // Within an epoch only a retirement removes a device, so no alarm is open. In a new epoch nothing is known of its
        // alarms. The position of the client must not go back.
        let alerts = event::device_alerts(device, [], since, PayloadKind::Snapshot);
        packets.push((DEVICE_ALERTS, Arc::from(alerts)));
    }
    CatchUp {
        packets,
        position,
        outcome,
    }
}

fn device_data(
    state: &DeviceState,
    freshness: Freshness,
    kind: PayloadKind,
) -> Option<Arc<RawValue>> {
    event::device_data(state, freshness, kind, None).map(Arc::from)
}

/// Returns the alarm changes that a client at `since` has not seen: those after the last change of its own epoch that it has
/// seen, or, if the stream has none of that epoch, those with higher numbers.
fn changes_after(since: Position, changes: &[StoredChanges]) -> &[StoredChanges] {
    let is_seen = |at: Position| at.epoch == since.epoch && at.seq <= since.seq;
    let last_seen = changes.iter().rposition(|stored| is_seen(stored.position));
    let first = match last_seen {
        Some(last_seen) => last_seen + 1,
        None => changes.partition_point(|stored| stored.position.seq <= since.seq),
    };
    &changes[first..]
}

/// Returns whether the changes stream holds every alarm change after `since`. For that, `since` must belong to the history
/// that the streams show, not lie before the device began, and the stream must reach back to it.
fn has_all_changes(since: Position, snapshot: &Snapshot) -> bool {
    let reaches = |at: Position| at.epoch == since.epoch && at.seq >= since.seq;
    let is_same_history = reaches(position(snapshot))
        || snapshot
            .events
            .iter()
            .any(|stored| reaches(stored.position))
        || snapshot
            .changes
            .iter()
            .any(|stored| reaches(stored.position));
    let was_never_trimmed = snapshot.changes.len() < MAX_CHANGES;
    let oldest = snapshot.changes.first().map(|stored| stored.position.seq);
    let reaches_back = oldest.is_some_and(|oldest| oldest <= since.seq.saturating_add(1));
    since.seq >= snapshot.born_after && is_same_history && (was_never_trimmed || reaches_back)
}

#[cfg(test)]
mod tests;

//! What a client is told about a device: exactly what it missed, or a fresh picture that says so. Pure.
//!
//! The same answer serves a subscription (with or without the client's last position) and the members of a device of
//! which this replica missed an event, whose last position is then our own.

use std::sync::Arc;

use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::{self, Event, PayloadKind};
use shared::keys::MAX_CHANGES;
use shared::position::Position;
use shared::state::{DeviceState, Freshness, freshness};
use shared::store::{Snapshot, StoredChanges, StoredEvent};

/// An event published for a device, its payloads ready to be shared by all members.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) position: Position,
    /// Server time of the commit.
    pub(crate) at: Time,
    /// The message behind it proves the device alive.
    pub(crate) alive: bool,
    /// The device was retired with it.
    pub(crate) retired: bool,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) data: Option<Arc<RawValue>>,
    pub(crate) alerts: Option<Arc<RawValue>>,
    pub(crate) changes: Option<Arc<RawValue>>,
}

/// What is sent to one client, in order, and what its acknowledgement says.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) packets: Vec<(&'static str, Arc<RawValue>)>,
    /// The last position sent before the acknowledgement.
    pub(crate) position: Position,
    pub(crate) recovered: bool,
    /// False if alarm changes after the client's position may be missing.
    pub(crate) alarms_recovered: bool,
}

impl Answer {
    /// A short constant for counters.
    pub(crate) fn outcome(&self) -> &'static str {
        match (self.recovered, self.alarms_recovered) {
            (true, _) => "recovered",
            (false, true) => "snapshot",
            (false, false) => "alarms_incomplete",
        }
    }

    /// What is sent, in order.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (&'static str, &Arc<RawValue>)> {
        self.packets.iter().map(|(name, payload)| (*name, payload))
    }
}

impl Published {
    /// Reads the envelope; the payloads stay as they are.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let event: Event<'_> = serde_json::from_slice(bytes)?;
        let shared = |payload: Option<&RawValue>| payload.map(|raw| Arc::from(raw.to_owned()));
        Ok(Self {
            position: Position {
                epoch: event.epoch,
                seq: event.seq,
            },
            at: event.at,
            alive: event.alive,
            retired: event.retired,
            traceparent: event.traceparent.as_deref().map(Arc::from),
            data: shared(event.data),
            alerts: shared(event.alerts),
            changes: shared(event.changes),
        })
    }

    /// Whether alarms changed: then it must arrive whole.
    pub(crate) fn tells_of_alarms(&self) -> bool {
        self.alerts.is_some() || self.changes.is_some()
    }

    /// Its packets in the order of the wire.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (&'static str, &Arc<RawValue>)> {
        let data = self.data.as_ref().map(|payload| ("device:data", payload));
        let alerts = self
            .alerts
            .as_ref()
            .map(|payload| ("device:alerts", payload));
        let changes = self
            .changes
            .as_ref()
            .map(|payload| ("device:alerts:changed", payload));
        data.into_iter().chain(alerts).chain(changes)
    }
}

/// What a client that subscribes with `since` (`None`: it has nothing) is told about a device as it was read.
pub(crate) fn answer(
    device: &DeviceId,
    since: Option<Position>,
    snapshot: &Snapshot,
    now: Time,
) -> Answer {
    let Some(since) = since else {
        return fresh(device, None, snapshot, now);
    };
    let mut answer = catch_up(device, since, snapshot, now);
    if answer.recovered {
        // The events are as fresh as they were published; what is shown in the end must be judged now.
        let stale = stale_data(snapshot, now);
        answer
            .packets
            .extend(stale.map(|data| ("device:data", data)));
    }
    answer
}

/// What a client at `since` missed, or a fresh picture. Whether the device is still fresh is told apart from it.
pub(crate) fn catch_up(
    device: &DeviceId,
    since: Position,
    snapshot: &Snapshot,
    now: Time,
) -> Answer {
    match missed(since, snapshot) {
        Some(events) => recovered(since, &events),
        None => fresh(device, Some(since), snapshot, now),
    }
}

/// The last `device:data` once more, marked stale, if the device is too old to be shown as current.
pub(crate) fn stale_data(snapshot: &Snapshot, now: Time) -> Option<Arc<RawValue>> {
    let state = snapshot.state.as_ref()?;
    match freshness(state, snapshot.last_message, now) {
        // One that was never heard alive has no limit to go beyond; it was shown as what it is from the start.
        Freshness::Fresh | Freshness::Unheard => None,
        Freshness::Stale => device_data(state, Freshness::Stale, PayloadKind::Stale),
    }
}

/// What was told last, shown as stale: for the time in which nothing newer can be read.
///
/// Told from the bytes themselves, since they are all there is. A quote within a value is escaped, so that the first
/// `alarm_status` and the last `data_quality` are those of the reading, whatever a payload carries.
pub(crate) fn stale_copy(data: &RawValue) -> Option<Arc<RawValue>> {
    let text = replace_word(
        data.get(),
        data.get().find(ALARM_STATUS)? + ALARM_STATUS.len(),
        "ALARM",
    )?;
    let quality = text.rfind(DATA_QUALITY)? + DATA_QUALITY.len();
    let text = replace_word(&text, quality, "offline")?;
    let marked = format!(r#"{},"stale":true}}"#, text.strip_suffix('}')?);
    RawValue::from_string(marked).ok().map(Arc::from)
}

const ALARM_STATUS: &str = r#""alarm_status":""#;
const DATA_QUALITY: &str = r#""data_quality":""#;

/// Replaces the word that begins at `start` and ends before the next quote.
fn replace_word(text: &str, start: usize, word: &str) -> Option<String> {
    let rest = text.get(start..)?;
    let end = start + rest.find('"')?;
    Some(format!("{}{word}{}", &text[..start], &text[end..]))
}

/// The payload of `device:data` as it stands.
pub(crate) fn present_data(snapshot: &Snapshot, mark: PayloadKind) -> Option<Arc<RawValue>> {
    device_data(snapshot.state.as_ref()?, Freshness::Fresh, mark)
}

/// The readings after `since` that were committed not before `from`, as far as they are known without a hole.
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

/// Position of what was read; the partition's present epoch and 0 for a device not heard of.
pub(crate) fn position(snapshot: &Snapshot) -> Position {
    let unheard = Position {
        epoch: snapshot.epoch,
        seq: 0,
    };
    snapshot
        .state
        .as_ref()
        .map_or(unheard, |state| state.position)
}

/// Every event after `since`, if the stream still holds the entry at `since` and all that follows without a hole. The
/// position after which the device began counts as an entry: 0, or that at which one of its name was retired.
///
/// An entry's own epoch tells whether it is the one that was seen: behind it the stream is the one line that counts,
/// whatever epochs it went through.
pub(crate) fn missed(since: Position, snapshot: &Snapshot) -> Option<Vec<Published>> {
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
        let event = Published::parse(&stored.bytes).ok()?;
        if stored.position.seq != seq.checked_add(1)? || event.position != stored.position {
            return None;
        }
        seq = stored.position.seq;
        events.push(event);
    }
    let state = snapshot.state.as_ref();
    let last = state.map_or(snapshot.born_after, |state| state.position.seq);
    (seq == last).then_some(events)
}

fn recovered(since: Position, events: &[Published]) -> Answer {
    let packets = events.iter().flat_map(Published::packets);
    Answer {
        packets: packets
            .map(|(name, payload)| (name, Arc::clone(payload)))
            .collect(),
        position: events.last().map_or(since, |event| event.position),
        recovered: true,
        alarms_recovered: true,
    }
}

fn fresh(device: &DeviceId, since: Option<Position>, snapshot: &Snapshot, now: Time) -> Answer {
    let position = position(snapshot);
    let mut packets = Vec::new();
    let mut alarms_recovered = true;
    if let Some(since) = since {
        let changes = changes_after(since, &snapshot.changes);
        packets.extend(changes.iter().filter_map(|stored| {
            let payload = serde_json::from_slice::<Box<RawValue>>(&stored.payload).ok()?;
            Some(("device:alerts:changed", Arc::from(payload)))
        }));
        // A payload that cannot be read is a change that is not told.
        alarms_recovered = packets.len() == changes.len() && are_complete(since, snapshot);
    }
    if let Some(state) = &snapshot.state {
        let freshness = freshness(state, snapshot.last_message, now);
        let data = device_data(state, freshness, PayloadKind::Snapshot);
        packets.extend(data.map(|data| ("device:data", data)));
        if since.is_some() || !state.alarms.is_empty() {
            let alerts =
                event::device_alerts(device, &state.alarms, position, PayloadKind::Snapshot);
            packets.push(("device:alerts", Arc::from(alerts)));
        }
    } else if since.is_some_and(|since| since.epoch == snapshot.epoch) {
        // Within an epoch a device goes only by being retired. At a new one nothing is known of its alarms.
        let alerts = event::device_alerts(device, [], position, PayloadKind::Snapshot);
        packets.push(("device:alerts", Arc::from(alerts)));
    }
    Answer {
        packets,
        position,
        recovered: false,
        alarms_recovered,
    }
}

fn device_data(
    state: &DeviceState,
    freshness: Freshness,
    mark: PayloadKind,
) -> Option<Arc<RawValue>> {
    event::device_data(state, freshness, mark, None).map(Arc::from)
}

/// The alarm changes a client at `since` has not seen: those behind its own position where the stream knows its epoch,
/// else those of higher numbers.
fn changes_after(since: Position, changes: &[StoredChanges]) -> &[StoredChanges] {
    let is_seen = |at: Position| at.epoch == since.epoch && at.seq <= since.seq;
    let last_seen = changes.iter().rposition(|stored| is_seen(stored.position));
    let first = match last_seen {
        Some(last_seen) => last_seen + 1,
        None => changes.partition_point(|stored| stored.position.seq <= since.seq),
    };
    &changes[first..]
}

/// Whether no alarm change after `since` is missing: the position is on the line the streams show, which began with the
/// device, and the changes reach back to it.
fn are_complete(since: Position, snapshot: &Snapshot) -> bool {
    let reaches = |at: Position| at.epoch == since.epoch && at.seq >= since.seq;
    let is_on_line = reaches(position(snapshot))
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
    let reach_back = oldest.is_some_and(|oldest| oldest <= since.seq.saturating_add(1));
    since.seq >= snapshot.born_after && is_on_line && (was_never_trimmed || reach_back)
}

#[cfg(test)]
mod tests;

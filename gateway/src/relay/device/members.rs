//! The clients that get a device's events, each with the position up to which it has them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::position::Position;
use shared::store::Snapshot;

use super::answer_cache::AnswerCache;
use crate::client::{Client, ClientId};
use crate::event_names::DEVICE_DATA;
use crate::replay::{self, ChangedEvent, PublishedEvent};
use crate::spare_capacity::{shrink_map, shrink_vec};

/// The members of one device.
#[derive(Debug)]
pub(super) struct Members {
    device: DeviceId,
    /// In no particular order: the last one takes the place of one that is removed. A vector, since each event goes through it.
    list: Vec<Member>,
    /// The index of each member in `list`.
    places: HashMap<ClientId, usize>,
    /// The last reading that was sent, if a member wants only what changes.
    last: Option<LastReading>,
    /// Number of members that want only the changed fields of readings.
    changes_wanted: usize,
}

#[derive(Debug)]
struct LastReading {
    position: Position,
    data: Arc<RawValue>,
}

#[derive(Debug)]
struct Member {
    client: Arc<Client>,
    /// The last position sent to it.
    position: Position,
    wants_changes: bool,
    /// The last `device:data` sent to it was [`Members::last`], or changed fields that lead to it.
    has_last: bool,
}

/// The result of sending an event to the members.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Members that got the event with its broadcast. Empty without a broadcast.
    pub(super) reached: HashSet<ClientId>,
    /// Number of members that took the event at once, without their outbox. They are not counted yet.
    pub(super) at_once: u64,
    /// At least one member misses an earlier event. It was not sent this one.
    pub(super) has_gap: bool,
}

impl Members {
    pub(super) fn new(device: DeviceId) -> Self {
        Self {
            device,
            list: Vec::new(),
            places: HashMap::new(),
            last: None,
            changes_wanted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a client that has everything up to this position. `wants_changes`: it wants only the changed fields of readings, once it
    /// has a live reading.
    pub(super) fn insert(&mut self, client: &Arc<Client>, position: Position, wants_changes: bool) {
        self.remove(client.id());
        self.changes_wanted += usize::from(wants_changes);
        let member = Member {
            client: Arc::clone(client),
            position,
            wants_changes,
            has_last: false,
        };
        self.places.insert(client.id(), self.list.len());
        self.list.push(member);
    }

    pub(super) fn remove(&mut self, client: ClientId) {
        let Some(place) = self.places.remove(&client) else {
            return;
        };
        let removed = self.list.swap_remove(place);
        self.changes_wanted -= usize::from(removed.wants_changes);
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.client.id(), place);
        }
    }

    /// Returns memory that it needed for a flood of clients. To be called regularly.
    pub(super) fn shrink(&mut self) {
        shrink_map(&mut self.places);
        shrink_vec(&mut self.list);
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        self.list.iter().map(|member| member.position)
    }

    /// Sends an event to each member for which it is the next one. `with_broadcast`: also sends its reading as
    /// `subtronics:data`.
    pub(super) fn send_event(&mut self, event: &PublishedEvent, with_broadcast: bool) -> Delivery {
        let mut delivery = Delivery::default();
        let now = Instant::now();
        let changed = self.changed_event(event, with_broadcast);
        for member in &mut self.list {
            // The reading becomes the last one, whether this member gets it or not.
            let had_last = member.has_last;
            member.has_last &= event.data.is_none();
            if is_at_or_before(event.position, member.position) {
                continue;
            }
            if !event.follows(member.position) {
                delivery.has_gap = true;
                continue;
            }
            member.position = event.position;
            member.has_last |= event.data.is_some();
            let client = &member.client;
            let changed = changed.as_ref();
            let changed = changed.filter(|_| member.wants_changes && had_last);
            // What has to wait may be replaced or follow something that is, so it is sent in full.
            let was_at_once = changed
                .and_then(|changed| {
                    client.send_frames(event, |compressed| changed.frames(compressed), now)
                })
                .unwrap_or_else(|| client.send_published(&self.device, event, with_broadcast, now));
            delivery.at_once += u64::from(was_at_once);
            if with_broadcast {
                delivery.reached.insert(client.id());
            }
        }
        delivery
    }

    /// Returns an event as it is for members that have the last reading and want only what has changed since. Remembers its reading as
    /// the last one.
    fn changed_event<'a>(
        &mut self,
        event: &'a PublishedEvent,
        with_broadcast: bool,
    ) -> Option<ChangedEvent<'a>> {
        let data = event.data.as_ref()?;
        if self.changes_wanted == 0 {
            self.last = None;
            return None;
        }
        let last = LastReading {
            position: event.position,
            data: Arc::clone(data),
        };
        let before = self.last.replace(last)?;
        if with_broadcast {
            return None;
        }
        event.changed(&before.data, before.position)
    }

    /// Sends every member a `device:data` that has no position of its own.
    pub(super) fn send_data(&mut self, data: &Arc<RawValue>) {
        for member in &mut self.list {
            member.has_last = false;
            let packet = (DEVICE_DATA, data);
            member.client.send_complete(&self.device, [packet]);
        }
    }

    /// Sends every member the events it missed. Returns the answers that were sent.
    pub(super) fn catch_up(&mut self, snapshot: &Snapshot, now: Time) -> AnswerCache<Position> {
        let mut answers = AnswerCache::new();
        for member in &mut self.list {
            member.has_last = false;
            let since = member.position;
            let answer = answers.get(since, || {
                replay::catch_up(&self.device, since, snapshot, now)
            });
            member.client.send_complete(&self.device, answer.packets());
            // If the device was removed, members keep their position. When a device with the same id appears, its first
            // event follows a gap, and a snapshot repairs the gap.
            if snapshot.state.is_some() || answer.is_recovered() {
                member.position = answer.position;
            }
        }
        answers
    }
}

/// Returns whether position `reached` already includes the event at position `event`.
pub(super) fn is_at_or_before(event: Position, reached: Position) -> bool {
    event.epoch == reached.epoch && event.seq <= reached.seq
}

#[cfg(test)]
mod tests;

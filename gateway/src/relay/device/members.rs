//! The clients that get a device's events, each with the position up to which it has them.

use std::collections::hash_map::Entry;
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
use crate::replay::{self, PublishedEvent};
use crate::spare_capacity::{shrink_map, shrink_vec};

/// The members of one device.
#[derive(Debug)]
pub(super) struct Members {
    device: DeviceId,
    /// In no particular order: the last one takes the place of one that is removed. A vector, since each event goes through it.
    list: Vec<Member>,
    /// The index of each member in `list`.
    places: HashMap<ClientId, usize>,
}

#[derive(Debug)]
struct Member {
    client: Arc<Client>,
    /// The last position sent to it.
    position: Position,
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
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a client that has everything up to this position.
    pub(super) fn insert(&mut self, client: &Arc<Client>, position: Position) {
        let member = Member {
            client: Arc::clone(client),
            position,
        };
        match self.places.entry(client.id()) {
            Entry::Occupied(place) => self.list[*place.get()] = member,
            Entry::Vacant(place) => {
                place.insert(self.list.len());
                self.list.push(member);
            }
        }
    }

    pub(super) fn remove(&mut self, client: ClientId) {
        let Some(place) = self.places.remove(&client) else {
            return;
        };
        self.list.swap_remove(place);
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
        for member in &mut self.list {
            if is_at_or_before(event.position, member.position) {
                continue;
            }
            if !event.follows(member.position) {
                delivery.has_gap = true;
                continue;
            }
            member.position = event.position;
            let client = &member.client;
            let was_at_once = client.send_published(&self.device, event, with_broadcast, now);
            delivery.at_once += u64::from(was_at_once);
            if with_broadcast {
                delivery.reached.insert(client.id());
            }
        }
        delivery
    }

    /// Sends every member a `device:data` that has no position of its own.
    pub(super) fn send_data(&self, data: &Arc<RawValue>) {
        for member in &self.list {
            let packet = (DEVICE_DATA, data);
            member.client.send_complete(&self.device, [packet]);
        }
    }

    /// Sends every member the events it missed. Returns the answers that were sent.
    pub(super) fn catch_up(&mut self, snapshot: &Snapshot, now: Time) -> AnswerCache<Position> {
        let mut answers = AnswerCache::new();
        for member in &mut self.list {
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

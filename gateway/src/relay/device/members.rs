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
use crate::replay::{self, PublishedEvent};
use crate::spare_capacity::shrink_map;

/// The members of one device.
#[derive(Debug)]
pub(super) struct Members {
    device: DeviceId,
    by_id: HashMap<ClientId, Member>,
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
    /// Members that got the event and its broadcast.
    pub(super) reached: HashSet<ClientId>,
    /// At least one member misses an earlier event. It was not sent this one.
    pub(super) has_gap: bool,
}

impl Members {
    pub(super) fn new(device: DeviceId) -> Self {
        Self {
            device,
            by_id: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Adds a client that has everything up to this position.
    pub(super) fn insert(&mut self, client: &Arc<Client>, position: Position) {
        let member = Member {
            client: Arc::clone(client),
            position,
        };
        self.by_id.insert(client.id(), member);
    }

    pub(super) fn remove(&mut self, client: ClientId) {
        self.by_id.remove(&client);
    }

    /// Returns memory that it needed for a flood of clients. To be called regularly.
    pub(super) fn shrink(&mut self) {
        shrink_map(&mut self.by_id);
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        self.by_id.values().map(|member| member.position)
    }

    /// Sends an event to each member for which it is the next one. `with_broadcast`: also sends its reading as
    /// `subtronics:data`.
    pub(super) fn send_event(&mut self, event: &PublishedEvent, with_broadcast: bool) -> Delivery {
        let mut delivery = Delivery::default();
        let now = Instant::now();
        for (id, member) in &mut self.by_id {
            if is_at_or_before(event.position, member.position) {
                continue;
            }
            if !event.follows(member.position) {
                delivery.has_gap = true;
                continue;
            }
            member.position = event.position;
            let client = &member.client;
            client.send_published(&self.device, event, with_broadcast, now);
            if with_broadcast {
                delivery.reached.insert(*id);
            }
        }
        delivery
    }

    /// Sends every member a `device:data` that has no position of its own.
    pub(super) fn send_data(&self, data: &Arc<RawValue>) {
        for member in self.by_id.values() {
            let packet = (DEVICE_DATA, data);
            member.client.send_complete(&self.device, [packet]);
        }
    }

    /// Sends every member the events it missed. Returns the answers that were sent.
    pub(super) fn catch_up(&mut self, snapshot: &Snapshot, now: Time) -> AnswerCache<Position> {
        let mut answers = AnswerCache::new();
        for member in self.by_id.values_mut() {
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

//! Loads of one device, and the subscriptions that wait for one. A load reads the device's snapshot from Redis.

use std::sync::Arc;

use crate::client::ClientId;
use crate::relay::command::Join;
use crate::replay::PublishedEvent;

/// The largest number of events kept while a load is under way. Further events are dropped, and the members catch up later.
const MAX_KEPT: usize = 256;

/// A subscription that waits for a load.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) join: Join,
    /// The client unsubscribed before it got its answer. It still gets that answer, but no later event.
    pub(super) has_left: bool,
}

/// A load under way.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) id: u64,
    /// The subscriptions that this load will answer.
    pub(super) joiners: Vec<Joiner>,
    /// This load will also send the members the events they missed. Until then they get no live events.
    pub(super) is_repair: bool,
    /// Events published since the load began, at most [`MAX_KEPT`].
    pub(super) kept: Vec<Arc<PublishedEvent>>,
    /// More than [`MAX_KEPT`] events were published, so some were dropped.
    pub(super) has_overflowed: bool,
}

impl Joiner {
    pub(super) fn new(join: Join) -> Self {
        Self {
            join,
            has_left: false,
        }
    }

    pub(super) fn belongs_to(&self, client: ClientId) -> bool {
        self.join.client.id() == client
    }
}

impl Load {
    pub(super) fn new(id: u64, joiners: Vec<Joiner>, is_repair: bool) -> Self {
        Self {
            id,
            joiners,
            is_repair,
            kept: Vec::new(),
            has_overflowed: false,
        }
    }

    pub(super) fn keep(&mut self, event: &Arc<PublishedEvent>) {
        if self.kept.len() < MAX_KEPT {
            self.kept.push(Arc::clone(event));
        } else {
            self.has_overflowed = true;
        }
    }
}

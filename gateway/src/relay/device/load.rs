//! Subscriptions that wait for a load of their device, and the load under way.

use std::sync::Arc;

use crate::client::ClientId;
use crate::relay::command::Join;
use crate::replay::PublishedEvent;

/// Events kept while a load is under way. If there are more, they are dropped and the members catch up afterwards.
const MAX_KEPT: usize = 256;

/// A subscription that waits for a load.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) join: Join,
    /// The client unsubscribed before it was answered. It gets the reply it waits for, but no event after it.
    pub(super) has_left: bool,
}

/// A load under way.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) id: u64,
    /// The subscriptions it will answer.
    pub(super) joiners: Vec<Joiner>,
    /// It will send the members what they missed. Until then they get no live events.
    pub(super) is_repair: bool,
    /// Events published meanwhile.
    pub(super) kept: Vec<Arc<PublishedEvent>>,
    pub(super) has_overflowed: bool,
}

impl Joiner {
    pub(super) fn new(join: Join) -> Self {
        Self {
            join,
            has_left: false,
        }
    }

    pub(super) fn is_of(&self, client: ClientId) -> bool {
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

//! Who watches which channel, and what must be subscribed or left in Redis because of it. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of a device's channel; everything the relay keeps about a device is found by it.
pub(crate) type Channel = Arc<str>;

/// The watched channels of one shard, with the state of their subscription. Bounded by the subscriptions of the
/// connected clients and by what lingers.
#[derive(Debug)]
pub(crate) struct Interest {
    linger: Duration,
    channels: HashMap<Channel, Entry>,
    /// Watched channels that Redis must be asked for, each once.
    wanted: VecDeque<Channel>,
}

#[derive(Debug)]
struct Entry {
    is_watched: bool,
    /// When the last watcher went.
    idle_since: Option<Instant>,
    subscription: Subscription,
    /// Stands in `wanted`.
    is_queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscription {
    /// Nobody asked Redis yet, or the connection on which it was asked is gone.
    Wanted,
    /// Asked, not confirmed.
    Asked,
    /// Confirmed: what is published from now on arrives.
    Confirmed,
    /// Being left. Asking again has to wait for the answer, else the two could overtake each other.
    Leaving,
}

impl Interest {
    pub(crate) fn new(linger: Duration) -> Self {
        Self {
            linger,
            channels: HashMap::new(),
            wanted: VecDeque::new(),
        }
    }

    /// Number of channels, those that linger included.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Somebody watches the channel from now on.
    pub(crate) fn watch(&mut self, channel: &Channel) {
        let entry = self.channels.entry(Arc::clone(channel)).or_insert(Entry {
            is_watched: true,
            idle_since: None,
            subscription: Subscription::Wanted,
            is_queued: false,
        });
        entry.is_watched = true;
        entry.idle_since = None;
        self.want(channel);
    }

    /// Queues a channel that is watched and not asked for.
    fn want(&mut self, channel: &Channel) {
        if let Some(entry) = self.channels.get_mut(channel)
            && entry.is_watched
            && entry.subscription == Subscription::Wanted
            && !entry.is_queued
        {
            entry.is_queued = true;
            self.wanted.push_back(Arc::clone(channel));
        }
    }

    /// Nobody watches it any more; the subscription lingers for those who come back.
    pub(crate) fn unwatch(&mut self, channel: &Channel, now: Instant) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.is_watched = false;
            entry.idle_since = Some(now);
        }
    }

    /// Whether what is published on the channel arrives here.
    pub(crate) fn is_confirmed(&self, channel: &Channel) -> bool {
        let entry = self.channels.get(channel);
        entry.is_some_and(|entry| entry.subscription == Subscription::Confirmed)
    }

    /// Up to `limit` channels that Redis must be asked for; they count as asked from now on.
    pub(crate) fn ask(&mut self, limit: usize) -> Vec<Channel> {
        let mut asked = Vec::new();
        while asked.len() < limit
            && let Some(channel) = self.wanted.pop_front()
        {
            if let Some(entry) = self.channels.get_mut(&channel) {
                entry.is_queued = false;
                if entry.is_watched && entry.subscription == Subscription::Wanted {
                    entry.subscription = Subscription::Asked;
                    asked.push(channel);
                }
            }
        }
        asked
    }

    /// Redis confirmed these; answers with those that are still watched.
    pub(crate) fn confirm(&mut self, channels: Vec<Channel>) -> Vec<Channel> {
        let mut watched = Vec::with_capacity(channels.len());
        for channel in channels {
            if let Some(entry) = self.channels.get_mut(&channel) {
                entry.subscription = Subscription::Confirmed;
                if entry.is_watched {
                    watched.push(channel);
                }
            }
        }
        watched
    }

    /// The connection is gone, and with it every subscription; what nobody watches is forgotten.
    pub(crate) fn lose_all(&mut self) {
        self.channels.retain(|_, entry| entry.is_watched);
        for entry in self.channels.values_mut() {
            entry.subscription = Subscription::Wanted;
            entry.is_queued = true;
        }
        self.wanted = self.channels.keys().cloned().collect();
    }

    /// Up to `limit` channels nobody came back to within the linger; they count as being left from now on.
    pub(crate) fn leave(&mut self, now: Instant, limit: usize) -> Vec<Channel> {
        let linger = self.linger;
        let is_over = |entry: &Entry| {
            entry
                .idle_since
                .is_some_and(|since| now.saturating_duration_since(since) >= linger)
        };
        // Without a subscription there is nothing to leave.
        let is_forgotten =
            |entry: &Entry| entry.subscription == Subscription::Wanted && is_over(entry);
        let before = self.channels.len();
        self.channels.retain(|_, entry| !is_forgotten(entry));
        if self.channels.len() < before {
            self.wanted
                .retain(|channel| self.channels.contains_key(channel));
        }
        let idle = |entry: &Entry| entry.subscription == Subscription::Confirmed && is_over(entry);
        let mut left = Vec::new();
        for (channel, entry) in self
            .channels
            .iter_mut()
            .filter(|(_, entry)| idle(entry))
            .take(limit)
        {
            entry.subscription = Subscription::Leaving;
            left.push(Arc::clone(channel));
        }
        left
    }

    /// Redis let go of these; those that are watched again by now must be asked for again.
    pub(crate) fn left(&mut self, channels: &[Channel]) {
        for channel in channels {
            if let Some(entry) = self.channels.get_mut(channel) {
                entry.subscription = Subscription::Wanted;
                if !entry.is_watched {
                    self.channels.remove(channel);
                }
            }
            self.want(channel);
        }
    }
}

#[cfg(test)]
mod tests;

//! Decides which Redis channels to subscribe to and to unsubscribe from, by which devices are watched. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of a device's Redis channel. The relay also uses it as the key of the device.
pub(crate) type Channel = Arc<str>;

/// The channels of one shard, with the state of their subscriptions. Bounded by the subscriptions of the connected clients
/// and by the channels that linger.
#[derive(Debug)]
pub(crate) struct Interest {
    linger: Duration,
    channels: HashMap<Channel, ChannelState>,
    /// The channels that are [`RedisSubscription::Queued`], in order, each once.
    queue: VecDeque<Channel>,
}

#[derive(Debug)]
struct ChannelState {
    /// When the last watcher left; `None` while the channel is watched.
    idle_since: Option<Instant>,
    subscription: RedisSubscription,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RedisSubscription {
    /// Not subscribed.
    None,
    /// To be subscribed to.
    Queued,
    /// Requested, not confirmed yet.
    Requested,
    /// Confirmed: every event published from now on arrives.
    Confirmed,
    /// The end was requested. A new subscription waits for the answer, because one request could overtake the other.
    Leaving,
}

impl ChannelState {
    fn is_watched(&self) -> bool {
        self.idle_since.is_none()
    }
}

impl Interest {
    pub(crate) fn new(linger: Duration) -> Self {
        Self {
            linger,
            channels: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Returns the number of channels, including those that linger.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Marks the channel as watched, and queues it if it is not subscribed to.
    pub(crate) fn watch(&mut self, channel: &Channel) {
        let state = self
            .channels
            .entry(Arc::clone(channel))
            .or_insert(ChannelState {
                idle_since: None,
                subscription: RedisSubscription::None,
            });
        state.idle_since = None;
        self.enqueue(channel);
    }

    /// Queues the channel if it is watched and not subscribed to.
    fn enqueue(&mut self, channel: &Channel) {
        if let Some(state) = self.channels.get_mut(channel)
            && state.is_watched()
            && state.subscription == RedisSubscription::None
        {
            state.subscription = RedisSubscription::Queued;
            self.queue.push_back(Arc::clone(channel));
        }
    }

    /// Marks the channel as no longer watched. Its subscription lingers for clients that come back.
    pub(crate) fn unwatch(&mut self, channel: &Channel, now: Instant) {
        if let Some(state) = self.channels.get_mut(channel) {
            state.idle_since = Some(now);
        }
    }

    /// Returns whether every event published on the channel arrives here.
    pub(crate) fn is_confirmed(&self, channel: &Channel) -> bool {
        let state = self.channels.get(channel);
        state.is_some_and(|state| state.subscription == RedisSubscription::Confirmed)
    }

    /// Takes up to `limit` channels from the queue and marks them as requested. The caller subscribes to them.
    pub(crate) fn begin_subscribing(&mut self, limit: usize) -> Vec<Channel> {
        let mut requested = Vec::new();
        while requested.len() < limit
            && let Some(channel) = self.queue.pop_front()
        {
            if let Some(state) = self.channels.get_mut(&channel) {
                if state.is_watched() {
                    state.subscription = RedisSubscription::Requested;
                    requested.push(channel);
                } else {
                    state.subscription = RedisSubscription::None;
                }
            }
        }
        requested
    }

    /// Marks subscriptions as confirmed by Redis. Returns the channels that are still watched.
    pub(crate) fn confirm(&mut self, channels: Vec<Channel>) -> Vec<Channel> {
        let mut watched = Vec::with_capacity(channels.len());
        for channel in channels {
            if let Some(state) = self.channels.get_mut(&channel) {
                state.subscription = RedisSubscription::Confirmed;
                if state.is_watched() {
                    watched.push(channel);
                }
            }
        }
        watched
    }

    /// Handles a lost connection, which ends every subscription. Queues the watched channels again and forgets the others.
    pub(crate) fn lose_all(&mut self) {
        self.channels.retain(|_, state| state.is_watched());
        for state in self.channels.values_mut() {
            state.subscription = RedisSubscription::Queued;
        }
        self.queue = self.channels.keys().cloned().collect();
    }

    /// Marks up to `limit` channels as leaving, because no client came back in time. The caller unsubscribes from them.
    pub(crate) fn begin_unsubscribing(&mut self, now: Instant, limit: usize) -> Vec<Channel> {
        let linger = self.linger;
        let has_lingered = |state: &ChannelState| {
            let since = state.idle_since;
            since.is_some_and(|since| now.saturating_duration_since(since) >= linger)
        };
        // Channels without a subscription are forgotten at once.
        let is_unsubscribed = |state: &ChannelState| {
            matches!(
                state.subscription,
                RedisSubscription::None | RedisSubscription::Queued
            )
        };
        let before = self.channels.len();
        self.channels
            .retain(|_, state| !(is_unsubscribed(state) && has_lingered(state)));
        if self.channels.len() < before {
            self.queue
                .retain(|channel| self.channels.contains_key(channel));
        }
        let mut leaving = Vec::new();
        for (channel, state) in &mut self.channels {
            if leaving.len() == limit {
                break;
            }
            if state.subscription == RedisSubscription::Confirmed && has_lingered(state) {
                state.subscription = RedisSubscription::Leaving;
                leaving.push(Arc::clone(channel));
            }
        }
        leaving
    }

    /// Marks subscriptions as ended by Redis. Channels that are watched again by now are queued again.
    pub(crate) fn confirm_left(&mut self, channels: &[Channel]) {
        for channel in channels {
            if let Some(state) = self.channels.get_mut(channel) {
                state.subscription = RedisSubscription::None;
                if !state.is_watched() {
                    self.channels.remove(channel);
                }
            }
            self.enqueue(channel);
        }
    }
}

#[cfg(test)]
mod tests;

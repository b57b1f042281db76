//! Which channels are watched, and which subscriptions in Redis must therefore begin or end. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of a device's channel. The relay finds everything about a device by it.
pub(crate) type Channel = Arc<str>;

/// The channels of one shard, with the state of their subscriptions. Bounded by the subscriptions of the connected clients
/// and by the channels that linger.
#[derive(Debug)]
pub(crate) struct Interest {
    linger: Duration,
    channels: HashMap<Channel, Interested>,
    /// The channels that are [`RedisSubscription::Queued`], in order, each once.
    queue: VecDeque<Channel>,
}

#[derive(Debug)]
struct Interested {
    /// Since when nobody watches the channel; `None` while somebody does.
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
    /// Confirmed: what is published from now on arrives.
    Confirmed,
    /// Its end was requested. Another request has to wait for the answer, otherwise the two could overtake each other.
    Leaving,
}

impl Interested {
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

    /// Number of channels, including those that linger.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The channel is watched from now on.
    pub(crate) fn watch(&mut self, channel: &Channel) {
        let interested = self
            .channels
            .entry(Arc::clone(channel))
            .or_insert(Interested {
                idle_since: None,
                subscription: RedisSubscription::None,
            });
        interested.idle_since = None;
        self.enqueue(channel);
    }

    /// Queues a channel that is watched and not subscribed to.
    fn enqueue(&mut self, channel: &Channel) {
        if let Some(interested) = self.channels.get_mut(channel)
            && interested.is_watched()
            && interested.subscription == RedisSubscription::None
        {
            interested.subscription = RedisSubscription::Queued;
            self.queue.push_back(Arc::clone(channel));
        }
    }

    /// Nobody watches the channel any more. Its subscription lingers for those who come back.
    pub(crate) fn unwatch(&mut self, channel: &Channel, now: Instant) {
        if let Some(interested) = self.channels.get_mut(channel) {
            interested.idle_since = Some(now);
        }
    }

    /// Whether what is published on the channel arrives here.
    pub(crate) fn is_confirmed(&self, channel: &Channel) -> bool {
        let interested = self.channels.get(channel);
        interested.is_some_and(|found| found.subscription == RedisSubscription::Confirmed)
    }

    /// Up to `limit` channels to subscribe to. They count as requested from now on.
    pub(crate) fn begin_subscribing(&mut self, limit: usize) -> Vec<Channel> {
        let mut requested = Vec::new();
        while requested.len() < limit
            && let Some(channel) = self.queue.pop_front()
        {
            if let Some(interested) = self.channels.get_mut(&channel) {
                if interested.is_watched() {
                    interested.subscription = RedisSubscription::Requested;
                    requested.push(channel);
                } else {
                    interested.subscription = RedisSubscription::None;
                }
            }
        }
        requested
    }

    /// Redis confirmed these subscriptions. Returns the channels that are still watched.
    pub(crate) fn confirm(&mut self, channels: Vec<Channel>) -> Vec<Channel> {
        let mut watched = Vec::with_capacity(channels.len());
        for channel in channels {
            if let Some(interested) = self.channels.get_mut(&channel) {
                interested.subscription = RedisSubscription::Confirmed;
                if interested.is_watched() {
                    watched.push(channel);
                }
            }
        }
        watched
    }

    /// The connection was lost, and with it every subscription. Channels that nobody watches are forgotten.
    pub(crate) fn lose_all(&mut self) {
        self.channels
            .retain(|_, interested| interested.is_watched());
        for interested in self.channels.values_mut() {
            interested.subscription = RedisSubscription::Queued;
        }
        self.queue = self.channels.keys().cloned().collect();
    }

    /// Up to `limit` channels to unsubscribe from, because nobody came back in time. They count as leaving from now on.
    pub(crate) fn begin_unsubscribing(&mut self, now: Instant, limit: usize) -> Vec<Channel> {
        let linger = self.linger;
        let is_over = |interested: &Interested| {
            let since = interested.idle_since;
            since.is_some_and(|since| now.saturating_duration_since(since) >= linger)
        };
        // Channels without a subscription are forgotten at once.
        let is_unsubscribed = |interested: &Interested| {
            matches!(
                interested.subscription,
                RedisSubscription::None | RedisSubscription::Queued
            )
        };
        let before = self.channels.len();
        self.channels
            .retain(|_, interested| !(is_unsubscribed(interested) && is_over(interested)));
        if self.channels.len() < before {
            self.queue
                .retain(|channel| self.channels.contains_key(channel));
        }
        let mut leaving = Vec::new();
        for (channel, interested) in &mut self.channels {
            if leaving.len() == limit {
                break;
            }
            if interested.subscription == RedisSubscription::Confirmed && is_over(interested) {
                interested.subscription = RedisSubscription::Leaving;
                leaving.push(Arc::clone(channel));
            }
        }
        leaving
    }

    /// Redis ended these subscriptions. Channels that are watched again by now are queued again.
    pub(crate) fn left(&mut self, channels: &[Channel]) {
        for channel in channels {
            if let Some(interested) = self.channels.get_mut(channel) {
                interested.subscription = RedisSubscription::None;
                if !interested.is_watched() {
                    self.channels.remove(channel);
                }
            }
            self.enqueue(channel);
        }
    }
}

#[cfg(test)]
mod tests;

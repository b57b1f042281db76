//! Decides which Redis channels to subscribe to and to unsubscribe from, in which order and how fast. Pure.
//!
//! ```text
//! (none) ── watched ──▶ Queued ── chunk sent ──▶ Requested ── confirmed ──▶ Confirmed
//!   ▲                     ▲  └──────◀── chunk failed ──◀──┘                     │ nobody watches it for `linger`,
//!   └─────────── ended ───┼─────────────── Leaving ◀────────────────────────────┘ or too many linger
//!                         └── watched again ──┘
//! ```
//!
//! Channels are subscribed to in chunks, of which few are under way at a time: the next one is sent when Redis has answered one.
//! A chunk that fails is tried again. What was confirmed stays confirmed until the connection is lost. A chunk that Redis did not
//! answer in time may still be carried out, so those of its channels that nobody watches any more are left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::spare_capacity::shrink_map;

/// Name of a device's Redis channel. The relay also uses it as the key of the device.
pub(crate) type Channel = Arc<str>;

/// Maximum number of channels in one chunk.
pub(crate) const CHUNK: usize = 500;
/// Maximum number of chunks under way, each for subscriptions and for their ends.
pub(crate) const MAX_CHUNKS: usize = 2;
/// Chunks that are not answered in time become smaller, but not smaller than this.
const MIN_CHUNK: usize = 16;

/// Which channels to subscribe to first after the connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Watched, and an alarm of the device may be open.
    Alarm,
    /// Watched.
    Watched,
    /// Nobody watches it, it only lingers.
    Lingering,
}

/// How long, and how many, subscriptions are kept that nobody watches any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger {
    /// A subscription ends this long after its last watcher left.
    pub(crate) time: Duration,
    /// If more subscriptions linger, the oldest ones end at once.
    pub(crate) max: usize,
}

/// The channels of one shard, with the state of their subscriptions. Bounded by the watched devices, by [`Linger::max`], and by
/// the subscriptions that are about to end.
#[derive(Debug)]
pub(crate) struct Interest {
    linger: Linger,
    channels: HashMap<Channel, ChannelState>,
    /// The channels that are [`Subscription::Queued`], in the order in which they are subscribed to.
    queue: BTreeMap<Place, Channel>,
    /// The channels that nobody watches and that are not [`Subscription::Leaving`], the oldest first.
    idle: BTreeMap<u64, Channel>,
    /// Channels that are [`Subscription::Leaving`] and whose end must still be requested, or requested again.
    to_leave: Vec<Channel>,
    /// The last number given to a place in `queue` or `idle`.
    last_number: u64,
    /// Number of channels in the next chunk.
    chunk: usize,
    chunks_under_way: usize,
    leaving_under_way: usize,
}

/// A place in the queue.
type Place = (Urgency, u64);

#[derive(Debug)]
struct ChannelState {
    /// When the last watcher left; `None` while the channel is watched.
    idle: Option<Idle>,
    subscription: Subscription,
    /// Redis did not answer an earlier request in time. It may still carry it out, so the channel must be left even if it is never
    /// confirmed.
    was_late: bool,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    since: Instant,
    /// The key in [`Interest::idle`].
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscription {
    /// To be subscribed to.
    Queued(Place),
    /// Requested, not confirmed yet.
    Requested(Urgency),
    /// Confirmed: every event published from now on arrives.
    Confirmed,
    /// The end was requested, or will be. A new subscription waits for the answer, because one request could overtake the other.
    Leaving,
}

impl Interest {
    pub(crate) fn new(linger: Linger) -> Self {
        Self {
            linger,
            channels: HashMap::new(),
            queue: BTreeMap::new(),
            idle: BTreeMap::new(),
            to_leave: Vec::new(),
            last_number: 0,
            chunk: CHUNK,
            chunks_under_way: 0,
            leaving_under_way: 0,
        }
    }

    /// Returns the number of channels, including those that linger.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Returns the number of channels that linger.
    pub(crate) fn lingering(&self) -> usize {
        self.idle.len()
    }

    /// Returns whether the channel is subscribed to, or about to be.
    pub(crate) fn contains(&self, channel: &Channel) -> bool {
        self.channels.contains_key(channel)
    }

    /// Marks the channel as watched, and queues it if it is not subscribed to.
    pub(crate) fn watch(&mut self, channel: &Channel) {
        let Some(state) = self.channels.get_mut(channel) else {
            self.enqueue(channel, Urgency::Watched);
            return;
        };
        if let Some(idle) = state.idle.take() {
            self.idle.remove(&idle.number);
            if let Subscription::Queued(place) = state.subscription {
                self.queue.remove(&place);
                self.enqueue(channel, Urgency::Watched);
            }
        }
    }

    /// Marks the channel as no longer watched. Its subscription lingers for clients that come back.
    pub(crate) fn unwatch(&mut self, channel: &Channel, now: Instant) {
        let Some(state) = self.channels.get_mut(channel) else {
            return;
        };
        if state.idle.is_some() {
            return;
        }
        if let Subscription::Queued(place) = state.subscription {
            self.queue.remove(&place);
            if !state.was_late {
                // There is no subscription to keep.
                self.channels.remove(channel);
                return;
            }
            state.subscription = Subscription::Leaving;
            self.to_leave.push(Arc::clone(channel));
        }
        self.last_number += 1;
        state.idle = Some(Idle {
            since: now,
            number: self.last_number,
        });
        if state.subscription != Subscription::Leaving {
            self.idle.insert(self.last_number, Arc::clone(channel));
        }
    }

    /// Returns whether every event published on the channel arrives here.
    pub(crate) fn is_confirmed(&self, channel: &Channel) -> bool {
        let state = self.channels.get(channel);
        state.is_some_and(|state| state.subscription == Subscription::Confirmed)
    }

    /// Takes the next chunk from the queue and marks its channels as requested. The caller subscribes to them, and reports the
    /// result to [`Interest::finish_subscribing`]. `None`: nothing is queued, or enough chunks are under way.
    pub(crate) fn begin_subscribing(&mut self) -> Option<Vec<Channel>> {
        if self.chunks_under_way >= MAX_CHUNKS {
            return None;
        }
        let mut requested = Vec::new();
        while requested.len() < self.chunk
            && let Some(((urgency, _), channel)) = self.queue.pop_first()
        {
            if let Some(state) = self.channels.get_mut(&channel) {
                state.subscription = Subscription::Requested(urgency);
                requested.push(channel);
            }
        }
        if requested.is_empty() {
            return None;
        }
        self.chunks_under_way += 1;
        Some(requested)
    }

    /// Handles the answer to a chunk: the channels that are confirmed, and those that failed, which are queued again.
    /// `was_late`: Redis did not answer in time, so the next chunks are smaller, and the failed ones may still be carried out. Returns the confirmed channels that are still
    /// watched.
    pub(crate) fn finish_subscribing(
        &mut self,
        confirmed: Vec<Channel>,
        failed: Vec<Channel>,
        was_late: bool,
    ) -> Vec<Channel> {
        self.chunks_under_way = self.chunks_under_way.saturating_sub(1);
        self.chunk = if was_late {
            (self.chunk / 2).max(MIN_CHUNK)
        } else {
            (self.chunk * 2).min(CHUNK)
        };
        for channel in failed {
            self.handle_failed(channel, was_late);
        }
        let mut watched = confirmed;
        watched.retain(|channel| {
            let Some(state) = self.channels.get_mut(channel) else {
                return false;
            };
            state.subscription = Subscription::Confirmed;
            state.was_late = false;
            state.idle.is_none()
        });
        watched
    }

    /// Queues a channel again whose subscription failed. If nobody watches it any more, its subscription is given up.
    fn handle_failed(&mut self, channel: Channel, was_late: bool) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        state.was_late |= was_late;
        let Some(idle) = state.idle else {
            let urgency = match state.subscription {
                Subscription::Requested(urgency) => urgency.min(Urgency::Watched),
                _ => Urgency::Watched,
            };
            self.enqueue(&channel, urgency);
            return;
        };
        self.idle.remove(&idle.number);
        if state.was_late {
            state.subscription = Subscription::Leaving;
            self.to_leave.push(channel);
        } else {
            self.channels.remove(&channel);
        }
    }

    /// Handles a lost connection, which ends every subscription. Queues all channels again, the most urgent ones first.
    /// `has_alarm`: an alarm of this channel's device may be open.
    pub(crate) fn lose_all(&mut self, has_alarm: impl Fn(&Channel) -> bool) {
        self.queue.clear();
        self.to_leave.clear();
        self.chunks_under_way = 0;
        self.leaving_under_way = 0;
        self.channels
            .retain(|_, state| state.idle.is_none() || state.subscription != Subscription::Leaving);
        for (channel, state) in &mut self.channels {
            let urgency = match state.idle {
                Some(_) => Urgency::Lingering,
                None if has_alarm(channel) => Urgency::Alarm,
                None => Urgency::Watched,
            };
            self.last_number += 1;
            let place = (urgency, self.last_number);
            state.subscription = Subscription::Queued(place);
            state.was_late = false;
            self.queue.insert(place, Arc::clone(channel));
        }
    }

    /// Takes the next chunk of channels that nobody has watched for long enough, or that are too many, the oldest first, and
    /// marks them as leaving. The caller unsubscribes from them, and reports the result to [`Interest::finish_leaving`].
    /// `None`: no channel has to be left, or enough chunks are under way.
    pub(crate) fn begin_leaving(&mut self, now: Instant) -> Option<Vec<Channel>> {
        if self.leaving_under_way >= MAX_CHUNKS {
            return None;
        }
        let mut leaving = Vec::new();
        while leaving.len() < self.chunk
            && let Some(channel) = self.to_leave.pop()
        {
            leaving.push(channel);
        }
        let mut excess = self.idle.len().saturating_sub(self.linger.max);
        let mut done = Vec::new();
        for (number, channel) in &self.idle {
            let Some(state) = self.channels.get_mut(channel) else {
                continue;
            };
            let since = state.idle.map(|idle| idle.since);
            let has_lingered =
                since.is_some_and(|since| now.saturating_duration_since(since) >= self.linger.time);
            // They are in the order in which they became idle, so none of the rest has lingered long enough.
            if (!has_lingered && excess == 0) || leaving.len() >= self.chunk {
                break;
            }
            match state.subscription {
                Subscription::Confirmed => {
                    state.subscription = Subscription::Leaving;
                    leaving.push(Arc::clone(channel));
                }
                Subscription::Queued(place) => {
                    self.queue.remove(&place);
                    self.channels.remove(channel);
                }
                // Its answer is awaited first.
                Subscription::Requested(_) | Subscription::Leaving => continue,
            }
            excess = excess.saturating_sub(1);
            done.push(*number);
        }
        for number in done {
            self.idle.remove(&number);
        }
        if leaving.is_empty() {
            return None;
        }
        self.leaving_under_way += 1;
        Some(leaving)
    }

    /// Handles the answer to the end of subscriptions. Channels that are watched again by now are queued again. Those that
    /// failed are left again.
    pub(crate) fn finish_leaving(&mut self, left: &[Channel], failed: Vec<Channel>) {
        self.leaving_under_way = self.leaving_under_way.saturating_sub(1);
        for channel in left {
            // Redis carries out requests in order, so an earlier subscription that was late has ended, too.
            let state = self.channels.remove(channel);
            if state.is_some_and(|state| state.idle.is_none()) {
                self.enqueue(channel, Urgency::Watched);
            }
        }
        self.to_leave.extend(failed);
    }

    /// Returns memory that it needed for a flood of channels. To be called regularly.
    pub(crate) fn shrink(&mut self) {
        shrink_map(&mut self.channels);
        if self.to_leave.is_empty() {
            self.to_leave = Vec::new();
        }
    }

    /// Queues a watched channel, behind the others of this urgency.
    fn enqueue(&mut self, channel: &Channel, urgency: Urgency) {
        self.last_number += 1;
        let place = (urgency, self.last_number);
        let was_late = self
            .channels
            .get(channel)
            .is_some_and(|state| state.was_late);
        let state = ChannelState {
            idle: None,
            subscription: Subscription::Queued(place),
            was_late,
        };
        self.channels.insert(Arc::clone(channel), state);
        self.queue.insert(place, Arc::clone(channel));
    }
}

#[cfg(test)]
mod tests;

//! One shard: the task that owns the fan-out of its devices.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use shared::backoff::Backoff;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::position::Epoch;
use shared::rate_limit::RateLimit;
use shared::redis_watch::RedisObservation;
use shared::store::{Snapshot, Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::spans::Spans;
use super::watched::{self, Outlet, Watched};
use super::{Command, Link, Message, Settings};
use crate::interest::{Channel, Interest};
use crate::metrics::Metrics;
use crate::replay::Published;
use crate::socket::{ClientId, Clients};

/// Channels subscribed to in one round trip.
const CHUNK: usize = 500;
/// Loads under way at a time: a reconnected replica catches up without flooding Redis.
const MAX_LOADS: usize = 64;
/// Clients beyond which the other tasks get their turn after an event.
const LARGE_FAN_OUT: usize = 256;
/// How often staleness and lingering subscriptions are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Where a shard's work comes from.
pub(super) struct Sources {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) lagging: Arc<AtomicBool>,
    pub(super) links: watch::Receiver<Option<Link>>,
    pub(super) observations: watch::Receiver<RedisObservation>,
}

pub(super) struct Shard {
    number: usize,
    store: Store,
    outlet: Outlet,
    /// Lines about events and states that cannot be read: one per event would be one per reading.
    unreadable: RateLimit,
    unloadable: RateLimit,
    sources: Sources,
    link: Option<Link>,
    /// The partitions' epochs as they were last seen.
    epochs: Arc<[Option<Epoch>]>,
    interest: Interest,
    watched: HashMap<Channel, Watched>,
    /// Subscriptions and loads under way.
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Devices that wait for a load, each once.
    due: VecDeque<Channel>,
    loading: usize,
    next_load: u64,
    backoff: Backoff,
    /// No load begins before this: Redis is away.
    paused_until: Option<Instant>,
}

/// What came of a piece of work.
enum Done {
    Subscribed {
        generation: u64,
        channels: Vec<Channel>,
        result: RedisResult<()>,
    },
    Unsubscribed {
        generation: u64,
        channels: Vec<Channel>,
        result: RedisResult<()>,
    },
    Loaded {
        channel: Channel,
        id: u64,
        result: Result<Box<Snapshot>, StoreError>,
    },
    /// A device that could not be read may be tried again.
    Rested { channel: Channel },
}

impl Shard {
    pub(super) fn new(
        number: usize,
        store: Store,
        clients: Clients,
        settings: &Settings,
        sources: Sources,
    ) -> Self {
        Self {
            number,
            outlet: Outlet {
                clients,
                broadcast_all: settings.broadcast_all,
                clock: store.clock(),
                spans: Spans {
                    traces: settings.traces.clone(),
                    clock: store.clock(),
                    late: RateLimit::six_hundred_per_minute(),
                },
            },
            store,
            unreadable: RateLimit::one_per_ten_seconds(),
            unloadable: RateLimit::one_per_ten_seconds(),
            sources,
            link: None,
            epochs: Arc::default(),
            interest: Interest::new(settings.linger),
            watched: HashMap::new(),
            work: FuturesUnordered::new(),
            due: VecDeque::new(),
            loading: 0,
            next_load: 0,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
            paused_until: None,
        }
    }

    pub(super) async fn run(mut self, finish: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.sources.lagging.swap(false, Ordering::Acquire) {
                self.metrics().lagging.increment();
                tracing::warn!("more was published than could be taken, catching up");
                self.suspect_everything();
            }
            self.begin_work();
            let paused_until = self.paused_until;
            tokio::select! {
                () = finish.cancelled() => return Ok(()),
                message = self.sources.messages.recv() => match message {
                    Some(message) => {
                        if self.publish(&message) > LARGE_FAN_OUT {
                            tokio::task::yield_now().await;
                        }
                    }
                    None => return Ok(()),
                },
                command = self.sources.commands.recv() => match command {
                    Some(command) => self.perform(command),
                    None => return Ok(()),
                },
                Some(done) = self.work.next() => self.complete(done),
                changed = self.sources.links.changed() => match changed {
                    Ok(()) => self.relink(),
                    Err(_) => return Ok(()),
                },
                // Without the guard nothing is ever seen.
                Ok(()) = self.sources.observations.changed() => self.look_at_epochs(),
                _ = ticks.tick() => self.tick(),
                () = sleep_until(paused_until) => self.paused_until = None,
            }
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Join { channel, join } => {
                if join.client.gone().is_cancelled() {
                    return;
                }
                let watched = self.watched.entry(Arc::clone(&channel));
                watched
                    .or_insert_with(|| Watched::new(join.device.clone()))
                    .join(join);
                self.interest.watch(&channel);
                self.load_if_needed(&channel);
            }
            Command::Leave {
                channel,
                client,
                device,
                ack,
            } => {
                if let Some(watched) = self.watched.get_mut(&channel) {
                    watched.leave(&client);
                    self.forget_if_unused(&channel);
                }
                if let Some(ack) = ack {
                    client.answer(&device, ack, watched::left(&device));
                }
            }
            Command::Gone { channels, client } => self.forget(&channels, client),
            Command::Count { answer } => {
                let watched = self.watched.values();
                let watched = watched.filter(|watched| watched.members() > 0);
                let count =
                    |watched: &Watched| (watched.device().clone(), watched.members() as u64);
                // Who asked may be gone.
                answer.send(watched.map(count).collect()).ok();
            }
            Command::Pin {
                channel,
                device,
                since,
            } => {
                let watched = self.watched.entry(Arc::clone(&channel));
                watched.or_insert_with(|| Watched::new(device)).pin(since);
                self.interest.watch(&channel);
                self.load_if_needed(&channel);
            }
        }
    }

    fn forget(&mut self, channels: &[Channel], client: ClientId) {
        for channel in channels {
            if let Some(watched) = self.watched.get_mut(channel) {
                watched.forget(client);
                self.forget_if_unused(channel);
            }
        }
    }

    fn forget_if_unused(&mut self, channel: &Channel) {
        if self.watched.get(channel).is_some_and(Watched::is_unused) {
            self.watched.remove(channel);
            self.due.retain(|due| due != channel);
            self.interest.unwatch(channel, std::time::Instant::now());
        }
    }

    /// Passes on what was published; answers with the number of those who got it.
    fn publish(&mut self, message: &Message) -> usize {
        let Some((channel, watched)) = self.watched.get_key_value(message.channel.as_str()) else {
            return 0;
        };
        let reached = if self.outlet.broadcast_all {
            self.outlet.clients.count()
        } else {
            watched.members()
        };
        let channel = Arc::clone(channel);
        self.metrics().events.increment();
        if let Some(watched) = self.watched.get_mut(&channel) {
            match Published::parse(&message.bytes) {
                Ok(event) => watched.take(&Arc::new(event), &self.outlet),
                Err(error) => {
                    let metrics = self.outlet.clients.metrics();
                    metrics.unreadable.increment();
                    if let Some(held_back) = self.unreadable.allow(self.outlet.clock.now()) {
                        self.outlet.spans.unreadable(watched.device());
                        let error = error_chain(&error);
                        tracing::warn!(error, channel = %channel, held_back, "published event cannot be read");
                    }
                    watched.suspect_gap();
                }
            }
        }
        self.load_if_needed(&channel);
        reached
    }

    fn complete(&mut self, done: Done) {
        let now_linked = self.link.as_ref().map(|link| link.generation);
        match done {
            Done::Subscribed {
                generation,
                channels,
                result,
            } if now_linked == Some(generation) => match result {
                Ok(()) => self.confirm(channels),
                Err(error) => self.give_up_link(&error),
            },
            Done::Unsubscribed {
                generation,
                channels,
                result,
            } if now_linked == Some(generation) => match result {
                Ok(()) => self.interest.left(&channels),
                Err(error) => self.give_up_link(&error),
            },
            // Of a connection that is gone: everything was asked for again.
            Done::Subscribed { .. } | Done::Unsubscribed { .. } => {}
            Done::Loaded {
                channel,
                id,
                result,
            } => {
                self.loading = self.loading.saturating_sub(1);
                self.finish_load(&channel, id, result);
            }
            Done::Rested { channel } => self.load_if_needed(&channel),
        }
    }

    /// From now on nothing published on these is missed; what was published before is caught up.
    fn confirm(&mut self, channels: Vec<Channel>) {
        for channel in self.interest.confirm(channels) {
            if let Some(watched) = self.watched.get_mut(&channel) {
                watched.suspect_gap();
            }
            self.load_if_needed(&channel);
        }
    }

    fn finish_load(
        &mut self,
        channel: &Channel,
        id: u64,
        result: Result<Box<Snapshot>, StoreError>,
    ) {
        let Some(watched) = self.watched.get_mut(channel) else {
            return;
        };
        match result {
            Ok(snapshot) => {
                self.backoff.reset();
                watched.note_readable(true);
                watched.finish_load(id, &snapshot, self.outlet.clock.now(), &self.outlet);
                self.load_if_needed(channel);
            }
            Err(StoreError::Refused(reason)) => {
                if let Some(held_back) = self.unloadable.allow(self.outlet.clock.now()) {
                    tracing::warn!(device.id = %watched.device().for_log(), reason, held_back, "device cannot be read");
                }
                watched.note_readable(false);
                watched.fail_load(id);
                let channel = Arc::clone(channel);
                let pause = self.backoff.pause() + TICK;
                self.work.push(Box::pin(async move {
                    tokio::time::sleep(pause).await;
                    Done::Rested { channel }
                }));
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::debug!(error, device.id = %watched.device().for_log(), "cannot load a device, trying on");
                watched.fail_load(id);
                if self.paused_until.is_none() {
                    self.paused_until = Some(Instant::now() + self.backoff.pause());
                }
                self.load_if_needed(channel);
            }
        }
        self.forget_if_unused(channel);
    }

    fn load_if_needed(&mut self, channel: &Channel) {
        if let Some(watched) = self.watched.get_mut(channel)
            && watched.needs_load()
            && !watched.is_queued
            && self.interest.is_confirmed(channel)
        {
            watched.is_queued = true;
            self.due.push_back(Arc::clone(channel));
        }
    }

    fn begin_work(&mut self) {
        if let Some(link) = &self.link {
            loop {
                let channels = self.interest.ask(CHUNK);
                if channels.is_empty() {
                    break;
                }
                let (generation, connection) = (link.generation, link.connection.clone());
                self.work.push(Box::pin(async move {
                    let result = call_each("SSUBSCRIBE", &channels, connection).await;
                    Done::Subscribed {
                        generation,
                        channels,
                        result,
                    }
                }));
            }
        }
        while self.loading < MAX_LOADS
            && self.paused_until.is_none()
            && let Some(channel) = self.due.pop_front()
        {
            self.begin_load(channel);
        }
    }

    fn begin_load(&mut self, channel: Channel) {
        let Some(watched) = self.watched.get_mut(&channel) else {
            return;
        };
        watched.is_queued = false;
        if !watched.needs_load() || !self.interest.is_confirmed(&channel) {
            return;
        }
        self.next_load += 1;
        let id = self.next_load;
        let since = watched.begin_load(id);
        let device: DeviceId = watched.device().clone();
        let store = self.store.clone();
        self.loading += 1;
        self.work.push(Box::pin(async move {
            let result = store.snapshot(&device, since).await.map(Box::new);
            Done::Loaded {
                channel,
                id,
                result,
            }
        }));
    }

    fn relink(&mut self) {
        self.link
            .clone_from(&self.sources.links.borrow_and_update());
        self.interest.lose_all();
        self.paused_until = None;
    }

    /// The connection does not do what it is for: the link task makes a new one.
    fn give_up_link(&mut self, error: &redis::RedisError) {
        let error = error_chain(error);
        tracing::warn!(error, "subscription was not confirmed");
        if let Some(link) = self.link.take() {
            link.lost.cancel();
        }
        self.interest.lose_all();
    }

    /// At a new epoch Redis may have lost something without a word.
    fn look_at_epochs(&mut self) {
        let epochs = Arc::clone(&self.sources.observations.borrow_and_update().epochs);
        let before = std::mem::replace(&mut self.epochs, epochs);
        if !before.is_empty() && before != self.epochs {
            self.suspect_everything();
        }
    }

    fn suspect_everything(&mut self) {
        let channels: Vec<Channel> = self.watched.keys().cloned().collect();
        for channel in channels {
            if let Some(watched) = self.watched.get_mut(&channel) {
                watched.suspect_gap();
            }
            self.load_if_needed(&channel);
        }
    }

    fn metrics(&self) -> &Metrics {
        self.outlet.clients.metrics()
    }

    fn tell_what_is_watched(&self) {
        let watching = &self.metrics().watching[self.number];
        let members = self.watched.values().map(Watched::members);
        let (mut rooms, mut subscriptions) = (0, 0);
        for members in members.filter(|members| *members > 0) {
            rooms += 1;
            subscriptions += members as u64;
        }
        watching.rooms.store(rooms, Relaxed);
        watching.subscriptions.store(subscriptions, Relaxed);
        let channels = self.interest.len() as u64;
        watching.channels.store(channels, Relaxed);
    }

    fn tick(&mut self) {
        self.tell_what_is_watched();
        let now = self.outlet.clock.now();
        for (channel, watched) in &mut self.watched {
            watched.judge(now);
            if self.link.is_none() || self.paused_until.is_some() || watched.is_unreadable() {
                watched.go_stale_blindly(now);
            }
            if watched.needs_load() && !watched.is_queued && self.interest.is_confirmed(channel) {
                watched.is_queued = true;
                self.due.push_back(Arc::clone(channel));
            }
        }
        let Some(link) = &self.link else {
            return;
        };
        let channels = self.interest.leave(std::time::Instant::now(), CHUNK);
        if !channels.is_empty() {
            let (generation, connection) = (link.generation, link.connection.clone());
            self.work.push(Box::pin(async move {
                let result = call_each("SUNSUBSCRIBE", &channels, connection).await;
                Done::Unsubscribed {
                    generation,
                    channels,
                    result,
                }
            }));
        }
    }
}

/// Calls a command for each channel in one round trip. One command per channel: the crate expects as many answers as
/// there are commands, and channels of different slots must not share one.
async fn call_each(
    command: &str,
    channels: &[Channel],
    mut connection: MultiplexedConnection,
) -> RedisResult<()> {
    let mut pipe = redis::pipe();
    for channel in channels {
        pipe.cmd(command).arg(channel.as_ref());
    }
    pipe.exec_async(&mut connection).await
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

//! From Redis to the clients: one task owns the fan-out of a device, so that nothing overtakes anything.
//!
//! Devices are spread over a few shards. One connection of its own brings what is published for all of them; it is kept
//! by the link task, which makes a new one whenever it is lost. The shards subscribe on it to what their clients watch,
//! have it confirmed, and catch up from the events streams whatever they may have missed.

mod everything;
mod hearing;
mod shard;
mod spans;
mod watched;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use shared::backoff::Backoff;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::keys::CANARY_CHANNEL;
use shared::lifecycle::Lifecycle;
use shared::position::Position;
use shared::redis_watch::RedisObservation;
use shared::store::{Store, StoreError, Subscriber};
use shared::trace::SpanRecorder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use crate::interest::Channel;
use crate::metrics::Metrics;
use crate::socket::{Client, ClientId, Clients, Unanswered};
use hearing::Hearing;
use shard::Shard;

/// Tasks that share the devices.
pub(crate) const SHARDS: usize = 4;
/// Events that may wait per shard. Full: the event is dropped and the shard catches up from the streams.
const MAX_EVENTS: usize = 8192;
/// Commands that may wait per shard. Full: the client's task waits.
const MAX_COMMANDS: usize = 1024;
/// How often the connection for subscriptions is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that lasted this long was no failed try.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// What the relay is set to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long a subscription outlives its last watcher.
    pub(crate) linger: Duration,
    /// Whether every client gets every reading of every device, too.
    pub(crate) broadcast_all: bool,
    /// What tells events that were late or cannot be read.
    pub(crate) traces: SpanRecorder,
}

/// Where the clients' commands go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    store: Store,
    shards: Arc<[mpsc::Sender<Command>]>,
    links: watch::Receiver<Option<Link>>,
}

/// A subscription that asks for its answer.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) client: Arc<Client>,
    pub(crate) device: DeviceId,
    /// The last position the client has.
    pub(crate) since: Option<Position>,
    /// Id of the acknowledgement the client waits for.
    pub(crate) ack: Option<i64>,
    /// Held until it is answered.
    pub(crate) _unanswered: Unanswered,
}

#[derive(Debug)]
enum Command {
    Join {
        channel: Channel,
        join: Join,
    },
    Leave {
        channel: Channel,
        client: Arc<Client>,
        device: DeviceId,
        ack: Option<i64>,
    },
    Gone {
        channels: Vec<Channel>,
        client: ClientId,
    },
    /// Count the watchers of each device.
    Count {
        answer: oneshot::Sender<Vec<(DeviceId, u64)>>,
    },
    /// Watch the device for everybody, for ever.
    Pin {
        channel: Channel,
        device: DeviceId,
        /// What was published since and is still stored is wanted, too.
        since: Option<Time>,
    },
}

/// A message of Redis, as it came.
#[derive(Debug)]
struct Message {
    channel: String,
    bytes: Vec<u8>,
}

/// The connection for subscriptions.
#[derive(Clone, Debug)]
struct Link {
    generation: u64,
    connection: MultiplexedConnection,
    /// Cancelled by whoever finds out that the connection is of no use any more.
    lost: CancellationToken,
}

/// Where the link puts messages of one shard.
#[derive(Clone)]
struct Inlet {
    messages: mpsc::Sender<Message>,
    /// A message was dropped: everything may have missed something.
    lagging: Arc<AtomicBool>,
}

impl Relay {
    /// Starts the tasks; they end with `finish`.
    pub(crate) fn start(
        store: &Store,
        clients: &Clients,
        settings: &Settings,
        observations: &watch::Receiver<RedisObservation>,
        lifecycle: &Lifecycle,
        finish: &CancellationToken,
    ) -> Self {
        let (links_tx, links_rx) = watch::channel(None);
        let mut inlets = Vec::with_capacity(SHARDS);
        let mut shards = Vec::with_capacity(SHARDS);
        for number in 0..SHARDS {
            let (messages_tx, messages_rx) = mpsc::channel(MAX_EVENTS);
            let (commands_tx, commands_rx) = mpsc::channel(MAX_COMMANDS);
            let lagging = Arc::new(AtomicBool::new(false));
            inlets.push(Inlet {
                messages: messages_tx,
                lagging: Arc::clone(&lagging),
            });
            shards.push(commands_tx);
            let sources = shard::Sources {
                commands: commands_rx,
                messages: messages_rx,
                lagging,
                links: links_rx.clone(),
                observations: observations.clone(),
            };

            let shard = Shard::new(number, store.clone(), clients.clone(), settings, sources);
            lifecycle.spawn("relay shard", shard.run(finish.clone()));
        }
        let metrics = Arc::clone(clients.metrics());
        let link = keep_linked(
            store.clone(),
            inlets.into(),
            links_tx,
            observations.clone(),
            metrics,
        );
        let linking = finish.clone();
        lifecycle.spawn("relay link", async move {
            linking.run_until_cancelled(link).await;
            Ok(())
        });
        let relay = Self {
            store: store.clone(),
            shards: shards.into(),
            links: links_rx,
        };
        if settings.broadcast_all {
            let pinning = everything::pin(relay.clone(), store.clock().now(), finish.clone());
            lifecycle.spawn("relay of everything", pinning);
        }
        relay
    }

    /// Whether there is a connection that brings what is published.
    pub(crate) fn is_linked(&self) -> bool {
        self.links.borrow().is_some()
    }

    /// Answers a subscription and keeps the client informed from then on.
    pub(crate) async fn join(&self, join: Join) {
        let channel = self.channel(&join.device);
        self.send(&channel, |channel| Command::Join { channel, join })
            .await;
    }

    /// Ends a subscription and answers, if the client waits for it.
    pub(crate) async fn leave(&self, client: &Arc<Client>, device: DeviceId, ack: Option<i64>) {
        let channel = self.channel(&device);
        let client = Arc::clone(client);
        self.send(&channel, |channel| Command::Leave {
            channel,
            client,
            device,
            ack,
        })
        .await;
    }

    /// The client is gone: ends its subscriptions to these devices.
    pub(crate) async fn gone(&self, client: &Client, devices: HashSet<DeviceId>) {
        let mut channels: Vec<Vec<Channel>> = vec![Vec::new(); self.shards.len()];
        for device in devices {
            let channel = self.channel(&device);
            channels[shard_of(&channel, self.shards.len())].push(channel);
        }
        let client = client.id();
        for (shard, channels) in self.shards.iter().zip(channels) {
            if !channels.is_empty() {
                // A shard that ended needs no farewell.
                shard.send(Command::Gone { channels, client }).await.ok();
            }
        }
    }

    /// How many clients of this replica watch each device, in no order.
    pub(crate) async fn watchers(&self) -> Vec<(DeviceId, u64)> {
        let mut watchers = Vec::new();
        for shard in self.shards.iter() {
            let (answer, answered) = oneshot::channel();
            // A shard that ended watches nothing.
            shard.send(Command::Count { answer }).await.ok();
            watchers.extend(answered.await.unwrap_or_default());
        }
        watchers
    }

    /// Keeps everybody informed about the device.
    async fn pin(&self, device: DeviceId, since: Option<Time>) {
        let channel = self.channel(&device);
        self.send(&channel, |channel| Command::Pin {
            channel,
            device,
            since,
        })
        .await;
    }

    fn channel(&self, device: &DeviceId) -> Channel {
        self.store.channel(device).into()
    }

    async fn send(&self, channel: &Channel, command: impl FnOnce(Channel) -> Command) {
        let shard = &self.shards[shard_of(channel, self.shards.len())];
        // A shard ends only with the process, and the client's connection with it.
        shard.send(command(Arc::clone(channel))).await.ok();
    }
}

fn shard_of(channel: &str, shards: usize) -> usize {
    let hash = xxh3_64(channel.as_bytes()) % shards.max(1) as u64;
    usize::try_from(hash).unwrap_or_default()
}

/// Keeps one connection for subscriptions, for ever.
async fn keep_linked(
    store: Store,
    inlets: Arc<[Inlet]>,
    links: watch::Sender<Option<Link>>,
    observations: watch::Receiver<RedisObservation>,
    metrics: Arc<Metrics>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut is_told = false;
    for generation in 1_u64.. {
        let lost = CancellationToken::new();
        let heard = Arc::new(AtomicBool::new(false));
        let before = observations.borrow().run_id.clone();
        let receiver = receiver(Arc::clone(&inlets), lost.clone(), Arc::clone(&heard));
        match subscribe(&store, receiver).await {
            Ok(Subscriber { connection, run_id }) => {
                tracing::info!(generation, "listening to Redis");
                is_told = false;
                let since = Instant::now();
                let pings = connection.clone();
                links.send_replace(Some(Link {
                    generation,
                    connection,
                    lost: lost.clone(),
                }));
                let (code, reason) = tokio::select! {
                    () = lost.cancelled() => ("closed", "it was closed"),
                    () = ping_until_lost(pings) => ("silent", "it does not answer"),
                    () = until_deaf(observations.clone(), &heard) => ("deaf", "it is deaf"),
                    () = until_elsewhere(observations.clone(), before, &run_id) => {
                        ("elsewhere", "another server is there now")
                    }
                };
                links.send_replace(None);
                metrics.subscriber_lost.increment(code);
                tracing::warn!(
                    generation,
                    reason,
                    "lost the connection for subscriptions, catching up later"
                );
                if since.elapsed() > STABLE_AFTER {
                    backoff.reset();
                }
            }
            Err(error) if !is_told => {
                is_told = true;
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot listen to Redis, trying on"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// A connection on which the canary is heard.
async fn subscribe(
    store: &Store,
    receiver: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<Subscriber, StoreError> {
    let mut subscriber = store.subscriber(receiver).await?;
    let listening = redis::cmd("SSUBSCRIBE")
        .arg(CANARY_CHANNEL)
        .exec_async(&mut subscriber.connection)
        .await;
    listening.map_err(StoreError::Unavailable)?;
    Ok(subscriber)
}

/// Returns when the canary sings and is not heard.
async fn until_deaf(mut observations: watch::Receiver<RedisObservation>, heard: &AtomicBool) {
    let mut hearing = Hearing::new(Instant::now());
    let mut count = observations.borrow_and_update().canary;
    // Without the guard nothing is ever sung.
    while observations.changed().await.is_ok() {
        let sung = observations.borrow_and_update().canary;
        if sung != count {
            count = sung;
            if hearing.is_deaf(heard.swap(false, Ordering::AcqRel), Instant::now()) {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Returns when another server than this run begins to answer at the configured address. `before`: the one that was seen
/// there before we connected, which says nothing of us.
async fn until_elsewhere(
    mut observations: watch::Receiver<RedisObservation>,
    mut before: Option<Arc<str>>,
    run_id: &str,
) {
    while observations.changed().await.is_ok() {
        let now = observations.borrow_and_update().run_id.clone();
        if now != before {
            if now.as_deref().is_some_and(|other| other != run_id) {
                return;
            }
            before = now;
        }
    }
    // Without the guard nothing is ever seen.
    std::future::pending::<()>().await;
}

/// Returns when the connection does not answer any more, also if nothing else would tell.
async fn ping_until_lost(mut connection: MultiplexedConnection) {
    let mut ticks = tokio::time::interval(PING_INTERVAL);
    loop {
        ticks.tick().await;
        // The connection itself limits how long an answer may take.
        if redis::cmd("PING")
            .exec_async(&mut connection)
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Takes what Redis pushes. It must not wait: the crate reads on into memory while it does.
fn receiver(
    inlets: Arc<[Inlet]>,
    lost: CancellationToken,
    heard: Arc<AtomicBool>,
) -> impl Fn(PushInfo) + Send + Sync {
    move |push: PushInfo| match push.kind {
        PushKind::SMessage => {
            let mut data = push.data.into_iter();
            let (Some(Value::BulkString(channel)), Some(Value::BulkString(bytes))) =
                (data.next(), data.next())
            else {
                return;
            };
            // Our channels are texts; nobody subscribes to others.
            let Ok(channel) = String::from_utf8(channel) else {
                return;
            };
            if channel == CANARY_CHANNEL {
                heard.store(true, Ordering::Release);
                return;
            }
            let inlet = &inlets[shard_of(&channel, inlets.len())];
            if inlet.messages.try_send(Message { channel, bytes }).is_err() {
                inlet.lagging.store(true, Ordering::Release);
            }
        }
        PushKind::Disconnection => lost.cancel(),
        _ => {}
    }
}

#[cfg(test)]
mod tests;

//! The Redis connection that receives published messages.
//!
//! ```text
//! not connected ── subscribe to the canary ──▶ connected ── closed, silent, deaf or elsewhere ──▶ not connected
//! ```
//!
//! * silent: it does not answer.
//! * deaf: it answers, but receives no messages. The canary shows this: a counter that is published once a second.
//! * elsewhere: another Redis server answers at the configured address now.
//!
//! There is one such connection per process. Each shard uses it to subscribe to the channels of its devices, and subscribes
//! again whenever it is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, RedisResult, Value};
use shared::backoff::Backoff;
use shared::error_chain::error_chain;
use shared::keys::CANARY_CHANNEL;
use shared::metrics::Count;
use shared::redis_watch::RedisObservation;
use shared::store::{Store, StoreError, Subscriber};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::canary_check::CanaryCheck;
use super::shard_senders::shard_of;
use crate::interest::Channel;
use crate::metrics::RelayMetrics;

/// How often the connection is checked with a `PING`.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long Redis may take to answer one chunk of subscriptions. Longer than other answers may take: a connection that does not
/// answer at all is noticed by the `PING`, and on one that is only slow the rest of a chunk is on its way.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lasted longer than this resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// A connection that receives published messages.
#[derive(Clone, Debug)]
pub(super) struct SubscriberConnection {
    /// Number of this attempt to connect, from 1 on.
    pub(super) generation: u64,
    pub(super) connection: MultiplexedConnection,
    /// Cancel this to report that the connection is no longer usable.
    pub(super) lost: CancellationToken,
}

/// The signs of life of a connection, set by what Redis pushes.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// A message of the canary arrived.
    pub(super) canary: AtomicBool,
    /// Anything arrived.
    anything: AtomicBool,
}

/// A published message, as received.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) channel: String,
    pub(super) bytes: Vec<u8>,
}

/// The sending side of a shard's message queue.
#[derive(Clone)]
pub(super) struct ShardInbox {
    pub(super) messages: mpsc::Sender<Message>,
    /// Set when a message was dropped because the queue was full. Any device of the shard may have missed a message.
    pub(super) has_overflowed: Arc<AtomicBool>,
}

/// Opens the connection, and opens a new one whenever it is lost. Never returns.
pub(super) async fn keep_connected(
    store: Store,
    inboxes: Arc<[ShardInbox]>,
    connections: watch::Sender<Option<SubscriberConnection>>,
    observations: watch::Receiver<RedisObservation>,
    metrics: Arc<RelayMetrics>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut is_failure_logged = false;
    for generation in 1_u64.. {
        let lost = CancellationToken::new();
        let arrivals = Arc::new(Arrivals::default());
        let run_id_before = observations.borrow().run_id.clone();
        let push_callback =
            push_callback(Arc::clone(&inboxes), lost.clone(), Arc::clone(&arrivals));
        match connect(&store, push_callback).await {
            Ok(Subscriber { connection, run_id }) => {
                tracing::info!(generation, "subscribed to Redis");
                is_failure_logged = false;
                let since = Instant::now();
                connections.send_replace(Some(SubscriberConnection {
                    generation,
                    connection: connection.clone(),
                    lost: lost.clone(),
                }));
                let open = OpenConnection {
                    connection,
                    lost,
                    arrivals,
                    run_id_before,
                    run_id,
                };
                let (count, reason) = open.until_lost(&observations, &metrics).await;
                connections.send_replace(None);
                count.increment();
                tracing::warn!(
                    generation,
                    reason,
                    "lost the subscriber connection, catching up once it is open again"
                );
                if since.elapsed() > STABLE_AFTER {
                    backoff.reset();
                }
            }
            Err(error) if !is_failure_logged => {
                is_failure_logged = true;
                let error = error_chain(&error);
                tracing::warn!(error, "cannot subscribe to Redis, trying again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Opens a connection and subscribes it to the channel of the canary.
pub(super) async fn connect(
    store: &Store,
    push_callback: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<Subscriber, StoreError> {
    let mut subscriber = store.subscriber(push_callback).await?;
    let connection = &mut subscriber.connection;
    let mut command = redis::cmd("SSUBSCRIBE");
    let answer = command.arg(CANARY_CHANNEL).exec_async(connection).await;
    answer.map_err(StoreError::Unavailable)?;
    Ok(subscriber)
}

/// An open connection, with the data to check whether it still works.
struct OpenConnection {
    connection: MultiplexedConnection,
    lost: CancellationToken,
    arrivals: Arc<Arrivals>,
    /// `run_id` of the server that answered at the configured address before this connection was opened.
    run_id_before: Option<Arc<str>>,
    /// `run_id` of the server at the other end of this connection.
    run_id: Arc<str>,
}

impl OpenConnection {
    /// Waits until the connection is no longer usable. Returns the counter of the reason and its text for the log.
    async fn until_lost<'a>(
        self,
        observations: &watch::Receiver<RedisObservation>,
        metrics: &'a RelayMetrics,
    ) -> (&'a Count, &'static str) {
        let Self {
            connection,
            lost,
            arrivals,
            run_id_before,
            run_id,
        } = self;
        let counts = &metrics.subscriber_lost;
        tokio::select! {
            () = lost.cancelled() => (&counts.closed, "the connection was closed"),
            () = until_silent(connection, &arrivals) => (&counts.silent, "Redis does not answer"),
            () = until_deaf(observations.clone(), &arrivals) => {
                (&counts.deaf, "Redis answers, but no published message arrives")
            }
            () = until_elsewhere(observations.clone(), run_id_before, &run_id) => {
                (&counts.elsewhere, "another server answers at the address now")
            }
        }
    }
}

/// Returns when the canary is published but does not arrive.
pub(super) async fn until_deaf(
    mut observations: watch::Receiver<RedisObservation>,
    arrivals: &Arrivals,
) {
    let mut check = CanaryCheck::new(Instant::now());
    let mut last = observations.borrow_and_update().canary;
    while observations.changed().await.is_ok() {
        let count = observations.borrow_and_update().canary;
        if count != last {
            last = count;
            let has_received = arrivals.canary.swap(false, Ordering::AcqRel);
            if check.is_deaf(has_received, Instant::now()) {
                return;
            }
        }
    }
    // The task that watches Redis has ended, so the canary can no longer be checked.
    std::future::pending::<()>().await;
}

/// Returns when a server with another `run_id` begins to answer at the configured address. `before` is the last `run_id`
/// observed there before this connection was opened. It may be an old one, so only a change from it counts.
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
    // The task that watches Redis has ended, so no other server can be noticed.
    std::future::pending::<()>().await;
}

/// Returns when the connection no longer answers, even if it was not closed.
///
/// The answer to the `PING` comes behind everything that was requested before. While anything arrives, the connection works, and
/// giving it up would start all subscriptions over.
async fn until_silent(mut connection: MultiplexedConnection, arrivals: &Arrivals) {
    let mut ticks = tokio::time::interval(PING_INTERVAL);
    loop {
        ticks.tick().await;
        arrivals.anything.store(false, Ordering::Release);
        // The connection has a response timeout.
        let answer = redis::cmd("PING").exec_async(&mut connection).await;
        let is_slow =
            |error: &RedisError| error.is_timeout() && arrivals.anything.load(Ordering::Acquire);
        if answer.is_err_and(|error| !is_slow(&error)) {
            return;
        }
    }
}

/// Creates the callback for messages that Redis pushes. It must not block: the redis crate would keep reading into an
/// unbounded buffer.
pub(super) fn push_callback(
    inboxes: Arc<[ShardInbox]>,
    lost: CancellationToken,
    arrivals: Arc<Arrivals>,
) -> impl Fn(PushInfo) + Send + Sync {
    move |push: PushInfo| {
        arrivals.anything.store(true, Ordering::Release);
        match push.kind {
            PushKind::SMessage => {
                let mut data = push.data.into_iter();
                let (Some(Value::BulkString(channel)), Some(Value::BulkString(bytes))) =
                    (data.next(), data.next())
                else {
                    return;
                };
                // We subscribe only to channels with UTF-8 names.
                let Ok(channel) = String::from_utf8(channel) else {
                    return;
                };
                if channel == CANARY_CHANNEL {
                    arrivals.canary.store(true, Ordering::Release);
                    return;
                }
                let inbox = &inboxes[shard_of(&channel, inboxes.len())];
                let message = Message { channel, bytes };
                if inbox.messages.try_send(message).is_err() {
                    inbox.has_overflowed.store(true, Ordering::Release);
                }
            }
            PushKind::Disconnection => lost.cancel(),
            _ => {}
        }
    }
}

/// A request to change subscriptions.
#[derive(Clone, Copy, Debug)]
pub(super) enum SubscriptionChange {
    Subscribe,
    Unsubscribe,
}

/// The answer of Redis to a request to change subscriptions.
#[derive(Debug)]
pub(super) struct ChangeAnswer {
    /// The channels whose change is confirmed.
    pub(super) confirmed: Vec<Channel>,
    /// The others.
    pub(super) failed: Vec<Channel>,
    /// Why they failed; the first reason if there are several.
    pub(super) error: Option<RedisError>,
}

/// Subscribes to these channels, or ends their subscriptions, in one round trip.
///
/// Each channel needs its own command. The redis crate expects one answer per command, and a command must not mix channels
/// of different cluster slots.
pub(super) async fn change_subscriptions(
    change: SubscriptionChange,
    channels: Vec<Channel>,
    mut connection: MultiplexedConnection,
) -> ChangeAnswer {
    let command = match change {
        SubscriptionChange::Subscribe => "SSUBSCRIBE",
        SubscriptionChange::Unsubscribe => "SUNSUBSCRIBE",
    };
    let mut pipe = redis::pipe();
    pipe.ignore_errors();
    for channel in &channels {
        pipe.cmd(command).arg(channel.as_ref());
    }
    connection.set_response_timeout(CHUNK_TIMEOUT);
    let answers = pipe.query_async::<Vec<RedisResult<Value>>>(&mut connection);
    match answers.await {
        Ok(answers) => sort_answers(channels, answers),
        Err(error) => ChangeAnswer {
            confirmed: Vec::new(),
            failed: channels,
            error: Some(error),
        },
    }
}

fn sort_answers(channels: Vec<Channel>, answers: Vec<RedisResult<Value>>) -> ChangeAnswer {
    let mut sorted = ChangeAnswer {
        confirmed: Vec::with_capacity(channels.len()),
        failed: Vec::new(),
        error: None,
    };
    let mut answers = answers.into_iter();
    for channel in channels {
        match answers.next() {
            Some(Ok(_)) => sorted.confirmed.push(channel),
            Some(Err(error)) => {
                sorted.failed.push(channel);
                sorted.error.get_or_insert(error);
            }
            None => sorted.failed.push(channel),
        }
    }
    sorted
}

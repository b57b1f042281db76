//! A shard's connection on which Redis pushes published events. The shard reads it itself.
//!
//! ```text
//! pausing ──▶ opening ── subscribed to the canary ──▶ open ── closed, silent, deaf or elsewhere ──▶ pausing
//!    ▲           │
//!    └── failed ─┘
//! ```
//!
//! * silent: it does not answer.
//! * deaf: it answers, but receives no messages. The canary shows this: a counter that is published once a second.
//! * elsewhere: another Redis server answers at the configured address now.
//!
//! Nothing is queued behind the connection: while the shard is busy, events wait in the kernel and in Redis, which closes the
//! connection beyond its `client-output-buffer-limit`. A shard that has not caught up for [`MAX_LAG`] skips what waits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use shared::backoff::Backoff;
use shared::error_chain::error_chain;
use shared::keys::CANARY_CHANNEL;
use shared::metrics::Count;
use shared::redis_watch::RedisObservation;
use shared::store::{PushConnection, Store, StoreError};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep};

use super::awaited_answers::{AwaitedAnswers, SubscriptionChange};
use super::retry;
use crate::interest::Channel;
use crate::metrics::SubscriberLost;
use crate::relay::canary_check::CanaryCheck;

/// How often an open connection is looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How often the connection is checked with a `PING`.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that lasted longer than this resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long a shard may go without having received everything that Redis has sent it. Then it skips what waits, and reads the
/// newest state of its devices instead.
const MAX_LAG: Duration = Duration::from_secs(3);

/// The connection of one shard, or the way to the next one.
pub(super) struct Link {
    store: Store,
    /// Number of the shard, for the log.
    shard: usize,
    state: State,
    backoff: Backoff,
    is_failure_logged: bool,
    observations: watch::Receiver<RedisObservation>,
}

/// A connection that was opened, and the `run_id` observed at the configured address before that.
type Opened = (PushConnection, Option<Arc<str>>);

enum State {
    Pausing(Pin<Box<Sleep>>),
    Opening(BoxFuture<'static, Result<Opened, StoreError>>),
    Open(Box<OpenLink>),
    /// The shard handles what has arrived.
    Taken,
}

/// What a link is ready for.
pub(super) enum LinkEvent {
    /// It is open.
    Opened(Opened),
    /// Something has arrived.
    Arrived,
    /// It is time to look at the connection.
    Check,
    /// The connection is lost.
    Lost(LostReason),
}

/// Why a connection is given up.
#[derive(Debug)]
pub(super) enum LostReason {
    Closed(io::Error),
    /// Something that is not RESP3, answers nothing, or ends a subscription unasked has arrived.
    Unreadable(String),
    /// Another server has the channels.
    Moved,
    Silent,
    Deaf,
    Elsewhere,
}

impl LostReason {
    fn count<'a>(&self, counts: &'a SubscriberLost) -> &'a Count {
        match self {
            Self::Closed(_) | Self::Unreadable(_) | Self::Moved => &counts.closed,
            Self::Silent => &counts.silent,
            Self::Deaf => &counts.deaf,
            Self::Elsewhere => &counts.elsewhere,
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Closed(error) => format!("the connection was closed: {error}"),
            Self::Unreadable(what) => format!("Redis sent what cannot be used: {what}"),
            Self::Moved => "Redis does not serve the channels".to_owned(),
            Self::Silent => "Redis does not answer".to_owned(),
            Self::Deaf => "Redis answers, but no published message arrives".to_owned(),
            Self::Elsewhere => "another server answers at the address now".to_owned(),
        }
    }
}

impl Link {
    pub(super) fn new(
        store: Store,
        shard: usize,
        observations: watch::Receiver<RedisObservation>,
    ) -> Self {
        Self {
            state: State::Opening(open(store.clone(), &observations)),
            store,
            shard,
            backoff: retry::backoff(),
            is_failure_logged: false,
            observations,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    pub(super) fn open_mut(&mut self) -> Option<&mut OpenLink> {
        match &mut self.state {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Takes the open connection, to handle what has arrived. It must be returned with [`Self::put_back`], or given up with
    /// [`Self::lose`].
    pub(super) fn take(&mut self) -> Option<Box<OpenLink>> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Open(open) => Some(open),
            other => {
                self.state = other;
                None
            }
        }
    }

    pub(super) fn put_back(&mut self, open: Box<OpenLink>) {
        self.state = State::Open(open);
    }

    /// Records that the connection was opened.
    pub(super) fn begin(&mut self, (connection, observed_run_id): Opened) {
        tracing::info!(shard = self.shard, "subscribed to Redis");
        self.is_failure_logged = false;
        let timeout = self.store.response_timeout();
        let canary = self.observations.borrow().canary;
        let open = OpenLink::new(connection, timeout, canary, observed_run_id);
        self.state = State::Open(Box::new(open));
    }

    /// Gives up the connection that was open since `since`. The next one is opened after a pause.
    pub(super) fn lose(&mut self, reason: &LostReason, since: Instant, counts: &SubscriberLost) {
        reason.count(counts).increment();
        let reason = reason.to_text();
        tracing::warn!(
            shard = self.shard,
            reason,
            "lost the subscriber connection, catching up once it is open again"
        );
        if since.elapsed() > STABLE_AFTER {
            self.backoff.reset();
        }
        self.pause();
    }

    /// Waits until there is something to do. Nothing is lost if it is cancelled.
    pub(super) async fn ready(&mut self) -> LinkEvent {
        loop {
            match &mut self.state {
                State::Pausing(pause) => {
                    pause.as_mut().await;
                    self.state = State::Opening(open(self.store.clone(), &self.observations));
                }
                State::Opening(opening) => match opening.await {
                    Ok(opened) => {
                        self.state = State::Taken;
                        return LinkEvent::Opened(opened);
                    }
                    Err(error) => {
                        if !self.is_failure_logged {
                            self.is_failure_logged = true;
                            let error = error_chain(&error);
                            tracing::warn!(
                                shard = self.shard,
                                error,
                                "cannot subscribe to Redis, trying again"
                            );
                        }
                        self.pause();
                    }
                },
                State::Open(open) => return open.ready().await,
                // Never happens: what was taken is put back before anything else is awaited.
                State::Taken => self.pause(),
            }
        }
    }

    fn pause(&mut self) {
        self.state = State::Pausing(Box::pin(sleep(self.backoff.pause())));
    }
}

fn open(
    store: Store,
    observations: &watch::Receiver<RedisObservation>,
) -> BoxFuture<'static, Result<Opened, StoreError>> {
    // If the address moves to another server meanwhile, that is a change.
    let run_id_before = observations.borrow().run_id.clone();
    Box::pin(async move {
        let connection = store.push_connection(CANARY_CHANNEL).await?;
        Ok((connection, run_id_before))
    })
}

/// An open connection, with the data to check whether it still works.
pub(super) struct OpenLink {
    pub(super) connection: PushConnection,
    pub(super) awaited: AwaitedAnswers,
    /// Since when it is open.
    pub(super) since: Instant,
    /// Values that have arrived may not be handled yet.
    pub(super) has_values: bool,
    checks: Interval,
    timeout: Duration,
    last_ping: Instant,
    last_arrival: Instant,
    /// At the last check nothing had arrived for too long. One more check, since this process itself may have been paused.
    is_suspect: bool,
    canary: CanaryCheck,
    canary_count: u64,
    has_canary_arrived: bool,
    /// The last `run_id` observed at the configured address.
    observed_run_id: Option<Arc<str>>,
    /// Since when the shard has not received everything.
    behind_since: Option<Instant>,
}

impl OpenLink {
    pub(super) fn new(
        connection: PushConnection,
        timeout: Duration,
        canary_count: u64,
        observed_run_id: Option<Arc<str>>,
    ) -> Self {
        let now = Instant::now();
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            connection,
            awaited: AwaitedAnswers::default(),
            since: now,
            has_values: false,
            checks,
            timeout,
            last_ping: now,
            last_arrival: now,
            is_suspect: false,
            canary: CanaryCheck::new(now),
            canary_count,
            has_canary_arrived: false,
            observed_run_id,
            behind_since: None,
        }
    }

    async fn ready(&mut self) -> LinkEvent {
        tokio::select! {
            // Checks come first: under load something has always arrived.
            biased;
            _ = self.checks.tick() => LinkEvent::Check,
            () = std::future::ready(()), if self.has_values => LinkEvent::Arrived,
            received = self.connection.receive() => match received {
                Ok(()) => {
                    self.has_values = true;
                    self.last_arrival = Instant::now();
                    LinkEvent::Arrived
                }
                Err(error) => LinkEvent::Lost(LostReason::Closed(error)),
            },
        }
    }

    /// Requests the change of these channels.
    pub(super) fn request(&mut self, change: SubscriptionChange, channels: Vec<Channel>) {
        let command = match change {
            SubscriptionChange::Subscribe => "SSUBSCRIBE",
            SubscriptionChange::Unsubscribe => "SUNSUBSCRIBE",
        };
        for channel in &channels {
            self.connection
                .send(redis::cmd(command).arg(channel.as_ref()));
        }
        self.awaited.begin_change(change, channels, Instant::now());
    }

    pub(super) fn record_canary(&mut self) {
        self.has_canary_arrived = true;
    }

    /// Sends a `PING` if it is time for one. Returns an error if the connection does not answer, even if it was not closed.
    ///
    /// The answer to the `PING` comes behind everything that was requested before. While anything arrives, the connection works,
    /// and giving it up would start all subscriptions over.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), LostReason> {
        if self.awaited.are_too_many() {
            return Err(LostReason::Silent);
        }
        if !self.awaited.is_ping_pending() {
            if now.saturating_duration_since(self.last_ping) >= PING_INTERVAL {
                self.connection.send(&redis::cmd("PING"));
                self.awaited.begin_ping();
                self.last_ping = now;
            }
            self.is_suspect = false;
            return Ok(());
        }
        let silent_since = self.last_ping.max(self.last_arrival);
        let was_suspect = self.is_suspect;
        // Nothing is read while the shard is busy with what has arrived.
        self.is_suspect =
            !self.has_values && now.saturating_duration_since(silent_since) >= self.timeout;
        if was_suspect && self.is_suspect {
            return Err(LostReason::Silent);
        }
        Ok(())
    }

    /// Checks what was observed with other connections. Returns an error if the canary is published but does not arrive, or if a
    /// server with another `run_id` begins to answer at the configured address.
    pub(super) fn observe(
        &mut self,
        observed: &RedisObservation,
        now: Instant,
    ) -> Result<(), LostReason> {
        if observed.run_id != self.observed_run_id {
            // The one observed before this connection was opened may be old, so only a change counts.
            self.observed_run_id.clone_from(&observed.run_id);
            let own = self.connection.run_id();
            if observed.run_id.as_ref().is_some_and(|other| other != own) {
                return Err(LostReason::Elsewhere);
            }
        }
        if observed.canary != self.canary_count {
            self.canary_count = observed.canary;
            let has_arrived = std::mem::take(&mut self.has_canary_arrived);
            // It may be among what has not been read yet.
            let may_have_arrived = has_arrived || !self.connection.has_caught_up();
            if self.canary.is_deaf(may_have_arrived, now) {
                return Err(LostReason::Deaf);
            }
        }
        Ok(())
    }

    /// Called when everything that was received is handled. Returns whether what waits must be skipped: the shard has not received
    /// everything for [`MAX_LAG`], and has not caught up since.
    pub(super) fn must_skip(&mut self, now: Instant) -> bool {
        if self.connection.take_has_waited() {
            self.behind_since = None;
            return false;
        }
        let since = *self.behind_since.get_or_insert(now);
        now.saturating_duration_since(since) >= MAX_LAG
    }
}

#[cfg(test)]
mod tests;

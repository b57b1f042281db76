//! The subscriptions of one client to all devices: their arguments, and the tasks that send what was asked for.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::context::ConnectionContext;
use super::refusal::Refusal;
use crate::client::Client;
use crate::feeds::filter::{AlarmFilter, AlarmFilterArgument, FleetFilter, FleetFilterArgument};
use crate::feeds::location_subscriber;
use crate::feeds::subscriber::{self, Feed};

/// The interval at which rows are sent to a client that names none, in milliseconds.
const DEFAULT_INTERVAL: u64 = 1_000;
/// The shortest and the longest one.
const INTERVALS: std::ops::RangeInclusive<u64> = 250..=60_000;

/// What a subscription to all devices is about. A client has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedKind {
    Fleet,
    Alarms,
}

/// The argument of `subscribe:fleet`. It may be missing.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum FleetArgument {
    Object {
        #[serde(default)]
        filter: Option<FleetFilterArgument>,
        #[serde(default)]
        interval: Option<u64>,
    },
    Nothing,
    Unreadable(IgnoredAny),
}

/// The argument of `subscribe:alarms`. It may be missing.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum AlarmsArgument {
    Object {
        #[serde(default)]
        filter: Option<AlarmFilterArgument>,
    },
    Nothing,
    Unreadable(IgnoredAny),
}

impl FleetArgument {
    /// Returns `None` for an argument that cannot be read.
    pub(super) fn feed(self) -> Option<Feed> {
        let (filter, interval) = match self {
            Self::Object { filter, interval } => (filter.unwrap_or_default(), interval),
            Self::Nothing => (FleetFilterArgument::default(), None),
            Self::Unreadable(_) => return None,
        };
        let interval = interval.unwrap_or(DEFAULT_INTERVAL);
        INTERVALS.contains(&interval).then_some(())?;
        Some(Feed::Fleet {
            filter: FleetFilter::of(filter)?,
            interval: Duration::from_millis(interval),
        })
    }
}

impl AlarmsArgument {
    /// Returns `None` for an argument that cannot be read.
    pub(super) fn feed(self) -> Option<Feed> {
        let filter = match self {
            Self::Object { filter } => filter.unwrap_or_default(),
            Self::Nothing => AlarmFilterArgument::default(),
            Self::Unreadable(_) => return None,
        };
        let filter = AlarmFilter::of(filter)?;
        Some(Feed::Alarms { filter })
    }
}

/// The subscriptions of one client to all devices. They end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct FeedSubscriptions {
    fleet: Option<RunningFeed>,
    alarms: Option<RunningFeed>,
}

#[derive(Debug)]
struct RunningFeed {
    stop: DropGuard,
    /// Resolved when nothing more is sent.
    ended: oneshot::Receiver<()>,
}

impl FeedSubscriptions {
    /// Returns their number.
    pub(super) fn count(&self) -> usize {
        usize::from(self.fleet.is_some()) + usize::from(self.alarms.is_some())
    }

    /// Whether there is one of this kind.
    pub(super) fn has(&self, kind: FeedKind) -> bool {
        match kind {
            FeedKind::Fleet => self.fleet.is_some(),
            FeedKind::Alarms => self.alarms.is_some(),
        }
    }

    /// Ends the one of this kind, if there is one. Nothing of it is sent after that.
    pub(super) async fn end(&mut self, client: &Client, kind: FeedKind) {
        if let Some(running) = self.of(kind).take() {
            drop(running.stop);
            // The task reports it by dropping the sender.
            running.ended.await.ok();
            if kind == FeedKind::Fleet {
                // The answer would overtake them.
                client.drop_rows();
            }
        }
    }

    /// Starts one. It answers the client when everything was sent.
    pub(super) fn start(
        &mut self,
        client: &Arc<Client>,
        feed: Feed,
        ack: Option<i64>,
        context: &ConnectionContext,
    ) {
        let kind = match feed {
            Feed::Fleet { .. } => FeedKind::Fleet,
            Feed::Alarms { .. } => FeedKind::Alarms,
        };
        let stop = CancellationToken::new();
        let (ends, ended) = oneshot::channel();
        let running = RunningFeed {
            stop: stop.clone().drop_guard(),
            ended,
        };
        *self.of(kind) = Some(running);
        let (client, feeds) = (Arc::clone(client), context.feeds.clone());
        context.spawn("feed", async move {
            let _ends: oneshot::Sender<()> = ends;
            let mut ack = ack;
            let closed = client.closed().clone();
            let serving = subscriber::serve(&feeds, &client, feed, &mut ack);
            let serving = stop.run_until_cancelled(serving);
            closed.run_until_cancelled(serving).await;
            if let Some(ack) = ack {
                client.reply(None, ack, Refusal::Replaced.to_reply());
            }
        });
    }

    fn of(&mut self, kind: FeedKind) -> &mut Option<RunningFeed> {
        match kind {
            FeedKind::Fleet => &mut self.fleet,
            FeedKind::Alarms => &mut self.alarms,
        }
    }
}

/// Starts to send a client where devices are, if this replica does. It ends with the connection.
pub(super) fn start_locations(client: &Arc<Client>, context: &ConnectionContext) {
    if !context.feeds.sends_locations() {
        return;
    }
    let (client, feeds) = (Arc::clone(client), context.feeds.clone());
    context.spawn("locations", async move {
        let closed = client.closed().clone();
        let serving = location_subscriber::serve(&feeds, &client);
        closed.run_until_cancelled(serving).await;
    });
}

#[cfg(test)]
mod tests;

//! One subscription of a client to all rows or to all open alarms: everything first, in chunks, then what changes.
//!
//! The next chunk is handed over when the one before has left, so a slow client never has more than one waiting. Meanwhile nothing is
//! kept for it: it gets the newest rows then, and of alarms every transition, or all open ones again.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::iso;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Feeds;
use super::alarm_key::AlarmKey;
use super::alarm_table::{AlarmCursor, EndedAlarm};
use super::filter::{AlarmFilter, FleetFilter};
use super::fleet_table::FleetCursor;
use super::row::Row;
use crate::access::identity::Identity;
use crate::access::permission::Verb;
use crate::client::Client;
use crate::event_names::{ALARMS_CHANGED, ALARMS_SNAPSHOT, FLEET_CHANGED, FLEET_SNAPSHOT};
use crate::json;

/// How often a client that nothing is sent to is checked for a new token.
pub(super) const IDENTITY_CHECK: Duration = Duration::from_secs(1);

/// What a client has subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    Fleet {
        filter: FleetFilter,
        /// The shortest time between two events with changes.
        interval: Duration,
    },
    Alarms {
        filter: AlarmFilter,
    },
}

#[derive(Serialize)]
struct FleetSnapshot<'a> {
    devices: Vec<&'a RawValue>,
    /// A new list begins here.
    first: bool,
    more: bool,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

#[derive(Serialize)]
struct FleetChanged<'a> {
    devices: Vec<&'a RawValue>,
    removed: &'a [DeviceId],
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

#[derive(Serialize)]
struct AlarmsSnapshot<'a> {
    alarms: Vec<&'a RawValue>,
    /// A new list begins here.
    first: bool,
    more: bool,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

#[derive(Serialize)]
struct AlarmsChanged<'a> {
    changed: Vec<&'a RawValue>,
    ended: &'a [EndedAlarm],
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

/// The answer to a subscription, once everything was sent.
#[derive(Serialize)]
struct FleetReply {
    ok: bool,
    interval: u64,
    devices: usize,
}

#[derive(Serialize)]
struct AlarmsReply {
    ok: bool,
    alarms: usize,
}

/// Sends a client what it has subscribed to, for as long as it runs. `ack`: the id of its request for an answer, taken when it is answered.
pub(crate) async fn serve(feeds: &Feeds, client: &Arc<Client>, feed: Feed, ack: &mut Option<i64>) {
    match feed {
        Feed::Fleet { filter, interval } => {
            let _wants = feeds.want_rows(interval);
            let subscriber = FleetSubscriber {
                feeds,
                client,
                filter,
                interval,
            };
            subscriber.serve(ack).await;
        }
        Feed::Alarms { filter } => {
            let _wants = feeds.want_alarms();
            let subscriber = AlarmSubscriber {
                feeds,
                client,
                filter,
            };
            subscriber.serve(ack).await;
        }
    }
}

pub(super) fn texts(rows: &[Arc<RawValue>]) -> Vec<&RawValue> {
    rows.iter().map(|row| &**row).collect()
}

pub(super) fn may_read(identity: &Identity, device: &DeviceId) -> bool {
    identity.permission().allows(Verb::Read, device.as_str())
}

/// Waits until the tables have changed, or it is time to look whether the client has a new token.
pub(super) async fn wait_for_change(changed: &mut watch::Receiver<()>) {
    // The sender lives as long as the feeds.
    timeout(IDENTITY_CHECK, changed.changed()).await.ok();
}

struct FleetSubscriber<'a> {
    feeds: &'a Feeds,
    client: &'a Arc<Client>,
    filter: FleetFilter,
    interval: Duration,
}

impl FleetSubscriber<'_> {
    async fn serve(self, ack: &mut Option<i64>) {
        let mut changed = self.feeds.inner.changed.subscribe();
        loop {
            while !self.feeds.tables().has_rows {
                wait_for_change(&mut changed).await;
            }
            let identity = self.client.identity();
            let (mut cursor, devices) = self.send_snapshot(&identity).await;
            // The answer would overtake the last rows.
            self.client.wait_until_rows_left().await;
            if let Some(ack) = ack.take() {
                let reply = FleetReply {
                    ok: true,
                    interval: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
                    devices,
                };
                self.client.reply(None, ack, json::to_raw(&reply));
            }
            let mut sent = Instant::now();
            loop {
                sleep_until(sent + self.interval).await;
                // What changed until now is about to be sent.
                changed.borrow_and_update();
                let is_same = Arc::ptr_eq(&identity, &self.client.identity());
                if !is_same || !self.feeds.tables().fleet.can_continue(&cursor) {
                    break;
                }
                let now = Instant::now();
                if self.send_changes(&identity, &mut cursor).await {
                    sent = now;
                } else {
                    wait_for_change(&mut changed).await;
                }
            }
        }
    }

    /// Returns what the client is shown of a device.
    fn shown(&self, identity: &Identity, device: &DeviceId, row: &Row) -> Option<Arc<RawValue>> {
        let is_wanted = self.filter.matches(device, row.status, &row.place);
        (is_wanted && may_read(identity, device)).then(|| Arc::clone(&row.text))
    }

    /// Sends all rows. Returns how far the client has got, and the number of rows.
    async fn send_snapshot(&self, identity: &Identity) -> (FleetCursor, usize) {
        let (mut cursor, until) = {
            let tables = self.feeds.tables();
            (tables.fleet.cursor(), tables.fleet.version())
        };
        let (mut devices, mut is_first) = (0, true);
        loop {
            self.client.wait_until_rows_left().await;
            let chunk = self
                .feeds
                .tables()
                .fleet
                .next(&mut cursor, until, |device, row| {
                    self.shown(identity, device, row)
                });
            devices += chunk.rows.len();
            let payload = FleetSnapshot {
                devices: texts(&chunk.rows),
                first: is_first,
                more: chunk.has_more,
                timestamp: self.feeds.inner.clock.now(),
            };
            self.client
                .send_rows(FLEET_SNAPSHOT, json::to_raw(&payload));
            if !chunk.has_more {
                return (cursor, devices);
            }
            is_first = false;
        }
    }

    /// Sends the rows that changed. Returns whether there were any.
    async fn send_changes(&self, identity: &Identity, cursor: &mut FleetCursor) -> bool {
        let mut has_sent = false;
        loop {
            self.client.wait_until_rows_left().await;
            let chunk = self
                .feeds
                .tables()
                .fleet
                .next_changes(cursor, |device, row| self.shown(identity, device, row));
            let Some(chunk) = chunk.filter(|chunk| !chunk.is_empty()) else {
                return has_sent;
            };
            has_sent = true;
            let payload = FleetChanged {
                devices: texts(&chunk.rows),
                removed: &chunk.removed,
                timestamp: self.feeds.inner.clock.now(),
            };
            self.client.send_rows(FLEET_CHANGED, json::to_raw(&payload));
            if !chunk.has_more {
                return true;
            }
        }
    }
}

struct AlarmSubscriber<'a> {
    feeds: &'a Feeds,
    client: &'a Arc<Client>,
    filter: AlarmFilter,
}

impl AlarmSubscriber<'_> {
    async fn serve(self, ack: &mut Option<i64>) {
        let mut changed = self.feeds.inner.changed.subscribe();
        loop {
            while !self.feeds.tables().has_alarms {
                wait_for_change(&mut changed).await;
            }
            let identity = self.client.identity();
            let (mut cursor, alarms) = self.send_snapshot(&identity).await;
            if let Some(ack) = ack.take() {
                let reply = AlarmsReply { ok: true, alarms };
                self.client.reply(None, ack, json::to_raw(&reply));
            }
            loop {
                changed.borrow_and_update();
                let is_same = Arc::ptr_eq(&identity, &self.client.identity());
                if !is_same || !self.send_changes(&identity, &mut cursor).await {
                    break;
                }
                wait_for_change(&mut changed).await;
            }
        }
    }

    /// Sends all open alarms. Returns how far the client has got, and the number of alarms.
    async fn send_snapshot(&self, identity: &Identity) -> (AlarmCursor, usize) {
        // Whatever changes meanwhile follows.
        let cursor = self.feeds.tables().alarms.cursor();
        let mut place: Option<AlarmKey> = None;
        let mut alarms = 0;
        loop {
            self.client.wait_until_alarms_left().await;
            let page = self
                .feeds
                .tables()
                .alarms
                .page(place.as_ref(), &self.filter, |device| {
                    may_read(identity, device)
                });
            alarms += page.alarms.len();
            let payload = AlarmsSnapshot {
                alarms: texts(&page.alarms),
                first: place.is_none(),
                more: page.next.is_some(),
                timestamp: self.feeds.inner.clock.now(),
            };
            let payload = json::to_raw(&payload).into();
            self.client.send_event(ALARMS_SNAPSHOT, &payload);
            place = page.next;
            if place.is_none() {
                return (cursor, alarms);
            }
        }
    }

    /// Sends the transitions that the client has not got. Returns `false` if it must be sent all open alarms again.
    async fn send_changes(&self, identity: &Identity, cursor: &mut AlarmCursor) -> bool {
        loop {
            self.client.wait_until_alarms_left().await;
            let chunk = self
                .feeds
                .tables()
                .alarms
                .next(cursor, &self.filter, |device| may_read(identity, device));
            let Some(chunk) = chunk else {
                return false;
            };
            if chunk.is_empty() {
                return true;
            }
            let payload = AlarmsChanged {
                changed: texts(&chunk.changed),
                ended: &chunk.ended,
                timestamp: self.feeds.inner.clock.now(),
            };
            let payload = json::to_raw(&payload).into();
            self.client.send_event(ALARMS_CHANGED, &payload);
        }
    }
}

#[cfg(test)]
mod tests;

//! What every client is sent with `--location-events`: where the devices are that it may read, and then what changes.
//!
//! The map of the existing front end replaces everything by a list, so a list is one event. What does not fit into it follows as updates. There is no
//! event for a device that is gone or whose place is no longer known: then the list is sent again.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::iso;
use tokio::time::{Instant, sleep, sleep_until};

use super::fleet_table::{FleetChunk, FleetCursor};
use super::located;
use super::row::Row;
use super::subscriber::{IDENTITY_CHECK, texts, wait_for_change};
use super::{Feeds, WantsRows};
use crate::access::identity::Identity;
use crate::access::permission::{Permission, Verb};
use crate::client::Client;
use crate::event_names::{ACTIVE_LOCATIONS, LOCATION_UPDATE};
use crate::json;

/// The shortest time between two updates of a device.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two lists because a device is gone. A device whose coordinates come and go costs no more.
const RENEWAL: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct ActiveLocations<'a> {
    devices: Vec<&'a RawValue>,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
    count: usize,
}

/// Sends a client where devices are, for as long as it runs.
pub(crate) async fn serve(feeds: &Feeds, client: &Client) {
    let mut wants: Option<WantsRows> = None;
    loop {
        let identity = client.identity();
        if !identity.permission().has(Verb::Read) {
            wants = None;
            // It may get another token.
            sleep(IDENTITY_CHECK).await;
            continue;
        }
        wants.get_or_insert_with(|| feeds.want_rows(INTERVAL));
        let subscriber = LocationSubscriber {
            feeds,
            client,
            identity,
        };
        subscriber.serve().await;
    }
}

/// What a client with this permission is shown of a device.
fn shown(permission: &Permission, device: &DeviceId, row: &Row) -> Option<Arc<RawValue>> {
    let may_read = permission.allows(Verb::Read, device.as_str());
    row.location.as_ref().filter(|_| may_read).cloned()
}

/// One list and its changes.
struct LocationSubscriber<'a> {
    feeds: &'a Feeds,
    client: &'a Client,
    identity: Arc<Identity>,
}

impl LocationSubscriber<'_> {
    /// Sends a list, and then changes until another list is due.
    async fn serve(self) {
        let mut changed = self.feeds.inner.changed.subscribe();
        while !self.feeds.tables().has_rows {
            wait_for_change(&mut changed).await;
        }
        let mut cursor = self.send_list().await;
        let listed = Instant::now();
        let (mut sent, mut lacks_removal) = (listed, false);
        loop {
            sleep_until(sent + INTERVAL).await;
            // What changed until now is about to be sent.
            changed.borrow_and_update();
            let is_same = Arc::ptr_eq(&self.identity, &self.client.identity());
            if !is_same || lacks_removal && listed.elapsed() >= RENEWAL {
                return;
            }
            let now = Instant::now();
            let mut has_sent = false;
            loop {
                let chunk = {
                    let tables = self.feeds.tables();
                    let shows = |device: &DeviceId, row: &Row| {
                        shown(self.identity.permission(), device, row)
                    };
                    tables.fleet.next_changes(&mut cursor, shows)
                };
                let Some(chunk) = chunk else {
                    return;
                };
                lacks_removal |= !chunk.removed.is_empty();
                has_sent |= !chunk.rows.is_empty();
                self.send_updates(&chunk).await;
                if !chunk.has_more {
                    break;
                }
            }
            if has_sent {
                sent = now;
            } else {
                wait_for_change(&mut changed).await;
            }
        }
    }

    /// Sends where all devices are. Returns how far the client has got.
    async fn send_list(&self) -> FleetCursor {
        let (mut cursor, until) = {
            let tables = self.feeds.tables();
            (tables.fleet.cursor(), tables.fleet.version())
        };
        let next = |cursor: &mut FleetCursor| {
            let tables = self.feeds.tables();
            let shows =
                |device: &DeviceId, row: &Row| shown(self.identity.permission(), device, row);
            tables.fleet.next(cursor, until, shows)
        };
        let mut chunk = next(&mut cursor);
        let list = ActiveLocations {
            devices: texts(&chunk.rows),
            timestamp: self.feeds.inner.clock.now(),
            count: chunk.rows.len(),
        };
        self.client.wait_until_locations_left().await;
        self.client.send_rows(ACTIVE_LOCATIONS, json::to_raw(&list));
        while chunk.has_more {
            chunk = next(&mut cursor);
            self.send_updates(&chunk).await;
        }
        cursor
    }

    async fn send_updates(&self, chunk: &FleetChunk) {
        for located in &chunk.rows {
            self.client.wait_until_locations_left().await;
            let update = located::with_timestamp(located, self.feeds.inner.clock.now());
            self.client.send_rows(LOCATION_UPDATE, update);
        }
    }
}

#[cfg(test)]
mod tests;

//! Sends `auth:expiring` to clients whose token expires soon, and disconnects those whose token has. One task does it for all clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use shared::clock::{Clock, Time};
use tokio::time::{MissedTickBehavior, interval};

use crate::client::close_reason::CloseReason;
use crate::client::{Client, ClientId};
use crate::config::tokens::TokenConfig;
use crate::event_names::AUTH_EXPIRING;
use crate::json;

/// Pause between two searches for tokens that expire.
const INTERVAL: Duration = Duration::from_secs(1);

/// The clients whose tokens expire. Clones share them. Each client has one entry: connections bound their number.
#[derive(Clone)]
pub(crate) struct TokenExpiry {
    inner: Arc<ExpiryInner>,
}

struct ExpiryInner {
    // A std mutex: held for a few moves in memory, never across an await.
    due: Mutex<BTreeMap<(Time, ClientId), Due>>,
    notice: Duration,
    /// From the end of a token to that of its connections. Not shorter than the leeway: a client that is closed before could
    /// connect again with the same token.
    grace: Duration,
    clock: Arc<dyn Clock>,
}

struct Due {
    /// Weak, so that a client that has left is forgotten when its time has come, and costs little until then.
    client: Weak<Client>,
    is_announced: bool,
}

/// Payload of `auth:expiring`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Expiring {
    expires_in_ms: i64,
    closes_in_ms: i64,
}

impl TokenExpiry {
    pub(crate) fn new(config: &TokenConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(ExpiryInner {
                due: Mutex::default(),
                notice: config.token_notice,
                grace: config.token_grace.max(config.token_leeway),
                clock,
            }),
        }
    }

    /// Begins to watch the token of a client that has joined.
    pub(crate) fn watch(&self, client: &Arc<Client>) {
        if let Some(expires) = client.identity().expires() {
            let due = Due {
                client: Arc::downgrade(client),
                is_announced: false,
            };
            self.due()
                .insert((self.notice_at(expires), client.id()), due);
        }
    }

    /// Ends watching a client: it has left, or its token is about to be replaced.
    pub(crate) fn forget(&self, client: &Client) {
        if let Some(expires) = client.identity().expires() {
            let mut due = self.due();
            due.remove(&(self.notice_at(expires), client.id()));
            due.remove(&(self.close_at(expires), client.id()));
        }
    }

    /// Notifies and disconnects clients for as long as it runs.
    pub(crate) async fn run(self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.act(self.inner.clock.now());
        }
    }

    /// Notifies and disconnects the clients whose time has come.
    pub(crate) fn act(&self, now: Time) {
        while let Some((id, due)) = self.pop_due(now) {
            let Some(client) = due.client.upgrade() else {
                continue;
            };
            let Some(expires) = client.identity().expires() else {
                continue;
            };
            let closes = self.close_at(expires);
            if closes <= now {
                client.close(CloseReason::TokenExpired);
                continue;
            }
            if !due.is_announced {
                let payload = Expiring {
                    expires_in_ms: expires.millis_since(now),
                    closes_in_ms: closes.millis_since(now),
                };
                client.send_event(AUTH_EXPIRING, &json::to_raw(&payload).into());
            }
            let due = Due {
                is_announced: true,
                ..due
            };
            self.due().insert((closes, id), due);
        }
    }

    fn pop_due(&self, now: Time) -> Option<(ClientId, Due)> {
        let mut due = self.due();
        let first = due.first_entry()?;
        let (at, id) = *first.key();
        (at <= now).then(|| (id, first.remove()))
    }

    fn notice_at(&self, expires: Time) -> Time {
        expires - self.inner.notice
    }

    fn close_at(&self, expires: Time) -> Time {
        expires + self.inner.grace
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<(Time, ClientId), Due>> {
        self.inner
            .due
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

//! The reserved connections that have not sent a request, oldest first. When no place is free, the oldest one makes room, so
//! that connections that send nothing cannot keep a probe waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::connection::ConnectionHandle;

/// How long a connection may take to send its request when others wait for its place. A probe sends it at once.
const GRACE: Duration = Duration::from_millis(250);

/// The reserved connections in the order in which they were accepted. Has at most one entry per reserved permit, besides
/// entries of connections that have ended, which the next call removes.
#[derive(Debug, Default)]
pub(super) struct IdleQueue {
    connections: VecDeque<Arc<ConnectionHandle>>,
}

impl IdleQueue {
    /// Adds a connection if it is a reserved one.
    pub(super) fn add_reserved(&mut self, connection: &Arc<ConnectionHandle>) {
        self.remove_busy();
        // Those of an address that has too many have permits of their own.
        if connection.is_reserved() && !connection.is_counted() {
            self.connections.push_back(Arc::clone(connection));
        }
    }

    /// Waits until the oldest connection has had its [`GRACE`], and ends it unless its request has come. Waits for ever if
    /// there is no such connection. Cancel-safe.
    pub(super) async fn close_oldest(&mut self) {
        self.remove_busy();
        let Some(oldest) = self.connections.front() else {
            return std::future::pending().await;
        };
        tokio::time::sleep(GRACE.saturating_sub(oldest.age())).await;
        if let Some(oldest) = self.connections.pop_front()
            && !oldest.has_request()
        {
            oldest.abort();
        }
    }

    /// Removes the connections that have sent a request or have ended.
    fn remove_busy(&mut self) {
        self.connections.retain(|connection| {
            let has_ended = Arc::strong_count(connection) == 1;
            !connection.has_request() && !has_ended
        });
    }
}

#[cfg(test)]
mod tests;

//! The handles and limits that the tasks of all connections share.

use std::sync::Arc;
use std::time::Duration;

use shared::lifecycle::Lifecycle;

use crate::clients::Clients;
use crate::metrics::SocketMetrics;
use crate::monitor::Monitor;
use crate::packet_budget::PacketRate;
use crate::relay::Relay;
use crate::watches::Watches;

/// The handles and limits that the tasks of all connections share.
#[derive(Debug)]
pub(super) struct ConnectionContext {
    pub(super) clients: Clients,
    pub(super) relay: Relay,
    pub(super) monitor: Monitor,
    pub(super) watches: Watches,
    pub(super) metrics: Arc<SocketMetrics>,
    pub(super) lifecycle: Lifecycle,
    /// Maximum number of devices that one client may subscribe to.
    pub(super) max_subscriptions: usize,
    /// How many packets a client may send.
    pub(super) packet_rate: PacketRate,
    /// Longest message of a client, in bytes.
    pub(super) max_event_bytes: usize,
    /// How long a client may take to join the namespace, and to finish an upgrade.
    pub(super) connect_timeout: Duration,
    pub(super) ping_interval: Duration,
    /// How long after a ping something must arrive.
    pub(super) ping_timeout: Duration,
}

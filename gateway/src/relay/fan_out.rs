//! The context for sending events to clients.

use std::sync::Arc;

use shared::clock::Clock;

use super::spans::EventSpans;
use crate::clients::Clients;
use crate::metrics::RelayMetrics;

/// The handles with which the devices of a shard send events to their members and, with `--broadcast-all`, to every client.
pub(super) struct FanOutContext {
    pub(super) clients: Clients,
    pub(super) broadcast_all: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) spans: EventSpans,
    pub(super) metrics: Arc<RelayMetrics>,
}

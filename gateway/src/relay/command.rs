//! What the shards are asked to do.

use std::sync::Arc;

use shared::clock::Time;
use shared::device::DeviceId;
use shared::position::Position;
use tokio::sync::oneshot;

use crate::client::pending_replies::PendingReply;
use crate::client::{Client, ClientId};
use crate::interest::Channel;

/// A subscription that waits for its answer.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) client: Arc<Client>,
    pub(crate) device: DeviceId,
    /// The last position the client has.
    pub(crate) since: Option<Position>,
    /// The acknowledgement id under which the client expects a reply.
    pub(crate) ack: Option<i64>,
    /// Held until the subscription is answered.
    pub(crate) _reply: PendingReply,
}

#[derive(Debug)]
pub(super) enum ShardCommand {
    /// Answer a subscription, and send the client the device's events from then on.
    Join { channel: Channel, join: Join },
    /// End a subscription.
    Leave {
        channel: Channel,
        client: Arc<Client>,
        device: DeviceId,
        ack: Option<i64>,
    },
    /// End the subscriptions of a client that disconnected.
    RemoveClient {
        channels: Vec<Channel>,
        client: ClientId,
    },
    /// Count the watchers of each device.
    CountWatchers {
        reply: oneshot::Sender<Vec<(DeviceId, u64)>>,
    },
    /// Watch the device for every client, for ever.
    Pin {
        channel: Channel,
        device: DeviceId,
        /// Send the readings since this time that are still stored, too.
        since: Option<Time>,
    },
}

//! Commands to a shard, the task that serves some of the devices.

use std::sync::Arc;

use shared::clock::Time;
use shared::device::DeviceId;
use shared::position::Position;
use tokio::sync::oneshot;

use crate::client::pending_replies::PendingReply;
use crate::client::{Client, ClientId};
use crate::interest::Channel;
use crate::watches::Watch;

/// A client's request to subscribe to a device. It is not answered yet.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) client: Arc<Client>,
    pub(crate) device: DeviceId,
    /// The last position the client has received; `None` if it asks for a snapshot.
    pub(crate) since: Option<Position>,
    /// The client wants only the changed fields of readings, where that is possible.
    pub(crate) changes: bool,
    /// The Socket.IO acknowledgement id of the reply; `None` if the client expects no reply.
    pub(crate) ack: Option<i64>,
    /// Counts the subscription as pending until this is dropped.
    pub(crate) _reply: PendingReply,
    /// Counts the device as watched until this is dropped, even if the client unsubscribes before.
    pub(crate) watch: Arc<Watch>,
}

#[derive(Debug)]
pub(super) enum ShardCommand {
    /// Answer the request, then send the client the device's events.
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
    /// A device that was not listed has sent its first message.
    Appeared { channel: Channel },
    /// Count the watchers of each device.
    CountWatchers {
        reply: oneshot::Sender<Vec<(DeviceId, u64)>>,
    },
    /// Watch the device permanently, for all clients: its readings are broadcast.
    Pin {
        channel: Channel,
        device: DeviceId,
        /// Also send the stored readings from this time on.
        since: Option<Time>,
    },
}

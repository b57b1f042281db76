//! Sends commands to the shard that owns a device.

use std::collections::HashSet;
use std::sync::Arc;

use shared::device::DeviceId;
use shared::store::Store;
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_64;

use super::command::ShardCommand;
use crate::client::ClientId;
use crate::interest::Channel;

/// Sends commands to the shard that owns a device. Cheap to clone.
///
/// If a shard's queue is full, sending waits. A shard ends only with the process: then commands are dropped.
#[derive(Clone, Debug)]
pub(super) struct ShardSenders {
    store: Store,
    senders: Arc<[mpsc::Sender<ShardCommand>]>,
}

impl ShardSenders {
    pub(super) fn new(store: Store, senders: Vec<mpsc::Sender<ShardCommand>>) -> Self {
        Self {
            store,
            senders: senders.into(),
        }
    }

    pub(super) async fn send(
        &self,
        device: &DeviceId,
        command: impl FnOnce(Channel) -> ShardCommand,
    ) {
        let channel = self.channel(device);
        let shard = &self.senders[shard_of(&channel, self.senders.len())];
        shard.send(command(channel)).await.ok();
    }

    /// Ends the subscriptions of a client that disconnected.
    pub(super) async fn remove_client(&self, client: ClientId, devices: HashSet<DeviceId>) {
        let mut channels: Vec<Vec<Channel>> = vec![Vec::new(); self.senders.len()];
        for device in devices {
            let channel = self.channel(&device);
            channels[shard_of(&channel, self.senders.len())].push(channel);
        }
        for (shard, channels) in self.senders.iter().zip(channels) {
            if !channels.is_empty() {
                let command = ShardCommand::RemoveClient { channels, client };
                shard.send(command).await.ok();
            }
        }
    }

    /// Counts the watchers of each device.
    pub(super) async fn watchers(&self) -> Vec<(DeviceId, u64)> {
        let mut watchers = Vec::new();
        for shard in self.senders.iter() {
            let (reply, answer) = oneshot::channel();
            shard.send(ShardCommand::CountWatchers { reply }).await.ok();
            watchers.extend(answer.await.unwrap_or_default());
        }
        watchers
    }

    fn channel(&self, device: &DeviceId) -> Channel {
        self.store.channel(device).into()
    }
}

/// Returns the index of the shard that owns the channel, out of `shards`.
pub(super) fn shard_of(channel: &str, shards: usize) -> usize {
    let hash = xxh3_64(channel.as_bytes()) % shards.max(1) as u64;
    usize::try_from(hash).unwrap_or_default()
}

//! Every Redis key and channel, spelled here alone.
//!
//! All keys of one partition carry its hash tag, so that one script can change a device, its streams and the indexes of
//! its partition, on Redis Cluster too. The first pair of braces is ours, whatever a serial holds.

use crate::device::DeviceId;

/// How many events of a device are kept for recovery.
pub const MAX_EVENTS: usize = 64;
/// How many events with alarm changes of a device are kept.
pub const MAX_CHANGES: usize = 200;
/// How many lines of a partition's alarm log are kept at most, whatever `--log-max` says: the bound for writers that do not
/// know it.
pub const MAX_LOG: u64 = 200_000;
/// How many unreadable states of a partition are kept.
pub const MAX_QUARANTINE: usize = 100;

/// Number of partitions, recorded at the first start: a service started with another number refuses.
pub const PARTITIONS: &str = "st:partitions";
/// Stream of payloads that can never be processed.
pub const DEAD_LETTERS: &str = "st:dead-letters";
/// Sorted set of ingest client id → time of its last report with a live subscription.
pub const INGEST_MEMBERS: &str = "st:{ingest}:members";
/// Hash: the moment since which some ingest has been listening without interruption, and the topics.
pub const INGEST_LISTENING: &str = "st:{ingest}:listening";

/// Counter that moves every second as long as any process can commit.
pub const CANARY: &str = "st:{canary}:count";
/// Sharded channel on which each of its counts is published: who sees the key move and hears nothing is deaf.
pub const CANARY_CHANNEL: &str = "st:{canary}:live";

/// What the channels of devices have in common, for spans.
pub const CHANNEL_TEMPLATE: &str = "st:{partition}:live:{device}";

/// Sharded channel on which every new connection tries whether it may publish.
pub const PROBE_CHANNEL: &str = "st:{ingest}:probe";

/// What one gateway found of all devices, told to the others.
pub const FLEET_SAMPLE: &str = "st:{fleet}:sample";
/// Sorted set of gateway → time of its last report of who watches what.
pub const WATCHERS: &str = "st:{fleet}:watchers";

/// Report of one gateway; it runs out.
#[must_use]
pub fn watchers_of(replica: &str) -> String {
    format!("{WATCHERS}:{replica}")
}

/// Keys of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionKeys {
    tag: String,
}

impl PartitionKeys {
    /// The keys of partition `number`.
    #[must_use]
    pub fn new(number: u16) -> Self {
        Self {
            tag: format!("st:{{p{number:02}}}"),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.tag)
    }

    fn device_key(&self, name: &str, device: &DeviceId) -> String {
        format!("{}:{name}:{device}", self.tag)
    }

    /// Hash: the partition's epoch, the `run_id` of the server it was opened on, a counter of events, and as `retired`
    /// the highest seq that a device had when it was retired.
    #[must_use]
    pub fn partition(&self) -> String {
        self.key("partition")
    }

    /// Sorted set device → time of its last message: the device list, and who fell silent.
    #[must_use]
    pub fn seen(&self) -> String {
        self.key("seen")
    }

    /// Sorted set device → moment at which to look at it again.
    #[must_use]
    pub fn deadlines(&self) -> String {
        self.key("deadlines")
    }

    /// Sorted set device → number of its last event within the partition.
    #[must_use]
    pub fn changed(&self) -> String {
        self.key("changed")
    }

    /// Stream of alarm transitions.
    #[must_use]
    pub fn log(&self) -> String {
        self.key("log")
    }

    /// Stream of states that could not be read.
    #[must_use]
    pub fn quarantine(&self) -> String {
        self.key("quarantine")
    }

    /// Hash with the state of a device.
    #[must_use]
    pub fn device(&self, device: &DeviceId) -> String {
        self.device_key("device", device)
    }

    /// Stream of the last published events of a device.
    #[must_use]
    pub fn events(&self, device: &DeviceId) -> String {
        self.device_key("events", device)
    }

    /// Stream of the last events with alarm changes of a device.
    #[must_use]
    pub fn changes(&self, device: &DeviceId) -> String {
        self.device_key("changes", device)
    }

    /// Stream of samples of a device.
    #[must_use]
    pub fn history(&self, device: &DeviceId) -> String {
        self.device_key("history", device)
    }

    /// Sharded channel on which a device's events are published.
    #[must_use]
    pub fn channel(&self, device: &DeviceId) -> String {
        self.device_key("live", device)
    }
}

/// The device whose events are published on a channel; `None` if it is not a channel of ours.
#[must_use]
pub fn device_of_channel(channel: &str) -> Option<DeviceId> {
    let (_, device) = channel.strip_prefix("st:{p")?.split_once("}:live:")?;
    device.parse().ok()
}

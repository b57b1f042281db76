//! The names of all Redis keys and channels. No other file spells them. `shared/README.md` describes their contents.
//!
//! All keys of one partition have the same hash tag. So one script may change a device, its streams and the indexes of its
//! partition, even in Redis Cluster (for which the services have no client yet). The hash tag is the text in the first pair of
//! braces in a key, so braces in a serial do not matter.

use crate::device::DeviceId;
use crate::rollup::Width;

/// Number of the latest events of a device that can be read, for recovery by position.
pub const MAX_EVENTS: usize = 64;
/// Number of events to which the stream of a device is trimmed: the oldest of [`MAX_EVENTS`] may need one of the 15 before it, which has the
/// whole text. Usual commits leave up to [`TRIM_EVERY`] more, and up to one node of the stream, 4 KiB by default.
pub const MAX_STORED_EVENTS: usize = MAX_EVENTS + 16;
/// One in so many positions of a device at which a usual commit trims its events and its history.
pub const TRIM_EVERY: u64 = 16;
/// Maximum number of events kept per device while the memory of Redis is short.
pub const MIN_EVENTS: usize = 8;
/// Maximum number of events with alarm changes kept per device.
pub const MAX_CHANGES: usize = 200;
/// Maximum number of lines in a partition's alarm log, even if `--log-max` is higher. Writers without that setting use this
/// bound, too.
pub const MAX_LOG: u64 = 200_000;
/// Maximum number of unreadable states kept per partition.
pub const MAX_QUARANTINE: usize = 100;

/// Number of partitions, recorded at the first start. A service with another number refuses to start.
pub const PARTITIONS: &str = "st:partitions";
/// Stream of messages that can never be processed.
pub const DEAD_LETTERS: &str = "st:dead-letters";
/// The name that [`DEAD_LETTERS`] gets at this server time if it is not a stream.
#[must_use]
pub fn dead_letters_aside(millis: i64) -> String {
    format!("{DEAD_LETTERS}:aside:{millis}")
}

/// Stream of the last received payloads, while an ingest records them.
pub const RAW_PAYLOADS: &str = "st:{raw}:payloads";
/// String: the settings under which the last of them was received, as JSON.
pub const RAW_SETTINGS: &str = "st:{raw}:settings";
/// Sorted set of ingest client id → time of its last report of an active subscription.
pub const INGEST_MEMBERS: &str = "st:{ingest}:members";
/// Hash of ingest client id → version of the alarm rules and time of its last report, separated by a space. Releases whose rules
/// have no version are missing here.
pub const INGEST_RULES: &str = "st:{ingest}:rules";
/// Hash: `since`, the start of the time without interruption in which at least one ingest replica was subscribed; `until`, the time of
/// the last report; `before`, how long one was subscribed before `since`, in milliseconds; `topics`.
pub const INGEST_LISTENING: &str = "st:{ingest}:listening";

/// Sorted set of ingest client id → time of its last report that its subscription brings no message although devices are known.
pub const INGEST_QUIET: &str = "st:{ingest}:quiet";

/// Hash of ingest client id → time of its last report, which unknown devices it accepts, and how full it finds Redis, separated
/// by spaces.
pub const INGEST_LIMITS: &str = "st:{ingest}:limits";

/// Hash of the width of a rollup in seconds → how long its buckets are kept, and the time of the last pass of an ingest that makes them, both
/// in milliseconds, separated by a space. A width that is no longer made stays as long as its buckets do.
pub const ROLLUP_LEVELS: &str = "st:{ingest}:rollups";

/// Sorted set of device → time of its last reservation: the devices that have a place among `--max-devices`.
pub const ADMITTED: &str = "st:{admitted}:devices";
/// String: it exists once every stored device has its place in [`ADMITTED`].
pub const ADMITTED_COUNTED: &str = "st:{admitted}:counted";

/// Counter, the canary. It is incremented every second as long as any process can commit.
pub const CANARY: &str = "st:{canary}:count";
/// Sharded channel on which each new count of the canary is published. A subscriber that receives none while the counter
/// changes has lost its subscription.
pub const CANARY_CHANNEL: &str = "st:{canary}:live";

/// Template of the device channels, for span names.
pub const CHANNEL_TEMPLATE: &str = "st:{partition}:live:{device}";

/// String: counts over all devices, taken by one gateway for the metrics of all.
pub const FLEET_SAMPLE: &str = "st:{fleet}:sample";
/// Sorted set of gateway → time of its last report of watched devices.
pub const WATCHERS: &str = "st:{fleet}:watchers";

/// String: one gateway's report of watched devices. It expires.
#[must_use]
pub fn watchers_of(replica: &str) -> String {
    format!("{WATCHERS}:{replica}")
}

/// Stream of what people did, each as JSON.
pub const AUDIT: &str = "st:{fleet}:audit";
/// Stream of what was refused, each as JSON. Anybody can be refused as often as it likes, and must not push out what people did.
pub const AUDIT_REFUSED: &str = "st:{fleet}:audit:refused";
/// Stream of who signed in and out, each as JSON. Anybody with an account can sign in as often as it likes, and must not push out what
/// people did either.
pub const AUDIT_SESSIONS: &str = "st:{fleet}:audit:sessions";
/// Maximum number of entries of [`AUDIT`], of [`AUDIT_REFUSED`] and of [`AUDIT_SESSIONS`].
pub const MAX_AUDIT: u64 = 50_000;

/// Sorted set of a revoked token or subject → time until which it is. Their spelling is that of [`crate::store::Revoked`].
pub const REVOKED: &str = "st:{fleet}:revoked";
/// Maximum number of entries of [`REVOKED`].
pub const MAX_REVOKED: u64 = 100_000;
/// String: another one after each change of [`REVOKED`]. Without it Redis has lost its data, or nothing was revoked yet.
pub const REVOKED_CHANGES: &str = "st:{fleet}:revoked:changes";

/// Keys of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionKeys {
    tag: String,
}

impl PartitionKeys {
    /// Creates the keys of partition `number`.
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

    /// Hash: the partition's epoch, the `run_id` of the server it was opened on, the last number that a device got (`events`), and in
    /// `retired` the highest seq that a retired device had.
    #[must_use]
    pub fn partition(&self) -> String {
        self.key("partition")
    }

    /// Sorted set of device → time of its last message. It is the device list, and shows which devices are silent.
    #[must_use]
    pub fn seen(&self) -> String {
        self.key("seen")
    }

    /// Sorted set of device → time at which a timer must evaluate it.
    #[must_use]
    pub fn deadlines(&self) -> String {
        self.key("deadlines")
    }

    /// Sorted set of device → the number that it got last in its partition: when it was listed, or with an event that has an alarm change
    /// or that no live message has caused.
    #[must_use]
    pub fn listings(&self) -> String {
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

    /// Hash: the state of a device.
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

    /// Stream of the blocks of one rollup of a device. The id of a block is `<end>-0`.
    #[must_use]
    pub fn rollup(&self, device: &DeviceId, width: Width) -> String {
        format!("{}:rollup:{}:{device}", self.tag, width.seconds())
    }

    /// Stream: a copy of the history of a device, while it is thinned. `number` keeps apart the copies of several processes.
    #[must_use]
    pub fn thinned(&self, device: &DeviceId, number: u64) -> String {
        format!("{}:{number:x}", self.device_key("thinned", device))
    }

    /// Sharded channel on which a device's events are published.
    #[must_use]
    pub fn channel(&self, device: &DeviceId) -> String {
        self.device_key("live", device)
    }
}

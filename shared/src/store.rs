//! The one writer and reader of device state in Redis.
//!
//! [`Store::load`] reads what deciding needs, [`Store::commit`] carries a decision out by compare-and-set; both take
//! many devices in one round trip. Everything else answers questions and writes nothing of a device.

mod codec;
mod committed_states;
mod export;
mod fleet;
mod in_doubt;
mod read;
mod retire;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Pipeline, PushInfo, RedisError, RedisResult, Value};

use crate::alarm::{Alarm, Change, ChangeKind};
use crate::clock::{Clock, SystemClock, Time};
use crate::decide::{CommittedState, StoredDevice};
use crate::device::DeviceId;
use crate::keys::PartitionKeys;
use crate::redis::{ConnectError, Connection, RedisConfig, RedisConnector, Scripts, load_scripts};

use crate::position::{Epoch, Position};
pub use crate::redis::Subscriber;
use crate::state::DeviceState;

use committed_states::CommittedStates;
pub use export::{Content, LogReader, LoggedLine, Since, Transition};
pub use fleet::{AlarmCounts, DeviceCounts, FleetSample, WatchReport};
use in_doubt::InDoubt;
pub use write::{Bounds, Commit, Committed, DeadLetter};

/// Cheap to clone; every clone shares the connection.
#[derive(Clone, Debug)]
pub struct Store {
    link: Arc<RedisConnector>,
    committed_states: Arc<CommittedStates>,
    in_doubt: Arc<InDoubt>,
    /// Devices asserted again so far.
    reasserted: Arc<AtomicU64>,
}

/// Why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis cannot be reached, did not answer in time, or is loading: try again later.
    #[error("redis is away")]
    Away(#[source] RedisError),
    /// The server cannot be used: an operator must act.
    #[error("redis cannot be used: {0}")]
    Unusable(String),
    /// One device's keys are not what they should be; the others are not concerned.
    #[error("the stored device cannot be used: {0}")]
    Refused(String),
    /// A device that was never heard of, and the limit of devices is reached.
    #[error("the limit of devices is reached")]
    TooManyDevices,
}

impl StoreError {
    /// Whether it concerns the server rather than a device: the same may go through later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Unusable(_))
    }

    /// A short constant for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Away(_) => "redis_away",
            Self::Unusable(_) => "redis_unusable",
            Self::Refused(_) => "device_refused",
            Self::TooManyDevices => "too_many_devices",
        }
    }
}

impl From<ConnectError> for StoreError {
    fn from(err: ConnectError) -> Self {
        match err {
            ConnectError::Away(err) => Self::Away(err),
            ConnectError::Unusable(why) => Self::Unusable(why),
        }
    }
}

/// What is stored of a device, as deciding needs it.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// The state, or an empty one for a device that was never heard of.
    Device(Box<StoredDevice>),
    /// A key has the wrong type: this device cannot be committed, others can.
    Refused(String),
}

/// One device as stored, read at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The partition's present epoch.
    pub epoch: Epoch,
    /// The device's state; `None` if it was never heard of.
    pub state: Option<DeviceState>,
    /// Server time of the last message that proved the device alive.
    pub last_message: Option<Time>,
    /// Published events, oldest first: those with `seq >= since` if `since` was given, else none.
    pub events: Vec<StoredEvent>,
    /// Events with alarm changes (newest 200), oldest first: if `since` was given, else none.
    pub changes: Vec<StoredChanges>,
    /// The seq after which this device began or, if it was never heard of, would begin.
    pub born_after: u64,
}

/// An entry of a device's events stream.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its position.
    pub position: Position,
    /// The published bytes: an [`crate::event::Event`] as JSON.
    pub bytes: Vec<u8>,
}

/// An entry of a device's changes stream.
#[derive(Clone, Debug)]
pub struct StoredChanges {
    /// Its position.
    pub position: Position,
    /// Payload of `device:alerts:changed` as JSON.
    pub payload: Vec<u8>,
    /// The alarms as these changes left them, in order.
    pub alarms: Vec<Alarm>,
}

/// One transition of the alarm log.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Id of the row: letters, digits, `_` and `-`.
    pub id: String,
    /// Whose alarm.
    pub device: DeviceId,
    /// What happened; `None` for entries that are no transition of an alarm (`state_lost`).
    pub change: Option<ChangeKind>,
    /// Server time.
    pub at: Time,
    /// The alarm as the change left it.
    pub alarm: Option<Alarm>,
    /// For an acknowledgement: name and the seq it covers.
    pub acknowledged: Option<(String, u64)>,
}

/// What stands in all of Redis beside the devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Epoch of each partition; `None` where the partition cannot be used.
    pub epochs: Vec<Option<Epoch>>,
    /// Highest seq of a device that each partition retired.
    pub retired: Vec<Option<u64>>,
    /// The canary's count.
    pub canary: u64,
}

/// Whether anybody listens to the detectors, as the ingests report it in Redis.
#[derive(Clone, Debug, Default)]
pub struct IngestStatus {
    /// Since the newest report of an ingest with a live subscription; `None` if there never was one.
    pub age: Option<Duration>,
    /// The topics it subscribes to.
    pub topics: Vec<String>,
}

/// A pause in the reports longer than this means that nobody listens.
pub const MAX_REPORT_AGE: Duration = Duration::from_secs(3);

impl IngestStatus {
    /// Whether the newest report is recent enough (3 s).
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.age.is_some_and(|age| age <= MAX_REPORT_AGE)
    }
}

impl Store {
    /// A store that connects when it is first asked, and whenever the connection was lost.
    #[must_use]
    pub fn new(config: RedisConfig, clock: Arc<SystemClock>) -> Self {
        Self {
            link: Arc::new(RedisConnector::new(config, clock)),
            committed_states: Arc::default(),
            in_doubt: Arc::default(),
            reasserted: Arc::default(),
        }
    }

    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.link.config().partitions
    }

    /// The one clock: this machine's, corrected by Redis `TIME`.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::<SystemClock>::clone(self.link.clock())
    }

    /// Asks Redis for a sign of life and measures the clock against it.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.link.connection().await?;
        let measured = self.link.measure_clock(&mut connection.redis).await;
        measured.map_err(|err| self.failed(&connection, err))
    }

    /// Name of the sharded channel a device's events are published on.
    #[must_use]
    pub fn channel(&self, device: &DeviceId) -> String {
        self.keys(device).channel(device)
    }

    /// A connection for subscriptions of its own (RESP3), whose pushes go to `pushes`, which must not block.
    pub async fn subscriber(
        &self,
        pushes: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Subscriber, StoreError> {
        Ok(self.link.subscriber(pushes).await?)
    }

    /// Which run of which server is at the configured address now, asked on a fresh connection. Gives up the standing one
    /// where that leads elsewhere.
    pub async fn identify_server(&self) -> Result<Arc<str>, StoreError> {
        Ok(self.link.identify_server().await?)
    }

    /// Connections for questions and commits made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.link.connections_made()
    }

    /// Devices asserted again so far, because Redis went back behind what was committed here.
    #[must_use]
    pub fn reasserted(&self) -> u64 {
        self.reasserted.load(Ordering::Relaxed)
    }

    pub(crate) fn count_reasserted(&self, devices: usize) {
        self.reasserted.fetch_add(devices as u64, Ordering::Relaxed);
    }

    /// How often all of this is checked; zero: never.
    #[must_use]
    pub fn watch_interval(&self) -> Duration {
        self.link.config().redis_watch
    }

    /// What this process committed last of the device, if the stored state has lost it.
    pub(crate) fn missing_from(&self, stored: &StoredDevice) -> Option<Arc<CommittedState>> {
        self.committed_states.missing_from(stored)
    }

    /// Alarm changes of earlier commits of this process that stand and were not reported yet. Each is returned once.
    pub(crate) fn take_unreported(&self, loaded: &StoredDevice) -> Vec<Change> {
        self.in_doubt.take(loaded)
    }

    /// Keeps alarm changes that stand and were not reported, for the next [`Store::take_unreported`].
    pub(crate) fn keep_unreported(&self, device: &DeviceId, changes: Vec<Change>) {
        self.in_doubt.keep_unreported(device, changes);
    }

    /// What the device's memory says is settled in this epoch, or cannot be.
    pub(crate) fn give_up_memory(&self, device: &DeviceId, epoch: Epoch) {
        self.committed_states.give_up(device, epoch);
    }

    /// Forgets what is remembered of devices in these partitions of which nothing is stored any more: they were retired.
    pub(crate) async fn forget_retired(&self, partitions: &[u16]) -> Result<(), StoreError> {
        let devices = self
            .committed_states
            .in_partitions(partitions, self.partitions());
        for loaded in self.load(&devices).await? {
            if let Loaded::Device(subject) = loaded
                && subject.state.latest.is_none()
                && !subject.lost
            {
                self.committed_states.forget(&subject.device, subject.epoch);
            }
        }
        Ok(())
    }

    /// Devices of which something is remembered under another epoch than their partition's present one.
    pub(crate) fn committed_in_other_epochs(&self, epochs: &[Option<Epoch>]) -> Vec<DeviceId> {
        self.committed_states.in_other_epochs(epochs)
    }

    fn keys(&self, device: &DeviceId) -> PartitionKeys {
        PartitionKeys::new(device.partition(self.partitions()))
    }

    /// Runs a pipeline whose items fail one by one. Scripts that the server forgot are loaded again and the items that
    /// missed them are sent once more, so `build` may be called twice.
    async fn run_each(
        &self,
        count: usize,
        build: impl Fn(&Scripts, usize, &mut Pipeline),
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        let mut connection = self.link.connection().await?;
        let all: Vec<usize> = (0..count).collect();
        let mut answers = self.send(&mut connection, &all, &build).await?;
        let forgotten: Vec<usize> = all
            .into_iter()
            .filter(|index| matches!(&answers[*index], Err(err) if err.code() == Some("NOSCRIPT")))
            .collect();
        if !forgotten.is_empty() {
            let loaded = load_scripts(&mut connection.redis).await;
            loaded.map_err(|err| self.failed(&connection, err))?;
            let again = self.send(&mut connection, &forgotten, &build).await?;
            for (index, answer) in forgotten.into_iter().zip(again) {
                answers[index] = answer;
            }
        }
        Ok(answers)
    }

    async fn send(
        &self,
        connection: &mut Connection,
        items: &[usize],
        build: &impl Fn(&Scripts, usize, &mut Pipeline),
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for index in items {
            build(&connection.scripts, *index, &mut pipe);
        }
        let timeout = self.link.config().redis_timeout;
        let query = pipe.query_async::<Vec<RedisResult<Value>>>(&mut connection.redis);
        match tokio::time::timeout(timeout, query).await {
            Ok(Ok(answers)) if answers.len() == items.len() => Ok(answers),
            Ok(Ok(_)) => Err(self.failed(connection, wrong_answer("count of answers"))),
            Ok(Err(err)) => Err(self.failed(connection, err)),
            Err(_) => Err(self.failed(
                connection,
                (redis::ErrorKind::Io, "no answer in time").into(),
            )),
        }
    }

    /// Runs one command.
    async fn run(&self, build: impl Fn(&Scripts, &mut Pipeline)) -> Result<Value, StoreError> {
        let answers = self
            .run_each(1, |scripts, _, pipe| build(scripts, pipe))
            .await?;
        match answers.into_iter().next() {
            Some(Ok(value)) => Ok(value),
            Some(Err(err)) => Err(self.answer_error(err)),
            None => Err(StoreError::Away(wrong_answer("no answer"))),
        }
    }

    /// What an error answer to one command means.
    fn answer_error(&self, err: RedisError) -> StoreError {
        match err.code() {
            // The server is no master any more: a new connection may reach the one that is.
            Some("READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK") => {
                self.link.discard_current();
                StoreError::Away(err)
            }
            Some("LOADING" | "BUSY" | "OOM" | "MISCONF" | "TRYAGAIN" | "NOREPLICAS") => {
                StoreError::Away(err)
            }
            // Anything else the server says of this command concerns this command alone.
            Some(_) => StoreError::Refused(err.to_string()),
            None => StoreError::Away(err),
        }
    }

    /// Gives up the connection after an error of the connection itself.
    fn failed(&self, connection: &Connection, err: RedisError) -> StoreError {
        self.link.discard(connection);
        StoreError::Away(err)
    }
}

fn wrong_answer(what: &'static str) -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, what).into()
}

#[cfg(test)]
pub(crate) use codec::round_trip;

#[cfg(test)]
mod tests;

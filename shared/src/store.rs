//! Reads and writes the state of devices in Redis. No other module does.
//!
//! [`Store::load`] reads the states that decisions start from. [`Store::commit`] writes decisions by compare-and-set. Both
//! handle many devices in one round trip. No other method writes the state of a device.

mod admissions;
mod alarm_log;
mod audit;
mod codec;
mod commit;
mod committed_states;
mod dead_letters;
mod error;
mod event_diff;
mod export;
mod fleet;
mod history;
mod in_doubt;
mod ingest_status;
mod memory;
mod new_listings;
mod partitions;
mod profiles;
mod raw_payloads;
mod refusals;
mod reply;
mod revoked;
mod rollups;
mod shown_devices;
mod snapshot;
mod stored_events;
mod trimming;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Pipeline, RedisError, RedisResult, Value};

use self::committed_states::CommittedStates;
use self::in_doubt::InDoubt;
use self::memory::{MemoryWatch, is_out_of_memory};
use self::refusals::LastRefusal;
use self::reply::wrong_answer;
use self::rollups::KnownWidths;
use crate::alarm::Change;
use crate::clock::{Clock, SystemClock};
use crate::decide::{CommittedState, StoredDevice};
use crate::device::DeviceId;
use crate::keys::PartitionKeys;
use crate::position::Epoch;
use crate::redis::{Connection, RedisConfig, RedisConnector, Scripts, load_scripts, refusal};

pub use self::admissions::{Applicant, Places, RESERVED_FOR};
pub use self::alarm_log::{LogId, LogPiece, LoggedEntry, PIECE};
pub use self::audit::{AuditEntry, AuditPage, AuditPart};
pub use self::codec::Shown;
pub(crate) use self::commit::concerns_alarms;
pub use self::commit::{Bounds, Commit, Committed, Loaded};
pub use self::dead_letters::{DeadLetter, LetterPage, StoredLetter};
pub use self::error::StoreError;
pub use self::export::{LogReader, Since};
pub use self::fleet::{AlarmCounts, DeviceCounts, FleetSample, WatchReport};
pub use self::history::{HISTORY_PIECE, HistoryPiece, HistoryPlace, StoredSample};
pub use self::ingest_status::{IngestStatus, MAX_REPORT_AGE, PlacesLeft, Report};
pub use self::memory::{Fullness, MemoryUse, REDIS_FULL, REDIS_RESERVE_LOW, REDIS_RESERVE_USED_UP};
pub use self::new_listings::{NewListings, PartitionMark};
pub use self::partitions::Survey;
pub use self::profiles::{ProfileSet, StoredProfile};
pub use self::raw_payloads::{RawPayload, RawPayloadReader};
pub use self::reply::is_entry_id;
pub use self::revoked::{Revoked, RevokedChange, RevokedUntil};
pub use self::rollups::{
    BLOCKS, HistoryBegin, RollupMarks, RollupPiece, RollupProgress, RollupSource, RollupUse,
    RollupWork,
};
pub use self::shown_devices::{AlarmChanges, AlarmGlance, ChangedAlarm, DeviceList, Look, LookAt};
pub use self::snapshot::{Snapshot, StoredChanges};
pub use self::stored_events::StoredEvent;
pub use self::trimming::{HistoryBounds, HistoryUse, NODE};
pub use crate::redis::{NO_MEMORY, PushConnection, ServiceRole};

/// Access to Redis. Clones are cheap and share one connection.
#[derive(Clone, Debug)]
pub struct Store {
    connector: Arc<RedisConnector>,
    last_refusal: Arc<LastRefusal>,
    memory: Arc<MemoryWatch>,
    committed_states: Arc<CommittedStates>,
    in_doubt: Arc<InDoubt>,
    reasserted: Arc<AtomicU64>,
    rollup_widths: Arc<KnownWidths>,
}

impl Store {
    /// Creates a store. It connects at the first request, and again after the connection was lost.
    #[must_use]
    pub fn new(config: RedisConfig, role: ServiceRole, clock: Arc<SystemClock>) -> Self {
        Self {
            connector: Arc::new(RedisConnector::new(config, role, clock)),
            last_refusal: Arc::default(),
            memory: Arc::default(),
            committed_states: Arc::default(),
            in_doubt: Arc::default(),
            reasserted: Arc::default(),
            rollup_widths: Arc::default(),
        }
    }

    /// Returns the number of partitions.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.connector.config().partitions
    }

    /// Returns this machine's clock, corrected by Redis `TIME`.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::<SystemClock>::clone(self.connector.clock())
    }

    /// Checks that Redis answers, and measures how far this machine's clock differs from Redis `TIME`.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.connector.connection().await?;
        let measured = self.connector.measure_clock(&mut connection.redis).await;
        measured.map_err(|err| self.connection_error(&connection, err))
    }

    /// Returns the name of the sharded channel on which a device's events are published.
    #[must_use]
    pub fn channel(&self, device: &DeviceId) -> String {
        self.keys(device).channel(device)
    }

    /// Opens a separate connection for subscriptions, which is subscribed to this channel.
    pub async fn push_connection(&self, channel: &str) -> Result<PushConnection, StoreError> {
        Ok(self.connector.push_connection(channel).await?)
    }

    /// Returns how long Redis may take to answer.
    #[must_use]
    pub fn response_timeout(&self) -> Duration {
        self.connector.config().redis_timeout
    }

    /// Opens a new connection to the configured address and returns the `run_id` of the server. Drops the current connection
    /// if it belongs to another server.
    pub async fn identify_server(&self) -> Result<Arc<str>, StoreError> {
        Ok(self.connector.identify_server().await?)
    }

    /// Returns the number of connections opened so far for reads and commits.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connector.connections_made()
    }

    /// Returns the number of devices written again so far because Redis had lost a state committed by this process.
    #[must_use]
    pub fn reasserted(&self) -> u64 {
        self.reasserted.load(Ordering::Relaxed)
    }

    pub(crate) fn count_reasserted(&self, devices: usize) {
        self.reasserted.fetch_add(devices as u64, Ordering::Relaxed);
    }

    /// Returns the interval of the checks in [`crate::redis_watch`]; zero disables them.
    #[must_use]
    pub fn watch_interval(&self) -> Duration {
        self.connector.config().redis_watch
    }

    /// Returns the state that this process last committed for the device, if the stored state has lost part of it.
    pub(crate) fn missing_from(&self, stored: &StoredDevice) -> Option<Arc<CommittedState>> {
        self.committed_states.missing_from(stored)
    }

    /// Returns the device as this process committed it last, to decide from without a load; `None` if it must be loaded. If another
    /// process has changed it, the commit is a conflict.
    pub(crate) fn last_committed(&self, device: &DeviceId) -> Option<Box<StoredDevice>> {
        self.committed_states.device(device)
    }

    /// Takes the committed alarm changes of this process that no caller has reported yet. Each is returned once.
    pub(crate) fn take_unreported(&self, loaded: &StoredDevice) -> Vec<Change> {
        self.in_doubt.take(loaded)
    }

    /// Keeps committed alarm changes that the caller did not report, for the next [`Store::take_unreported`].
    pub(crate) fn keep_unreported(&self, device: &DeviceId, changes: Vec<Change>) {
        self.in_doubt.keep_unreported(device, changes);
    }

    /// Stops trying to write the committed state of the device again in this epoch, because that is impossible.
    pub(crate) fn give_up_reasserting(&self, device: &DeviceId, epoch: Epoch) {
        self.committed_states.give_up(device, epoch);
    }

    /// Forgets the committed states of retired devices in these partitions. A device that is no longer stored was retired.
    pub(crate) async fn forget_retired(&self, partitions: &[u16]) -> Result<(), StoreError> {
        let devices = self
            .committed_states
            .in_partitions(partitions, self.partitions());
        for loaded in self.load(&devices).await? {
            if let Loaded::Device(stored) = loaded
                && stored.state.latest.is_none()
                && !stored.lost
            {
                self.committed_states.forget(&stored.device, stored.epoch);
            }
        }
        Ok(())
    }

    /// Returns the devices whose state this process last committed in an epoch other than their partition's present one.
    pub(crate) fn committed_in_other_epochs(&self, epochs: &[Option<Epoch>]) -> Vec<DeviceId> {
        self.committed_states.in_other_epochs(epochs)
    }

    fn keys(&self, device: &DeviceId) -> PartitionKeys {
        PartitionKeys::new(device.partition(self.partitions()))
    }

    /// Runs a pipeline of `count` commands and returns one result per command. If the server has no scripts, loads them and
    /// sends the commands that failed because of that once more. So `build` may be called twice for a command.
    async fn run_each(
        &self,
        count: usize,
        build: impl Fn(&Scripts, usize, &mut Pipeline),
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        let mut connection = self.connector.connection().await?;
        let all: Vec<usize> = (0..count).collect();
        let mut answers = self.send(&mut connection, &all, &build).await?;
        let without_script: Vec<usize> = all
            .into_iter()
            .filter(|index| matches!(&answers[*index], Err(err) if err.code() == Some("NOSCRIPT")))
            .collect();
        if !without_script.is_empty() {
            let loaded = load_scripts(&mut connection.redis).await;
            loaded.map_err(|err| self.connection_error(&connection, err))?;
            let new_answers = self.send(&mut connection, &without_script, &build).await?;
            for (index, answer) in without_script.into_iter().zip(new_answers) {
                answers[index] = answer;
            }
        }
        Ok(answers)
    }

    async fn send(
        &self,
        connection: &mut Connection,
        commands: &[usize],
        build: &impl Fn(&Scripts, usize, &mut Pipeline),
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for index in commands {
            build(&connection.scripts, *index, &mut pipe);
        }
        let timeout = self.connector.config().redis_timeout;
        let query = pipe.query_async::<Vec<RedisResult<Value>>>(&mut connection.redis);
        match tokio::time::timeout(timeout, query).await {
            Ok(Ok(answers)) if answers.len() == commands.len() => Ok(answers),
            Ok(Ok(_)) => Err(self.connection_error(connection, wrong_answer("count of answers"))),
            Ok(Err(err)) => Err(self.connection_error(connection, err)),
            Err(_) => Err(self.connection_error(
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
            None => Err(StoreError::Unavailable(wrong_answer("no answer"))),
        }
    }

    /// Classifies an error answer to one command: a server that cannot be used, or the keys of one device.
    fn answer_error(&self, err: RedisError) -> StoreError {
        if is_out_of_memory(&err) {
            // What matters goes on within the reserve, so this alone does not make Redis unusable.
            self.memory.refused();
            return StoreError::Unavailable(err);
        }
        if let Some(reason) = refusal(&err) {
            self.last_refusal.note(reason);
            // The server is no longer the master. A new connection may reach the new master.
            if let Some("READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK") = err.code() {
                self.connector.discard_current();
            }
            return StoreError::Unavailable(err);
        }
        match err.code() {
            Some(_) => StoreError::Refused(err.to_string()),
            None => StoreError::Unavailable(err),
        }
    }

    /// Discards the connection after an error of the connection itself.
    fn connection_error(&self, connection: &Connection, err: RedisError) -> StoreError {
        self.connector.discard(connection);
        StoreError::Unavailable(err)
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
pub(crate) use codec::{alarm_fields::tests::read_as_earlier_release, round_trip};

#[cfg(test)]
mod tests;

//! What stands in Redis of all devices and of all who watch them: for metrics and for `/api/analytics`.
//!
//! Nothing here is asked for by a client. One gateway reads the devices, all others what it found.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{FromRedisValue, Value};
use serde::{Deserialize, Serialize};

use super::codec::{bytes, items, json, text};
use super::{Store, StoreError};
use crate::alarm::{Alarm, Kind, Severity};
use crate::clock::Time;
use crate::device::DeviceId;
use crate::keys;
use crate::state::DeviceMemory;

/// Devices read in one round trip: a few hundred kilobytes, a few milliseconds of Redis.
const CHUNK: usize = 500;

/// How long a sample outlives its making.
const SAMPLE_LIFE: Duration = Duration::from_mins(2);

/// All devices at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSample {
    /// Server time at which the reading of it began.
    pub at: Time,
    /// Devices by their worst state.
    pub devices: DeviceCounts,
    /// Open alarms.
    pub alarms: AlarmCounts,
    /// Server time of the raise of the oldest critical alarm that nobody acknowledged.
    pub unacknowledged_since: Option<Time>,
    /// Length of the stream of dead letters.
    pub dead_letters: u64,
    /// Those whose state cannot be read, the first [`FleetSample::MAX_NAMED`] of them.
    #[serde(default)]
    pub unreadable: Vec<DeviceId>,
}

/// Devices by their worst state, each counted once, under the first that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounts {
    /// Its state cannot be read.
    pub unknown: u64,
    /// With an open alarm of this severity, silent or not.
    pub critical: u64,
    /// The same.
    pub high: u64,
    /// The same.
    pub warning: u64,
    /// Silent for longer than its limit, or never heard alive.
    pub offline: u64,
    /// None of it.
    pub normal: u64,
}

/// Open alarms by severity: `[not acknowledged, acknowledged]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmCounts {
    /// Gas at A1.
    pub warning: [u64; 2],
    /// Gas at A2; a silent detector.
    pub high: [u64; 2],
    /// Gas at A3, over range, or a detector that cannot measure.
    pub critical: [u64; 2],
}

/// Who watches what at one gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchReport {
    /// Server time of the report; set when it is stored.
    pub at: Time,
    /// Connected clients carried by a websocket.
    pub websocket: u64,
    /// Connected clients that poll.
    pub polling: u64,
    /// Subscriptions of all of them.
    pub subscriptions: u64,
    /// Watched devices, those included that are not named.
    pub rooms: u64,
    /// Clients per device, of at most [`WatchReport::MAX_DEVICES`] devices.
    pub devices: BTreeMap<DeviceId, u64>,
}

impl WatchReport {
    /// Devices one report names, those with the most clients first: clients may subscribe to names that do not exist.
    pub const MAX_DEVICES: usize = 20_000;
}

impl FleetSample {
    /// Devices that are named where their state cannot be read.
    pub const MAX_NAMED: usize = 10;

    fn new(at: Time) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    /// Counts one device; `stored`: its open alarms and its silence limit, `None` where they cannot be read.
    fn add(
        &mut self,
        device: &DeviceId,
        stored: Option<(Vec<Alarm>, i64)>,
        last_message: Option<Time>,
    ) {
        let Some((alarms, limit_ms)) = stored else {
            self.devices.unknown += 1;
            if self.unreadable.len() < Self::MAX_NAMED {
                self.unreadable.push(device.clone());
            }
            return;
        };
        for alarm in &alarms {
            let counts = match alarm.condition.severity() {
                Severity::Warning => &mut self.alarms.warning,
                Severity::High => &mut self.alarms.high,
                Severity::Critical => &mut self.alarms.critical,
            };
            counts[usize::from(alarm.acknowledged.is_some())] += 1;
            let waits = alarm.acknowledged.is_none();
            if waits && alarm.condition.severity() == Severity::Critical {
                let oldest = self.unacknowledged_since.unwrap_or(alarm.raised_at);
                self.unacknowledged_since = Some(oldest.min(alarm.raised_at));
            }
        }
        let is_heard = last_message.is_some_and(|last| self.at.millis_since(last) <= limit_ms);
        let is_offline = alarms.iter().any(|a| a.kind() == Kind::DeviceOffline);
        let devices = &mut self.devices;
        // Silence tells nothing new of an alarm that stands: it never hides one.
        let measured = alarms.iter().filter(|a| a.kind() != Kind::DeviceOffline);
        let place = match measured.map(|alarm| alarm.condition.severity()).max() {
            Some(Severity::Critical) => &mut devices.critical,
            Some(Severity::High) => &mut devices.high,
            Some(Severity::Warning) => &mut devices.warning,
            None if !is_heard || is_offline => &mut devices.offline,
            None => &mut devices.normal,
        };
        *place += 1;
    }
}

impl Store {
    /// All devices as they stood at most `max_age` ago: as another process found them, else read now and told to the others.
    pub async fn fleet(&self, max_age: Duration) -> Result<FleetSample, StoreError> {
        let found = self.run(|_, pipe| {
            pipe.cmd("GET").arg(keys::FLEET_SAMPLE);
        });
        let found = bytes(found.await?).map_err(StoreError::Away)?;
        let found = found.and_then(|found| serde_json::from_slice::<FleetSample>(&found).ok());
        let now = self.link.now();
        let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        if let Some(found) = found
            && (0..max_age_ms).contains(&now.millis_since(found.at))
        {
            return Ok(found);
        }
        let sample = self.sample_fleet(now).await?;
        let told = self.run(|_, pipe| {
            pipe.cmd("SET").arg(keys::FLEET_SAMPLE).arg(json(&sample));
            pipe.arg("PX").arg(millis(SAMPLE_LIFE));
        });
        // A Redis that takes nothing still tells how things stand; the others then look for themselves.
        told.await.ok();
        Ok(sample)
    }

    async fn sample_fleet(&self, at: Time) -> Result<FleetSample, StoreError> {
        let mut sample = FleetSample::new(at);
        for chunk in self.devices().await?.chunks(CHUNK) {
            let answers = self
                .run_each(chunk.len(), |_, index, pipe| {
                    let device = &chunk[index].0;
                    pipe.cmd("HMGET").arg(self.keys(device).device(device));
                    pipe.arg("alarms").arg("memory");
                })
                .await?;
            for ((device, last_message), answer) in chunk.iter().zip(answers) {
                let answer = match answer.map_err(|err| self.answer_error(err)) {
                    Ok(answer) => answer,
                    // One device that is no hash does not hide the others.
                    Err(StoreError::Refused(_)) => Value::Nil,
                    Err(err) => return Err(err),
                };
                sample.add(device, standing(answer), *last_message);
            }
        }
        let length = self.run(|_, pipe| {
            pipe.cmd("XLEN").arg(keys::DEAD_LETTERS);
        });
        sample.dead_letters = match length.await {
            Ok(length) => u64::from_redis_value(length).unwrap_or_default(),
            // What stands in its way is moved aside by the next dead letter.
            Err(StoreError::Refused(_)) => 0,
            Err(err) => return Err(err),
        };
        Ok(sample)
    }

    /// Reports who watches what at this gateway; forgotten after `life` unless it is reported again.
    pub async fn report_watchers(
        &self,
        replica: &str,
        report: &WatchReport,
        life: Duration,
    ) -> Result<(), StoreError> {
        let now = self.link.now();
        let report = WatchReport {
            at: now,
            ..report.clone()
        };
        let now = now.as_millis();
        // Each for itself: another replica may be set to report more seldom.
        let end = now.saturating_add(millis(life));
        let answers = self
            .run_each(3, |_, index, pipe| {
                match index {
                    0 => pipe.cmd("ZADD").arg(keys::WATCHERS).arg(end).arg(replica),
                    1 => pipe
                        .cmd("SET")
                        .arg(keys::watchers_of(replica))
                        .arg(json(&report))
                        .arg("PX")
                        .arg(millis(life)),
                    _ => pipe
                        .cmd("ZREMRANGEBYSCORE")
                        .arg(keys::WATCHERS)
                        .arg("-inf")
                        .arg(now),
                };
            })
            .await?;
        let failed = answers.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |err| Err(self.answer_error(err)))
    }

    /// Withdraws the report of a gateway that goes.
    pub async fn withdraw_watchers(&self, replica: &str) -> Result<(), StoreError> {
        let withdrawn = self.run_each(2, |_, index, pipe| {
            if index == 0 {
                pipe.cmd("ZREM").arg(keys::WATCHERS).arg(replica);
            } else {
                pipe.cmd("DEL").arg(keys::watchers_of(replica));
            }
        });
        withdrawn.await.map(drop)
    }

    /// The standing reports of all gateways, by replica.
    pub async fn watchers(&self) -> Result<BTreeMap<String, WatchReport>, StoreError> {
        let found = self.run(|_, pipe| {
            pipe.cmd("ZRANGE").arg(keys::WATCHERS).arg(0).arg(-1);
        });
        let found = Vec::<String>::from_redis_value(found.await?);
        let replicas = found.map_err(|err| StoreError::Away(err.into()))?;
        let answers = self
            .run_each(replicas.len(), |_, index, pipe| {
                pipe.cmd("GET").arg(keys::watchers_of(&replicas[index]));
            })
            .await?;
        let mut reports = BTreeMap::new();
        for (replica, answer) in replicas.into_iter().zip(answers) {
            let answer = answer.map_err(|err| self.answer_error(err))?;
            let report = bytes(answer).map_err(StoreError::Away)?;
            // One that ran out, or of a release that writes it otherwise, is not told.
            let report: Option<WatchReport> =
                report.and_then(|text| serde_json::from_slice(&text).ok());
            reports.extend(report.map(|report| (replica, report)));
        }
        Ok(reports)
    }
}

/// Open alarms and silence limit of a device as they are stored.
fn standing(answer: Value) -> Option<(Vec<Alarm>, i64)> {
    let mut fields = items(answer).ok()?.into_iter();
    let mut next = || text(fields.next().unwrap_or(Value::Nil)).ok().flatten();
    let alarms = serde_json::from_str(&next()?).ok()?;
    let memory: DeviceMemory = serde_json::from_str(&next()?).ok()?;
    Some((alarms, memory.silence_limit_ms))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

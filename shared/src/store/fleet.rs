//! Totals over all devices and all watchers, for metrics and for `/api/analytics`.
//!
//! One gateway reads all devices and stores the totals. The other gateways read the stored totals.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{FromRedisValue, Value};
use serde::{Deserialize, Serialize};

use super::codec::json;
use super::codec::{MoreAlarms, alarm_fields};
use super::reply::{bytes, items, text};
use super::{Store, StoreError};
use crate::alarm::{Alarm, Kind, Severity};
use crate::clock::{Time, millis};
use crate::device::DeviceId;
use crate::keys;
use crate::state::DeviceMemory;

/// Number of devices read in one round trip. It takes Redis a few milliseconds and transfers a few hundred kilobytes.
const CHUNK: usize = 500;

/// How long a sample is kept in Redis.
const SAMPLE_LIFE: Duration = Duration::from_mins(2);

/// Counts over all devices at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSample {
    /// Server time at which reading began.
    pub at: Time,
    /// Devices by their worst state.
    pub devices: DeviceCounts,
    /// Open alarms.
    pub alarms: AlarmCounts,
    /// Server time at which the oldest unacknowledged critical alarm was raised.
    pub unacknowledged_since: Option<Time>,
    /// Length of the stream of dead letters.
    pub dead_letters: u64,
    /// The first devices whose state cannot be read, at most [`FleetSample::MAX_NAMED`].
    #[serde(default)]
    pub unreadable: Vec<DeviceId>,
}

/// Devices by their worst state. Each is counted once, under the first of these that is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounts {
    /// Its state cannot be read.
    pub unknown: u64,
    /// It has an open critical alarm, other than for its silence.
    pub critical: u64,
    /// It has an open alarm of high severity, other than for its silence.
    pub high: u64,
    /// It has an open warning.
    pub warning: u64,
    /// It has been silent for longer than its limit, or never sent a message.
    pub offline: u64,
    /// None of these.
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

/// One gateway's report of its clients and the devices they watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchReport {
    /// Server time of the report; set when it is stored.
    pub at: Time,
    /// Connected clients carried by a websocket.
    pub websocket: u64,
    /// Connected clients that poll.
    pub polling: u64,
    /// Subscriptions of all clients.
    pub subscriptions: u64,
    /// Watched devices, including those that are not named.
    pub rooms: u64,
    /// Clients per device, of at most [`WatchReport::MAX_DEVICES`] devices.
    pub devices: BTreeMap<DeviceId, u64>,
}

impl WatchReport {
    /// Maximum number of devices that one report names, those with the most clients first. The bound is needed because clients
    /// may subscribe to names that do not exist.
    pub const MAX_DEVICES: usize = 20_000;
}

impl FleetSample {
    /// Maximum number of unreadable devices that one sample names.
    pub const MAX_NAMED: usize = 10;

    fn new(at: Time) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    /// Counts one device. `stored` are its open alarms and its silence limit; `None` if they cannot be read.
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
            let counts = match alarm.severity() {
                Severity::Warning => &mut self.alarms.warning,
                Severity::High => &mut self.alarms.high,
                Severity::Critical => &mut self.alarms.critical,
            };
            counts[usize::from(alarm.acknowledged.is_some())] += 1;
            let is_unacknowledged = alarm.acknowledged.is_none();
            if is_unacknowledged && alarm.severity() == Severity::Critical {
                let oldest = self.unacknowledged_since.unwrap_or(alarm.raised_at);
                self.unacknowledged_since = Some(oldest.min(alarm.raised_at));
            }
        }
        let is_recent = last_message.is_some_and(|last| self.at.millis_since(last) <= limit_ms);
        let is_offline = alarms
            .iter()
            .any(|a| a.kind() == Kind::DeviceOffline && a.is_active());
        let devices = &mut self.devices;
        // An open alarm counts even if the device is silent.
        let measured = alarms.iter().filter(|a| a.kind() != Kind::DeviceOffline);
        // An alarm that only waits for its acknowledgement does not show the present state of the device.
        let severity = |alarm: &Alarm| {
            if alarm.is_active() {
                alarm.severity()
            } else {
                Severity::Warning
            }
        };
        let count = match measured.map(severity).max() {
            Some(Severity::Critical) => &mut devices.critical,
            Some(Severity::High) => &mut devices.high,
            Some(Severity::Warning) => &mut devices.warning,
            None if !is_recent || is_offline => &mut devices.offline,
            None => &mut devices.normal,
        };
        *count += 1;
    }
}

impl Store {
    /// Returns counts over all devices that are at most `max_age` old. Takes those that another process stored if they are
    /// recent enough. Otherwise reads all devices now and stores the counts.
    pub async fn fleet(&self, max_age: Duration) -> Result<FleetSample, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("GET").arg(keys::FLEET_SAMPLE);
        });
        let json_bytes = bytes(answer.await?).map_err(StoreError::Unavailable)?;
        let stored = json_bytes.and_then(|text| serde_json::from_slice::<FleetSample>(&text).ok());
        let now = self.connector.now();
        if let Some(sample) = stored
            && (0..millis(max_age)).contains(&now.millis_since(sample.at))
        {
            return Ok(sample);
        }
        let sample = self.sample_fleet(now).await?;
        let answer = self.run(|_, pipe| {
            pipe.cmd("SET").arg(keys::FLEET_SAMPLE).arg(json(&sample));
            pipe.arg("PX").arg(millis(SAMPLE_LIFE));
        });
        // If the counts cannot be stored, the other gateways read the devices themselves.
        answer.await.ok();
        Ok(sample)
    }

    async fn sample_fleet(&self, at: Time) -> Result<FleetSample, StoreError> {
        let mut sample = FleetSample::new(at);
        for chunk in self.devices().await?.chunks(CHUNK) {
            let answers = self
                .run_each(chunk.len(), |_, index, pipe| {
                    let device = &chunk[index].0;
                    pipe.cmd("HMGET").arg(self.keys(device).device(device));
                    pipe.arg("alarms").arg("memory").arg("more");
                })
                .await?;
            for ((device, last_message), answer) in chunk.iter().zip(answers) {
                let answer = match answer.map_err(|err| self.answer_error(err)) {
                    Ok(answer) => answer,
                    // A key of the wrong type must not hide the other devices.
                    Err(StoreError::Refused(_)) => Value::Nil,
                    Err(err) => return Err(err),
                };
                sample.add(device, alarms_and_limit(answer), *last_message);
            }
        }
        let length = self.run(|_, pipe| {
            pipe.cmd("XLEN").arg(keys::DEAD_LETTERS);
        });
        sample.dead_letters = match length.await {
            Ok(length) => u64::from_redis_value(length).unwrap_or_default(),
            // The key is not a stream. The next dead letter renames it.
            Err(StoreError::Refused(_)) => 0,
            Err(err) => return Err(err),
        };
        Ok(sample)
    }

    /// Stores the report of this gateway for `life`.
    pub async fn report_watchers(
        &self,
        replica: &str,
        report: &WatchReport,
        life: Duration,
    ) -> Result<(), StoreError> {
        let now = self.connector.now();
        let report = WatchReport {
            at: now,
            ..report.clone()
        };
        let now = now.as_millis();
        // Reports expire one by one, because replicas may have different intervals.
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
        let failure = answers.into_iter().find_map(Result::err);
        failure.map_or(Ok(()), |err| Err(self.answer_error(err)))
    }

    /// Withdraws the report of a gateway that stops.
    pub async fn withdraw_watchers(&self, replica: &str) -> Result<(), StoreError> {
        let answers = self.run_each(2, |_, index, pipe| {
            if index == 0 {
                pipe.cmd("ZREM").arg(keys::WATCHERS).arg(replica);
            } else {
                pipe.cmd("DEL").arg(keys::watchers_of(replica));
            }
        });
        answers.await.map(drop)
    }

    /// Returns the reports of all gateways, by replica.
    pub async fn watchers(&self) -> Result<BTreeMap<String, WatchReport>, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("ZRANGE").arg(keys::WATCHERS).arg(0).arg(-1);
        });
        let replicas = Vec::<String>::from_redis_value(answer.await?);
        let replicas = replicas.map_err(|err| StoreError::Unavailable(err.into()))?;
        let answers = self
            .run_each(replicas.len(), |_, index, pipe| {
                pipe.cmd("GET").arg(keys::watchers_of(&replicas[index]));
            })
            .await?;
        let mut reports = BTreeMap::new();
        for (replica, answer) in replicas.into_iter().zip(answers) {
            let answer = answer.map_err(|err| self.answer_error(err))?;
            let report = bytes(answer).map_err(StoreError::Unavailable)?;
            // A report that has expired, or that another release writes differently, is left out.
            let report: Option<WatchReport> =
                report.and_then(|text| serde_json::from_slice(&text).ok());
            reports.extend(report.map(|report| (replica, report)));
        }
        Ok(reports)
    }
}

/// Reads the open alarms and the silence limit of a device.
fn alarms_and_limit(answer: Value) -> Option<(Vec<Alarm>, i64)> {
    let mut fields = items(answer).ok()?.into_iter();
    let mut next = || text(fields.next().unwrap_or(Value::Nil)).ok().flatten();
    let alarms = serde_json::from_str(&next()?).ok()?;
    let memory: DeviceMemory = serde_json::from_str(&next()?).ok()?;
    let more = next();
    let more = more.map_or(Some(MoreAlarms::default()), |more| {
        serde_json::from_str(&more).ok()
    })?;
    let alarms = alarm_fields::join(alarms, more, None);
    Some((alarms, memory.silence_limit_ms))
}

#[cfg(test)]
mod tests;

//! Reads what lists of all devices show, and finds out cheaply which devices have changed.
//!
//! A reader looks at all partitions again and again ([`Store::look`]). Each look finds the devices that have a new number, because an alarm
//! of theirs has changed, and which were heard of. Only those are read.

use redis::{FromRedisValue, RedisResult, Value};
use serde::Deserialize;

use super::codec::{self, SHOWN_FIELDS, Shown};
use super::new_listings::{PAGE, PartitionMark, mark_of, since};
use super::reply::{device_of, entries, items, scored_names, text};
use super::{Store, StoreError};
use crate::alarm::{Alarm, ChangeKind};
use crate::clock::Time;
use crate::device::DeviceId;
use crate::keys::{MAX_CHANGES, PartitionKeys};
use crate::position::Position;

/// A partition that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct LookAt {
    /// Its number.
    pub partition: u16,
    /// The mark of the look before; `None` at the first look.
    pub mark: Option<PartitionMark>,
    /// Since when devices that were heard of are asked for; `None`: they are not.
    pub heard_since: Option<Time>,
}

/// What a look at a partition found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// For the next look; `None` if the partition has no epoch, so nothing is known of it.
    pub mark: Option<PartitionMark>,
    /// A key of the partition has the wrong type: nothing will be known of it until somebody repairs that.
    pub is_refused: bool,
    /// The devices that were listed, or that had an event with an alarm change or without a live message, since the look before. `None`: that is
    /// not known, since there was none, or Redis may have lost data since.
    pub numbered: Option<Vec<DeviceId>>,
    /// Number of entries in the device list.
    pub listed: u64,
    /// The devices that were heard of, with the time of their last message.
    pub heard: Vec<(DeviceId, Time)>,
}

/// The device list of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList {
    /// The devices, with the time of their last message.
    pub devices: Vec<(DeviceId, Option<Time>)>,
    /// Number of entries, also of those that are no devices.
    pub listed: u64,
}

/// The first look at a device for its alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmGlance {
    /// The position of its last event, if it can be read.
    pub position: Option<Position>,
    /// It may have open alarms: read it.
    pub may_have_alarms: bool,
}

/// The alarm changes of a device since a position.
#[derive(Clone, Debug, Default)]
pub struct AlarmChanges {
    /// Oldest first, with the position of each.
    pub changes: Vec<(Position, ChangedAlarm)>,
    /// Older ones may be missing.
    pub may_lack: bool,
}

/// One transition of an alarm.
#[derive(Clone, Debug)]
pub struct ChangedAlarm {
    /// The alarm after it.
    pub alarm: Alarm,
    /// The kind of change; `None` if it cannot be read.
    pub change: Option<ChangeKind>,
}

impl Store {
    /// Looks at these partitions in one round trip. The answers are in the same order.
    ///
    /// The mark of a look is read before its devices. So an event that is committed after the look has a higher number, and an event that
    /// was committed before is stored when the devices are read.
    pub async fn look(&self, partitions: &[LookAt]) -> Result<Vec<Look>, StoreError> {
        const PARTS: usize = 4;
        let answers = self
            .run_each(partitions.len() * PARTS, |_, index, pipe| {
                let at = partitions[index / PARTS];
                let keys = PartitionKeys::new(at.partition);
                match index % PARTS {
                    0 => {
                        pipe.cmd("HMGET").arg(keys.partition());
                        pipe.arg("epoch").arg("events");
                    }
                    1 => {
                        let after = at.mark.map(|mark| mark.number);
                        range_after(&keys.listings(), after.map(|number| (number, false)), pipe);
                        pipe.arg("LIMIT").arg(0).arg(PAGE).arg("WITHSCORES");
                    }
                    2 => {
                        pipe.cmd("ZCARD").arg(keys.seen());
                    }
                    _ => {
                        let since = at.heard_since.map(|time| time.as_millis().max(1));
                        let since = since.map(|since| (since.unsigned_abs(), true));
                        range_after(&keys.seen(), since, pipe);
                        pipe.arg("WITHSCORES");
                    }
                }
            })
            .await?;
        let mut answers = answers.into_iter();
        let mut found = Vec::with_capacity(partitions.len());
        for at in partitions {
            let mut next = || match answers.next() {
                Some(Ok(answer)) => Ok(Some(answer)),
                Some(Err(err)) => match self.answer_error(err) {
                    // A key of the wrong type must not hide the other partitions.
                    StoreError::Refused(_) => Ok(None),
                    err => Err(err),
                },
                None => Ok(None),
            };
            let parts = [next()?, next()?, next()?, next()?];
            found.push(read_look(*at, parts).map_err(StoreError::Unavailable)?);
        }
        Ok(found)
    }

    /// Returns the device lists of these partitions, in the same order. One that cannot be read is `None`.
    pub async fn device_lists(
        &self,
        partitions: &[u16],
    ) -> Result<Vec<Option<DeviceList>>, StoreError> {
        let answers = self
            .run_each(partitions.len(), |_, index, pipe| {
                let keys = PartitionKeys::new(partitions[index]);
                pipe.cmd("ZRANGE").arg(keys.seen());
                pipe.arg(0).arg(-1).arg("WITHSCORES");
            })
            .await?;
        let read = |answer: RedisResult<Value>| match answer.map_err(|err| self.answer_error(err)) {
            Ok(found) => {
                let names = scored_names(found).map_err(StoreError::Unavailable)?;
                let listed = names.len() as u64;
                let devices = names.into_iter().filter_map(|(name, last)| {
                    let last = (last.as_millis() > 0).then_some(last);
                    device_of(&name).map(|device| (device, last))
                });
                Ok(Some(DeviceList {
                    devices: devices.collect(),
                    listed,
                }))
            }
            Err(StoreError::Refused(_)) => Ok(None),
            Err(err) => Err(err),
        };
        answers.into_iter().map(read).collect()
    }

    /// Returns for each of these devices, in the same order, whether it may have open alarms. Costs a fraction of reading it.
    pub async fn glance_at_alarms(
        &self,
        devices: &[DeviceId],
    ) -> Result<Vec<AlarmGlance>, StoreError> {
        let answers = self
            .run_each(devices.len(), |_, index, pipe| {
                let device = &devices[index];
                pipe.cmd("HMGET").arg(self.keys(device).device(device));
                pipe.arg("epoch").arg("seq").arg("alarms").arg("more");
            })
            .await?;
        let read = |answer: RedisResult<Value>| match answer.map_err(|err| self.answer_error(err)) {
            Ok(values) => glance(values).map_err(StoreError::Unavailable),
            // What cannot be read may be anything.
            Err(StoreError::Refused(_)) => Ok(AlarmGlance {
                position: None,
                may_have_alarms: true,
            }),
            Err(err) => Err(err),
        };
        answers.into_iter().map(read).collect()
    }

    /// Reads what is shown of these devices in one round trip, in the same order. `None` if nothing of a device can be read. With a seq, also
    /// returns the alarm changes after it: they are at least as new as the state.
    pub async fn shown_devices(
        &self,
        devices: &[(DeviceId, Option<u64>)],
    ) -> Result<Vec<(Option<Shown>, AlarmChanges)>, StoreError> {
        let commands: Vec<(usize, bool)> = devices
            .iter()
            .enumerate()
            .flat_map(|(index, (_, since))| {
                let changes = since.map(|_| (index, true));
                std::iter::once((index, false)).chain(changes)
            })
            .collect();
        let answers = self
            .run_each(commands.len(), |_, command, pipe| {
                let (index, is_of_changes) = commands[command];
                let (device, since) = &devices[index];
                let keys = self.keys(device);
                if is_of_changes {
                    let after = since.unwrap_or_default().saturating_add(1);
                    pipe.cmd("XRANGE").arg(keys.changes(device));
                    pipe.arg(format!("{after}-0")).arg("+");
                } else {
                    pipe.cmd("HMGET")
                        .arg(keys.device(device))
                        .arg(&SHOWN_FIELDS);
                }
            })
            .await?;
        let mut found: Vec<(Option<Shown>, AlarmChanges)> = Vec::new();
        found.resize_with(devices.len(), Default::default);
        for ((index, is_of_changes), answer) in commands.into_iter().zip(answers) {
            let answer = match answer.map_err(|err| self.answer_error(err)) {
                Ok(answer) => answer,
                Err(StoreError::Refused(_)) => continue,
                Err(err) => return Err(err),
            };
            if is_of_changes {
                found[index].1 = read_changes(answer).map_err(StoreError::Unavailable)?;
            } else {
                found[index].0 = codec::decode_shown(answer).map_err(StoreError::Unavailable)?;
            }
        }
        Ok(found)
    }
}

/// Adds the members of a sorted set from this score on, itself included or not. Without one, nothing is asked for: the range is empty.
fn range_after(key: &str, from: Option<(u64, bool)>, pipe: &mut redis::Pipeline) {
    let from = match from {
        Some((score, true)) => score.to_string(),
        Some((score, false)) => format!("({score}"),
        None => "(+inf".to_owned(),
    };
    pipe.cmd("ZRANGE").arg(key).arg(from);
    pipe.arg("+inf").arg("BYSCORE");
}

fn read_look(at: LookAt, parts: [Option<Value>; 4]) -> RedisResult<Look> {
    let is_refused = parts.iter().any(Option::is_none);
    let [partition, numbered, listed, heard] = parts;
    let mark = mark_of(partition.unwrap_or(Value::Nil))?;
    let numbered = match numbered {
        Some(found) => Vec::<(String, f64)>::from_redis_value(found)?,
        None => Vec::new(),
    };
    let found = since(at.mark, mark, numbered);
    let heard = match heard {
        Some(found) => scored_names(found)?,
        None => Vec::new(),
    };
    let heard = heard
        .into_iter()
        .filter_map(|(name, last)| Some((device_of(&name)?, last)));
    Ok(Look {
        mark: found.mark,
        is_refused,
        numbered: found.devices,
        listed: listed.map_or(Ok(0), u64::from_redis_value)?,
        heard: heard.collect(),
    })
}

fn glance(values: Value) -> RedisResult<AlarmGlance> {
    let mut values = items(values)?.into_iter();
    let mut next = || text(values.next().unwrap_or(Value::Nil));
    let (epoch, seq, alarms, more) = (next()?, next()?, next()?, next()?);
    let position = epoch.zip(seq).and_then(|(epoch, seq)| {
        Some(Position {
            epoch: epoch.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    });
    // The other field beside the alarms that `more` has is `closed`.
    let has_more = more.is_some_and(|more| more.contains("\"alarms\""));
    Ok(AlarmGlance {
        position,
        may_have_alarms: has_more || alarms.as_deref() != Some("[]"),
    })
}

/// The part of `device:alerts:changed` that an alarm does not have.
#[derive(Default, Deserialize)]
struct Payload {
    alerts: Vec<AlertChange>,
}

#[derive(Deserialize)]
struct AlertChange {
    change: Option<ChangeKind>,
}

fn read_changes(answer: Value) -> RedisResult<AlarmChanges> {
    let found = entries(answer)?;
    let mut read = AlarmChanges {
        changes: Vec::new(),
        may_lack: found.len() >= MAX_CHANGES,
    };
    for entry in found {
        let alarms = entry.text("alarms");
        let alarms: Option<Vec<Alarm>> = alarms.and_then(|text| serde_json::from_str(text).ok());
        let (Some(position), Some(alarms)) = (entry.position(), alarms) else {
            read.may_lack = true;
            continue;
        };
        let payload = entry.text("payload");
        let payload: Option<Payload> = payload.and_then(|text| serde_json::from_str(text).ok());
        let mut kinds = payload.unwrap_or_default().alerts.into_iter();
        read.changes.extend(alarms.into_iter().map(|alarm| {
            let change = kinds.next().and_then(|alert| alert.change);
            (position, ChangedAlarm { alarm, change })
        }));
    }
    Ok(read)
}

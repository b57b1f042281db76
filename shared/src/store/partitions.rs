//! Reads the partitions' indexes (the device list and deadlines), their epochs, and the canary.

use redis::{FromRedisValue, RedisError, Value};

use super::reply::{device_of, items, scored_names, text, wrong_answer};
use super::{Store, StoreError};
use crate::clock::Time;
use crate::device::DeviceId;
use crate::keys::{self, PartitionKeys};
use crate::position::Epoch;

/// The state of all partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Epoch of each partition; `None` where the partition cannot be used.
    pub epochs: Vec<Option<Epoch>>,
    /// Highest seq of a device that each partition retired.
    pub retired: Vec<Option<u64>>,
    /// The canary's count.
    pub canary: u64,
}

impl Store {
    /// Returns every device with the time of its last message, in no order.
    pub async fn devices(&self) -> Result<Vec<(DeviceId, Option<Time>)>, StoreError> {
        let answers = self
            .ask_partitions(|keys, pipe| {
                pipe.cmd("ZRANGE").arg(keys.seen());
                pipe.arg(0).arg(-1).arg("WITHSCORES");
            })
            .await?;
        let mut devices = Vec::new();
        for found in answers.into_iter().flatten() {
            for (name, last) in scored_names(found).map_err(StoreError::Unavailable)? {
                let last = (last.as_millis() > 0).then_some(last);
                devices.extend(device_of(&name).map(|device| (device, last)));
            }
        }
        Ok(devices)
    }

    /// Returns the number of devices.
    pub async fn count_devices(&self) -> Result<u64, StoreError> {
        let answers = self
            .ask_partitions(|keys, pipe| {
                pipe.cmd("ZCARD").arg(keys.seen());
            })
            .await?;
        let counts = answers.into_iter().flatten();
        Ok(counts
            .map(|found| u64::from_redis_value(found).unwrap_or_default())
            .sum())
    }

    /// Returns devices whose deadline has passed, with the deadline: at most `limit` per partition.
    pub async fn due(&self, now: Time, limit: usize) -> Result<Vec<(DeviceId, Time)>, StoreError> {
        let answers = self
            .ask_partitions(|keys, pipe| {
                pipe.cmd("ZRANGEBYSCORE").arg(keys.deadlines());
                pipe.arg("-inf").arg(now.as_millis()).arg("WITHSCORES");
                pipe.arg("LIMIT").arg(0).arg(limit);
            })
            .await?;
        let mut due = Vec::new();
        for found in answers.into_iter().flatten() {
            let names = scored_names(found).unwrap_or_default().into_iter();
            due.extend(names.filter_map(|(name, time)| Some((device_of(&name)?, time))));
        }
        Ok(due)
    }

    /// Moves the deadline of a device to `time`, because nothing can be decided about it now.
    pub async fn postpone(&self, device: &DeviceId, time: Time) -> Result<(), StoreError> {
        let answer = self.run(|scripts, pipe| {
            pipe.cmd("EVALSHA").arg(&scripts.postpone);
            pipe.arg(1).arg(self.keys(device).deadlines());
            pipe.arg(time.as_millis()).arg(device.as_str());
        });
        answer.await.map(drop)
    }

    /// Reads the epochs of all partitions, their highest retired seq, and the canary, on the connection that commits use.
    ///
    /// A partition without an epoch has lost its data. Then the connection is closed; the next one opens a new epoch.
    pub async fn survey(&self) -> Result<Survey, StoreError> {
        let answers = self
            .ask_partitions(|keys, pipe| {
                pipe.cmd("HMGET").arg(keys.partition());
                pipe.arg("epoch").arg("retired");
            })
            .await?;
        let mut epochs = Vec::with_capacity(answers.len());
        let mut retired = Vec::with_capacity(answers.len());
        for answer in answers {
            let Some(found) = answer else {
                epochs.push(None);
                retired.push(None);
                continue;
            };
            let mut fields = items(found).map_err(StoreError::Unavailable)?.into_iter();
            let mut field = || text(fields.next().unwrap_or(Value::Nil));
            let Some(epoch) = field().map_err(StoreError::Unavailable)? else {
                return Err(self.missing_epoch(wrong_answer("a partition without an epoch")));
            };
            epochs.push(epoch.parse().ok());
            let seq = field().map_err(StoreError::Unavailable)?;
            retired.push(seq.and_then(|seq| seq.parse().ok()));
        }
        let canary = self.run(|_, pipe| {
            pipe.cmd("GET").arg(keys::CANARY);
        });
        let canary = match canary.await {
            Ok(count) => text(count).map_err(StoreError::Unavailable)?,
            // A key of the wrong type must not stop the other checks.
            Err(StoreError::Refused(_)) => None,
            Err(err) => return Err(err),
        };
        Ok(Survey {
            epochs,
            retired,
            canary: canary.and_then(|count| count.parse().ok()).unwrap_or(0),
        })
    }

    /// Increments the canary, publishes the new count and returns it. Like a commit, this is a script on the connection for
    /// commits.
    pub async fn increment_canary(&self) -> Result<u64, StoreError> {
        let count = self.run(|scripts, pipe| {
            pipe.cmd("EVALSHA").arg(&scripts.canary).arg(2);
            pipe.arg(keys::CANARY).arg(keys::CANARY_CHANNEL);
        });
        let count = u64::from_redis_value(count.await?).map_err(RedisError::from);
        count.map_err(StoreError::Unavailable)
    }

    /// Sends the same command for every partition in one round trip. The answer is `None` for a key of the wrong type, so that
    /// one broken partition does not hide the others.
    async fn ask_partitions(
        &self,
        ask: impl Fn(&PartitionKeys, &mut redis::Pipeline),
    ) -> Result<Vec<Option<Value>>, StoreError> {
        let answers = self
            .run_each(usize::from(self.partitions()), |_, index, pipe| {
                let number = u16::try_from(index).unwrap_or_default();
                ask(&PartitionKeys::new(number), pipe);
            })
            .await?;
        let answers = answers.into_iter();
        answers
            .map(
                |answer| match answer.map_err(|err| self.answer_error(err)) {
                    Ok(found) => Ok(Some(found)),
                    Err(StoreError::Refused(_)) => Ok(None),
                    Err(err) => Err(err),
                },
            )
            .collect()
    }
}

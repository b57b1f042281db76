//! Looks for devices by name: which are listed, and which were listed since an earlier look. Used to wait for devices that
//! have sent nothing yet.

use redis::{FromRedisValue, Value};

use super::reply::{items, text};
use super::{Store, StoreError};
use crate::device::DeviceId;
use crate::keys::PartitionKeys;
use crate::position::Epoch;

/// Maximum number of devices that one look returns per partition. The rest follows at the next look.
pub(super) const PAGE: usize = 1000;

/// How far a partition was looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMark {
    epoch: Epoch,
    /// The last number that was given.
    pub(super) number: u64,
}

impl PartitionMark {
    /// A mark of this partition's epoch at this number.
    #[must_use]
    pub fn new(epoch: Epoch, number: u64) -> Self {
        Self { epoch, number }
    }

    /// Returns the epoch of the partition.
    #[must_use]
    pub fn epoch(self) -> Epoch {
        self.epoch
    }
}

/// What one look at a partition found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewListings {
    /// From where the next look continues; `None` if the partition has no epoch.
    pub mark: Option<PartitionMark>,
    /// The devices listed since the mark of the earlier look. Devices that were listed before may be among them: they get a new number with
    /// an alarm change. `None`: that is not known, since there was no earlier look,
    /// or Redis may have lost data since.
    pub devices: Option<Vec<DeviceId>>,
}

impl Store {
    /// Returns whether each of these devices is in the device list, in the same order. A device whose list cannot be read counts
    /// as listed.
    pub async fn are_listed(&self, devices: &[DeviceId]) -> Result<Vec<bool>, StoreError> {
        let answers = self
            .run_each(devices.len(), |_, index, pipe| {
                let device = &devices[index];
                pipe.cmd("ZSCORE").arg(self.keys(device).seen());
                pipe.arg(device.as_str());
            })
            .await?;
        let answers = answers.into_iter();
        answers
            .map(
                |answer| match answer.map_err(|err| self.answer_error(err)) {
                    Ok(score) => Ok(score != Value::Nil),
                    Err(StoreError::Refused(_)) => Ok(true),
                    Err(err) => Err(err),
                },
            )
            .collect()
    }

    /// Looks at these partitions, each with the mark of the earlier look, in one round trip. The answers are in the same order.
    ///
    /// A device that is listed after this look has a higher number than the mark that is returned.
    pub async fn new_listings(
        &self,
        partitions: &[(u16, Option<PartitionMark>)],
    ) -> Result<Vec<NewListings>, StoreError> {
        let answers = self
            .run_each(partitions.len() * 2, |_, index, pipe| {
                let (number, mark) = partitions[index / 2];
                let keys = PartitionKeys::new(number);
                if index % 2 == 0 {
                    pipe.cmd("HMGET").arg(keys.partition());
                    pipe.arg("epoch").arg("events");
                } else {
                    // Without a mark nothing is asked for: the highest number is infinite.
                    let after = mark.map_or_else(
                        || "(+inf".to_owned(),
                        |mark| format!("({number}", number = mark.number),
                    );
                    pipe.cmd("ZRANGE").arg(keys.listings()).arg(after);
                    pipe.arg("+inf").arg("BYSCORE");
                    pipe.arg("LIMIT").arg(0).arg(PAGE).arg("WITHSCORES");
                }
            })
            .await?;
        let mut answers = answers.into_iter();
        let mut found = Vec::with_capacity(partitions.len());
        for (_, before) in partitions {
            let mut next = || match answers.next() {
                Some(Ok(answer)) => Ok(answer),
                Some(Err(err)) => match self.answer_error(err) {
                    // A key of the wrong type must not hide the other partitions.
                    StoreError::Refused(_) => Ok(Value::Nil),
                    err => Err(err),
                },
                None => Ok(Value::Nil),
            };
            let (partition, listed) = (next()?, next()?);
            let mark = mark_of(partition).map_err(StoreError::Unavailable)?;
            let listed = Vec::<(String, f64)>::from_redis_value(match listed {
                Value::Nil => Value::Array(Vec::new()),
                listed => listed,
            });
            let listed = listed.map_err(|err| StoreError::Unavailable(err.into()))?;
            found.push(since(*before, mark, listed));
        }
        Ok(found)
    }
}

pub(super) fn mark_of(partition: Value) -> redis::RedisResult<Option<PartitionMark>> {
    let mut fields = items(partition)?.into_iter();
    let mut field = || text(fields.next().unwrap_or(Value::Nil));
    let epoch = field()?.and_then(|epoch| epoch.parse().ok());
    let number = field()?.and_then(|number| number.parse().ok());
    let number = number.unwrap_or(0);
    Ok(epoch.map(|epoch| PartitionMark::new(epoch, number)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "scores are whole numbers from 0 on, below 2^53"
)]
pub(super) fn since(
    before: Option<PartitionMark>,
    mark: Option<PartitionMark>,
    listed: Vec<(String, f64)>,
) -> NewListings {
    let is_continued = match (before, mark) {
        (Some(before), Some(mark)) => before.epoch == mark.epoch && before.number <= mark.number,
        _ => false,
    };
    if !is_continued {
        return NewListings {
            mark,
            devices: None,
        };
    }
    let is_full = listed.len() == PAGE;
    let last = listed.last().map(|(_, number)| *number as u64);
    let mark = mark.map(|mark| PartitionMark {
        number: last.filter(|_| is_full).unwrap_or(mark.number),
        ..mark
    });
    let devices = listed.into_iter();
    let devices = devices.filter_map(|(name, _)| name.parse().ok());
    NewListings {
        mark,
        devices: Some(devices.collect()),
    }
}

#[cfg(test)]
mod tests;

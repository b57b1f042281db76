//! Keeps the history within its bounds, apart from the commits: also that of a device that sends nothing, and also while Redis is full.
//! Redis never refuses to remove something for lack of memory.

use redis::{FromRedisValue, Pipeline, RedisError, Value};

use super::{Store, StoreError};
use crate::clock::Time;
use crate::device::DeviceId;
use crate::redis::Scripts;

/// Samples that one call copies when a history is thinned. Redis does nothing else meanwhile, so it must take about a millisecond. An
/// even number: every second sample is left out.
const PIECE: usize = 500;

/// How long an unfinished copy stays if the process dies.
const COPY_LIFE_MS: u32 = 60_000;

/// Samples in one node of a stream. Redis removes whole nodes.
pub const NODE: u64 = 100;

/// What the history of one device takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryUse {
    /// Its samples.
    pub samples: u64,
    /// Its bytes in the memory of Redis.
    pub bytes: u64,
}

/// Which samples are removed in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Those older than this.
    pub oldest: Time,
    /// The oldest ones beyond this number.
    pub max: u64,
}

impl Store {
    /// Removes samples that are too old or too many, and returns what is left of each history. A few more samples may stay, because
    /// Redis removes whole nodes of a stream.
    pub async fn trim_histories(
        &self,
        devices: &[DeviceId],
        bounds: HistoryBounds,
    ) -> Result<Vec<HistoryUse>, StoreError> {
        const COMMANDS: usize = 4;
        let answers = self
            .run_each(devices.len() * COMMANDS, |_, index, pipe| {
                let device = &devices[index / COMMANDS];
                let history = self.keys(device).history(device);
                match index % COMMANDS {
                    0 => pipe
                        .cmd("XTRIM")
                        .arg(history)
                        .arg("MINID")
                        .arg("~")
                        .arg(bounds.oldest.as_millis().max(0)),
                    1 => pipe
                        .cmd("XTRIM")
                        .arg(history)
                        .arg("MAXLEN")
                        .arg("~")
                        .arg(bounds.max),
                    2 => pipe.cmd("XLEN").arg(history),
                    _ => pipe.cmd("MEMORY").arg("USAGE").arg(history),
                };
            })
            .await?;
        let mut numbers = self.numbers(answers)?.into_iter();
        let mut uses = Vec::with_capacity(devices.len());
        while let (Some(_), Some(_), Some(samples), Some(bytes)) = (
            numbers.next(),
            numbers.next(),
            numbers.next(),
            numbers.next(),
        ) {
            uses.push(HistoryUse { samples, bytes });
        }
        Ok(uses)
    }

    /// Removes up to this many of the oldest samples of each device, but none that is newer than `keep_from`. Returns how many were
    /// removed.
    pub async fn drop_oldest(
        &self,
        devices: &[(DeviceId, u64)],
        keep_from: Time,
    ) -> Result<Vec<u64>, StoreError> {
        let answers = self
            .run_each(devices.len(), |_, index, pipe| {
                let (device, count) = &devices[index];
                pipe.cmd("XTRIM").arg(self.keys(device).history(device));
                pipe.arg("MINID").arg("~").arg(keep_from.as_millis().max(0));
                pipe.arg("LIMIT").arg(count);
            })
            .await?;
        self.numbers(answers)
    }

    /// Removes every second sample of a device, and returns how many were removed. The history is copied piece by piece, so that
    /// Redis is never busy for long, and then replaced by the copy.
    pub async fn thin_history(&self, device: &DeviceId) -> Result<u64, StoreError> {
        let keys = self.keys(device);
        let (history, copy) = (
            keys.history(device),
            keys.thinned(device, fastrand::u64(..)),
        );
        let mut from = "-".to_owned();
        let mut last = String::new();
        let mut copied = 0;
        loop {
            let answer = self.run(|scripts, pipe| {
                call(&scripts.thin, &history, &copy, pipe);
                pipe.arg(&from).arg(PIECE).arg(COPY_LIFE_MS);
            });
            let piece =
                <(String, usize)>::from_redis_value(answer.await?).map_err(RedisError::from);
            let (newest, count) = piece.map_err(StoreError::Unavailable)?;
            if count > 0 {
                from = format!("({newest}");
                last = newest;
                copied += count.div_ceil(2);
            }
            if count < PIECE {
                break;
            }
        }
        if last.is_empty() {
            return Ok(0);
        }
        let removed = self.run(|scripts: &Scripts, pipe| {
            call(&scripts.thinned, &history, &copy, pipe);
            pipe.arg(&last).arg(copied);
        });
        self.number(Ok(removed.await?))
    }

    /// Removes the oldest published events of these devices, down to about this number. Alarm changes are also in the changes stream,
    /// which is left alone.
    pub async fn trim_events(&self, devices: &[DeviceId], keep: usize) -> Result<u64, StoreError> {
        let answers = self
            .run_each(devices.len(), |_, index, pipe| {
                let device = &devices[index];
                pipe.cmd("XTRIM").arg(self.keys(device).events(device));
                pipe.arg("MAXLEN").arg("~").arg(keep);
            })
            .await?;
        Ok(self.numbers(answers)?.into_iter().sum())
    }

    pub(super) fn numbers(
        &self,
        answers: Vec<redis::RedisResult<Value>>,
    ) -> Result<Vec<u64>, StoreError> {
        answers
            .into_iter()
            .map(|answer| self.number(answer))
            .collect()
    }

    /// Reads a number. A missing key, and one of the wrong type, counts as 0: it must not stop the trimming of the others.
    fn number(&self, answer: redis::RedisResult<Value>) -> Result<u64, StoreError> {
        match answer.map_err(|err| self.answer_error(err)) {
            Ok(value) => Ok(Option::<u64>::from_redis_value(value)
                .ok()
                .flatten()
                .unwrap_or_default()),
            Err(StoreError::Refused(_)) => Ok(0),
            Err(err) => Err(err),
        }
    }
}

fn call(script: &str, history: &str, copy: &str, pipe: &mut Pipeline) {
    pipe.cmd("EVALSHA")
        .arg(script)
        .arg(2)
        .arg(history)
        .arg(copy);
}

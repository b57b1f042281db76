//! Makes the rollups of the history, and reads them.
//!
//! The blocks of the finest level are made of the samples since its last block, those of a coarser level of the blocks of the level before
//! it. A block is made once its time is over: the entries of a stream are in the order of the server's time, so no sample can come that
//! belongs to it. `rollup.lua` adds it only behind the block behind which it was made, so any number of processes may do this at the same
//! time, without knowing of each other, and whoever stops halfway is continued by the next.

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{FromRedisValue, RedisError, RedisResult, Value};

use self::reading::block_of;
use super::history::sample_of;
use super::reply::{Entry, entries, items, wrong_answer};
use super::{Store, StoreError};
use crate::clock::{Time, millis};
use crate::device::DeviceId;
use crate::keys::{self, PartitionKeys};
use crate::rollup::{Block, BlockBuilder, Level, Levels, Width};

pub use self::reading::{BLOCKS, HistoryBegin, RollupPiece};

/// Samples that are read at once to make blocks. Redis does nothing else meanwhile, so it must take less than a millisecond.
const SAMPLES: usize = 1_000;
/// Widths of which rollups are looked for. Only four are made at the same time; others are of earlier settings.
const MAX_WIDTHS: usize = 32;

/// The widths of which rollups are known to exist; `None` until they were read.
#[derive(Debug, Default)]
pub(super) struct KnownWidths(Mutex<Option<Arc<[Width]>>>);

impl KnownWidths {
    // A std mutex: held for an assignment, never across an await.
    fn set(&self, widths: &[Width]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(widths.into());
    }

    fn get(&self) -> Option<Arc<[Width]>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How far the rollups of a device are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollupMarks {
    /// Time of its newest sample.
    pub newest_sample: Option<Time>,
    /// End of the last block of each level.
    pub ends: Vec<Option<Time>>,
}

/// What blocks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollupSource {
    /// Samples.
    History,
    /// The blocks of a finer level.
    Finer(Width),
}

/// Blocks of one level of one device that are being made, piece by piece. It holds one block and the last piece.
#[derive(Debug)]
pub struct RollupWork<'a> {
    device: &'a DeviceId,
    level: Level,
    source: RollupSource,
    /// Where the next piece of the source begins and ends, as in `XRANGE`.
    start: String,
    end: String,
    builder: BlockBuilder,
    /// Id of the last entry of the source that was put into a block.
    source_last: String,
    /// End of the last stored block.
    last: Option<Time>,
    written: u64,
    redis_time: Duration,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollupProgress {
    /// There is more to read.
    More,
    /// All blocks are written.
    Done,
    /// Another process has written some, or the device is no longer stored: what is missing is made by the next pass.
    Changed,
}

impl<'a> RollupWork<'a> {
    /// The blocks from `since` or behind the last one (`last`) to `until`, where a block ends.
    #[must_use]
    pub fn new(
        device: &'a DeviceId,
        level: Level,
        source: RollupSource,
        (since, until): (Time, Time),
        last: Option<Time>,
    ) -> Self {
        let since = last.map_or(since, |last| last.max(since));
        let since = level.width.block_start(since).as_millis().max(0);
        let until = until.as_millis().max(1);
        let (start, end) = match source {
            RollupSource::History => (since.to_string(), (until - 1).to_string()),
            // A block has the time of its end.
            RollupSource::Finer(_) => (format!("({since}-0"), format!("{until}-0")),
        };
        Self {
            device,
            level,
            source,
            start,
            end,
            builder: BlockBuilder::new(level.width),
            source_last: String::new(),
            last,
            written: 0,
            redis_time: Duration::ZERO,
        }
    }

    /// Returns the end of the last stored block.
    #[must_use]
    pub fn last(&self) -> Option<Time> {
        self.last
    }

    /// Returns the number of blocks that were written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Returns how long Redis took so far.
    #[must_use]
    pub fn redis_time(&self) -> Duration {
        self.redis_time
    }

    fn key(&self, keys: &PartitionKeys) -> String {
        keys.rollup(self.device, self.level.width)
    }

    fn source_key(&self, keys: &PartitionKeys) -> String {
        match self.source {
            RollupSource::History => keys.history(self.device),
            RollupSource::Finer(width) => keys.rollup(self.device, width),
        }
    }

    /// Entries in a piece.
    fn piece(&self) -> usize {
        match self.source {
            RollupSource::History => SAMPLES,
            RollupSource::Finer(_) => BLOCKS,
        }
    }

    /// Takes an entry of the source. Returns the block before it, if that is complete, and the id of the last entry in it. An entry that
    /// cannot be read is left out, so that it does not hide the others.
    fn take(&mut self, entry: Entry) -> Option<(Block, String)> {
        let id = entry.id.clone();
        let finished = match self.source {
            RollupSource::History => {
                let at = entry.written()?;
                self.builder.add_sample(at, &sample_of(entry)?)
            }
            RollupSource::Finer(width) => self.builder.add_block(&block_of(entry, width)?),
        };
        let before = std::mem::replace(&mut self.source_last, id);
        finished.map(|block| (block, before))
    }
}

impl Store {
    /// Notes which levels this process makes, and forgets others of which nothing can be left.
    pub async fn register_rollups(&self, levels: &Levels) -> Result<(), StoreError> {
        let now = self.connector.now();
        let known = self.registered_rollups().await?;
        let made: BTreeSet<Width> = levels.iter().map(|level| level.width).collect();
        let widths: BTreeSet<Width> = known.keys().chain(&made).copied().collect();
        self.rollup_widths.set(&Vec::from_iter(widths));
        let over = known
            .iter()
            .filter(|(width, (age, passed))| !made.contains(*width) && *passed + *age < now);
        let over: Vec<u32> = over.map(|(width, _)| width.seconds()).collect();
        let answers = self.run_each(2, |_, index, pipe| {
            match index {
                0 if !levels.is_empty() => {
                    pipe.cmd("HSET").arg(keys::ROLLUP_LEVELS);
                    for level in levels {
                        let age = millis(level.age);
                        pipe.arg(level.width.seconds());
                        pipe.arg(format!("{age} {}", now.as_millis()));
                    }
                }
                1 if !over.is_empty() => {
                    pipe.cmd("HDEL").arg(keys::ROLLUP_LEVELS).arg(&over);
                }
                // Each command has an answer.
                _ => {
                    pipe.cmd("TIME");
                }
            }
        });
        for answer in answers.await? {
            answer.map_err(|err| self.answer_error(err))?;
        }
        Ok(())
    }

    async fn registered_rollups(&self) -> Result<BTreeMap<Width, (Duration, Time)>, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("HGETALL").arg(keys::ROLLUP_LEVELS);
        });
        let fields = match answer.await {
            Ok(answer) => fields_of(answer),
            // Of the wrong type.
            Err(StoreError::Refused(_)) => Vec::new(),
            Err(err) => return Err(err),
        };
        // Another release may have fields that this one does not know.
        let read = fields.into_iter().filter_map(|(width, text)| {
            let width: u32 = str::from_utf8(&width).ok()?.parse().ok()?;
            let (age, passed) = str::from_utf8(&text).ok()?.split_once(' ')?;
            let age = Duration::from_millis(age.parse().ok()?);
            let passed = Time::from_millis(passed.parse().ok()?);
            Some((Width::from_seconds(width)?, (age, passed)))
        });
        Ok(read.take(MAX_WIDTHS).collect())
    }

    /// Returns the widths of which a device may have rollups, the finest first: those that are made now, and those of earlier settings.
    pub async fn rollup_widths(&self) -> Result<Vec<Width>, StoreError> {
        let widths: Vec<Width> = self.registered_rollups().await?.into_keys().collect();
        self.rollup_widths.set(&widths);
        Ok(widths)
    }

    /// As [`Store::rollup_widths`], as they were read last: between a decision and its commit nothing is read.
    pub(super) async fn known_rollup_widths(&self) -> Result<Arc<[Width]>, StoreError> {
        match self.rollup_widths.get() {
            Some(widths) => Ok(widths),
            None => Ok(self.rollup_widths().await?.into()),
        }
    }

    /// Returns how far the rollups of these devices are, and the time of Redis before that. Of a device whose keys cannot be used, the
    /// error.
    pub async fn rollup_marks(
        &self,
        devices: &[DeviceId],
        levels: &Levels,
    ) -> Result<(Time, Vec<Result<RollupMarks, StoreError>>), StoreError> {
        let widths: Vec<Width> = levels.iter().map(|level| level.width).collect();
        let each = widths.len() + 1;
        let mut answers = self
            .run_each(1 + devices.len() * each, |_, index, pipe| {
                let Some(index) = index.checked_sub(1) else {
                    pipe.cmd("TIME");
                    return;
                };
                let device = &devices[index / each];
                let keys = self.keys(device);
                let key = match (index % each).checked_sub(1) {
                    None => keys.history(device),
                    Some(level) => keys.rollup(device, widths[level]),
                };
                pipe.cmd("XREVRANGE").arg(key).arg("+").arg("-");
                pipe.arg("COUNT").arg(1);
            })
            .await?
            .into_iter();
        let now = answers.next().unwrap_or(Ok(Value::Nil));
        let now = now
            .and_then(time_of)
            .map_err(|err| self.answer_error(err))?;
        let mut all = Vec::with_capacity(devices.len());
        for _ in devices {
            let own: Vec<RedisResult<Value>> = answers.by_ref().take(each).collect();
            let newest = own.into_iter().map(|answer| self.only_time(answer));
            let newest: Result<Vec<Option<Time>>, StoreError> = newest.collect();
            all.push(match newest {
                Ok(times) => Ok(RollupMarks {
                    newest_sample: times.first().copied().flatten(),
                    ends: times.into_iter().skip(1).collect(),
                }),
                Err(err @ StoreError::Refused(_)) => Err(err),
                Err(err) => return Err(err),
            });
        }
        Ok((now, all))
    }

    /// Returns the time of the only entry in an answer.
    fn only_time(&self, answer: RedisResult<Value>) -> Result<Option<Time>, StoreError> {
        let answer = answer.map_err(|err| self.answer_error(err))?;
        let found = entries(answer).map_err(StoreError::Unavailable)?;
        Ok(found.first().and_then(Entry::written))
    }

    /// Reads the next piece of the source, and writes the blocks that are complete.
    pub async fn roll_up(&self, work: &mut RollupWork<'_>) -> Result<RollupProgress, StoreError> {
        let keys = self.keys(work.device);
        let (key, source) = (work.key(&keys), work.source_key(&keys));
        let piece = work.piece();
        let asked = Instant::now();
        let answer = self.run(|_, pipe| {
            pipe.cmd("XRANGE").arg(&source).arg(&work.start);
            pipe.arg(&work.end).arg("COUNT").arg(piece);
        });
        let answer = answer.await?;
        work.redis_time += asked.elapsed();
        let found = entries(answer).map_err(StoreError::Unavailable)?;
        let is_last = found.len() < piece;
        if let Some(last) = found.last() {
            work.start = format!("({}", last.id);
        }
        let mut blocks = Vec::new();
        let mut source_last = String::new();
        for entry in found {
            if let Some((block, before)) = work.take(entry) {
                blocks.push(block);
                source_last = before;
            }
        }
        if is_last {
            let builder = BlockBuilder::new(work.level.width);
            let open = std::mem::replace(&mut work.builder, builder).finish();
            if open.is_some() {
                source_last.clone_from(&work.source_last);
            }
            blocks.extend(open);
        }
        if let Some(end) = blocks.last().map(Block::end) {
            let last = work.last.map_or_else(String::new, entry_id);
            let life = millis(work.level.age);
            let asked = Instant::now();
            let added = self.run(|scripts, pipe| {
                pipe.cmd("EVALSHA").arg(&scripts.rollup).arg(2);
                pipe.arg(&source).arg(&key);
                pipe.arg(&source_last).arg(&last).arg(life);
                for block in &blocks {
                    pipe.arg(entry_id(block.end())).arg(block.encode());
                }
            });
            let added = u64::from_redis_value(added.await?).map_err(RedisError::from);
            work.redis_time += asked.elapsed();
            let added = added.map_err(StoreError::Unavailable)?;
            if added == 0 {
                return Ok(RollupProgress::Changed);
            }
            work.written += added;
            work.last = Some(end);
        }
        Ok(if is_last {
            RollupProgress::Done
        } else {
            RollupProgress::More
        })
    }

    /// Removes blocks that are older than their level says, of devices whose last blocks end as `marks` says. The last block stays as
    /// long as the rollup itself: the next one is made behind it. A few more may stay, because Redis removes whole nodes of a stream.
    pub async fn trim_rollups(
        &self,
        devices: &[(DeviceId, Vec<Option<Time>>)],
        levels: &Levels,
        now: Time,
    ) -> Result<(), StoreError> {
        let trims: Vec<(String, Time)> = devices
            .iter()
            .flat_map(|(device, ends)| {
                let keys = self.keys(device);
                levels.iter().zip(ends).filter_map(move |(level, end)| {
                    let oldest = (now - level.age).min((*end)?);
                    Some((keys.rollup(device, level.width), oldest))
                })
            })
            .collect();
        let answers = self.run_each(trims.len(), |_, index, pipe| {
            let (key, oldest) = &trims[index];
            pipe.cmd("XTRIM").arg(key).arg("MINID").arg("~");
            pipe.arg(oldest.as_millis().max(0));
        });
        self.numbers(answers.await?)?;
        Ok(())
    }

    /// Returns the number of blocks and their bytes, of each device and width in turn.
    pub async fn rollup_uses(
        &self,
        devices: &[DeviceId],
        widths: &[Width],
    ) -> Result<Vec<RollupUse>, StoreError> {
        let keys = self.rollup_keys(devices, widths);
        let answers = self.run_each(keys.len() * 2, |_, index, pipe| {
            let key = &keys[index / 2];
            if index % 2 == 0 {
                pipe.cmd("XLEN").arg(key);
            } else {
                pipe.cmd("MEMORY").arg("USAGE").arg(key);
            }
        });
        let numbers = self.numbers(answers.await?)?;
        let uses = numbers.chunks_exact(2).map(|pair| RollupUse {
            blocks: pair[0],
            bytes: pair[1],
        });
        Ok(uses.collect())
    }

    /// Removes the oldest blocks of each device and width, down to about so many, but never the last one. Returns how many were removed.
    pub async fn drop_blocks(
        &self,
        devices: &[DeviceId],
        widths: &[Width],
        max_blocks: u64,
    ) -> Result<u64, StoreError> {
        let keys = self.rollup_keys(devices, widths);
        let answers = self.run_each(keys.len(), |_, index, pipe| {
            pipe.cmd("XTRIM").arg(&keys[index]).arg("MAXLEN").arg("~");
            pipe.arg(max_blocks.max(1));
        });
        Ok(self.numbers(answers.await?)?.into_iter().sum())
    }

    fn rollup_keys(&self, devices: &[DeviceId], widths: &[Width]) -> Vec<String> {
        let of_device = |device: &DeviceId| {
            let keys = self.keys(device);
            let of_width = widths.iter().map(|width| keys.rollup(device, *width));
            of_width.collect::<Vec<String>>()
        };
        devices.iter().flat_map(of_device).collect()
    }
}

/// What a rollup of a device takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollupUse {
    /// Its blocks.
    pub blocks: u64,
    /// Its bytes in the memory of Redis.
    pub bytes: u64,
}

fn entry_id(end: Time) -> String {
    format!("{}-0", end.as_millis())
}

fn fields_of(answer: Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    Vec::from_redis_value(answer).unwrap_or_default()
}

/// Reads the answer to `TIME`.
fn time_of(answer: Value) -> RedisResult<Time> {
    let parts: RedisResult<Vec<i64>> = items(answer)?
        .into_iter()
        .map(|part| i64::from_redis_value(part).map_err(RedisError::from))
        .collect();
    match parts?[..] {
        [seconds, micros] => Ok(Time::from_millis(seconds * 1_000 + micros / 1_000)),
        _ => Err(wrong_answer("a time")),
    }
}

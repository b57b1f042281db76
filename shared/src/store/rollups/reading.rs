//! Reads the rollups of a device, for charts.

use crate::clock::Time;
use crate::device::DeviceId;
use crate::rollup::{Block, Width};
use crate::store::reply::{Entry, entries};
use crate::store::{Store, StoreError};

/// Blocks that are read at once.
pub const BLOCKS: usize = 200;
/// A part of a rollup.
#[derive(Clone, Debug, Default)]
pub struct RollupPiece {
    /// Oldest first. A block that cannot be read is left out.
    pub blocks: Vec<Block>,
    /// From when on there is more.
    pub next: Option<Time>,
}

/// Since when something is stored of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryBegin {
    /// Time of its oldest sample.
    pub samples: Option<Time>,
    /// Start of the oldest bucket of each level.
    pub levels: Vec<Option<Time>>,
}

impl Store {
    /// Returns since when something is stored of a device. A key that cannot be used has nothing.
    pub async fn history_begin(
        &self,
        device: &DeviceId,
        widths: &[Width],
    ) -> Result<HistoryBegin, StoreError> {
        let keys = self.keys(device);
        let answers = self.run_each(widths.len() + 1, |_, index, pipe| {
            let key = match index.checked_sub(1) {
                None => keys.history(device),
                Some(level) => keys.rollup(device, widths[level]),
            };
            pipe.cmd("XRANGE").arg(key).arg("-").arg("+");
            pipe.arg("COUNT").arg(1);
        });
        let mut firsts = Vec::with_capacity(widths.len() + 1);
        for answer in answers.await? {
            let first = match answer.map_err(|err| self.answer_error(err)) {
                Ok(answer) => entries(answer).map_err(StoreError::Unavailable)?,
                Err(StoreError::Refused(_)) => Vec::new(),
                Err(err) => return Err(err),
            };
            firsts.push(first.into_iter().next());
        }
        let mut firsts = firsts.into_iter();
        let samples = firsts.next().flatten().and_then(|entry| entry.written());
        let bucket = |(entry, width): (Option<Entry>, &Width)| {
            let entry = entry?;
            // One that cannot be read does not hide the later ones.
            let block_start = entry
                .written()?
                .as_millis()
                .saturating_sub(width.block_millis());
            let block = block_of(entry, *width);
            let bucket = block.and_then(|block| block.buckets().next().map(|(start, _)| start));
            Some(bucket.unwrap_or(Time::from_millis(block_start)))
        };
        Ok(HistoryBegin {
            samples,
            levels: firsts.zip(widths).map(bucket).collect(),
        })
    }

    /// Returns the blocks of a device that have part of the time from `since` to `until` (exclusive), oldest first, at most
    /// [`BLOCKS`] of them. A key that cannot be used has none.
    pub async fn rollup_piece(
        &self,
        device: &DeviceId,
        width: Width,
        (since, until): (Time, Time),
    ) -> Result<RollupPiece, StoreError> {
        let key = self.keys(device).rollup(device, width);
        let last = until.as_millis().saturating_add(width.block_millis() - 1);
        let answer = self.run(|_, pipe| {
            pipe.cmd("XRANGE").arg(&key);
            pipe.arg(format!("({}-0", since.as_millis().max(0)));
            pipe.arg(format!("{}-0", last.max(0)));
            pipe.arg("COUNT").arg(BLOCKS);
        });
        let found = match answer.await {
            Ok(answer) => entries(answer).map_err(StoreError::Unavailable)?,
            Err(StoreError::Refused(_)) => Vec::new(),
            Err(err) => return Err(err),
        };
        let last = found.last().filter(|_| found.len() == BLOCKS);
        let next = last.and_then(Entry::written);
        let blocks = found.into_iter();
        Ok(RollupPiece {
            blocks: blocks.filter_map(|entry| block_of(entry, width)).collect(),
            next,
        })
    }
}

/// Reads the block in an entry. `None` if it cannot be read.
pub(super) fn block_of(mut entry: Entry, width: Width) -> Option<Block> {
    let end = entry.written()?;
    Block::decode(&entry.fields.remove("b")?, end, width)
}

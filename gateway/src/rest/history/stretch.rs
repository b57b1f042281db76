//! Stretches of time, and what no block of a rollup has of them. Pure.

use shared::clock::Time;
use shared::rollup::Block;

/// A stretch of time; the end does not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: Time,
    pub(super) end: Time,
}

impl Stretch {
    pub(super) fn of(block: &Block) -> Self {
        Self {
            start: block.start(),
            end: block.end(),
        }
    }

    pub(super) fn contains(self, at: Time) -> bool {
        self.start <= at && at < self.end
    }

    /// Divides stretches into what is before a time, and what is not.
    pub(super) fn split(stretches: &[Self], at: Time) -> (Vec<Self>, Vec<Self>) {
        let until = |stretch: &Self| Self {
            end: stretch.end.min(at),
            ..*stretch
        };
        let since = |stretch: &Self| Self {
            start: stretch.start.max(at),
            ..*stretch
        };
        let mut before: Vec<Self> = stretches.iter().map(until).collect();
        let mut after: Vec<Self> = stretches.iter().map(since).collect();
        for parts in [&mut before, &mut after] {
            parts.retain(|part| part.start < part.end);
        }
        (before, after)
    }

    /// Returns the parts of it that no block of a rollup has. The blocks are in the order of their times.
    pub(super) fn without(self, blocks: &[Self]) -> Vec<Self> {
        let mut left = Vec::new();
        let mut start = self.start;
        for block in blocks {
            if block.start > start {
                let end = block.start.min(self.end);
                left.push(Stretch { start, end });
            }
            start = start.max(block.end);
        }
        left.push(Stretch {
            start,
            end: self.end,
        });
        left.retain(|part| part.start < part.end);
        left
    }
}

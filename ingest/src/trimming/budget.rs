//! How much history may stay. Pure.

use std::time::Duration;

use shared::store::{HistoryUse, MemoryUse, RollupUse};

/// Samples that every device keeps, however little memory there is: one node of a stream.
const MIN_SAMPLES: u64 = shared::store::NODE;

/// Samples of this last time are thinned, and not dropped from the end.
pub(crate) const WHOLE: Duration = Duration::from_hours(1);

/// What the last pass over all devices found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Number of samples of each device.
    pub(crate) samples: Vec<u64>,
    /// Bytes of all histories.
    pub(crate) bytes: u64,
    /// Number of blocks of each rollup.
    pub(crate) blocks: Vec<u64>,
    /// Bytes of all rollups.
    pub(crate) rollup_bytes: u64,
}

impl Found {
    /// Adds the history of a device that has lost some samples since it was measured.
    pub(crate) fn add(&mut self, history: HistoryUse, dropped: u64) {
        let left = history.samples.saturating_sub(dropped);
        self.samples.push(left);
        self.bytes += history.bytes.saturating_mul(left) / history.samples.max(1);
    }

    /// Adds a rollup of a device.
    pub(crate) fn add_rollup(&mut self, rollup: RollupUse) {
        if rollup.blocks > 0 {
            self.blocks.push(rollup.blocks);
        }
        self.rollup_bytes += rollup.bytes;
    }
}

/// What the next pass removes, beside what is too old or too many. It says what stays, so it does not matter how many replicas do it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// A device with more samples than this loses some; `None`: no device does.
    pub(crate) max_samples: Option<u64>,
    /// Every device loses events beyond [`shared::keys::MIN_EVENTS`].
    pub(crate) trims_events: bool,
    /// A rollup of a device with more blocks than this loses the oldest; `None`: none does.
    pub(crate) max_blocks: Option<u64>,
}

/// Plans the next pass. `before` is the plan of the last one. Above 95 % of its limit the history is brought down to 90 %. It also gives up
/// what all of Redis is above 90 % of `maxmemory`, once that is above 95 %. The devices with the longest histories give first, so that all
/// have the same in the end.
///
/// Rollups count as part of the history, up to half of the limit: beyond that they give themselves. They also do if Redis is still nearly
/// full after a pass in which histories and events have given all they can.
pub(crate) fn plan(found: &Found, limit: u64, memory: MemoryUse, before: Plan) -> Plan {
    let limit_of_samples = limit - found.rollup_bytes.min(limit / 2);
    let is_over = found.bytes > percent(limit_of_samples, 95);
    let is_nearly_full = memory.max > 0 && memory.used > percent(memory.max, 95);
    let excess = if is_nearly_full {
        memory.used.saturating_sub(percent(memory.max, 90))
    } else {
        0
    };
    let mut plan = Plan {
        max_blocks: max_blocks(found, limit / 2, 0),
        ..Plan::default()
    };
    if !is_over && !is_nearly_full {
        return plan;
    }
    let goal = if is_over {
        percent(limit_of_samples, 90)
    } else {
        found.bytes
    };
    let goal = goal.min(found.bytes.saturating_sub(excess));
    let total: u64 = found.samples.iter().sum();
    let bytes_each = found.bytes.div_ceil(total.max(1)).max(1);
    let kept: u64 = found
        .samples
        .iter()
        .map(|length| *length.min(&MIN_SAMPLES))
        .sum();
    let can_give = (total - kept).saturating_mul(bytes_each);
    plan.max_samples = Some(level(&found.samples, goal / bytes_each).max(MIN_SAMPLES));
    plan.trims_events = excess > can_give;
    if plan.trims_events && before.trims_events {
        let excess = excess - can_give;
        plan.max_blocks = max_blocks(found, limit / 2, excess);
    }
    plan
}

/// Returns to how many blocks the longest rollups must be cut.
fn max_blocks(found: &Found, limit: u64, excess: u64) -> Option<u64> {
    let bytes = found.rollup_bytes;
    let is_over = bytes > percent(limit, 95);
    let goal = if is_over { percent(limit, 90) } else { bytes };
    let goal = goal.min(bytes.saturating_sub(excess));
    let total: u64 = found.blocks.iter().sum();
    let bytes_each = bytes.div_ceil(total.max(1)).max(1);
    (goal < bytes).then(|| level(&found.blocks, goal / bytes_each).max(1))
}

fn percent(number: u64, percent: u64) -> u64 {
    number / 100 * percent
}

/// Returns the number of entries to which the longest of these must be cut so that `room` entries stay in all.
fn level(lengths: &[u64], room: u64) -> u64 {
    let mut lengths = lengths.to_vec();
    lengths.sort_unstable();
    let mut room = room;
    let mut left = lengths.len() as u64;
    for length in lengths {
        let share = room / left;
        if length > share {
            return share;
        }
        room -= length;
        left -= 1;
    }
    u64::MAX
}

#[cfg(test)]
mod tests;

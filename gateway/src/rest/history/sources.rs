//! From what a chart is made: samples, rollups, or both. Pure.
//!
//! The coarsest rollup whose buckets are not wider than those of the chart has most of it. Where it has no block (before its first, behind its
//! last, or because ingest did not make it for a while) the next finer one is looked at, and behind the last block of all of them the
//! samples. So each sample counts once, whatever is stored. The buckets of the chart begin and end with buckets of the coarsest source, so
//! that none of these is in two of them.

use shared::clock::Time;
use shared::rollup::Width;
use shared::store::HistoryBegin;

use super::buckets::Frame;

/// What to read, in this order.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    /// The buckets of the chart.
    pub(super) frame: Frame,
    /// The rollups and the start of their first buckets, the coarsest first. The first block of a level may begin before it: then that part
    /// of it was never made, and a finer level may have it.
    pub(super) rollups: Vec<(Width, Time)>,
    /// Since when there are samples, which come behind the rollups. Nothing is older.
    pub(super) samples: Option<Time>,
    /// From when on something is stored; `None` if nothing is.
    pub(super) reaches_from: Option<Time>,
}

impl Sources {
    /// Chooses them for the time between these bounds (inclusive), `now`. `begin` says since when there is what, for these widths.
    /// `None` if the time ends before it begins.
    pub(super) fn choose(
        bounds: (Time, Time),
        points: usize,
        (widths, begin): (&[Width], &HistoryBegin),
        now: Time,
    ) -> Option<Self> {
        let plain = Frame::new(bounds, points)?;
        let mut levels: Vec<(Width, Time)> = widths
            .iter()
            .zip(&begin.levels)
            .filter_map(|(width, start)| Some((*width, (*start)?)))
            .collect();
        levels.sort_unstable();
        let starts = levels.iter().map(|(_, start)| *start).chain(begin.samples);
        let reaches_from = starts.min();
        let needed = needed_width(&levels, begin.samples, bounds.0);
        let widest = plain.width_ms().max(needed.map_or(0, Width::millis));
        let mut rollups: Vec<(Width, Time)> = Vec::new();
        for (width, start) in levels.iter().rev() {
            let is_part = rollups
                .last()
                .is_none_or(|(coarser, _)| coarser.is_multiple_of(*width));
            if width.millis() <= widest && is_part {
                rollups.push((*width, *start));
            }
        }
        let aligned = rollups
            .first()
            .and_then(|(width, _)| Frame::aligned(bounds, points, *width, now));
        Some(Self {
            frame: aligned.unwrap_or(plain),
            rollups: aligned.map_or_else(Vec::new, |_| rollups),
            samples: begin.samples,
            reaches_from,
        })
    }
}

/// Returns the width of the finest source that has all that is stored since then; `None` if the samples have it. `levels` are the
/// finest first.
fn needed_width(levels: &[(Width, Time)], samples: Option<Time>, since: Time) -> Option<Width> {
    let has_all = |start: Option<Time>, coarser: &[(Width, Time)]| {
        // It lacks something if a coarser level has older buckets. One that is younger than `since` began with it, in the middle of a bucket.
        coarser.iter().all(|(width, first)| {
            start.is_some_and(|start| {
                if since > *first {
                    since >= start
                } else {
                    *first >= width.bucket_start(start)
                }
            })
        })
    };
    if has_all(samples, levels) {
        return None;
    }
    let mut sources = levels.iter().enumerate();
    let found = sources
        .find(|(index, (_, start))| has_all(Some(*start), &levels[index.saturating_add(1)..]));
    found.map(|(_, (width, _))| *width)
}

#[cfg(test)]
mod tests;

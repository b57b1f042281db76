//! Samples of a stretch of time, put together into as many points as a chart has. Pure.
//!
//! What a bucket is, and that it hides nothing: see `shared::rollup`. A bucket without a sample does not exist, so a gap stays a gap.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::event::{iso, status_word};
use shared::reading::Quality;
use shared::rollup::{Sum, Sums, Width};
use shared::sample::Sample;

use super::stretch::Stretch;

/// The most buckets of an answer.
pub(super) const MAX_POINTS: usize = 2000;

/// A stretch of time, divided into buckets of the same length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    stretch: Stretch,
    width_ms: i64,
    /// The last millisecond that is shown.
    shown_until: Time,
}

impl Frame {
    /// The time between these bounds (inclusive) in so many buckets. `None` if it ends before it begins.
    pub(super) fn new((from, until): (Time, Time), points: usize) -> Option<Self> {
        let length = until.as_millis().checked_sub(from.as_millis())?;
        let length = length.checked_add(1).filter(|length| *length > 0)?;
        Some(Self {
            stretch: Stretch {
                start: from,
                end: Time::from_millis(until.as_millis().checked_add(1)?),
            },
            width_ms: bucket_width(length, points, 1)?,
            shown_until: until,
        })
    }

    /// The same with buckets that begin and end with those of a rollup. The first may begin before the time, and the last may end after
    /// it, but not after `now`: then nothing is known yet.
    pub(super) fn aligned(
        (from, until): (Time, Time),
        points: usize,
        width: Width,
        now: Time,
    ) -> Option<Self> {
        let start = width.bucket_start(from);
        let last = width.bucket_start(until).as_millis();
        let end = Time::from_millis(last.checked_add(width.millis())?);
        let length = end.as_millis().checked_sub(start.as_millis())?;
        let last_ms = Time::from_millis(end.as_millis() - 1);
        Some(Self {
            stretch: Stretch { start, end },
            width_ms: bucket_width(length, points, width.millis())?,
            shown_until: last_ms.min(until.max(now)),
        })
    }

    pub(super) fn width_ms(&self) -> i64 {
        self.width_ms
    }

    /// Returns its whole time.
    pub(super) fn stretch(&self) -> Stretch {
        self.stretch
    }

    fn index(&self, at: Time) -> i64 {
        at.millis_since(self.stretch.start) / self.width_ms
    }

    /// Returns the first and the last millisecond of a bucket.
    fn bounds(&self, index: i64) -> (Time, Time) {
        let start = self.stretch.start.as_millis() + index * self.width_ms;
        let end = Time::from_millis(start.saturating_add(self.width_ms - 1));
        (Time::from_millis(start), end.min(self.shown_until))
    }
}

/// Returns the length of buckets, a multiple of `step`. Rounded up: never more buckets than points.
fn bucket_width(length: i64, points: usize, step: i64) -> Option<i64> {
    let points = i64::try_from(points.clamp(1, MAX_POINTS)).ok()?;
    let width = (length - 1) / points + 1;
    ((width - 1) / step + 1).checked_mul(step)
}

/// The buckets of the samples so far.
#[derive(Debug)]
pub(super) struct Buckets {
    frame: Frame,
    /// By index.
    sums: BTreeMap<i64, Sums>,
}

/// One bucket, as it is sent.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Bucket {
    #[serde(serialize_with = "iso")]
    pub(super) from: Time,
    /// Its last millisecond.
    #[serde(serialize_with = "iso")]
    pub(super) until: Time,
    pub(super) min: Option<Decimal>,
    pub(super) max: Option<Decimal>,
    pub(super) mean: Option<Decimal>,
    /// Number of readings with a value.
    pub(super) count: u64,
    /// Number of readings without one.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) unknown: u64,
    /// Number of readings that were older than the latest one.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) late: u64,
    /// `None` if it has readings in too many units.
    pub(super) unit: Option<String>,
    /// `ALARM` if one of the readings was.
    #[serde(rename = "alarm_status", serialize_with = "status_word")]
    pub(super) in_alarm: bool,
    /// The worst.
    #[serde(rename = "data_quality")]
    pub(super) quality: Quality,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Buckets {
    pub(super) fn new(frame: Frame) -> Self {
        Self {
            frame,
            sums: BTreeMap::new(),
        }
    }

    /// Adds a sample that was stored then.
    pub(super) fn add(&mut self, at: Time, sample: &Sample) {
        self.at(at).add(sample);
    }

    /// Adds a bucket of a rollup that begins then.
    pub(super) fn merge(&mut self, at: Time, sums: &Sums) {
        self.at(at).merge(sums);
    }

    fn at(&mut self, at: Time) -> &mut Sums {
        self.sums.entry(self.frame.index(at)).or_default()
    }

    /// Returns the buckets, oldest first.
    pub(super) fn finish(self) -> Vec<Bucket> {
        let frame = self.frame;
        let all = self.sums.into_iter().flat_map(|(index, sums)| {
            let bounds = frame.bounds(index);
            sums.into_iter().map(move |sum| Bucket::new(sum, bounds))
        });
        all.collect()
    }
}

impl Bucket {
    fn new(sum: Sum, (from, until): (Time, Time)) -> Self {
        Self {
            mean: sum.mean(),
            from,
            until,
            min: sum.min,
            max: sum.max,
            count: sum.count,
            unknown: sum.unknown,
            late: sum.late,
            unit: sum.unit,
            in_alarm: sum.in_alarm,
            quality: sum.quality,
        }
    }
}

#[cfg(test)]
mod tests;

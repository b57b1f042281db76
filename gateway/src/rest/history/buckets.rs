//! Samples of a stretch of time, put together into as many points as a chart has. Pure.
//!
//! A bucket hides nothing: its lowest and highest value are those of all its samples, also late and doubtful ones, and its quality is
//! the worst. A bucket without a sample does not exist, so a gap stays a gap.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::event::{iso, status_word};
use shared::reading::Quality;
use shared::sample::Sample;

/// The most buckets of an answer.
pub(super) const MAX_POINTS: usize = 2000;
/// Units of one bucket that are told apart. A detector has one, and may be set to another one now and then. Values of any further unit are put
/// together, without a unit.
const MAX_UNITS: usize = 4;
/// Decimal places of a sum: those of a value, at most.
const PLACES: u8 = 12;
/// Decimal places that a mean has beside those of its values.
const MEAN_PLACES: u8 = 2;

/// A stretch of time, divided into buckets of the same length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    from: Time,
    /// Inclusive.
    until: Time,
    width_ms: i64,
}

impl Frame {
    /// `None` if it ends before it begins.
    pub(super) fn new((from, until): (Time, Time), points: usize) -> Option<Self> {
        let length = until.millis_since(from).checked_add(1)?;
        let points = i64::try_from(points.clamp(1, MAX_POINTS)).ok()?;
        (length > 0).then(|| Self {
            from,
            until,
            // Rounded up: never more buckets than points.
            width_ms: (length - 1) / points + 1,
        })
    }

    pub(super) fn width_ms(&self) -> i64 {
        self.width_ms
    }

    /// Redis and the process that made a sample have clocks of their own: what Redis found in this time belongs to it.
    fn index(&self, at: Time) -> i64 {
        at.clamp(self.from, self.until).millis_since(self.from) / self.width_ms
    }

    /// Returns the first and the last millisecond of a bucket.
    fn bounds(&self, index: i64) -> (Time, Time) {
        let start = self.from.as_millis() + index * self.width_ms;
        let end = Time::from_millis(start + (self.width_ms - 1));
        (Time::from_millis(start), end.min(self.until))
    }
}

/// The buckets of the samples so far.
#[derive(Debug)]
pub(super) struct Buckets {
    frame: Frame,
    /// By index; one for each unit.
    sums: BTreeMap<i64, Vec<Sum>>,
}

/// What is known of the samples of one bucket and unit.
#[derive(Debug)]
struct Sum {
    /// `None`: of several.
    unit: Option<String>,
    min: Option<Decimal>,
    max: Option<Decimal>,
    /// In units of `10^-PLACES`. It has room for more samples than Redis has.
    total: i128,
    /// The most decimal places of a value.
    places: u8,
    count: u64,
    unknown: u64,
    late: u64,
    in_alarm: bool,
    quality: Quality,
}

/// One bucket, as it is sent.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Bucket {
    #[serde(serialize_with = "iso")]
    from: Time,
    /// Its last millisecond.
    #[serde(serialize_with = "iso")]
    until: Time,
    min: Option<Decimal>,
    max: Option<Decimal>,
    mean: Option<Decimal>,
    /// Number of readings with a value.
    count: u64,
    /// Number of readings without one.
    #[serde(skip_serializing_if = "is_zero")]
    unknown: u64,
    /// Number of readings that were older than the latest one.
    #[serde(skip_serializing_if = "is_zero")]
    late: u64,
    /// `None` if it has readings in too many units.
    unit: Option<String>,
    /// `ALARM` if one of the readings was.
    #[serde(rename = "alarm_status", serialize_with = "status_word")]
    in_alarm: bool,
    /// The worst.
    #[serde(rename = "data_quality")]
    quality: Quality,
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

    pub(super) fn add(&mut self, sample: &Sample) {
        let sums = self.sums.entry(self.frame.index(sample.timestamp));
        let sums = sums.or_default();
        let of_unit = |sum: &Sum| sum.unit.as_deref().is_none_or(|unit| unit == sample.unit);
        let index = sums.iter().position(of_unit).unwrap_or_else(|| {
            let has_own = sums.len() < MAX_UNITS;
            sums.push(Sum::new(has_own.then(|| sample.unit.clone())));
            sums.len() - 1
        });
        sums[index].add(sample);
    }

    /// Returns the buckets, oldest first.
    pub(super) fn finish(self) -> Vec<Bucket> {
        let frame = self.frame;
        let all = self.sums.into_iter().flat_map(|(index, sums)| {
            let bounds = frame.bounds(index);
            sums.into_iter().map(move |sum| sum.finish(bounds))
        });
        all.collect()
    }
}

impl Sum {
    fn new(unit: Option<String>) -> Self {
        Self {
            unit,
            min: None,
            max: None,
            total: 0,
            places: 0,
            count: 0,
            unknown: 0,
            late: 0,
            in_alarm: false,
            quality: Quality::Good,
        }
    }

    fn add(&mut self, sample: &Sample) {
        self.late += u64::from(sample.late);
        self.in_alarm |= sample.in_alarm;
        self.quality = self.quality.min(sample.quality);
        let Some(value) = sample.value else {
            self.unknown += 1;
            return;
        };
        self.count += 1;
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
        let (digits, places) = value.parts();
        self.places = self.places.max(places);
        let shift = u32::from(PLACES.saturating_sub(places));
        self.total = self.total.saturating_add(digits * 10_i128.pow(shift));
    }

    /// Rounded to a few places more than the values have, so that an answer does not consist of digits.
    fn mean(&self) -> Option<Decimal> {
        let places = (self.places + MEAN_PLACES).min(PLACES);
        let divisor = i128::from(self.count) * 10_i128.pow(u32::from(PLACES - places));
        let half = (divisor / 2) * self.total.signum();
        Decimal::from_parts((self.total + half).checked_div(divisor)?, places)
    }

    fn finish(self, (from, until): (Time, Time)) -> Bucket {
        Bucket {
            mean: self.mean(),
            from,
            until,
            min: self.min,
            max: self.max,
            count: self.count,
            unknown: self.unknown,
            late: self.late,
            unit: self.unit,
            in_alarm: self.in_alarm,
            quality: self.quality,
        }
    }
}

#[cfg(test)]
mod tests;

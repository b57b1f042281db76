//! Rollups: samples put together, so that months of a device are read at once. Pure.
//!
//! A *level* has buckets of one width, which are kept for some time ([`Level`]). A *block* is [`BUCKETS`] of them, the unit that is stored
//! ([`Block`]). What is known of the samples of one bucket are its [`Sums`].
//!
//! Putting together is exact: sums of sums are the sums of the samples, whatever was put together first (unless a bucket has more than
//! four units). A bucket hides nothing: its lowest
//! and highest value are those of all its samples, also late and doubtful ones, and its quality is the worst. A bucket without a sample does
//! not exist, so a gap stays a gap.

mod block;
mod level;

pub use self::block::{BUCKETS, Block, BlockBuilder};
pub use self::level::{Level, Levels, LevelsError, Width};

use crate::decimal::Decimal;
use crate::reading::Quality;
use crate::sample::Sample;

/// Units of one bucket that are kept apart. A detector has one, and may be set to another one now and then. Values of any further unit are
/// put together, without a unit.
const MAX_UNITS: usize = 4;
/// Decimal places of a total: those of a value, at most.
const PLACES: u8 = 12;
/// Decimal places that a mean has beside those of the numbers from which it comes.
const MEAN_PLACES: u8 = 2;

/// What is known of the samples of one bucket: one [`Sum`] for each unit, in the order in which the units came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(Vec<Sum>);

/// What is known of the samples of one bucket that have the same unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// `None`: of several.
    pub unit: Option<String>,
    /// The lowest value.
    pub min: Option<Decimal>,
    /// The highest value.
    pub max: Option<Decimal>,
    /// In units of `10^-PLACES`. It has room for more samples than Redis has.
    total: i128,
    /// Number of readings with a value.
    pub count: u64,
    /// Number of readings without one.
    pub unknown: u64,
    /// Number of readings that were older than the latest one.
    pub late: u64,
    /// Whether one of the readings was in alarm.
    pub in_alarm: bool,
    /// The worst.
    pub quality: Quality,
}

impl Sums {
    /// Adds a sample.
    pub fn add(&mut self, sample: &Sample) {
        self.of_unit(Some(&sample.unit)).add(sample);
    }

    /// Adds all samples that others stand for.
    pub fn merge(&mut self, others: &Self) {
        for other in &others.0 {
            self.of_unit(other.unit.as_deref()).merge(other);
        }
    }

    /// Returns one sum for each unit.
    pub fn iter(&self) -> std::slice::Iter<'_, Sum> {
        self.0.iter()
    }

    fn of_unit(&mut self, unit: Option<&str>) -> &mut Sum {
        let is_it = |sum: &Sum| sum.unit.is_none() || sum.unit.as_deref() == unit;
        let index = self.0.iter().position(is_it).unwrap_or_else(|| {
            let own = unit.filter(|_| self.0.len() < MAX_UNITS);
            self.0.push(Sum::new(own.map(str::to_owned)));
            self.0.len() - 1
        });
        &mut self.0[index]
    }
}

impl IntoIterator for Sums {
    type Item = Sum;
    type IntoIter = std::vec::IntoIter<Sum>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Sums {
    type Item = &'a Sum;
    type IntoIter = std::slice::Iter<'a, Sum>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Sum {
    fn new(unit: Option<String>) -> Self {
        Self {
            unit,
            min: None,
            max: None,
            total: 0,
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
        match sample.value {
            Some(value) => {
                self.count += 1;
                self.add_values(value, value, scaled(value));
            }
            None => self.unknown += 1,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.late = self.late.saturating_add(other.late);
        self.in_alarm |= other.in_alarm;
        self.quality = self.quality.min(other.quality);
        self.unknown = self.unknown.saturating_add(other.unknown);
        self.count = self.count.saturating_add(other.count);
        if let (Some(min), Some(max)) = (other.min, other.max) {
            self.add_values(min, max, other.total);
        }
    }

    fn add_values(&mut self, min: Decimal, max: Decimal, total: i128) {
        self.min = Some(self.min.map_or(min, |known| known.min(min)));
        self.max = Some(self.max.map_or(max, |known| known.max(max)));
        self.total = self.total.saturating_add(total);
    }

    /// Returns the mean of the values, rounded to a few places more than the numbers have, so that an answer does not consist of digits.
    #[must_use]
    pub fn mean(&self) -> Option<Decimal> {
        let places = (self.places() + MEAN_PLACES).min(PLACES);
        let divisor = i128::from(self.count) * power(PLACES - places);
        let half = (divisor / 2) * self.total.signum();
        let mean = self.total.saturating_add(half).checked_div(divisor)?;
        Decimal::from_parts(mean, places)
    }

    /// The most decimal places of its numbers.
    fn places(&self) -> u8 {
        let of_bounds = [self.min, self.max].into_iter().flatten();
        let of_bounds = of_bounds.map(|value| value.parts().1).max();
        let is_whole = |places: &u8| self.total % power(PLACES - places) == 0;
        let of_total = (0..=PLACES).find(is_whole).unwrap_or_default();
        of_bounds.unwrap_or_default().max(of_total)
    }
}

/// Returns a value in units of `10^-PLACES`.
fn scaled(value: Decimal) -> i128 {
    let (digits, places) = value.parts();
    digits * power(PLACES.saturating_sub(places))
}

fn power(places: u8) -> i128 {
    10_i128.pow(places.into())
}

#[cfg(test)]
pub(crate) mod tests;

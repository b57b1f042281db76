//! A block of buckets, and its compact form in Redis.
//!
//! | bytes | contents |
//! |---|---|
//! | 1 | version, `VERSION` |
//! | 1 | decimal places of all numbers |
//! | 2 | which buckets exist, one bit each, little endian |
//!
//! Then for each bucket that exists, oldest first, and for each of its units:
//!
//! | bytes | contents |
//! |---|---|
//! | 1 | bits 0–1 quality, bit 2 in alarm, bit 3 no values, bit 4 some unknown, bit 5 some late, bit 6 another unit than before, bit 7 one more unit follows |
//! | 1– | the unit, if it is another one: its code, `MIXED` for none |
//! | 1– | number of unknown readings, if there are some |
//! | 1– | number of late readings, if there are some |
//! | 1– | number of values, as the difference from the one before |
//! | 1– | lowest value, as the difference from the one before |
//! | 1– | by how much the highest is above it |
//! | 1– | by how much the total is above that of so many lowest ones, if they differ |
//!
//! A difference is written as in `packing.rs`, and what is never negative without the zigzag. Times are not in it: the
//! stream entry has them, and the key has the width.

use super::{PLACES, Sum, Sums, Width, power};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::packing::{
    put_number, put_unit, put_unsigned, quality_code, quality_of, take_number, take_unit,
    take_unsigned,
};
use crate::sample::Sample;

/// Buckets of a block.
pub const BUCKETS: usize = 15;

/// First byte of the compact form.
const VERSION: u8 = 1;
/// Code of the unit of a sum that has several.
const MIXED: u8 = 14;
/// Unit before the first one.
const FIRST_UNIT: &str = "ppm";
/// A larger number of samples was not written by us.
const MAX_COUNT: u64 = 1 << 40;

const NO_VALUES: u8 = 1 << 3;
const SOME_UNKNOWN: u8 = 1 << 4;
const SOME_LATE: u8 = 1 << 5;
const OTHER_UNIT: u8 = 1 << 6;
const MORE: u8 = 1 << 7;

/// The buckets of a stretch of time that have samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    start: Time,
    width: Width,
    /// By index, in order.
    buckets: Vec<(usize, Sums)>,
}

impl Block {
    /// Returns when it begins.
    #[must_use]
    pub fn start(&self) -> Time {
        self.start
    }

    /// Returns when the next one begins.
    #[must_use]
    pub fn end(&self) -> Time {
        Time::from_millis(self.start.as_millis() + self.width.block_millis())
    }

    /// Returns when each bucket begins, and what is known of its samples, oldest first.
    pub fn buckets(&self) -> impl Iterator<Item = (Time, &Sums)> {
        self.buckets.iter().map(|(index, sums)| {
            let after = i64::try_from(*index).unwrap_or_default() * self.width.millis();
            (Time::from_millis(self.start.as_millis() + after), sums)
        })
    }

    /// Returns the bucket of a time that is not before the last one.
    fn last_bucket(&mut self, at: Time) -> &mut Sums {
        let index = at.millis_since(self.start) / self.width.millis();
        let index = usize::try_from(index).unwrap_or_default();
        let is_new = self.buckets.last().is_none_or(|(last, _)| *last < index);
        if is_new {
            self.buckets.push((index, Sums::default()));
        }
        let last = self.buckets.len() - 1;
        &mut self.buckets[last].1
    }

    /// Returns the compact form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let sums = || self.buckets.iter().flat_map(|(_, sums)| sums);
        let places = sums().map(Sum::places).max().unwrap_or_default();
        let exist = self.buckets.iter().map(|(index, _)| 1_u16 << index);
        let exist = exist.fold(0, |all, bit| all | bit);
        let mut bytes = vec![VERSION, places];
        bytes.extend(exist.to_le_bytes());
        let mut before = Before::first(places);
        for (_, sums) in &self.buckets {
            let last = sums.0.len().saturating_sub(1);
            for (index, sum) in sums.iter().enumerate() {
                before.put(sum, index < last, &mut bytes);
            }
        }
        bytes
    }

    /// Reads the compact form of a block of this width that ends then. `None` for anything that this release does not write.
    #[must_use]
    pub fn decode(mut bytes: &[u8], end: Time, width: Width) -> Option<Self> {
        let start = end.as_millis().checked_sub(width.block_millis())?;
        let start = Time::from_millis(start);
        let (&[VERSION, places, low, high], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        bytes = rest;
        let exist = u16::from_le_bytes([low, high]);
        if places > PLACES || exist >> BUCKETS != 0 || width.block_start(start) != start {
            return None;
        }
        let mut before = Before::first(places);
        let mut buckets = Vec::with_capacity(BUCKETS);
        for index in (0..BUCKETS).filter(|index| exist >> index & 1 == 1) {
            let mut sums = Sums::default();
            loop {
                let (sum, more) = before.take(&mut bytes)?;
                let is_new = sums
                    .iter()
                    .all(|known| known.unit.is_some() && known.unit != sum.unit);
                if !is_new || sums.0.len() > super::MAX_UNITS {
                    return None;
                }
                sums.0.push(sum);
                if !more {
                    break;
                }
            }
            buckets.push((index, sums));
        }
        bytes.is_empty().then_some(Self {
            start,
            width,
            buckets,
        })
    }
}

/// What the next sum is written as the difference from.
struct Before {
    places: u8,
    unit: Option<String>,
    count: i128,
    min: i128,
}

impl Before {
    fn first(places: u8) -> Self {
        Self {
            places,
            unit: Some(FIRST_UNIT.to_owned()),
            count: 0,
            min: 0,
        }
    }

    fn digits(&self, value: Decimal) -> i128 {
        let (digits, places) = value.parts();
        digits * power(self.places.saturating_sub(places))
    }

    fn put(&mut self, sum: &Sum, more: bool, bytes: &mut Vec<u8>) {
        let bounds = sum.min.zip(sum.max);
        let has_other_unit = sum.unit != self.unit;
        let flags = [
            (sum.in_alarm, 1 << 2),
            (bounds.is_none(), NO_VALUES),
            (sum.unknown > 0, SOME_UNKNOWN),
            (sum.late > 0, SOME_LATE),
            (has_other_unit, OTHER_UNIT),
            (more, MORE),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let flags = flags.fold(quality_code(sum.quality), |all, (_, bit)| all | bit);
        bytes.push(flags);
        if has_other_unit {
            let mut text = Vec::new();
            let code = match &sum.unit {
                Some(unit) => put_unit(&mut text, unit),
                None => MIXED,
            };
            bytes.push(code);
            bytes.append(&mut text);
            self.unit.clone_from(&sum.unit);
        }
        for number in [sum.unknown, sum.late] {
            if number > 0 {
                put_unsigned(bytes, number.into());
            }
        }
        let Some((min, max)) = bounds else { return };
        let (min, max, count) = (self.digits(min), self.digits(max), i128::from(sum.count));
        let total = sum.total / power(PLACES - self.places);
        let above = |lower: i128, higher: i128| u128::try_from(higher - lower).unwrap_or_default();
        put_number(bytes, count - self.count);
        put_number(bytes, min - self.min);
        put_unsigned(bytes, above(min, max));
        if max != min {
            put_unsigned(bytes, above(count.saturating_mul(min), total));
        }
        (self.count, self.min) = (count, min);
    }

    /// Returns the next sum, and whether one more follows in the same bucket.
    fn take(&mut self, bytes: &mut &[u8]) -> Option<(Sum, bool)> {
        let (&flags, rest) = bytes.split_first()?;
        *bytes = rest;
        let has = |bit: u8| flags & bit != 0;
        if has(OTHER_UNIT) {
            let (&code, rest) = bytes.split_first()?;
            *bytes = rest;
            self.unit = match code {
                MIXED => None,
                code => Some(take_unit(bytes, code)?),
            };
        }
        let mut sum = Sum::new(self.unit.clone());
        sum.quality = quality_of(flags & 3);
        sum.in_alarm = has(1 << 2);
        for (bit, number) in [(SOME_UNKNOWN, &mut sum.unknown), (SOME_LATE, &mut sum.late)] {
            if has(bit) {
                *number = count_of(i128::try_from(take_unsigned(bytes)?).ok()?)?;
            }
        }
        if !has(NO_VALUES) {
            self.take_values(&mut sum, bytes)?;
        }
        Some((sum, has(MORE)))
    }

    fn take_values(&mut self, sum: &mut Sum, bytes: &mut &[u8]) -> Option<()> {
        self.count = self.count.checked_add(take_number(bytes)?)?;
        self.min = self.min.checked_add(take_number(bytes)?)?;
        let spread = i128::try_from(take_unsigned(bytes)?).ok()?;
        let max = self.min.checked_add(spread)?;
        sum.count = count_of(self.count)?;
        sum.min = Some(Decimal::from_parts(self.min, self.places)?);
        sum.max = Some(Decimal::from_parts(max, self.places)?);
        let mut total = self.count * self.min;
        if spread > 0 {
            let above = i128::try_from(take_unsigned(bytes)?).ok()?;
            // At most that of so many highest ones.
            total += Some(above).filter(|above| *above <= self.count * spread)?;
        }
        sum.total = total * power(PLACES - self.places);
        Some(())
    }
}

/// Reads a number of samples, which is at least one.
fn count_of(number: i128) -> Option<u64> {
    let number = u64::try_from(number).ok()?;
    (1..=MAX_COUNT).contains(&number).then_some(number)
}

/// Puts samples, or the buckets of a finer level, together to blocks. They come in the order of their times.
#[derive(Debug)]
pub struct BlockBuilder {
    width: Width,
    open: Option<Block>,
}

impl BlockBuilder {
    /// Begins with nothing.
    #[must_use]
    pub fn new(width: Width) -> Self {
        Self { width, open: None }
    }

    /// Adds a sample of this time. Returns the block before it, once it is behind that.
    pub fn add_sample(&mut self, at: Time, sample: &Sample) -> Option<Block> {
        let (open, finished) = self.open_at(at);
        open.last_bucket(at).add(sample);
        finished
    }

    /// Adds the buckets of a finer level. Returns the block before them, once they are behind that.
    pub fn add_block(&mut self, block: &Block) -> Option<Block> {
        let mut finished = None;
        for (at, sums) in block.buckets() {
            let (open, before) = self.open_at(at);
            open.last_bucket(at).merge(sums);
            finished = finished.or(before);
        }
        finished
    }

    /// Returns the last block.
    #[must_use]
    pub fn finish(self) -> Option<Block> {
        self.open
    }

    fn open_at(&mut self, at: Time) -> (&mut Block, Option<Block>) {
        let start = self.width.block_start(at);
        let finished = self.open.take_if(|open| open.start != start);
        let open = self.open.get_or_insert_with(|| Block {
            start,
            width: self.width,
            buckets: Vec::with_capacity(BUCKETS),
        });
        (open, finished)
    }
}

#[cfg(test)]
mod tests;

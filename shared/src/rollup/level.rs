//! The levels of the rollups: which widths there are, and how long each is kept.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::BUCKETS;
use crate::clock::{Time, millis};

/// The most levels that are kept at the same time.
const MAX_LEVELS: usize = 4;
/// The most buckets of one level of a device.
const MAX_BUCKETS: u64 = 100_000;
const DAY_SECONDS: u32 = 86_400;

/// The width of the buckets of a level, in whole seconds. It divides a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Width(u32);

/// One level of rollups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The width of its buckets.
    pub width: Width,
    /// How long they are kept.
    pub age: Duration,
}

/// All levels that are kept, the finest first. The buckets of each are made of whole ones of the level before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels(Vec<Level>);

/// A text does not name levels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LevelsError(String);

impl Width {
    /// `None` if the width does not divide a day.
    #[must_use]
    pub const fn from_seconds(seconds: u32) -> Option<Self> {
        if seconds == 0 || !DAY_SECONDS.is_multiple_of(seconds) {
            return None;
        }
        Some(Self(seconds))
    }

    /// Returns its seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// Returns its milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0 as i64 * 1_000
    }

    /// Returns the milliseconds of a block.
    #[must_use]
    pub const fn block_millis(self) -> i64 {
        (self.0 as u64 * 1_000 * BUCKETS as u64).cast_signed()
    }

    /// Returns when the bucket of this time begins.
    #[must_use]
    pub fn bucket_start(self, at: Time) -> Time {
        floor(at, self.millis())
    }

    /// Returns when the block of this time begins. A block of a level begins and ends with blocks of every finer one.
    #[must_use]
    pub fn block_start(self, at: Time) -> Time {
        floor(at, self.block_millis())
    }

    /// Whether this many buckets of another width are one of this.
    #[must_use]
    pub fn is_multiple_of(self, finer: Self) -> bool {
        self.0.is_multiple_of(finer.0)
    }
}

fn floor(at: Time, step: i64) -> Time {
    let at = at.as_millis();
    Time::from_millis(at.saturating_sub(at.rem_euclid(step)))
}

impl Levels {
    /// Returns the levels, the finest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Level> {
        self.0.iter()
    }

    /// Returns the finest level.
    #[must_use]
    pub fn finest(&self) -> Option<Level> {
        self.0.first().copied()
    }

    /// Returns the time for which the longest kept level is kept.
    #[must_use]
    pub fn longest_age(&self) -> Duration {
        self.0.last().map_or(Duration::ZERO, |level| level.age)
    }

    /// Returns the number of levels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of buckets that a device may have.
    #[must_use]
    pub fn buckets(&self) -> u64 {
        self.0.iter().map(Level::buckets).sum()
    }

    fn checked(levels: Vec<Level>) -> Result<Self, String> {
        if levels.len() > MAX_LEVELS {
            return Err(format!("more than {MAX_LEVELS} levels"));
        }
        for level in &levels {
            level.check()?;
        }
        for pair in levels.windows(2) {
            let [finer, coarser] = pair else { continue };
            let (fine, coarse) = (shown(finer.width.0), shown(coarser.width.0));
            if coarser.width <= finer.width || !coarser.width.is_multiple_of(finer.width) {
                return Err(format!("{coarse} is not a multiple of {fine}"));
            }
            if coarser.age <= finer.age {
                return Err(format!(
                    "{coarse} must be kept for longer than {fine}: else it is of no use"
                ));
            }
            let needed = 2 * coarser.width.block_millis();
            if millis(finer.age) < needed {
                let needed = shown(u32::try_from(needed / 1_000).unwrap_or(u32::MAX));
                return Err(format!(
                    "{fine} must be kept for {needed} at least, because {coarse} is made of it"
                ));
            }
        }
        Ok(Self(levels))
    }
}

impl<'a> IntoIterator for &'a Levels {
    type Item = &'a Level;
    type IntoIter = std::slice::Iter<'a, Level>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Level {
    fn buckets(&self) -> u64 {
        (self.age.as_millis() / u128::from(self.width.0) / 1_000)
            .try_into()
            .unwrap_or(u64::MAX)
    }

    fn check(&self) -> Result<(), String> {
        let width = shown(self.width.0);
        if millis(self.age) < self.width.block_millis() {
            return Err(format!(
                "{width} must be kept for {BUCKETS} times as long at least"
            ));
        }
        if self.buckets() > MAX_BUCKETS {
            return Err(format!(
                "{width} is kept for more than {MAX_BUCKETS} times as long"
            ));
        }
        Ok(())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let expected = || format!("`{text}` is not WIDTH:AGE, such as 1m:7d");
        let (width, age) = text.split_once(':').ok_or_else(expected)?;
        let width = crate::args::duration(width.trim()).map_err(|err| format!("{text}: {err}"))?;
        let age = crate::args::duration(age.trim()).map_err(|err| format!("{text}: {err}"))?;
        let seconds = u32::try_from(width.as_secs()).ok();
        let seconds = seconds.filter(|_| width.subsec_nanos() == 0);
        let width = seconds
            .and_then(Width::from_seconds)
            .ok_or_else(|| format!("{text}: the width must divide a day, in whole seconds"))?;
        Ok(Self { width, age })
    }
}

impl FromStr for Levels {
    type Err = LevelsError;

    /// Reads `WIDTH:AGE,WIDTH:AGE`; `none` and the empty text are no levels.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() || text.eq_ignore_ascii_case("none") {
            return Ok(Self::default());
        }
        let levels: Result<Vec<Level>, String> = text.split(',').map(Level::parse).collect();
        levels.and_then(Self::checked).map_err(LevelsError)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        if levels.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&levels.join(","))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = u32::try_from(self.age.as_secs()).unwrap_or(u32::MAX);
        write!(f, "{}:{}", shown(self.width.0), shown(age))
    }
}

/// Seconds with the largest unit that leaves a whole number.
fn shown(seconds: u32) -> String {
    let units = [(DAY_SECONDS, "d"), (3_600, "h"), (60, "m")];
    let unit = units.iter().find(|(size, _)| seconds.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{seconds}s"),
        |(size, name)| format!("{}{name}", seconds / size),
    )
}

#[cfg(test)]
mod tests;

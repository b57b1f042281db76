//! Many times in a fixed amount of memory: counted in classes of about 3 %, which many clients may fill at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Classes per power of two.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.ilog2();
/// Up to some 70 minutes.
const CLASSES: usize = 32 * 32;

/// Counts of times in microseconds.
#[derive(Debug)]
pub(crate) struct Histogram {
    classes: Vec<AtomicU64>,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            classes: (0..CLASSES).map(|_| AtomicU64::new(0)).collect(),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one time.
    pub(crate) fn add(&self, micros: u64) {
        let class = class(micros).min(CLASSES - 1);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.max.fetch_max(micros, Ordering::Relaxed);
    }

    /// Returns the counts of all classes and the longest time, for [`Self::add_counts`].
    pub(crate) fn counts(&self) -> (Vec<u64>, u64) {
        let counts = self.classes.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed)).collect();
        (counts, self.max())
    }

    /// Adds the times of another histogram.
    pub(crate) fn add_counts(&self, (counts, max): &(Vec<u64>, u64)) {
        for (class, count) in self.classes.iter().zip(counts) {
            class.fetch_add(*count, Ordering::Relaxed);
        }
        self.max.fetch_max(*max, Ordering::Relaxed);
    }

    /// Returns how many times were counted.
    pub(crate) fn count(&self) -> u64 {
        let counts = self.classes.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Returns the time that this share of them, in thousandths, does not exceed; zero if there are none.
    pub(crate) fn quantile(&self, thousandths: u64) -> u64 {
        let rank = (self.count() * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        for (class, count) in self.classes.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen >= rank {
                return upper(class).min(self.max());
            }
        }
        self.max()
    }

    /// Returns the longest time.
    pub(crate) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
}

/// Times below [`STEPS`] have a class of their own, every power of two above has as many classes.
fn class(micros: u64) -> usize {
    let power = micros.max(1).ilog2().saturating_sub(STEP_BITS);
    let class = u64::from(power) * STEPS + (micros >> power);
    usize::try_from(class).unwrap_or(usize::MAX)
}

/// Returns the longest time of a class.
fn upper(class: usize) -> u64 {
    let class = u64::try_from(class).unwrap_or(u64::MAX);
    if class < 2 * STEPS {
        return class;
    }
    let power = class / STEPS - 1;
    ((class - power * STEPS + 1) << power) - 1
}

#[cfg(test)]
mod tests;

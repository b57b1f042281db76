//! The limits by which a value is judged: levels with their deadbands, and the measuring range.

use std::cmp::Ordering;

use crate::decimal::Decimal;
use crate::reading::{Reading, Side};
use crate::settings::{AlarmSettings, ZeroLevel};
use crate::state::{DeviceMemory, Latest};

/// Oxygen in clean air, in percent by volume. Low levels of oxygen lie below it, high ones above.
const OXYGEN_IN_AIR: Decimal = Decimal::new(209, 1);
/// Without a hysteresis of its own, the deadband of a level is at most this share of it, in percent.
const MAX_SHARE_OF_LEVEL: Decimal = Decimal::new(5, 0);
/// A value below the measuring range by more than this share of the span is under range, in percent.
const UNDER_RANGE: Decimal = Decimal::new(5, 0);
/// The same without a span, as a share of A1.
const UNDER_RANGE_OF_A1: Decimal = Decimal::new(50, 0);
const HALF: Decimal = Decimal::new(50, 0);

/// One level with everything needed to evaluate a value against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The value that reaches it.
    pub level: Decimal,
    /// Which side of it is dangerous.
    pub side: Side,
    /// Deadband (ISA-18.2): the value is back from the level only once it is this far on the safe side.
    pub deadband: Decimal,
    /// Whether the level stays active until it is acknowledged; `None` if the device does not say.
    pub latching: Option<bool>,
    /// An unused level is never reached, and every value is back from it.
    pub used: bool,
}

impl Limit {
    /// Whether the value reaches the level.
    #[must_use]
    pub fn is_reached(&self, value: Decimal) -> bool {
        self.used
            && match self.side {
                Side::High | Side::Unknown(_) => value >= self.level,
                Side::Low => value <= self.level,
            }
    }

    /// Whether the value is back from the level, by its deadband.
    #[must_use]
    pub fn is_back(&self, value: Decimal) -> bool {
        !self.used
            || match self.side {
                Side::High => value < self.level - self.deadband,
                Side::Low => value > self.level + self.deadband,
                Side::Unknown(_) => false,
            }
    }

    /// Whether the present limit is less sensitive than this one: it is reached later, or left earlier, or not used at all.
    #[must_use]
    pub(super) fn is_lost_by(&self, present: Option<Self>) -> bool {
        let Some(present) = present else { return true };
        let end = |limit: &Self| match limit.side {
            Side::Low => limit.level + limit.deadband,
            Side::High | Side::Unknown(_) => limit.level - limit.deadband,
        };
        self.is_reached_later_by(present) || end(&present).cmp(&end(self)) == self.later()
    }

    /// Whether a value reaches the present limit later than this one.
    #[must_use]
    pub(super) fn is_reached_later_by(&self, present: Self) -> bool {
        present.level.cmp(&self.level) == self.later()
    }

    /// How a level compares that a value reaches later.
    fn later(&self) -> Ordering {
        match self.side {
            Side::Low => Ordering::Less,
            Side::High | Side::Unknown(_) => Ordering::Greater,
        }
    }

    /// Whether it is a level in use on this side.
    #[must_use]
    pub fn is_on(&self, side: Side) -> bool {
        let is_low = self.side == Side::Low;
        self.used && is_low == (side == Side::Low)
    }
}

/// The limits by which a value is judged.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The gas levels, A1 first.
    pub gas: [Limit; 3],
    /// The upper end of the measuring range, if it is known.
    pub range: Option<Limit>,
}

/// The levels that apply to a reading: its own, else the last known ones, else the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The levels, A1 first.
    pub levels: [Decimal; 3],
    /// Their sides.
    pub sides: [Side; 3],
    /// The levels that are used.
    pub used: [bool; 3],
    /// Levels are missing or unreadable, and defaults are in use instead, or no level is in use.
    pub are_unknown: bool,
    /// At least one default is in use.
    pub has_default: bool,
}

/// Levels of a device that never sent its own; they are those of the system this one replaces.
const DEFAULTS: [Decimal; 3] = [
    Decimal::new(250, 0),
    Decimal::new(500, 0),
    Decimal::new(1000, 0),
];

impl Levels {
    /// Returns the levels that apply to a reading. `unreadable`: levels that it has, but that cannot be read.
    #[must_use]
    pub fn of(
        reading: &Reading,
        unreadable: [bool; 3],
        memory: &DeviceMemory,
        settings: &AlarmSettings,
    ) -> Self {
        let known: [Option<Decimal>; 3] =
            std::array::from_fn(|index| reading.levels[index].level.or(memory.levels[index]));
        let levels = std::array::from_fn(|index| known[index].unwrap_or(DEFAULTS[index]));
        let used: [bool; 3] = std::array::from_fn(|index| {
            let is_unused_zero =
                settings.zero_level == ZeroLevel::Unused && levels[index] == Decimal::ZERO;
            // Beside a known A1, the default of a level that was never sent is only shown.
            let was_never_sent = known[index].is_none() && !unreadable[index];
            let is_only_shown = was_never_sent && known[0].is_some();
            !is_unused_zero && !is_only_shown
        });
        let is_default = |index: usize| unreadable[index] && known[index].is_none();
        let are_unknown = (0..3).any(is_default)
            || known.iter().all(Option::is_none)
            || used.iter().all(|used| !used);
        Self {
            levels,
            sides: sides(reading, memory, &levels, settings),
            used,
            are_unknown,
            has_default: (0..3).any(|index| used[index] && known[index].is_none()),
        }
    }
}

/// Returns the side of each level: its own type, else that of A1.
fn sides(
    reading: &Reading,
    memory: &DeviceMemory,
    levels: &[Decimal; 3],
    settings: &AlarmSettings,
) -> [Side; 3] {
    let typed = |index: usize| reading.levels[index].side.or(memory.sides[index]);
    let is_low_device = || settings.low_devices.matches(&reading.device);
    let untyped = || {
        if is_low_device() {
            Side::Low
        } else {
            Side::High
        }
    };
    let first = typed(0).unwrap_or_else(untyped);
    let is_oxygen = first == Side::Low && levels[0] < OXYGEN_IN_AIR;
    std::array::from_fn(|index| {
        let is_rich = is_oxygen && levels[index] > OXYGEN_IN_AIR;
        let without_type = if is_rich { Side::High } else { first };
        typed(index).unwrap_or(if index == 0 { first } else { without_type })
    })
}

/// Returns the three levels of a reading with their deadbands.
#[must_use]
pub fn gas_limits(latest: &Latest, memory: &DeviceMemory, settings: &AlarmSettings) -> [Limit; 3] {
    let span = span(&latest.reading, memory);
    let mut limits: [Limit; 3] = std::array::from_fn(|index| {
        let setting = &latest.reading.levels[index];
        let first = &latest.reading.levels[0];
        let own = setting.latching.or(memory.latching[index]);
        let latching = own.or(first.latching).or(memory.latching[0]);
        Limit {
            level: latest.levels[index],
            side: latest.sides[index],
            deadband: Decimal::ZERO,
            latching: latching.map(|flag| flag >= Decimal::from_int(1)),
            used: latest.used[index],
        }
    });
    let plain = limits;
    for (index, limit) in limits.iter_mut().enumerate() {
        // A missing hysteresis is stored as 0 with its reading.
        let hysteresis_of = |index: usize| {
            let sent = latest.reading.levels[index].hysteresis;
            sent.filter(|sent| sent.is_positive())
                .or(memory.hysteresis[index])
        };
        let (own, first) = (hysteresis_of(index), hysteresis_of(0));
        let hysteresis = own.or(first).filter(|hysteresis| hysteresis.is_positive());
        let wanted = hysteresis.unwrap_or_else(|| percent_deadband(limit.level, span, settings));
        limit.deadband = match way_back(limit, &plain, span) {
            Some(way) => wanted.min(way.percent(HALF)),
            None => wanted,
        };
    }
    limits
}

/// Returns the upper end of the measuring range as a limit that latches; `None` if the device never sent a span.
#[must_use]
pub fn range_limit(
    reading: &Reading,
    memory: &DeviceMemory,
    settings: &AlarmSettings,
) -> Option<Limit> {
    let span = span(reading, memory)?;
    Some(Limit {
        level: span.high,
        side: Side::High,
        deadband: percent_deadband(span.high, Some(span), settings),
        latching: Some(true),
        used: true,
    })
}

impl Limits {
    /// The limits by which a reading is judged.
    #[must_use]
    pub fn of(latest: &Latest, memory: &DeviceMemory, settings: &AlarmSettings) -> Self {
        Self {
            gas: gas_limits(latest, memory, settings),
            range: range_limit(&latest.reading, memory, settings),
        }
    }
}

/// How far a value is below the measuring range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BelowRange {
    /// It is not.
    No,
    /// So far that it may be a drift of the zero, or the beginning of a fault.
    Doubtful,
    /// So far that the sensor is at fault. The value is the lower end of the range.
    Fault(Decimal),
}

/// Judges a value against the lower end of the measuring range.
#[must_use]
pub fn below_range(
    value: Decimal,
    reading: &Reading,
    levels: &Levels,
    memory: &DeviceMemory,
) -> BelowRange {
    let (low, tolerance) = match span(reading, memory) {
        Some(span) => (span.low, span.width().percent(UNDER_RANGE)),
        None if levels.sides[0] == Side::Low || !levels.used[0] => return BelowRange::No,
        None => (Decimal::ZERO, levels.levels[0].percent(UNDER_RANGE_OF_A1)),
    };
    if value < low - tolerance {
        BelowRange::Fault(low)
    } else if value < low - tolerance.percent(HALF) {
        BelowRange::Doubtful
    } else {
        BelowRange::No
    }
}

/// The measuring range.
#[derive(Clone, Copy, Debug)]
struct Span {
    low: Decimal,
    high: Decimal,
}

impl Span {
    fn width(self) -> Decimal {
        self.high - self.low
    }
}

/// Returns the span that the device sends, or sent last. One whose high is not above its low is no span.
fn span(reading: &Reading, memory: &DeviceMemory) -> Option<Span> {
    let [known_low, known_high] = memory.span;
    let high = reading.span_high.or(known_high)?;
    let low = reading.span_low.or(known_low).unwrap_or_default();
    (high > low).then_some(Span { low, high })
}

/// Returns the deadband of a level without a hysteresis: a percentage of the span, or of the level without a span.
fn percent_deadband(level: Decimal, span: Option<Span>, settings: &AlarmSettings) -> Decimal {
    let percent = settings.alarm_deadband;
    match span {
        Some(span) => {
            let share = span.width().percent(percent);
            share.min(level.percent(MAX_SHARE_OF_LEVEL))
        }
        None => level.percent(percent),
    }
}

/// Returns the distance between a level and the values that are safe from it. A deadband of more than half of it would leave no
/// way back. `None` if no end is known.
fn way_back(limit: &Limit, limits: &[Limit; 3], span: Option<Span>) -> Option<Decimal> {
    let level = limit.level;
    let others = limits
        .iter()
        .filter(|other| other.used && other.side != limit.side);
    let others = others.map(|other| other.level);
    let way = match limit.side {
        Side::High | Side::Unknown(_) => {
            let end = others.filter(|other| *other < level).max();
            Some(level - end.unwrap_or_default())
        }
        Side::Low => {
            let end = others.filter(|other| *other > level).min();
            let way = end.or(span.map(|span| span.high)).map(|end| end - level);
            let to_air = (level < OXYGEN_IN_AIR).then(|| OXYGEN_IN_AIR - level);
            match (way, to_air) {
                (Some(way), Some(to_air)) => Some(way.min(to_air)),
                (way, to_air) => way.or(to_air),
            }
        }
    };
    way.map(|way| way.max(Decimal::ZERO))
}

#[cfg(test)]
mod tests;

//! Exact decimals for the numbers that devices send. They print without a trailing `.0` and without an exponent.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use rust_decimal::Decimal as Exact;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// An exact decimal with a magnitude of at most [`MAX_MAGNITUDE`] and at most 12 decimal places.
///
/// Levels and deadbands are compared without rounding: `19.5` is `19.5` and `0.3 - 0.006` is `0.294`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(Exact);

/// Maximum magnitude. Larger numbers are rejected as unreadable: no detector measures them, and they could not be printed in
/// full.
pub const MAX_MAGNITUDE: i64 = 1_000_000_000_000;

/// Maximum number of decimal places.
const MAX_PLACES: u32 = 12;

/// The text is not a number, or a number that cannot be represented exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a readable number")]
pub struct DecimalError;

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self(Exact::ZERO);

    /// Creates `digits / 10^places`.
    #[must_use]
    pub const fn new(digits: i32, places: u32) -> Self {
        let (low, is_negative) = (digits.unsigned_abs(), digits < 0);
        Self(Exact::from_parts(low, 0, 0, is_negative, places))
    }

    /// Creates a whole number.
    #[must_use]
    pub fn from_int(value: i32) -> Self {
        Self(Exact::from(value))
    }

    /// Returns `percent` percent of this number. Both signs are ignored.
    #[must_use]
    pub fn percent(self, percent: Self) -> Self {
        let product = self.0.abs().checked_mul(percent.0.abs());
        let share = product.and_then(|product| product.checked_div(Exact::ONE_HUNDRED));
        Self(share.unwrap_or_default().normalize())
    }

    /// Whether this is greater than zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self > Self::ZERO
    }

    /// Returns `self / 10^places`, the value of a scaled integer that a device sent. It is rounded to the places of a decimal.
    #[must_use]
    pub fn scale_down(self, places: u32) -> Self {
        let mut scaled = self.0;
        let scale = scaled.scale().saturating_add(places);
        match scaled.set_scale(scale.min(28)) {
            Ok(()) => Self(scaled.round_dp(MAX_PLACES).normalize()),
            Err(_) => self,
        }
    }

    /// Returns a whole number from 0 to 9: a number of places by which a device scales its numbers. `None` for any other number.
    #[must_use]
    pub fn as_digit(self) -> Option<u32> {
        (0..=9).find(|digit| Exact::from(*digit) == self.0)
    }

    /// Returns its digits and its number of decimal places, without zeros at the end.
    #[must_use]
    pub fn parts(self) -> (i128, u8) {
        let normal = self.0.normalize();
        // At most 28, by the type.
        (
            normal.mantissa(),
            u8::try_from(normal.scale()).unwrap_or_default(),
        )
    }

    /// Creates `digits / 10^places`; `None` for a number that is too large or has too many places.
    #[must_use]
    pub fn from_parts(digits: i128, places: u8) -> Option<Self> {
        let exact = Exact::try_from_i128_with_scale(digits, places.into()).ok()?;
        Self::checked(exact).ok()
    }

    fn checked(exact: Exact) -> Result<Self, DecimalError> {
        let normal = exact.normalize();
        let too_large = normal.abs() > Exact::from(MAX_MAGNITUDE);
        if too_large || normal.scale() > MAX_PLACES {
            return Err(DecimalError);
        }
        Ok(Self(normal))
    }
}

impl std::ops::Add for Decimal {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::Sub for Decimal {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    /// Parses the complete text after trimming: `350 ppm`, `0x10`, `1_000`, `NaN` and the empty text are rejected.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let digits = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
        let starts = text.trim_start_matches(['+', '-']);
        if !text.chars().all(digits)
            || !starts.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        {
            return Err(DecimalError);
        }
        let exact = if text.contains(['e', 'E']) {
            Exact::from_scientific(text)
        } else {
            Exact::from_str_exact(text)
        };
        Self::checked(exact.map_err(|_| DecimalError)?)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.normalize(), f)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let normal = self.0.normalize();
        if normal.scale() == 0
            && let Ok(whole) = i64::try_from(normal.mantissa())
        {
            return serializer.serialize_i64(whole);
        }
        // As raw JSON: a float would print an exponent or lose digits. An event has dozens of numbers, so none is allocated.
        let mut text = ShortText::default();
        write!(text, "{normal}").map_err(serde::ser::Error::custom)?;
        let raw: &RawValue =
            serde_json::from_str(text.as_str()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// The text of a number. A decimal has 29 digits at most, a sign and a point.
#[derive(Default)]
struct ShortText {
    bytes: [u8; 32],
    length: usize,
}

impl ShortText {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let free = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        raw.get().parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;

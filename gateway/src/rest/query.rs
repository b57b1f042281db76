//! Parses query strings. Unknown keys are ignored, and an empty value is treated as missing.

use shared::clock::Time;
use url::form_urlencoded;

use crate::error::ApiError;

/// The largest `limit`. Larger values are reduced to it.
const MAX_LIMIT: usize = 1000;
/// The value of a missing `limit`.
const DEFAULT_LIMIT: usize = 100;

/// The parameters of one request. If a key is repeated, its last value counts.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(raw.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// Returns the value as text; `None` if it is missing, empty or only spaces.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rev().find(|(name, _)| name == key)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    /// Returns the number of rows the client wants, between 1 and [`MAX_LIMIT`].
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        self.limit_within(DEFAULT_LIMIT, MAX_LIMIT)
    }

    /// Returns the number of rows the client wants, between 1 and `max`. `default`: that of a client that does not say it.
    pub(crate) fn limit_within(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.text("limit") else {
            return Ok(default);
        };
        let limit = leading_number(text).ok_or_else(|| unreadable("limit", "a whole number"))?;
        // Numbers below 1 become 1, and numbers that do not fit become the largest.
        let limit = usize::try_from(limit.max(1)).unwrap_or(max);
        Ok(limit.min(max))
    }

    /// Returns a number within these bounds.
    pub(crate) fn number(
        &self,
        key: &str,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiError> {
        let read = |text: &str| {
            let text = text.strip_suffix('/').unwrap_or(text);
            let number = text.parse().ok().filter(|number| bounds.contains(number));
            let (least, most) = (bounds.start(), bounds.end());
            number.ok_or_else(|| unreadable(key, &format!("a number from {least} to {most}")))
        };
        self.text(key).map(read).transpose()
    }

    /// Parses a number as [`Self::limit`] does; a negative one is 0.
    pub(crate) fn whole_number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let read = |text| {
            let number = leading_number(text).ok_or_else(|| unreadable(key, "a whole number"))?;
            Ok(u64::try_from(number).unwrap_or(0))
        };
        self.text(key).map(read).transpose()
    }

    /// Parses a time: an ISO 8601 date and time, or a date alone, which means 00:00 UTC.
    pub(crate) fn date(&self, key: &str) -> Result<Option<Time>, ApiError> {
        let read = |text| parse_date(text).ok_or_else(|| unreadable(key, DATE));
        self.text(key).map(read).transpose()
    }

    /// Parses a time as in [`Self::date`], or milliseconds since 1970.
    pub(crate) fn date_or_millis(&self, key: &str) -> Result<Option<Time>, ApiError> {
        let read = |text| {
            parse_millis(text)
                .or_else(|| parse_date(text))
                .ok_or_else(|| unreadable(key, DATE_OR_MILLIS))
        };
        self.text(key).map(read).transpose()
    }
}

/// Refuses a time that ends before it begins, each bound with its name: an empty answer would say that there was nothing.
pub(crate) fn in_order(
    (begin_key, begin): (&str, Option<Time>),
    (end_key, end): (&str, Option<Time>),
) -> Result<(), ApiError> {
    match (begin, end) {
        (Some(begin), Some(end)) if begin > end => Err(ApiError::Unreadable {
            problem: format!("`{begin_key}` is after `{end_key}`"),
        }),
        _ => Ok(()),
    }
}

const DATE: &str = "a date (`2026-01-28` or `2026-01-28T11:37:12Z`)";
const DATE_OR_MILLIS: &str = "a date (`2026-01-28`, `2026-01-28T11:37:12Z` or milliseconds)";

fn unreadable(key: &str, expected: &str) -> ApiError {
    ApiError::Unreadable {
        problem: format!("`{key}` is not {expected}"),
    }
}

/// Parses the number at the beginning of a text, as JavaScript's `parseInt` reads it: `30/` is 30. Saturates on overflow.
fn leading_number(text: &str) -> Option<i64> {
    // A complete number comes first, because `1e9` must not be read as 1.
    if let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, and the caller limits the value anyway"
        )]
        return Some(number as i64);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let mut number: Option<i64> = None;
    for digit in digits {
        let so_far = number.unwrap_or(0).saturating_mul(10);
        number = Some(so_far.saturating_add(i64::from(digit - b'0')));
    }
    number.map(|number| if negative { -number } else { number })
}

fn parse_millis(text: &str) -> Option<Time> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let millis: i64 = text.parse().ok()?;
    // Not a time: a number outside the range of dates, or a short number such as `2026`.
    jiff::Timestamp::from_millisecond(millis).ok()?;
    (text.trim_start_matches('-').len() > 8).then(|| Time::from_millis(millis))
}

fn parse_date(text: &str) -> Option<Time> {
    // Front ends append a slash to the last value. The `+` of a time zone arrives as a space if it was not percent-encoded.
    let text = text.strip_suffix('/').unwrap_or(text);
    let zone_has_space = text.len() > 6 && text.as_bytes()[text.len() - 6] == b' ';
    let with_plus;
    let text = if zone_has_space && text.contains('T') {
        with_plus = replace_last_space(text);
        with_plus.as_str()
    } else {
        text
    };
    Time::from_iso(text)
}

fn replace_last_space(text: &str) -> String {
    match text.rsplit_once(' ') {
        Some((date, zone)) => format!("{date}+{zone}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;

//! Parsers of values of flags.

use clap::builder::{StringValueParser, TypedValueParser};

/// A number from `minimum` on.
pub(super) fn count(minimum: u64) -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64)
        .range(minimum..=u64::from(u32::MAX))
        .map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// A text without the space around it.
pub(super) fn trimmed() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(|text| text.trim().to_owned())
}

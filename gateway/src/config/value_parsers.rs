//! Parsers of values of flags.

use clap::builder::{PossibleValuesParser, StringValueParser, TypedValueParser};

use crate::admission::limit::{ALL, Limit};

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

/// A limit that can be tried out, or all.
pub(super) fn limits() -> PossibleValuesParser {
    PossibleValuesParser::new(Limit::SETTINGS.into_iter().chain([ALL]))
}

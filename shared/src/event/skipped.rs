//! The field `skipped` of `device:data`: how many readings before this one were not sent.
//!
//! It is added to a finished payload: by the writer, if a commit has several readings of the device, and by a gateway, for a client that
//! is slow. It is the last field, but for `more`.

use serde_json::value::RawValue;

use super::more;

const FIELD: &str = r#""skipped":"#;

/// Returns the number of readings that were not sent before this payload.
#[must_use]
pub fn skipped_before(payload: &RawValue) -> u64 {
    let fields = more::fields_without_more(payload.get());
    fields.map_or(0, |fields| split(fields).1)
}

/// Adds to the number of readings that were not sent before this payload. `None` if it stays as it is, because the number is 0 or
/// the payload is not an object.
#[must_use]
pub fn with_skipped(payload: &RawValue, skipped: u64) -> Option<Box<RawValue>> {
    if skipped == 0 {
        return None;
    }
    let all = payload.get();
    let fields = more::fields_without_more(all)?;
    let end = if all.len() == fields.len() + 1 {
        "}"
    } else {
        more::END
    };
    let (fields, before) = split(fields);
    let comma = if fields.ends_with('{') { "" } else { "," };
    let total = before.saturating_add(skipped);
    RawValue::from_string(format!("{fields}{comma}{FIELD}{total}{end}")).ok()
}

/// Splits the fields of a payload into those before `skipped`, and its value.
fn split(fields: &str) -> (&str, u64) {
    let rest = fields.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let number = fields[rest.len()..].parse();
    // The comma and the quote show that it is a field of the outermost object: a quote within a string follows a backslash.
    let rest = rest.strip_suffix(FIELD);
    let rest = rest.and_then(|rest| {
        rest.strip_suffix(',')
            .or(Some(rest).filter(|rest| *rest == "{"))
    });
    match (rest, number) {
        (Some(rest), Ok(number)) => (rest, number),
        _ => (fields, 0),
    }
}

#[cfg(test)]
mod tests;

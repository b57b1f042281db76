//! The field `more`: every event of a position but its last has `more: true`. So a client knows when it has the whole position.
//!
//! The field is inserted into finished payloads, because only the position as a whole shows which of them is the last, and because
//! the same payload is the last event of its position when it is live, and is not when it precedes a snapshot.

use serde_json::value::RawValue;

/// The end of a payload that has the field. The comma and the quote show that it is a field of the outermost object, since a quote
/// within a JSON string follows a backslash.
pub(super) const END: &str = r#","more":true}"#;

/// Adds `more: true` to every payload but the last one. The payloads are those of one position, in the order in which clients get
/// them.
#[must_use]
pub fn mark_all_but_last<const N: usize>(
    payloads: [Option<Box<RawValue>>; N],
) -> [Option<Box<RawValue>>; N] {
    let last = payloads.iter().rposition(Option::is_some);
    let mut indices = 0..N;
    payloads.map(|payload| {
        let is_last = indices.next() == last;
        payload.map(|payload| if is_last { payload } else { with_more(payload) })
    })
}

/// Adds `more: true` as the last field, unless it is there already. Also works for payloads of releases that did not have the field.
/// A payload that is not an object, or has no fields, stays as it is.
#[must_use]
pub fn with_more(payload: Box<RawValue>) -> Box<RawValue> {
    let marked = match payload.get().strip_suffix('}') {
        Some(fields) if !payload.get().ends_with(END) && !fields.trim_end().ends_with('{') => {
            RawValue::from_string(format!("{fields}{END}"))
        }
        _ => return payload,
    };
    marked.unwrap_or(payload)
}

/// Returns the text of a payload without its closing brace and without `more`, so that fields can be appended. `None` if the payload
/// is not an object.
#[must_use]
pub fn fields_without_more(payload: &str) -> Option<&str> {
    payload
        .strip_suffix(END)
        .or_else(|| payload.strip_suffix('}'))
}

#[cfg(test)]
mod tests;

//! Rendering of the payloads that this crate defines.

use serde::Serialize;
use serde_json::value::RawValue;

/// Renders a payload. It must consist of texts, numbers, booleans and lists of them, which always serialise.
pub(crate) fn to_raw<T: Serialize>(payload: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(payload)
        .expect("structs of strings and numbers always serialise")
}

//! Payloads that are no JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::replay::template::{Edits, Encoding};

/// A payload that is no JSON.
pub(super) enum RawPayload {
    Bytes(Vec<u8>),
    Like(EditedTemplate),
}

/// A template with faults in its text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EditedTemplate {
    pub(super) like: String,
    /// The text that is written for `"${value}"`.
    pub(super) value_text: Option<String>,
    #[serde(default)]
    replace: BTreeMap<String, String>,
    cut_after: Option<String>,
    #[serde(default)]
    prepend: String,
    #[serde(default)]
    append: String,
    #[serde(default)]
    encoding: Encoding,
}

/// Reads `publish_raw`.
pub(super) fn read(written: &Value) -> Result<RawPayload, String> {
    if let Some(text) = written.as_str() {
        return Ok(RawPayload::Bytes(text.as_bytes().to_vec()));
    }
    if let Some(text) = written.get("base64").and_then(Value::as_str) {
        let bytes = BASE64_STANDARD.decode(text);
        let bytes = bytes.map_err(|err| format!("base64: {err}"))?;
        return Ok(RawPayload::Bytes(bytes));
    }
    let edited = EditedTemplate::deserialize(written);
    let edited = edited.map_err(|err| format!("publish_raw: {err}"))?;
    Ok(RawPayload::Like(edited))
}

impl EditedTemplate {
    pub(super) fn edits(self) -> Edits {
        Edits {
            replace: self.replace,
            cut_after: self.cut_after,
            prepend: self.prepend,
            append: self.append,
            encoding: self.encoding,
        }
    }
}

//! The lines of a recorded file. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::Time;
use shared::store::RawPayload;

use crate::replay::span;

/// Turns payloads into lines.
pub(super) struct Lines {
    /// Only payloads that contain this text.
    serial: Option<String>,
    start: Time,
    last: Time,
    count: usize,
}

/// One line with a payload.
#[derive(Serialize)]
struct PayloadLine<'a> {
    at: String,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    publish: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publish_raw: Option<RawText<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retain: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dup: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RawText<'a> {
    Text(&'a str),
    Base64 { base64: String },
}

impl Lines {
    /// Takes payloads that contain `serial`, or all. The file begins at `start`.
    pub(super) fn new(serial: Option<String>, start: Time) -> Self {
        Self {
            serial,
            start,
            last: start,
            count: 0,
        }
    }

    /// Returns the lines before the first payload.
    pub(super) fn head(&self, settings: Option<&str>) -> String {
        let start = self.start.to_iso();
        let settings = match settings {
            Some(settings) => format!(
                "// The settings of the ingest that recorded last. What is not listed has its default.\n{{\"settings\":{settings}}}"
            ),
            None => {
                "// The settings of the ingest that recorded are not known: these are the defaults."
                    .to_owned()
            }
        };
        format!(
            "// Recorded by ingest. What was stored of a detector before the first payload is not in this file.\n{{\"start\":\"{start}\"}}\n{settings}\n"
        )
    }

    /// Returns the line of a payload; `None` for a payload of another device.
    pub(super) fn of(&mut self, raw: &RawPayload) -> Option<String> {
        if let Some(serial) = &self.serial {
            let mut windows = raw.payload.windows(serial.len().max(1));
            if !windows.any(|window| window == serial.as_bytes()) {
                return None;
            }
        }
        self.count += 1;
        // Replicas may record a few milliseconds out of order.
        self.last = self.last.max(raw.arrived);
        let at = span::format(self.last.millis_since(self.start));
        if raw.size > raw.payload.len() {
            let size = raw.size;
            return Some(format!(
                "// At {at} came a payload of {size} bytes, which is not kept whole."
            ));
        }
        let text = std::str::from_utf8(&raw.payload).ok();
        let publish = text.and_then(exact_json);
        let publish_raw = match (publish, text) {
            (Some(_), _) => None,
            (None, Some(text)) => Some(RawText::Text(text)),
            (None, None) => Some(RawText::Base64 {
                base64: BASE64_STANDARD.encode(&raw.payload),
            }),
        };
        let line = PayloadLine {
            at,
            topic: &raw.topic,
            publish,
            publish_raw,
            retain: raw.retain,
            dup: raw.dup,
        };
        serde_json::to_string(&line).ok()
    }

    /// Returns the number of payloads so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

/// Returns a payload as JSON if the file can contain exactly its bytes: on one line, and without what looks like a placeholder.
fn exact_json(text: &str) -> Option<&RawValue> {
    if text.contains(['\n', '\r']) || text.contains("${") {
        return None;
    }
    let json: &RawValue = serde_json::from_str(text).ok()?;
    (json.get().len() == text.len()).then_some(json)
}

#[cfg(test)]
mod tests;

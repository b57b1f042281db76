//! Reads the bytes of one message as the pipeline does: into readings to decide about, and dead letters.

use xxhash_rust::xxh3::xxh3_64;

use crate::payload::{self, Format, ItemContent, Parsed, PayloadError};

/// One part of a received message.
pub(super) enum Received {
    /// A reading, to be decided about.
    Reading {
        parsed: Box<Parsed>,
        /// XXH3 of its bytes.
        fingerprint: u64,
    },
    /// The part can never be processed, or not as a whole.
    DeadLetter {
        reason: &'static str,
        detail: String,
    },
}

/// Reads one message. A payload that cannot be read, but names its detector, is a dead letter and a reading without a value.
pub(super) fn read(bytes: &[u8], format: &Format) -> Vec<Received> {
    let mut parts = Vec::new();
    for item in payload::read(bytes, format) {
        let fingerprint = xxh3_64(&item.bytes);
        let (parsed, err) = match item.content {
            ItemContent::Reading(parsed) | ItemContent::Named(parsed) => (Some(parsed), None),
            ItemContent::Unreadable(parsed, err) => (Some(parsed), Some(err)),
            ItemContent::Refused(err) => (None, Some(err)),
        };
        parts.extend(err.map(|err| dead_letter(&err, parsed.as_ref())));
        parts.extend(parsed.map(|parsed| Received::Reading {
            parsed: Box::new(parsed),
            fingerprint,
        }));
    }
    parts
}

fn dead_letter(err: &PayloadError, parsed: Option<&Parsed>) -> Received {
    Received::DeadLetter {
        reason: err.reason().code(),
        detail: err.detail(parsed.map(|parsed| &parsed.reading.device)),
    }
}

//! Reads the bytes of one message as the pipeline does: into readings to decide about, or a dead letter.

use shared::reading::Reading;
use xxhash_rust::xxh3::xxh3_64;

use crate::payload::{self, Format};

/// One part of a received message.
pub(super) enum Received {
    /// A reading, to be decided about.
    Reading {
        reading: Box<Reading>,
        /// XXH3 of the payload.
        fingerprint: u64,
    },
    /// The message can never be processed.
    DeadLetter {
        reason: &'static str,
        detail: String,
    },
}

/// Reads one message.
pub(super) fn read(bytes: &[u8], format: &Format) -> Vec<Received> {
    let parsed =
        payload::check_size(bytes.len(), format).and_then(|()| payload::parse(bytes, format));
    vec![match parsed {
        Ok(reading) => Received::Reading {
            reading: Box::new(reading),
            fingerprint: xxh3_64(bytes),
        },
        Err(err) => Received::DeadLetter {
            reason: err.reason().code(),
            detail: err.to_string(),
        },
    }]
}

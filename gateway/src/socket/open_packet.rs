//! The first packet of a session. Pure.

use serde::{Deserialize, Serialize};

/// What is sent to the client about its session.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenPacket {
    pub(super) sid: String,
    /// The transports to which it may move.
    pub(super) upgrades: Vec<String>,
    /// In milliseconds.
    pub(super) ping_interval: u64,
    /// In milliseconds.
    pub(super) ping_timeout: u64,
    /// How many bytes the client may send at once.
    pub(super) max_payload: usize,
}

impl OpenPacket {
    /// Writes it as [`Self::parse`] reads it. `None`: it cannot be written.
    pub(super) fn to_text(&self) -> Option<String> {
        let json = serde_json::to_string(self).ok()?;
        Some(format!("0{json}"))
    }

    /// Reads `0{"sid":"…",…}`; `None` if it is something else.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        serde_json::from_slice(packet.strip_prefix(b"0")?).ok()
    }
}

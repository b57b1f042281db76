//! WebSocket frames that many clients share.

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::websocket::frame;

/// The frames of some packets, encoded for the first client that gets them.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedFrames {
    plain: OnceLock<Bytes>,
    /// For clients with which compression was agreed on.
    compressed: OnceLock<Bytes>,
}

impl SharedFrames {
    /// Returns the frames of these packets, which must always be the same.
    pub(super) fn get<'a>(
        &self,
        packets: impl Iterator<Item = (&'static str, &'a RawValue)> + Clone,
        compressed: bool,
    ) -> &Bytes {
        let frames = if compressed {
            &self.compressed
        } else {
            &self.plain
        };
        frames.get_or_init(|| frame::events(packets, compressed))
    }
}

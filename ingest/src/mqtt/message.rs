//! One message as the broker sent it.

use std::time::Instant;

use shared::store::DeadLetter;
use shared::trace::RemoteContext;

use super::ack::AckHandle;
use super::protocol::Publish;
use super::shared_ack::SharedAck;

/// One message as the broker sent it.
#[derive(Debug)]
pub(crate) struct MqttMessage {
    /// The topic it was published on, fit for a log and for a dead letter: at most [`DeadLetter::MAX_TEXT_BYTES`].
    pub(crate) topic: String,
    /// A copy of the payload: the buffer of received bytes is shared by many messages and lives as long as any of them. If the payload is
    /// too large to be processed, this is only its beginning.
    pub(crate) payload: Vec<u8>,
    /// Length of the payload that the broker sent.
    pub(crate) size_bytes: usize,
    /// Whether the broker may have sent it before.
    pub(crate) dup: bool,
    /// Whether it was published before we subscribed and the broker retained it.
    pub(crate) retain: bool,
    /// The trace context of its sender.
    pub(crate) remote_trace: Option<RemoteContext>,
    /// When it was read from the socket.
    pub(crate) received_at: Instant,
    /// To be used once the message is committed or stored as a dead letter.
    pub(crate) ack: AckHandle,
}

impl MqttMessage {
    /// Copies a packet. If the payload is longer than `max_payload_bytes`, copies only the part that a dead letter keeps.
    pub(super) fn new(publish: Publish, max_payload_bytes: usize, ack: AckHandle) -> Self {
        let size_bytes = publish.payload.len();
        let copied_bytes = if size_bytes > max_payload_bytes {
            size_bytes.min(DeadLetter::MAX_BYTES)
        } else {
            size_bytes
        };
        Self {
            topic: DeadLetter::text(&publish.topic).into_owned(),
            payload: publish.payload[..copied_bytes].to_vec(),
            size_bytes,
            dup: publish.dup,
            retain: publish.retain,
            remote_trace: publish.remote_trace,
            received_at: Instant::now(),
            ack,
        }
    }
}

impl MqttMessage {
    /// Splits its acknowledgement into this many parts, at least one. To be called once.
    pub(crate) fn split_ack(&mut self, parts: usize) -> Vec<SharedAck> {
        let ack = std::mem::replace(&mut self.ack, AckHandle::none());
        SharedAck::split(ack, parts)
    }
}

//! The reasons for which a connection ends.

use super::outbox::Overflow;

/// Why a client's connection ended. Only logs and the metric `gateway_disconnections_total` show it: the client itself
/// sees its connection close and is sent no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    // Closed by the gateway:
    /// More packets waited than `--outbox-packets`.
    OutboxPackets,
    /// More bytes waited than `--outbox-bytes`.
    OutboxBytes,
    /// An alarm waited for longer than `--alarm-deadline`.
    OutboxDeadline,
    /// The client sent commands faster than they could be carried out.
    TooManyCommands,
    /// The client sent more packets than `--packet-rate`.
    TooManyPackets,
    /// The client joined the namespace again.
    RepeatedConnect,
    /// The client's token has expired.
    TokenExpired,
    /// The client's token was revoked.
    TokenRevoked,
    /// The client's new token allows fewer devices than the one before.
    AccessNarrowed,
    /// This replica is shutting down.
    Draining,
    /// A part of the gateway failed.
    Broken,

    // Ended by the client, or seen by socketioxide:
    /// The client left the namespace.
    Client,
    /// The transport was closed.
    TransportClose,
    /// The transport failed.
    TransportError,
    /// The client did not answer a ping.
    Heartbeat,
    /// The client broke the protocol.
    Invalid,
    /// socketioxide closed the connection.
    Server,
}

impl CloseReason {
    /// Every code, in the order of the variants.
    pub(crate) const CODES: [&'static str; 17] = [
        "outbox_packets",
        "outbox_bytes",
        "outbox_deadline",
        "too_many_commands",
        "too_many_packets",
        "repeated_connect",
        "token_expired",
        "token_revoked",
        "access_narrowed",
        "draining",
        "broken",
        "client",
        "transport_close",
        "transport_error",
        "heartbeat",
        "invalid",
        "server",
    ];

    /// Returns whether the gateway ends the connection by its own decision.
    pub(crate) fn is_ours(self) -> bool {
        (self as usize) < (Self::Client as usize)
    }

    /// Returns the code in logs and metrics.
    pub(crate) fn code(self) -> &'static str {
        Self::CODES[self as usize]
    }
}

impl From<Overflow> for CloseReason {
    fn from(overflow: Overflow) -> Self {
        match overflow {
            Overflow::Packets => Self::OutboxPackets,
            Overflow::Bytes => Self::OutboxBytes,
            Overflow::Deadline => Self::OutboxDeadline,
        }
    }
}

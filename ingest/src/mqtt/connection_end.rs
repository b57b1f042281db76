//! Why a connection to the broker ended.

use std::io;

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionEnd {
    /// A stop was requested.
    #[error("a stop was requested")]
    Stopped,
    /// The broker reports that another client took our session.
    #[error("the broker reports a takeover")]
    TakenOver,
    /// The broker closed the connection without a reason.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker sent bytes that are no packet.
    #[error("the broker sent a packet that cannot be read: {0}")]
    Unreadable(String),
    /// The broker or this client refuses the other: an operator must act.
    #[error("{0}")]
    Refused(String),
    /// The connection could not be made, or was lost.
    #[error("{0}")]
    Failed(io::Error),
    /// Any other reason.
    #[error("{0}")]
    Lost(String),
}

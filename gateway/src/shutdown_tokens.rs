//! The tokens that end parts of the service one after the other.

use tokio_util::sync::CancellationToken;

/// The tokens that end parts of the service one after the other.
#[derive(Clone, Debug)]
pub(crate) struct ShutdownTokens {
    /// Cancelled to stop accepting connections.
    pub(crate) accepting: CancellationToken,
    /// Cancelled when the last client has disconnected: open connections get their last answers, and every other task ends.
    pub(crate) serving: CancellationToken,
}

//! The last export of a process, bounded in time.

use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;

use crate::error_chain::error_chain;

/// How long an exporter may take for its last export.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a process waits at its end for the last spans at most, and again for the last metrics.
pub const LAST_EXPORT: Duration = Duration::from_millis(3_500);
/// How long a process waits at its end for the last log lines to be written at most.
pub const LAST_LINES: Duration = Duration::from_secs(1);

/// Shuts an exporter down, within [`LAST_EXPORT`]. `signal` names it in the log.
///
/// A shutdown blocks. It runs on a thread of its own, because on a worker of the runtime it could wait for itself.
pub(crate) async fn shut_down(
    signal: &'static str,
    shutdown: impl FnOnce() -> OTelSdkResult + Send + 'static,
) {
    let shutdown = tokio::task::spawn_blocking(shutdown);
    let error = match tokio::time::timeout(LAST_EXPORT, shutdown).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(err))) => error_chain(&err),
        Ok(Err(err)) => error_chain(&err),
        Err(_) => "the collector did not answer in time".to_owned(),
    };
    tracing::warn!(error, "the last {signal} are lost");
}

//! The last export of a process, bounded in time.

use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;

use crate::error_chain::error_chain;

/// Time limit of an exporter's last export.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum time that a process waits at its end for the last spans, and again for the last metrics.
pub const LAST_EXPORT: Duration = Duration::from_millis(3_500);
/// Maximum time that a process waits at its end for the last log lines to be written.
pub const LAST_LINES: Duration = Duration::from_secs(1);

/// Shuts an exporter down, within [`LAST_EXPORT`]. `signal` names it in the log.
///
/// A shutdown blocks. It runs on a separate thread, because it could deadlock on a worker thread of the runtime.
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

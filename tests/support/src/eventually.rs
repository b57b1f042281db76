//! Waiting for a state instead of for a time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

/// The longest wait for anything: far above what a busy machine needs.
pub const LATE: Duration = Duration::from_mins(1);

const PAUSE: Duration = Duration::from_millis(15);

/// Calls `probe` until it succeeds, and returns its result. Fails with the last error of `probe` after [`LATE`].
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match probe().await {
            Ok(found) => return Ok(found),
            Err(err) if started.elapsed() > LATE => {
                return Err(err).with_context(|| format!("gave up waiting: {what}"));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Waits until this holds.
///
/// # Panics
/// After [`LATE`].
pub async fn holds(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let outcome = eventually(what, async || {
        ensure!(probe().await, "it does not hold");
        Ok(())
    });
    outcome.await.expect("it holds in the end");
}

//! The pace of tasks that go over all devices.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Devices in one round trip.
pub(crate) const CHUNK: usize = 50;
/// The shortest pause after a chunk.
const MIN_PAUSE: Duration = Duration::from_millis(2);

/// Leaves Redis alone for nine times as long as it was busy for us since then.
pub(crate) async fn rest_after(began: Instant) {
    rest(began.elapsed()).await;
}

/// Leaves Redis alone for nine times as long as it was busy for us.
pub(crate) async fn rest(busy: Duration) {
    sleep((busy * 9).max(MIN_PAUSE)).await;
}

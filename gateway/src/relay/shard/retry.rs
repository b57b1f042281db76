//! The pauses between attempts of a shard to reach Redis.

use std::time::Duration;

use shared::backoff::Backoff;

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause. When Redis is back, alarms wait for this.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Returns the pauses for attempts of one kind.
pub(super) fn backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, MAX_PAUSE)
}

//! Limits log lines about clients, which connect and disconnect as often as they like.

use shared::clock::SystemClock;
use shared::rate_limit::RateLimit;

static LIMIT: RateLimit = RateLimit::six_hundred_per_minute();

/// Calls `write` with the number of lines suppressed since the last one, unless this line must be suppressed too.
pub(crate) fn limited(write: impl FnOnce(u64)) {
    if let Some(suppressed) = LIMIT.allow(SystemClock::local()) {
        write(suppressed);
    }
}

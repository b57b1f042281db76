//! What happens when a limit is exceeded: it is counted, and the client is refused unless the limit is only tried out.

use std::sync::Arc;

use shared::clock::SystemClock;
use shared::rate_limit::RateLimit;

use super::caller::Caller;
use super::limit::{ALL, Limit};
use super::limit_metrics::LimitMetrics;

/// Counts and decides for every limit. Clones share the counts.
#[derive(Clone, Debug)]
pub(crate) struct Enforcement {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The limits that refuse nobody.
    tried_out: Vec<Limit>,
    metrics: Arc<LimitMetrics>,
    log_limit: RateLimit,
}

impl Enforcement {
    /// `tried_out`: settings of limits, or [`ALL`].
    pub(crate) fn new(tried_out: &[String], metrics: Arc<LimitMetrics>) -> Self {
        let all = tried_out.iter().any(|setting| setting == ALL);
        let named = |limit: &Limit| {
            tried_out
                .iter()
                .any(|s| Limit::of_setting(s) == Some(*limit))
        };
        let limits = Limit::ALL.into_iter();
        Self {
            shared: Arc::new(Shared {
                tried_out: limits.filter(|limit| all || named(limit)).collect(),
                metrics,
                log_limit: RateLimit::one_per_ten_seconds(),
            }),
        }
    }

    /// Returns whether this limit refuses nobody.
    pub(crate) fn tries_out(&self, limit: Limit) -> bool {
        self.shared.tried_out.contains(&limit)
    }

    /// Counts that somebody exceeds a limit: this caller, if it is known. Returns whether to refuse it.
    pub(crate) fn refuses(&self, limit: Limit, caller: Option<Caller>) -> bool {
        let shared = &self.shared;
        let refuses = !self.tries_out(limit);
        let (metric, action) = if refuses {
            (&shared.metrics.refused, "refused")
        } else {
            (&shared.metrics.dry_run, "dry_run")
        };
        metric.increment(limit.code());
        if let Some(suppressed) = shared.log_limit.allow(SystemClock::local()) {
            let limit = limit.code();
            let caller = caller.map(tracing::field::display);
            tracing::warn!(
                limit,
                action,
                caller,
                held_back = suppressed,
                "a client exceeds a limit"
            );
        }
        refuses
    }
}

#[cfg(test)]
mod tests;

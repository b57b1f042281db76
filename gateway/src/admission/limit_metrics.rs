//! The counter of all limits.

use shared::metrics::{LabelledCount, Meters};

use super::limit::Limit;

/// What exceeded a limit, by limit.
#[derive(Debug)]
pub(crate) struct LimitMetrics {
    pub(super) refused: LabelledCount,
    /// Would have been refused if the limit were not only tried out.
    pub(super) dry_run: LabelledCount,
}

impl LimitMetrics {
    pub(crate) fn new(meters: &Meters) -> Self {
        let [refused, dry_run] = meters.count_by_two(
            "gateway.limited",
            "What exceeded a limit, by limit. `dry_run`: it was admitted, because the limit is in \
             `--limits-dry-run`.",
            ("action", ["refused", "dry_run"]),
            ("limit", &Limit::CODES),
        );
        Self { refused, dry_run }
    }
}

//! The paths that probes and the collection of metrics request.

/// Answered as long as the process lives, even by a replica that is full.
const ALWAYS_ANSWERED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Returns whether this path must be answered as long as the process lives.
pub(crate) fn is_always_answered(path: &str) -> bool {
    ALWAYS_ANSWERED.contains(&path)
}

/// Returns whether this path is requested regularly by machines: their requests are no news.
pub(super) fn is_probe(path: &str) -> bool {
    path == "/health" || is_always_answered(path)
}

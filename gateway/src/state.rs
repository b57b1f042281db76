//! What every part of the gateway shares: handles only, nothing that could be wrong on its own.

use std::sync::Arc;

use shared::clock::Clock;
use shared::store::Store;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::status::StatusHandle;

/// Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Device state, streams and logs in Redis.
    pub store: Store,
    /// As the process was started.
    pub config: Arc<Config>,
    /// Health of the data path.
    pub status: StatusHandle,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
}

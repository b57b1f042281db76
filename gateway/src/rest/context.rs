//! What the handlers of all resources use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shared::alarm::Change;
use shared::alarm_log_lines::AlarmLogLines;
use shared::clock::{Clock, Time};
use shared::device::DeviceId;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::origins::Origins;
use crate::state::AppState;
use crate::status::StatusHandle;
use crate::store_reader::StoreReader;

/// Requests that read much (all devices, all logs) and may run at the same time. More of them wait.
const LARGE_READS: usize = 4;
/// How long such a request waits at most.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// What the handlers of all resources use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RestContext {
    pub(super) reader: StoreReader,
    pub(super) status: StatusHandle,
    pub(super) metrics: Arc<Metrics>,
    /// Alerts of one device that an answer has at most.
    pub(super) alerts_bound: usize,
    clock: Arc<dyn Clock>,
    origin_texts: Arc<[String]>,
    large_reads: Arc<Semaphore>,
    /// Number of devices, as last read.
    device_count: Arc<AtomicUsize>,
    alarm_log_lines: Arc<AlarmLogLines>,
}

impl RestContext {
    pub(super) fn new(state: AppState, origins: &Origins) -> Self {
        Self {
            reader: StoreReader {
                store: state.store,
                timeout: state.config.redis.redis_timeout,
            },
            status: state.status,
            metrics: state.metrics,
            alerts_bound: state.config.alerts_bound,
            clock: state.clock,
            origin_texts: origins.to_texts().into(),
            large_reads: Arc::new(Semaphore::new(LARGE_READS)),
            device_count: Arc::default(),
            alarm_log_lines: Arc::default(),
        }
    }

    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(super) fn is_serving(&self) -> bool {
        self.status.current().is_serving
    }

    /// The allowed origins as texts.
    pub(super) fn origin_texts(&self) -> Vec<String> {
        self.origin_texts.to_vec()
    }

    /// Remembers the number of devices for the time in which Redis does not answer.
    pub(super) fn remember_device_count(&self, count: usize) {
        self.device_count.store(count, Ordering::Relaxed);
    }

    pub(super) fn last_device_count(&self) -> usize {
        self.device_count.load(Ordering::Relaxed)
    }

    /// Waits until one more large read may run. It runs until the permit is dropped.
    pub(super) async fn begin_large_read(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        match tokio::time::timeout(MAX_WAIT, self.large_reads.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ApiError::TooSlow),
        }
    }

    /// Counts and logs alarm changes that somebody caused by a request. Only the alarm log says by whom.
    pub(super) fn record_changes(&self, device: &DeviceId, changes: &[Change]) {
        for change in changes {
            let code = change.kind.code();
            self.metrics.rest.alarm_changes.increment(code);
        }
        self.alarm_log_lines
            .log_changes(device, changes, None, self.now());
    }
}

//! The context that all REST handlers share.

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

/// Maximum number of large reads (all devices, all alarm logs) at the same time. Further ones wait.
const MAX_LARGE_READS: usize = 4;
/// Maximum time that a large read waits.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The handles and limits that all REST handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RestContext {
    pub(super) reader: StoreReader,
    pub(super) status: StatusHandle,
    pub(super) metrics: Arc<Metrics>,
    /// Maximum number of alerts of one device in an answer.
    pub(super) alerts_bound: usize,
    clock: Arc<dyn Clock>,
    origin_texts: Arc<[String]>,
    large_reads: Arc<Semaphore>,
    /// Number of devices at the last successful read.
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
            large_reads: Arc::new(Semaphore::new(MAX_LARGE_READS)),
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

    /// Returns the allowed origins as texts.
    pub(super) fn origin_texts(&self) -> Vec<String> {
        self.origin_texts.to_vec()
    }

    /// Stores the number of devices, to report it while Redis does not answer.
    pub(super) fn remember_device_count(&self, count: usize) {
        self.device_count.store(count, Ordering::Relaxed);
    }

    pub(super) fn last_device_count(&self) -> usize {
        self.device_count.load(Ordering::Relaxed)
    }

    /// Waits until one more large read may run. The caller must hold the permit until the read is done.
    pub(super) async fn begin_large_read(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        match tokio::time::timeout(MAX_WAIT, self.large_reads.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ApiError::TooSlow),
        }
    }

    /// Counts and logs alarm changes that a request caused. Only the alarm log names the person.
    pub(super) fn record_changes(&self, device: &DeviceId, changes: &[Change]) {
        for change in changes {
            let code = change.kind.code();
            self.metrics.rest.alarm_changes.increment(code);
        }
        self.alarm_log_lines
            .log_changes(device, changes, None, self.now());
    }
}

//! The context that all REST handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shared::alarm::Change;
use shared::alarm_log_lines::AlarmLogLines;
use shared::clock::{Clock, Time};
use shared::device::DeviceId;

use super::alarm_log::known_logs::KnownLogs;
use super::answers::AnswerLimits;
use super::device_list::ListSource;
use super::device_list::renderer::{self, DeviceLists, ListRenderer};
use super::redis_health::RedisHealth;
use super::site_plans::files::SitePlans;
use super::turns::Turns;
use crate::access::Access;
use crate::audit::AuditTrail;
use crate::metrics::Metrics;
use crate::origins::Origins;
use crate::state::AppState;
use crate::status::StatusHandle;
use crate::store_reader::StoreReader;

/// Maximum number of large reads (a page of devices, alarm logs, watchers) at the same time, of all addresses and of one.
/// Further ones wait.
const LARGE_READS: (usize, usize) = (4, 2);
/// The same for reads of the alerts of one device.
const ALERT_READS: (usize, usize) = (16, 4);

/// The handles and limits that all REST handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RestContext {
    pub(super) access: Access,
    pub(super) reader: StoreReader,
    pub(super) status: StatusHandle,
    pub(super) audit: AuditTrail,
    pub(super) metrics: Arc<Metrics>,
    /// Maximum number of alerts of one device in an answer.
    pub(super) alerts_bound: usize,
    pub(super) large_reads: Turns,
    pub(super) alert_reads: Turns,
    pub(super) answers: AnswerLimits,
    /// What pages of devices are rendered from.
    pub(super) list_source: ListSource,
    pub(super) device_lists: DeviceLists,
    pub(super) known_logs: KnownLogs,
    pub(super) redis_health: RedisHealth,
    pub(super) site_plans: Arc<SitePlans>,
    clock: Arc<dyn Clock>,
    origin_texts: Arc<[String]>,
    /// Number of devices at the last successful read.
    device_count: Arc<AtomicUsize>,
    alarm_log_lines: Arc<AlarmLogLines>,
}

impl RestContext {
    /// Also returns the renderer of the whole list of devices, which must run for as long as requests are answered.
    pub(super) fn new(state: AppState, origins: &Origins) -> (Self, ListRenderer) {
        let known_logs = KnownLogs::new(state.store.partitions());
        let reader = StoreReader {
            store: state.store,
            timeout: state.config.redis.redis_timeout,
        };
        let answers = AnswerLimits::new(
            state.config.answer_bytes,
            state.config.answer_time,
            state.config.answer_rate,
            Arc::clone(&state.metrics.rest),
        );
        let list_source = ListSource {
            reader: reader.clone(),
            clock: Arc::clone(&state.clock),
            limits: answers.clone(),
        };
        let (device_lists, renderer) = renderer::new(list_source.clone());
        let context = Self {
            access: state.access,
            reader,
            status: state.status,
            audit: state.audit,
            alerts_bound: state.config.alerts_bound,
            large_reads: Turns::new(LARGE_READS.0, LARGE_READS.1),
            alert_reads: Turns::new(ALERT_READS.0, ALERT_READS.1),
            answers,
            list_source,
            device_lists,
            known_logs,
            redis_health: RedisHealth::default(),
            site_plans: state.site_plans,
            metrics: state.metrics,
            clock: state.clock,
            origin_texts: origins.to_texts().into(),
            device_count: Arc::default(),
            alarm_log_lines: Arc::default(),
        };
        (context, renderer)
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

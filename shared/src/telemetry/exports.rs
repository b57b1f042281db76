//! Logs and counts failed exports: one log line when the collector stops accepting exports, and one when it accepts them again.
//!
//! The OpenTelemetry SDK itself logs every failed export: one line every few seconds while a collector is unavailable. The log
//! filter drops those lines ([`SDK_LOG_EVENTS`]).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

use crate::error_chain::error_chain;

/// Names of the log events that the SDK writes for each failed export.
pub(super) const SDK_LOG_EVENTS: [&str; 2] = [
    "BatchSpanProcessor.ExportError",
    "PeriodicReader.ExportError",
];

/// Outcomes of this process's exports of spans.
pub(super) static SPANS: Exports = Exports::of("spans");
/// Outcomes of this process's exports of metrics.
pub(super) static METRICS: Exports = Exports::of("metrics");

/// Returns the number of failed exports since the start of the process, by signal.
pub(super) fn failed_exports() -> [(&'static str, u64); 2] {
    [&SPANS, &METRICS].map(|exports| (exports.signal, exports.outage().failed))
}

/// The outcomes of the exports of one signal.
#[derive(Debug)]
pub(super) struct Exports {
    signal: &'static str,
    // A std mutex: held for a few comparisons, never across an await.
    outage: Mutex<Outage>,
}

impl Exports {
    const fn of(signal: &'static str) -> Self {
        Self {
            signal,
            outage: Mutex::new(Outage::NONE),
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, outcome: &OTelSdkResult) {
        let signal = self.signal;
        let line = self.outage().observe(outcome.is_ok(), Instant::now());
        match (line, outcome) {
            (Some(OutageLine::Began), Err(err)) => {
                let error = error_chain(err);
                tracing::warn!(error, "the collector does not accept {signal}");
            }
            (Some(OutageLine::Ended { failed }), _) => {
                tracing::info!(failed, "the collector accepts {signal} again");
            }
            _ => {}
        }
    }
}

/// Counts failed exports, and decides when a log line is written.
#[derive(Debug)]
struct Outage {
    /// Number of failed exports since the start of the process.
    failed: u64,
    /// The value of [`Self::failed`] at the last successful export.
    failed_before: u64,
    /// Whether the start of the present outage was logged.
    is_logged: bool,
    /// When the start of an outage was last logged.
    logged_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutageLine {
    Began,
    Ended { failed: u64 },
}

impl Outage {
    const NONE: Self = Self {
        failed: 0,
        failed_before: 0,
        is_logged: false,
        logged_at: None,
    };
    /// Minimum time between two logged outages. It limits the lines about a collector that accepts only some exports.
    const MIN_LOG_INTERVAL: Duration = Duration::from_mins(1);

    fn observe(&mut self, is_accepted: bool, now: Instant) -> Option<OutageLine> {
        if is_accepted {
            let failed = self.failed - self.failed_before;
            self.failed_before = self.failed;
            return std::mem::take(&mut self.is_logged).then_some(OutageLine::Ended { failed });
        }
        self.failed += 1;
        let may_log = self
            .logged_at
            .is_none_or(|at| now.saturating_duration_since(at) >= Self::MIN_LOG_INTERVAL);
        if self.is_logged || !may_log {
            return None;
        }
        self.is_logged = true;
        self.logged_at = Some(now);
        Some(OutageLine::Began)
    }
}

/// [`ObservedExporter`] gives up this much later than the wrapped exporter, whose own timeout error says more.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(200);

/// Wraps an exporter: records the outcome of every export, and limits its duration.
///
/// The exporter's own time limit starts only once the connection is open. A collector that accepts a TCP connection but never
/// answers the TLS handshake would block an export forever.
#[derive(Debug)]
pub(super) struct ObservedExporter<E> {
    exporter: E,
    exports: &'static Exports,
    limit: Duration,
    /// The SDK exports on its own threads, outside of the Tokio runtime. The timeout needs the runtime's timer.
    runtime: Handle,
}

impl<E> ObservedExporter<E> {
    /// Wraps `exporter`. Must be called inside the Tokio runtime.
    pub(super) fn new(exporter: E, exports: &'static Exports, limit: Duration) -> Self {
        Self {
            exporter,
            exports,
            limit,
            runtime: Handle::current(),
        }
    }

    async fn observe(&self, export: impl Future<Output = OTelSdkResult> + Send) -> OTelSdkResult {
        let limited = {
            let _entered = self.runtime.enter();
            tokio::time::timeout(self.limit + TIMEOUT_MARGIN, export)
        };
        let timed_out = |_| Err(OTelSdkError::Timeout(self.limit));
        let outcome = limited.await.unwrap_or_else(timed_out);
        self.exports.observe(&outcome);
        outcome
    }
}

impl<E: SpanExporter> SpanExporter for ObservedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.observe(self.exporter.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for ObservedExporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.observe(self.exporter.export(metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests;

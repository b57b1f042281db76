//! Outcomes of exports: one log line when the collector stops accepting them, one when it accepts them again, and a count.
//!
//! The library logs every failed export, one every few seconds while a collector is unavailable. The log filter leaves those lines
//! out ([`LIBRARY_LINES`]).

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

/// Names of the log events that the library writes for each failed export.
pub(super) const LIBRARY_LINES: [&str; 2] = [
    "BatchSpanProcessor.ExportError",
    "PeriodicReader.ExportError",
];

/// Exports of spans by this process.
pub(super) static SPANS: Exports = Exports::of("spans");
/// Exports of metrics by this process.
pub(super) static METRICS: Exports = Exports::of("metrics");

/// Failed exports since the start of the process, by signal.
pub(super) fn failed() -> [(&'static str, u64); 2] {
    [&SPANS, &METRICS].map(|exports| (exports.signal, exports.outage().failed))
}

/// The outcomes of the exports of one signal.
#[derive(Debug)]
pub(super) struct Exports {
    signal: &'static str,
    // A std mutex: it is held for a few comparisons.
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

/// Decides which log line an outcome causes.
#[derive(Debug)]
struct Outage {
    /// Failed exports since the start of the process.
    failed: u64,
    /// [`Self::failed`] at the end of the last outage.
    failed_before: u64,
    is_logged: bool,
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
    /// Shortest time between two logged outages: a collector that accepts only some exports causes two lines per pause.
    const PAUSE: Duration = Duration::from_mins(1);

    fn observe(&mut self, is_accepted: bool, now: Instant) -> Option<OutageLine> {
        if is_accepted {
            let failed = self.failed - self.failed_before;
            self.failed_before = self.failed;
            return std::mem::take(&mut self.is_logged).then_some(OutageLine::Ended { failed });
        }
        self.failed += 1;
        let may_log = self
            .logged_at
            .is_none_or(|at| now.saturating_duration_since(at) >= Self::PAUSE);
        if self.is_logged || !may_log {
            return None;
        }
        self.is_logged = true;
        self.logged_at = Some(now);
        Some(OutageLine::Began)
    }
}

/// How much later than the library's own limit [`ObservedExporter`] gives up: the library's error says more.
const MARGIN: Duration = Duration::from_millis(200);

/// An exporter that observes its outcomes and ends every export in time.
///
/// The library's own time limit begins with an open connection. A collector that accepts a connection and never answers the
/// TLS handshake would block an export for ever.
#[derive(Debug)]
pub(super) struct ObservedExporter<E> {
    exporter: E,
    exports: &'static Exports,
    limit: Duration,
    /// The library exports on threads of its own, which have no timer of the runtime.
    runtime: Handle,
}

impl<E> ObservedExporter<E> {
    /// Must run inside the runtime.
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
            let _timer = self.runtime.enter();
            tokio::time::timeout(self.limit + MARGIN, export)
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

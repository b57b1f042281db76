//! What became of exports: a line when the collector takes nothing any more, one when it takes again, and a count.
//!
//! The library writes a line per failed export, one every few seconds for as long as a collector is away: those are left out
//! of the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

use crate::metrics::Meters;

/// Names of the lines that the library writes of each failed export.
pub(super) const TOLD_HERE: [&str; 2] = [
    "BatchSpanProcessor.ExportError",
    "PeriodicReader.ExportError",
];

/// Exports of spans by this process.
pub(super) static SPANS: Exports = Exports::of("spans");
/// Exports of metrics by this process.
pub(super) static METRICS: Exports = Exports::of("metrics");

/// Registers the count of those that failed.
pub(super) fn tell(meters: &Meters) {
    let help = "Exports of spans or metrics that the collector did not take.";
    meters.counters("telemetry.exports.failed", help, |tell| {
        for exports in [&SPANS, &METRICS] {
            let label = opentelemetry::KeyValue::new("signal", exports.what);
            tell(exports.outage().failed, &[label]);
        }
    });
}

/// How the exports of one signal go.
#[derive(Debug)]
pub(super) struct Exports {
    what: &'static str,
    // A std mutex: held for a comparison or two.
    outage: Mutex<Outage>,
}

impl Exports {
    const fn of(what: &'static str) -> Self {
        Self {
            what,
            outage: Mutex::new(Outage::NONE),
        }
    }

    fn outage(&self) -> std::sync::MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, outcome: &OTelSdkResult) {
        let what = self.what;
        let line = self.outage().saw(outcome.is_ok(), Instant::now());
        match (line, outcome) {
            (Some(Line::Began), Err(err)) => {
                let error = crate::lines::chain(err);
                tracing::warn!(error, "the collector takes no {what}");
            }
            (Some(Line::Ended { failed }), _) => {
                tracing::info!(failed, "the collector takes {what} again");
            }
            _ => {}
        }
    }
}

/// Decides which line to write.
#[derive(Debug)]
struct Outage {
    /// Exports that failed, since the start of the process.
    failed: u64,
    /// How many of them had failed when the outage that is told began.
    before: u64,
    is_told: bool,
    told_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Began,
    Ended { failed: u64 },
}

impl Outage {
    const NONE: Self = Self {
        failed: 0,
        before: 0,
        is_told: false,
        told_at: None,
    };
    /// Between two beginnings that are told: a collector that takes now and then makes two lines in this time at most.
    const PAUSE: Duration = Duration::from_mins(1);

    fn saw(&mut self, is_taken: bool, now: Instant) -> Option<Line> {
        if is_taken {
            let failed = self.failed - self.before;
            self.before = self.failed;
            return std::mem::take(&mut self.is_told).then_some(Line::Ended { failed });
        }
        self.failed += 1;
        let may_tell = self
            .told_at
            .is_none_or(|at| now.saturating_duration_since(at) >= Self::PAUSE);
        if self.is_told || !may_tell {
            return None;
        }
        self.is_told = true;
        self.told_at = Some(now);
        Some(Line::Began)
    }
}

/// An exporter whose outcomes are seen, and which takes no longer than it may: the library's own limit begins when there is a
/// connection, and a collector that accepts one and never answers the handshake of TLS would hold it for ever.
#[derive(Debug)]
pub(super) struct Seen<E> {
    exporter: E,
    exports: &'static Exports,
    limit: Duration,
    /// Exports are made by threads of the library, which know no timer.
    runtime: Handle,
}

impl<E> Seen<E> {
    /// Must run inside the runtime.
    pub(super) fn new(exporter: E, exports: &'static Exports, limit: Duration) -> Self {
        Self {
            exporter,
            exports,
            limit,
            runtime: Handle::current(),
        }
    }

    async fn see(&self, export: impl Future<Output = OTelSdkResult> + Send) -> OTelSdkResult {
        let limited = {
            let _timer = self.runtime.enter();
            // The library's own limit, where it holds, says more.
            tokio::time::timeout(self.limit + MARGIN, export)
        };
        let timed_out = |_| Err(OTelSdkError::Timeout(self.limit));
        let outcome = limited.await.unwrap_or_else(timed_out);
        self.exports.saw(&outcome);
        outcome
    }
}

/// What the library's own limit gets to be first.
const MARGIN: Duration = Duration::from_millis(200);

impl<E: SpanExporter> SpanExporter for Seen<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.see(self.exporter.export(batch)).await
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

impl<E: PushMetricExporter> PushMetricExporter for Seen<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.see(self.exporter.export(metrics)).await
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

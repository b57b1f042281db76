//! What waits to be exported, spans and log lines, and how much of it is thrown away because nobody takes it.
//!
//! The library's own queue of spans drops, too, and tells how many when the process ends. So no more are let into it than it
//! holds.

use std::io::{self, Stdout, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::clock::SystemClock;
use crate::lines::Limit;
use crate::metrics::Meters;

/// Log lines that wait to be written: a few megabytes.
const MAX_LINES: usize = 10_000;

/// Spans of this process that wait, the batch on its way included.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static SPANS_DROPPED: AtomicU64 = AtomicU64::new(0);
static LINES_DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
static LINES_FAILED: AtomicU64 = AtomicU64::new(0);
static DROPS: Limit = Limit::rare();

/// Registers the counts of what was dropped.
pub(super) fn tell(meters: &Meters) {
    meters.counter(
        "telemetry.spans.dropped",
        "Spans thrown away because too many waited for the collector.",
        || SPANS_DROPPED.load(Ordering::Relaxed),
    );
    meters.counter(
        "telemetry.lines.dropped",
        "Log lines thrown away because nobody reads standard output, or it cannot be written.",
        || {
            let dropped = LINES_DROPPED.get().map(ErrorCounter::dropped_lines);
            dropped.unwrap_or(0) as u64 + LINES_FAILED.load(Ordering::Relaxed)
        },
    );
}

/// Standard output, written by a thread of its own: one that nobody reads must not stop the service.
pub(super) fn standard_output() -> (NonBlocking, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_LINES)
        .finish(Output(std::io::stdout()));
    // Telemetry is set up once.
    LINES_DROPPED.set(writer.error_counter()).ok();
    (writer, guard)
}

/// Standard output, each line of it written by one call. The writer's thread tells nobody of an error.
struct Output(Stdout);

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.0.write_all(line);
        if written.is_err() {
            LINES_FAILED.fetch_add(1, Ordering::Relaxed);
        }
        // One that cannot be written is over: the next may be.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A queue of so many spans in front of the exporter.
#[derive(Debug)]
pub(super) struct Queue {
    library: BatchSpanProcessor,
    places: usize,
}

impl Queue {
    pub(super) fn new(exporter: impl SpanExporter + 'static, places: usize) -> Self {
        let config = BatchConfigBuilder::default().with_max_queue_size(places);
        Self {
            library: BatchSpanProcessor::builder(Leaving(exporter))
                .with_batch_config(config.build())
                .build(),
            places,
        }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.library.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if WAITING.fetch_add(1, Ordering::Relaxed) < self.places {
            self.library.on_end(span);
            return;
        }
        WAITING.fetch_sub(1, Ordering::Relaxed);
        SPANS_DROPPED.fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = DROPS.take(SystemClock::local()) {
            tracing::warn!(
                held_back,
                "spans are dropped: too many wait for the collector"
            );
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.library.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.library.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.library.set_resource(resource);
    }
}

/// An exporter whose spans give their places free, whatever becomes of them.
#[derive(Debug)]
struct Leaving<E>(E);

impl<E: SpanExporter> SpanExporter for Leaving<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let places = batch.len();
        let outcome = self.0.export(batch).await;
        WAITING.fetch_sub(places, Ordering::Relaxed);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

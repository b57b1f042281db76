//! A bounded queue of spans in front of the exporter. It counts the spans that it drops.
//!
//! The SDK's own queue reports dropped spans only when the process ends. This queue never passes more spans to it than fit.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::clock::SystemClock;
use crate::rate_limit::RateLimit;

/// Spans of this process that wait, including the batch that is being exported.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static DROP_LINES: RateLimit = RateLimit::one_per_ten_seconds();

/// Spans dropped so far because the queue was full.
pub(super) fn dropped_spans() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Holds at most `capacity` spans. More are dropped and counted.
#[derive(Debug)]
pub(super) struct SpanQueue {
    library: BatchSpanProcessor,
    capacity: usize,
}

impl SpanQueue {
    pub(super) fn new(exporter: impl SpanExporter + 'static, capacity: usize) -> Self {
        let config = BatchConfigBuilder::default().with_max_queue_size(capacity);
        Self {
            library: BatchSpanProcessor::builder(CountingExporter(exporter))
                .with_batch_config(config.build())
                .build(),
            capacity,
        }
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.library.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if WAITING.fetch_add(1, Ordering::Relaxed) < self.capacity {
            self.library.on_end(span);
            return;
        }
        WAITING.fetch_sub(1, Ordering::Relaxed);
        DROPPED.fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = DROP_LINES.allow(SystemClock::local()) {
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

/// Makes room in the queue for as many spans as were exported, whether the export succeeded or not.
#[derive(Debug)]
struct CountingExporter<E>(E);

impl<E: SpanExporter> SpanExporter for CountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.0.export(batch).await;
        WAITING.fetch_sub(spans, Ordering::Relaxed);
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

//! Metrics of a process: one set of instruments, read at `/metrics` and, if wanted, sent to a collector.
//!
//! What is counted often is an atomic that is read when somebody asks; an instrument of the library costs a look-up in a
//! locked map. Labels are bounded by their type: constants of the code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter, MeterProvider as _};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::telemetry::{self, Exporter, FLUSH, TelemetryConfig};

/// Bounds of durations in seconds: from what a healthy path takes to what an outage does to it.
pub const SECONDS: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Media type of what [`Meters::reader`] reads.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The instruments of one service. Its metrics end with it.
#[derive(Debug)]
pub struct Meters {
    provider: SdkMeterProvider,
    registry: Registry,
    meter: Meter,
}

impl Meters {
    /// Metrics for `/metrics`, and for the collector where the telemetry goes there. Must run inside the runtime, which
    /// the exporter needs.
    ///
    /// # Errors
    /// An exporter could not be built.
    pub fn new(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<Self> {
        let exporter = match config.otel_exporter {
            Exporter::Otlp => Some(telemetry::metrics(config)?),
            Exporter::None | Exporter::Stdout => None,
        };
        let meters = Self::build(service, exporter)?;
        telemetry::tell(&meters);
        Ok(meters)
    }

    /// Metrics for `/metrics` alone.
    ///
    /// # Errors
    /// The text format could not be set up.
    pub fn local(service: &'static str) -> anyhow::Result<Self> {
        Self::build::<MetricExporter>(service, None)
    }

    fn build<E: PushMetricExporter>(
        service: &'static str,
        exporter: Option<E>,
    ) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let text = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .context("cannot set up the text format of metrics")?;
        let mut provider = SdkMeterProvider::builder()
            .with_reader(text)
            .with_resource(telemetry::resource(service));
        if let Some(exporter) = exporter {
            // Of a thread of its own: a collector that does not answer holds up nothing but the next export.
            provider = provider.with_reader(PeriodicReader::builder(exporter).build());
        }
        let provider = provider.build();
        Ok(Self {
            meter: provider.meter(service),
            provider,
            registry,
        })
    }

    /// A count since the start of the process.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.counters(name, help, move |tell| tell(read(), &[]));
    }

    /// Counts by labels, each told by one call.
    pub fn counters(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn(Tell<'_, u64>) + Send + Sync + 'static,
    ) {
        let builder = self.meter.u64_observable_counter(name);
        let builder = builder.with_description(help);
        builder.with_callback(move |to| read(&teller(to))).build();
    }

    /// Something that goes up and down.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.gauges(name, help, move |tell| tell(read(), &[]));
    }

    /// The same by labels, each told by one call; what is not told does not exist for the moment.
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn(Tell<'_, u64>) + Send + Sync + 'static,
    ) {
        let builder = self.meter.u64_observable_gauge(name);
        let builder = builder.with_description(help);
        builder.with_callback(move |to| read(&teller(to))).build();
    }

    /// An age in seconds, `None` while there is none.
    pub fn age(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let builder = self.meter.f64_observable_gauge(name);
        let builder = builder.with_description(help).with_unit("s");
        let read = move |to: &dyn AsyncInstrument<f64>| {
            if let Some(age) = read() {
                to.observe(age, &[]);
            }
        };
        builder.with_callback(read).build();
    }

    /// Durations in seconds, by [`SECONDS`].
    pub fn durations(&self, name: &'static str, help: &'static str) -> Histogram<f64> {
        let builder = self.meter.f64_histogram(name);
        let builder = builder.with_description(help).with_unit("s");
        builder.with_boundaries(SECONDS.to_vec()).build()
    }

    /// Reads the metrics in Prometheus' text format. Lives on after the meters, and tells nothing then.
    pub fn reader(&self) -> impl Fn() -> String + Clone + Send + Sync + 'static + use<> {
        let registry = self.registry.clone();
        move || {
            let mut text = Vec::new();
            if let Err(err) = TextEncoder::new().encode(&registry.gather(), &mut text) {
                let error = crate::lines::chain(&err);
                tracing::error!(error, "metrics cannot be written");
            }
            String::from_utf8_lossy(&text).into_owned()
        }
    }

    /// Sends the last counts to the collector, for at most three seconds.
    pub async fn flush(self) {
        let provider = self.provider;
        telemetry::end("metrics", move || provider.shutdown_with_timeout(FLUSH)).await;
    }
}

/// Where a value is told, with its labels.
pub type Tell<'a, T> = &'a dyn Fn(T, &[KeyValue]);

fn teller<T>(to: &dyn AsyncInstrument<T>) -> impl Fn(T, &[KeyValue]) {
    |value, labels| to.observe(value, labels)
}

/// Counts by one label whose values are constants of the code. A value that is none of them is counted as `other`, so that
/// nothing goes uncounted and the label stays bounded.
#[derive(Debug)]
pub struct Counts {
    values: &'static [&'static str],
    known: Box<[AtomicU64]>,
    other: AtomicU64,
}

impl Counts {
    /// All values at 0.
    #[must_use]
    pub fn new(values: &'static [&'static str]) -> Self {
        Self {
            values,
            known: values.iter().map(|_| AtomicU64::new(0)).collect(),
            other: AtomicU64::new(0),
        }
    }

    /// Counts one.
    pub fn add(&self, value: &str) {
        self.add_many(value, 1);
    }

    /// Counts several at once.
    pub fn add_many(&self, value: &str, count: u64) {
        let place = self.values.iter().position(|known| *known == value);
        let place = place.map_or(&self.other, |place| &self.known[place]);
        place.fetch_add(count, Ordering::Relaxed);
    }

    /// Every value with its count; `other` only if it has one.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = self.values.iter().zip(&self.known);
        let known = known.map(|(value, count)| (*value, count.load(Ordering::Relaxed)));
        let other = Some(("other", self.other.load(Ordering::Relaxed)));
        known.chain(other.filter(|(_, count)| *count > 0))
    }

    /// Tells them under this label.
    pub fn tell(&self, label: &'static str, tell: Tell<'_, u64>) {
        for (value, count) in self.read() {
            tell(count, &[KeyValue::new(label, value)]);
        }
    }
}

/// Reads one of the counters of something shared.
pub fn reading<T: Send + Sync + 'static>(
    shared: &Arc<T>,
    counter: impl Fn(&T) -> &AtomicU64 + Send + Sync + 'static,
) -> impl Fn() -> u64 + Send + Sync + 'static {
    let shared = Arc::clone(shared);
    move || counter(&shared).load(Ordering::Relaxed)
}

/// Tells one of the counts of something shared under this label.
pub fn telling<T: Send + Sync + 'static>(
    shared: &Arc<T>,
    label: &'static str,
    counts: impl Fn(&T) -> &Counts + Send + Sync + 'static,
) -> impl Fn(Tell<'_, u64>) + Send + Sync + 'static {
    let shared = Arc::clone(shared);
    move |tell| counts(&shared).tell(label, tell)
}

#[cfg(test)]
mod tests;

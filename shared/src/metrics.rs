//! Metrics of a process: one set of instruments, read at `/metrics` and, if configured, exported to a collector.
//!
//! An instrument is registered where it is created, with its name and help text. Counters are atomics that are read at
//! each export: the SDK's counters cost a look-up in a locked map. Label values are constants of the code, so their
//! number is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter, MeterProvider as _};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::error_chain::error_chain;
use crate::telemetry::config::{Exporter, TelemetryConfig};
use crate::telemetry::flush::{FLUSH_TIMEOUT, shut_down};
use crate::telemetry::otlp::metric_exporter;
use crate::telemetry::resource::resource;

/// Bucket bounds of durations in seconds, from those of normal operation to those of an outage.
pub const SECONDS: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Media type of the Prometheus text format.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Creates and registers the instruments of one service.
#[derive(Debug)]
pub struct Meters {
    provider: SdkMeterProvider,
    registry: Registry,
    meter: Meter,
}

/// Reports one value of an instrument, with its labels.
pub type Observe<'a> = &'a dyn Fn(u64, &[(&'static str, &'static str)]);

impl Meters {
    /// Creates metrics for `/metrics`, and for the collector if telemetry is exported to one. Must be called inside the Tokio
    /// runtime, which the exporter needs.
    ///
    /// # Errors
    /// An exporter could not be built.
    pub fn new(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<Self> {
        let exporter = match config.otel_exporter {
            Exporter::Otlp => Some(metric_exporter(&config.collector)?),
            Exporter::None | Exporter::Stdout => None,
        };
        Self::build(service, exporter)
    }

    /// Creates metrics for `/metrics` alone.
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
            .with_resource(resource(service));
        if let Some(exporter) = exporter {
            // The reader has a thread of its own: a collector that does not answer delays only the next export.
            provider = provider.with_reader(PeriodicReader::builder(exporter).build());
        }
        let provider = provider.build();
        Ok(Self {
            meter: provider.meter(service),
            provider,
            registry,
        })
    }

    /// Registers a counter that its owner increments.
    #[must_use]
    pub fn count(&self, name: &'static str, help: &'static str) -> Count {
        let count = Count::default();
        let read = count.clone();
        self.observed_count(name, help, move || read.get());
        count
    }

    /// Registers a counter with one label, whose possible values are given.
    #[must_use]
    pub fn count_by(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &'static [&'static str],
    ) -> LabelledCount {
        let counts = LabelledCount::new(values);
        let read = counts.clone();
        self.observed_counts(name, help, move |observe| {
            for (value, count) in read.get() {
                observe(count, &[(label, value)]);
            }
        });
        counts
    }

    /// Registers a counter with one label. Returns a [`Count`] for each of the label's values.
    #[must_use]
    pub fn count_of_each<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Count; N] {
        let counts = values.map(|_| Count::default());
        let read = counts.clone();
        self.observed_counts(name, help, move |observe| {
            for (value, count) in values.iter().zip(&read) {
                observe(count.get(), &[(label, value)]);
            }
        });
        counts
    }

    /// Registers a counter with two labels. Returns one [`LabelledCount`] for each of the first label's values.
    #[must_use]
    pub fn count_by_two<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        (outer, outer_values): (&'static str, [&'static str; N]),
        (label, values): (&'static str, &'static [&'static str]),
    ) -> [LabelledCount; N] {
        let counts = outer_values.map(|_| LabelledCount::new(values));
        let read = counts.clone();
        self.observed_counts(name, help, move |observe| {
            for (outer_value, counts) in outer_values.iter().zip(&read) {
                for (value, count) in counts.get() {
                    observe(count, &[(outer, outer_value), (label, value)]);
                }
            }
        });
        counts
    }

    /// Registers a counter whose value is read by calling a function.
    pub fn observed_count(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.observed_counts(name, help, move |observe| observe(read(), &[]));
    }

    /// Registers a counter with labels whose values are read by calling a function.
    pub fn observed_counts(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn(Observe<'_>) + Send + Sync + 'static,
    ) {
        let builder = self.meter.u64_observable_counter(name);
        let builder = builder.with_description(help);
        builder.with_callback(move |to| read(&observer(to))).build();
    }

    /// Registers a gauge: a value that goes up and down.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.gauges(name, help, move |observe| observe(read(), &[]));
    }

    /// Registers a gauge with labels. A combination of labels that is not observed is absent from the output.
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn(Observe<'_>) + Send + Sync + 'static,
    ) {
        let builder = self.meter.u64_observable_gauge(name);
        let builder = builder.with_description(help);
        builder.with_callback(move |to| read(&observer(to))).build();
    }

    /// Registers a gauge of an age in seconds; `None` leaves it out of the output.
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

    /// Registers a histogram of durations in seconds, with the buckets of [`SECONDS`].
    #[must_use]
    pub fn durations(&self, name: &'static str, help: &'static str) -> Durations {
        let builder = self.meter.f64_histogram(name);
        let builder = builder.with_description(help).with_unit("s");
        Durations(builder.with_boundaries(SECONDS.to_vec()).build())
    }

    /// Reads all metrics in Prometheus' text format. The reader may outlive the meters; after a flush it reads nothing.
    pub fn reader(&self) -> impl Fn() -> String + Clone + Send + Sync + 'static + use<> {
        let registry = self.registry.clone();
        move || {
            let mut text = Vec::new();
            if let Err(err) = TextEncoder::new().encode(&registry.gather(), &mut text) {
                let error = error_chain(&err);
                tracing::error!(error, "cannot write the metrics");
            }
            String::from_utf8_lossy(&text).into_owned()
        }
    }

    /// Exports the last values to the collector, within [`crate::telemetry::flush::LAST_EXPORT`].
    pub async fn flush(self) {
        let provider = self.provider;
        shut_down("metrics", move || {
            provider.shutdown_with_timeout(FLUSH_TIMEOUT)
        })
        .await;
    }
}

fn observer(to: &dyn AsyncInstrument<u64>) -> impl Fn(u64, &[(&'static str, &'static str)]) {
    |value, labels| {
        let labels = labels
            .iter()
            .map(|(label, value)| KeyValue::new(*label, *value));
        to.observe(value, &labels.collect::<Vec<_>>());
    }
}

/// A registered counter. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts several at once.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the count since the start of the process.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A registered counter with one label. Clones share the counts.
///
/// A label value that was not declared is counted as `other`: nothing goes uncounted and the label stays bounded.
#[derive(Clone, Debug)]
pub struct LabelledCount {
    values: &'static [&'static str],
    /// One count per value, and one for `other`.
    counts: Arc<[AtomicU64]>,
}

impl LabelledCount {
    fn new(values: &'static [&'static str]) -> Self {
        let counts = (0..=values.len()).map(|_| AtomicU64::new(0));
        Self {
            values,
            counts: counts.collect(),
        }
    }

    /// Counts one under this label value.
    pub fn increment(&self, value: &str) {
        self.add(value, 1);
    }

    /// Counts several at once under this label value.
    pub fn add(&self, value: &str, count: u64) {
        let index = self.values.iter().position(|known| *known == value);
        let index = index.unwrap_or(self.values.len());
        self.counts[index].fetch_add(count, Ordering::Relaxed);
    }

    /// Returns every label value with its count; `other` only if it was counted.
    pub fn get(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let values = self.values.iter().copied();
        let all = values.chain(["other"]).zip(counts);
        all.filter(|(value, count)| *value != "other" || *count > 0)
    }
}

/// A registered histogram of durations.
#[derive(Clone, Debug)]
pub struct Durations(Histogram<f64>);

impl Durations {
    /// Records one duration.
    pub fn record(&self, duration: Duration) {
        self.record_with(duration, &[]);
    }

    /// Records one duration with labels.
    pub fn record_with(&self, duration: Duration, labels: &[KeyValue]) {
        self.0.record(duration.as_secs_f64(), labels);
    }
}

#[cfg(test)]
mod tests;

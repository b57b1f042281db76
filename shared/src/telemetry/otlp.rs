//! Exporters of spans and metrics over OTLP.

use anyhow::Context as _;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::SpanExporter as _;

use super::collector::CollectorConfig;
use super::exports::{METRICS, ObservedExporter, SPANS};

/// Creates an exporter that sends spans to the collector.
///
/// # Errors
/// The exporter cannot be built.
pub(super) fn span_exporter(
    config: &CollectorConfig,
) -> anyhow::Result<ObservedExporter<SpanExporter>> {
    let timeout = config.traces_timeout();
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(config.traces_endpoint().as_str())
        .with_timeout(timeout)
        .build()
        .context("cannot build the exporter of spans")?;
    Ok(ObservedExporter::new(exporter, &SPANS, timeout))
}

/// Creates an exporter that sends metrics to the collector.
///
/// # Errors
/// The exporter cannot be built.
pub(crate) fn metric_exporter(
    config: &CollectorConfig,
) -> anyhow::Result<impl PushMetricExporter + use<>> {
    let timeout = config.metrics_timeout();
    let exporter = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(config.metrics_endpoint().as_str())
        .with_timeout(timeout)
        .build()
        .context("cannot build the exporter of metrics")?;
    Ok(ObservedExporter::new(exporter, &METRICS, timeout))
}

/// Exports an empty list of spans, to check that the collector accepts spans.
///
/// # Errors
/// The collector cannot be reached, or did not accept the list in time.
pub async fn export_no_spans(config: &CollectorConfig) -> anyhow::Result<()> {
    Ok(span_exporter(config)?.export(Vec::new()).await?)
}

/// Exports an empty list of metrics, to check that the collector accepts metrics.
///
/// # Errors
/// The collector cannot be reached, or did not accept the list in time.
pub async fn export_no_metrics(config: &CollectorConfig) -> anyhow::Result<()> {
    let exporter = metric_exporter(config)?;
    Ok(exporter.export(&ResourceMetrics::default()).await?)
}

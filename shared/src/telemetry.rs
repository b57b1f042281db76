//! Logs and traces of a process: set up once, flushed at the end.

mod collector;
mod exports;
mod lines;
mod queue;

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use opentelemetry::trace::{TraceContextExt, TracerProvider as _};
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracerProvider, SpanExporter as _, TracerProviderBuilder,
};
use opentelemetry_semantic_conventions::attribute::{SERVICE_INSTANCE_ID, SERVICE_NAME};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{EnvFilter, FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::metrics::Meters;
use crate::trace::{Ids, Root, Trace};
pub use collector::{Collector, Endpoint};
use exports::Seen;
use lines::Lines;
use queue::Queue;

/// Of this process alone, so that what two replicas tell is not taken for the same.
static INSTANCE: LazyLock<String> = LazyLock::new(|| {
    let mut bytes = fastrand::u128(..).to_be_bytes();
    // A random UUID, as the semantic conventions want it.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
});

/// What an exporter gets at the end of a process.
pub(crate) const FLUSH: Duration = Duration::from_secs(3);
/// What the end of a process waits at most for the last spans to leave, and once more for the last metrics.
pub const LAST_EXPORT: Duration = Duration::from_millis(3_500);
/// What it waits at most for the last log lines to be written.
pub const LAST_LINES: Duration = Duration::from_secs(1);

/// Crates the exporter itself is made of: a span of theirs would be exported, which makes more of them. And the span
/// that names a task for the logs: it would be the parent of everything the task ever does.
const NOT_EXPORTED: [&str; 7] = [
    "tonic",
    "h2",
    "hyper",
    "hyper_util",
    "tower",
    "opentelemetry",
    "shared::lifecycle",
];

/// Our crates.
const OWN: [&str; 3] = ["shared", "ingest", "gateway"];

/// Logs and traces.
#[derive(Args, Clone, Debug)]
pub struct TelemetryConfig {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,ingest=debug`
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: String,
    /// Form of the log lines on standard output; by default `text` on a terminal, else `json`
    #[arg(long, env = "LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Where spans and metrics go; `stdout` writes spans alone, one line each
    #[arg(long, env = "OTEL_EXPORTER", default_value = "none")]
    pub otel_exporter: Exporter,
    /// Where that is
    #[command(flatten)]
    pub collector: Collector,
    /// Share of the traces that is sampled, 0 to 1; every change of an alarm, error and slow message is, whatever the share
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "0.01", value_parser = ratio)]
    pub otel_traces_sampler_arg: f64,
    /// Spans that may wait for the collector; further ones are dropped and counted
    #[arg(long, env = "OTEL_BSP_MAX_QUEUE_SIZE", default_value = "2048", value_parser = places, hide = true)]
    pub otel_bsp_max_queue_size: usize,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Exporter {
    /// Nowhere; nothing is sampled.
    None,
    /// To an OpenTelemetry collector.
    Otlp,
    /// To standard output, one JSON object per span.
    Stdout,
}

fn log_level(text: &str) -> Result<String, String> {
    EnvFilter::builder()
        .parse(text)
        .map_err(|err| err.to_string())?;
    // A word that is no level would be taken for a module, and everything else left out.
    let is_level = |part: &str| {
        let is_word = !part.is_empty() && LevelFilter::from_str(part).is_ok();
        is_word || part.contains('=')
    };
    match text.split(',').find(|part| !is_level(part.trim())) {
        Some(part) => Err(format!("`{part}` is no level and no `module=level`")),
        None => Ok(text.to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "expected a number from 0 to 1")?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err("expected a number from 0 to 1".into())
    }
}

fn places(text: &str) -> Result<usize, String> {
    /// Some hundred megabytes.
    const MAX: usize = 100_000;
    let places = text
        .parse()
        .ok()
        .filter(|places| (1..=MAX).contains(places));
    places.ok_or(format!("expected a number from 1 to {MAX}"))
}

/// Registers what becomes of telemetry itself.
pub(crate) fn tell(meters: &Meters) {
    exports::tell(meters);
    queue::tell(meters);
}

/// Keeps telemetry alive. End it with [`TelemetryGuard::flush`]: dropping it exports nothing more.
#[must_use = "dropping it stops logs and traces"]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
    writer: WorkerGuard,
}

impl fmt::Debug for TelemetryGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TelemetryGuard")
    }
}

/// Sets up logs and traces of this process. Must run inside the runtime, which the exporter needs, and once.
///
/// # Errors
/// The exporter could not be built, or telemetry was set up before.
pub fn init(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<TelemetryGuard> {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let (writer, guard) = queue::standard_output();
    let filter = log_filter(&config.log_level)?;
    let places = config.otel_bsp_max_queue_size;
    let queue = match config.otel_exporter {
        Exporter::None => None,
        Exporter::Otlp => Some(Queue::new(spans_out(config)?, places)),
        Exporter::Stdout => Some(Queue::new(Lines(writer.clone()), places)),
    };
    let provider = queue.map(|queue| provider(service, config).with_span_processor(queue).build());
    if let Some(provider) = &provider {
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    let spans = provider.as_ref().map(|provider| {
        let exported = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_targets(NOT_EXPORTED.map(|target| (target, LevelFilter::OFF)));
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_filter(exported)
    });
    tracing_subscriber::registry()
        .with(lines(config.log_format, writer).with_filter(filter))
        .with(spans)
        .try_init()
        .context("cannot set up telemetry")?;
    Ok(TelemetryGuard {
        provider,
        writer: guard,
    })
}

/// Warnings to standard error, nothing else: for a command that is no service.
pub fn warnings_only() {
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .without_time()
        .with_ansi(false)
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_filter(LevelFilter::WARN);
    // An error says that somebody set up telemetry before; then that counts.
    tracing_subscriber::registry().with(lines).try_init().ok();
}

/// Sends no spans to the collector, to see whether it would take any.
///
/// # Errors
/// It cannot be reached, or did not take it in time.
pub async fn export_no_spans(config: &TelemetryConfig) -> anyhow::Result<()> {
    Ok(spans_out(config)?.export(Vec::new()).await?)
}

/// The same with metrics.
///
/// # Errors
/// The same.
pub async fn export_no_metrics(config: &TelemetryConfig) -> anyhow::Result<()> {
    let exporter = metrics(config)?;
    Ok(exporter.export(&ResourceMetrics::default()).await?)
}

/// What is logged. Spans of our own pass whatever the level, lines of a level do not: a line is told with the trace of the
/// span it is in.
fn log_filter(level: &str) -> anyhow::Result<impl Filter<Registry> + use<>> {
    let of_level = EnvFilter::builder()
        .parse(level)
        .context("cannot read the log level")?;
    let own_spans = filter_fn(|metadata| {
        let own = metadata.target().split("::").next();
        metadata.is_span() && own.is_some_and(|own| OWN.contains(&own))
    });
    let untold = filter_fn(|metadata| !exports::TOLD_HERE.contains(&metadata.name()));
    Ok(of_level
        .or(own_spans.with_max_level_hint(LevelFilter::INFO))
        .and(untold.with_max_level_hint(LevelFilter::TRACE)))
}

fn lines(format: Option<LogFormat>, writer: NonBlocking) -> Box<dyn Layer<Registry> + Send + Sync> {
    let terminal = std::io::stdout().is_terminal();
    let default = if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    match format.unwrap_or(default) {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .compact()
            .with_ansi(terminal)
            .with_writer(writer)
            .boxed(),
        LogFormat::Json => {
            let mut layer = json_subscriber::fmt::layer()
                .flatten_event(true)
                .with_writer(writer);
            let ids = layer.inner_layer_mut();
            // By the names that a line has which tells the trace of a message.
            ids.add_dynamic_field("trace_id", |_, _| Some(here()?.id().to_string()));
            ids.add_dynamic_field("span_id", |_, _| Some(here()?.span().to_string()));
            layer.boxed()
        }
    }
}

fn provider(service: &'static str, config: &TelemetryConfig) -> TracerProviderBuilder {
    let root = Root(config.otel_traces_sampler_arg);
    SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(root)))
        .with_id_generator(Ids::default())
        .with_resource(resource(service))
}

/// Who tells: what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say comes first.
pub(crate) fn resource(service: &'static str) -> Resource {
    let told = Resource::builder().build();
    let is_told = |key: &'static str| match told.get(&Key::new(key)) {
        // The library's word where nobody named the service.
        Some(value) => !value.as_str().starts_with("unknown_service"),
        None => false,
    };
    let ours = [
        (SERVICE_NAME, service),
        (SERVICE_INSTANCE_ID, INSTANCE.as_str()),
    ];
    let untold = ours.into_iter().filter(|(key, _)| !is_told(key));
    let untold = untold.map(|(key, value)| KeyValue::new(key, value));
    Resource::builder().with_attributes(untold).build()
}

fn span_exporter(config: &TelemetryConfig) -> anyhow::Result<SpanExporter> {
    SpanExporter::builder()
        .with_tonic()
        .with_endpoint(config.collector.of_traces().as_str())
        .with_timeout(config.collector.timeout_of_traces())
        .build()
        .context("cannot build the exporter of spans")
}

fn metric_exporter(config: &TelemetryConfig) -> anyhow::Result<MetricExporter> {
    MetricExporter::builder()
        .with_tonic()
        .with_endpoint(config.collector.of_metrics().as_str())
        .with_timeout(config.collector.timeout_of_metrics())
        .build()
        .context("cannot build the exporter of metrics")
}

/// Sends metrics to the collector, and sees what becomes of them.
pub(crate) fn metrics(config: &TelemetryConfig) -> anyhow::Result<impl PushMetricExporter + use<>> {
    let limit = config.collector.timeout_of_metrics();
    Ok(Seen::new(
        metric_exporter(config)?,
        &exports::METRICS,
        limit,
    ))
}

/// The same with spans.
fn spans_out(config: &TelemetryConfig) -> anyhow::Result<Seen<SpanExporter>> {
    let limit = config.collector.timeout_of_traces();
    Ok(Seen::new(span_exporter(config)?, &exports::SPANS, limit))
}

impl TelemetryGuard {
    /// Sends what was not exported yet, for at most [`LAST_EXPORT`], and writes the last log lines, for at most
    /// [`LAST_LINES`].
    pub async fn flush(self) {
        if let Some(provider) = self.provider {
            end("spans", move || provider.shutdown_with_timeout(FLUSH)).await;
        }
        // Where nobody reads them it waits for ever, and nobody waits for it: it ends with the process.
        let written = tokio::task::spawn_blocking(move || drop(self.writer));
        tokio::time::timeout(LAST_LINES, written).await.ok();
    }
}

/// Ends an exporter, for at most [`LAST_EXPORT`]. A shutdown blocks, and on a worker of the runtime it could
/// wait for itself.
pub(crate) async fn end(
    what: &'static str,
    shutdown: impl FnOnce() -> OTelSdkResult + Send + 'static,
) {
    let shutdown = tokio::task::spawn_blocking(shutdown);
    match tokio::time::timeout(LAST_EXPORT, shutdown).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(err))) => {
            let error = crate::lines::chain(&err);
            tracing::warn!(error, "last {what} are lost");
        }
        Ok(Err(err)) => {
            let error = crate::lines::chain(&err);
            tracing::warn!(error, "last {what} are lost");
        }
        Err(_) => tracing::warn!("last {what} are lost: the collector did not answer in time"),
    }
}

/// Where a span stands; `None` where no trace is wanted.
#[must_use]
pub fn of_span(span: &tracing::Span) -> Option<Trace> {
    Trace::of(span.context().span().span_context())
}

/// Where the current span stands; `None` where no trace is wanted.
#[must_use]
pub fn here() -> Option<Trace> {
    of_span(&tracing::Span::current())
}

#[cfg(test)]
mod tests;

//! Logs and traces of a process: set up once when it starts, flushed when it ends.

pub mod collector;
pub mod config;
mod exports;
pub mod flush;
pub(crate) mod otlp;
pub(crate) mod resource;
mod span_lines;
mod span_queue;
mod stdout;

use std::fmt;
use std::io::IsTerminal;

use anyhow::Context as _;
use opentelemetry::trace::{TraceContextExt, TracerProvider as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, TracerProviderBuilder};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{EnvFilter, FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use self::config::{Exporter, LogFormat, TelemetryConfig};
use self::flush::{FLUSH_TIMEOUT, LAST_LINES};
use self::span_lines::SpanLines;
use self::span_queue::SpanQueue;
use crate::metrics::Meters;
use crate::trace::{PresetIds, RootSampler, TraceContext};

pub use self::otlp::{export_no_metrics, export_no_spans};

/// Spans of these targets are not exported. The crates are those the exporter is made of: exporting their spans would create
/// more of them. The last target names a task for the logs; as a span it would be the parent of everything the task does.
const NOT_EXPORTED: [&str; 7] = [
    "tonic",
    "h2",
    "hyper",
    "hyper_util",
    "tower",
    "opentelemetry",
    "shared::lifecycle",
];

/// The crates of this project.
const OWN_CRATES: [&str; 3] = ["shared", "ingest", "gateway"];

/// Registers the counts of lost telemetry.
pub fn register_metrics(meters: &Meters) {
    meters.observed_counts(
        "telemetry.exports.failed",
        "Exports of spans or metrics that the collector did not accept.",
        |observe| {
            for (signal, failed) in exports::failed_exports() {
                observe(failed, &[("signal", signal)]);
            }
        },
    );
    meters.observed_count(
        "telemetry.spans.dropped",
        "Spans dropped because the queue for the collector was full.",
        span_queue::dropped_spans,
    );
    meters.observed_count(
        "telemetry.lines.dropped",
        "Log lines dropped because standard output is not read or cannot be written.",
        stdout::lost_lines,
    );
}

/// Keeps telemetry running. End it with [`TelemetryGuard::flush`]: dropping it loses spans that were not exported yet.
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

/// Sets up logs and traces of this process. Must be called once, inside the runtime, which the exporter needs.
///
/// # Errors
/// The exporter could not be built, or telemetry was set up before.
pub fn init(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<TelemetryGuard> {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let (writer, guard) = stdout::open();
    let filter = log_filter(&config.log_level)?;
    let capacity = config.otel_bsp_max_queue_size;
    let queue = match config.otel_exporter {
        Exporter::None => None,
        Exporter::Otlp => {
            let exporter = otlp::span_exporter(&config.collector)?;
            Some(SpanQueue::new(exporter, capacity))
        }
        Exporter::Stdout => Some(SpanQueue::new(SpanLines(writer.clone()), capacity)),
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
        .with(log_layer(config.log_format, writer).with_filter(filter))
        .with(spans)
        .try_init()
        .context("cannot set up telemetry")?;
    Ok(TelemetryGuard {
        provider,
        writer: guard,
    })
}

/// Logs warnings to standard error and nothing else, for commands that run once and exit.
pub fn log_warnings_to_stderr() {
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .without_time()
        .with_ansi(false)
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_filter(LevelFilter::WARN);
    // Fails only if telemetry was set up before. Then that one stays.
    tracing_subscriber::registry().with(lines).try_init().ok();
}

/// Filters log lines by level. Spans of our own crates always pass, since a line carries the trace of its span.
fn log_filter(level: &str) -> anyhow::Result<impl Filter<Registry> + use<>> {
    let of_level = EnvFilter::builder()
        .parse(level)
        .context("cannot read the log level")?;
    let own_spans = filter_fn(|metadata| {
        let crate_name = metadata.target().split("::").next();
        metadata.is_span() && crate_name.is_some_and(|name| OWN_CRATES.contains(&name))
    });
    let without_sdk_events =
        filter_fn(|metadata| !exports::SDK_LOG_EVENTS.contains(&metadata.name()));
    Ok(of_level
        .or(own_spans.with_max_level_hint(LevelFilter::INFO))
        .and(without_sdk_events.with_max_level_hint(LevelFilter::TRACE)))
}

fn log_layer(
    format: Option<LogFormat>,
    writer: NonBlocking,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let is_terminal = std::io::stdout().is_terminal();
    let default = if is_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    match format.unwrap_or(default) {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .compact()
            .with_ansi(is_terminal)
            .with_writer(writer)
            .boxed(),
        LogFormat::Json => {
            let mut layer = json_subscriber::fmt::layer()
                .flatten_event(true)
                .with_writer(writer);
            let ids = layer.inner_layer_mut();
            // The same field names as in lines that carry the trace of a message.
            ids.add_dynamic_field("trace_id", |_, _| {
                Some(current_trace()?.trace_id().to_string())
            });
            ids.add_dynamic_field("span_id", |_, _| {
                Some(current_trace()?.span_id().to_string())
            });
            layer.boxed()
        }
    }
}

fn provider(service: &'static str, config: &TelemetryConfig) -> TracerProviderBuilder {
    let root = RootSampler(config.otel_traces_sampler_arg);
    SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(root)))
        .with_id_generator(PresetIds::default())
        .with_resource(resource::resource(service))
}

impl TelemetryGuard {
    /// Exports the last spans, for at most [`flush::LAST_EXPORT`], then writes the last log lines, for at most
    /// [`LAST_LINES`].
    pub async fn flush(self) {
        if let Some(provider) = self.provider {
            flush::shut_down("spans", move || {
                provider.shutdown_with_timeout(FLUSH_TIMEOUT)
            })
            .await;
        }
        // If standard output is not read, the writer blocks forever. Then its thread ends with the process.
        let drop_writer = tokio::task::spawn_blocking(move || drop(self.writer));
        tokio::time::timeout(LAST_LINES, drop_writer).await.ok();
    }
}

/// Returns the trace context of a span; `None` if no trace is recorded.
#[must_use]
pub fn trace_of(span: &tracing::Span) -> Option<TraceContext> {
    TraceContext::from_span_context(span.context().span().span_context())
}

/// Returns the trace context of the current span; `None` if no trace is recorded.
#[must_use]
pub fn current_trace() -> Option<TraceContext> {
    trace_of(&tracing::Span::current())
}

#[cfg(test)]
mod tests;

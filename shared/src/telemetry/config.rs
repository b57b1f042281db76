//! Settings for logs, traces and exported metrics.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::EnvFilter;

use super::collector::CollectorConfig;

/// Logs, traces and exported metrics.
#[derive(Args, Clone, Debug)]
pub struct TelemetryConfig {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,ingest=debug`
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: String,
    /// Format of the log lines on standard output; by default `text` on a terminal, else `json`
    #[arg(long, env = "LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Where spans and metrics go; `stdout` writes spans alone, one line each
    #[arg(long, env = "OTEL_EXPORTER", default_value = "none")]
    pub otel_exporter: Exporter,
    /// Address and timeouts of the collector
    #[command(flatten)]
    pub collector: CollectorConfig,
    /// Share of traces that is sampled, 0 to 1; alarm changes, errors and slow messages are always sampled
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "0.01", value_parser = ratio)]
    pub otel_traces_sampler_arg: f64,
    /// Number of spans that may wait for the collector; more are dropped and counted
    #[arg(long, env = "OTEL_BSP_MAX_QUEUE_SIZE", default_value = "2048", value_parser = queue_size, hide = true)]
    pub otel_bsp_max_queue_size: usize,
}

/// Format of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Exporter {
    /// Nowhere. No trace is sampled.
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
    // The filter would accept any word as a module name, and then log only that module.
    let is_level = |part: &str| {
        let is_word = !part.is_empty() && LevelFilter::from_str(part).is_ok();
        is_word || part.contains('=')
    };
    match text.split(',').find(|part| !is_level(part.trim())) {
        Some(part) => Err(format!("`{part}` is neither a level nor `module=level`")),
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

fn queue_size(text: &str) -> Result<usize, String> {
    /// Maximum number of spans in the queue. They take a few hundred megabytes of memory.
    const MAX: usize = 100_000;
    let size = text.parse().ok().filter(|size| (1..=MAX).contains(size));
    size.ok_or(format!("expected a number from 1 to {MAX}"))
}

#[cfg(test)]
mod tests;

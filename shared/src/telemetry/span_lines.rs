//! Writes spans as lines of JSON to standard output, for use without a collector.

use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde_json::{Map, Value, json};
use tracing_appender::non_blocking::NonBlocking;

/// Writes spans through the writer of the log. It never blocks: lines that do not fit into its queue are dropped and counted.
pub(super) struct SpanLines(pub(super) NonBlocking);

impl fmt::Debug for SpanLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpanLines")
    }
}

impl SpanExporter for SpanLines {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut writer = self.0.clone();
        for span in &batch {
            // One write per line, so that no log line is written in between. This writer never returns an error.
            let line = format!("{}\n", line(span));
            writer.write_all(line.as_bytes()).ok();
        }
        Ok(())
    }
}

fn line(span: &SpanData) -> Value {
    let attributes = span.attributes.iter();
    let attributes: Map<String, Value> = attributes
        .map(|pair| (pair.key.to_string(), pair.value.as_str().into()))
        .collect();
    let time = |time: SystemTime| Timestamp::try_from(time).map(|time| time.to_string()).ok();
    let links = span
        .links
        .iter()
        .map(|link| link.span_context.trace_id().to_string());
    json!({
        "span": span.name,
        "kind": format!("{:?}", span.span_kind).to_lowercase(),
        "trace_id": span.span_context.trace_id().to_string(),
        "span_id": span.span_context.span_id().to_string(),
        "parent_span_id": span.parent_span_id.to_string(),
        "start": time(span.start_time),
        "end": time(span.end_time),
        "status": format!("{:?}", span.status),
        "attributes": attributes,
        "links": links.collect::<Vec<_>>(),
    })
}

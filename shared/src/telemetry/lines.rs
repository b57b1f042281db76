//! Spans as lines of JSON on standard output: for a look without a collector.

use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde_json::{Map, Value, json};
use tracing_appender::non_blocking::NonBlocking;

/// Writes what the log's writer writes to, and like it never waits.
pub(super) struct Lines(pub(super) NonBlocking);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl SpanExporter for Lines {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut writer = self.0.clone();
        for span in &batch {
            // In one piece, so that no log line comes in between. The writer takes everything; what its queue has no room for
            // is left out, as log lines are.
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

//! The spans of events: each a child of its commit, where that is told, and else told where it was late or unreadable.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry::{Context, KeyValue};
use opentelemetry_semantic_conventions::attribute::{
    DEVICE_ID, ERROR_TYPE, MESSAGING_DESTINATION_TEMPLATE, MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
};
use shared::clock::Clock;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::keys::CHANNEL_TEMPLATE;
use shared::rate_limit::RateLimit;
use shared::trace::{CompletedSpan, SLOW, SpanRecorder};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::replay::Published;

/// Tells the ways of events.
pub(super) struct Spans {
    pub(super) traces: SpanRecorder,
    pub(super) clock: Arc<dyn Clock>,
    /// After an outage everything is late, for one reason: as many as somebody may look at. Those of a trace that is told
    /// are told all.
    pub(super) late: RateLimit,
}

impl Spans {
    /// The way of this event to its clients, from now until the span is dropped.
    pub(super) fn begin(&self, event: &Published, device: &DeviceId) -> Span {
        let traceparent = event.traceparent.as_deref();
        if let Some(traceparent) = traceparent.filter(|text| text.ends_with("-01")) {
            return child(traceparent, device);
        }
        let now = self.clock.now();
        let took = u64::try_from(now.millis_since(event.at)).unwrap_or(0);
        let took = Duration::from_millis(took);
        if took > SLOW && self.late.allow(now).is_some() {
            self.tell(device, took, None);
        }
        Span::none()
    }

    /// An event could not be read.
    pub(super) fn unreadable(&self, device: &DeviceId) {
        self.tell(device, Duration::ZERO, Some("unreadable"));
    }

    fn tell(&self, device: &DeviceId, took: Duration, error: Option<&'static str>) {
        let Some(trace) = self.traces.begin(None) else {
            return;
        };
        let mut attributes = vec![
            KeyValue::new(MESSAGING_SYSTEM, "redis"),
            KeyValue::new(MESSAGING_OPERATION_NAME, "process"),
            KeyValue::new(MESSAGING_OPERATION_TYPE, "process"),
            KeyValue::new(MESSAGING_DESTINATION_TEMPLATE, CHANNEL_TEMPLATE),
            KeyValue::new(DEVICE_ID, device.to_string()),
        ];
        attributes.extend(error.map(|error| KeyValue::new(ERROR_TYPE, error)));
        self.traces.record(CompletedSpan {
            trace: trace.sampled(),
            remote: None,
            links: &[],
            name: format!("process {CHANNEL_TEMPLATE}").into(),
            kind: SpanKind::Consumer,
            took,
            attributes,
            error: error.map(str::to_owned),
        });
    }
}

fn child(traceparent: &str, device: &DeviceId) -> Span {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let parent: Context =
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&carrier));
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {CHANNEL_TEMPLATE}"),
        otel.kind = "consumer",
        { MESSAGING_SYSTEM } = "redis",
        { MESSAGING_OPERATION_NAME } = "process",
        { MESSAGING_OPERATION_TYPE } = "process",
        { MESSAGING_DESTINATION_TEMPLATE } = CHANNEL_TEMPLATE,
        { DEVICE_ID } = %device,
    );
    if let Err(error) = span.set_parent(parent) {
        tracing::debug!(error = error_chain(&error), "trace cannot be continued");
    }
    span
}

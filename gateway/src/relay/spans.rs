//! Spans for the processing of published events. If the commit of an event was sampled, the event's span is a child of the
//! commit's span. Otherwise an event gets a span only if it is late or unreadable, and that span starts a new trace.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry::{Context, KeyValue};
use opentelemetry_semantic_conventions::attribute::{
    DEVICE_ID, ERROR_TYPE, MESSAGING_DESTINATION_TEMPLATE, MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::keys::CHANNEL_TEMPLATE;
use shared::rate_limit::RateLimit;
use shared::trace::{CompletedSpan, SLOW, SpanRecorder};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::replay::PublishedEvent;

/// Records the spans of events.
pub(super) struct EventSpans {
    recorder: SpanRecorder,
    /// Limits the spans of late events, since an outage makes every event late. Does not apply to sampled commits.
    late_spans: RateLimit,
}

impl EventSpans {
    pub(super) fn new(recorder: SpanRecorder) -> Self {
        Self {
            recorder,
            late_spans: RateLimit::six_hundred_per_minute(),
        }
    }

    /// Records a span of an event that is late at this time, unless its commit was sampled: then it has a span already.
    pub(super) fn record_if_late(&self, event: &PublishedEvent, device: &DeviceId, now: Time) {
        let delay = now.duration_since(event.at);
        if delay > SLOW && sampled(event).is_none() && self.late_spans.allow(now).is_some() {
            self.record(device, delay, None);
        }
    }

    /// Records that an event of this device could not be read.
    pub(super) fn record_unreadable(&self, device: &DeviceId) {
        self.record(device, Duration::ZERO, Some("unreadable"));
    }

    fn record(&self, device: &DeviceId, took: Duration, error: Option<&'static str>) {
        let Some(trace) = self.recorder.begin(None) else {
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
        self.recorder.record(CompletedSpan {
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

/// If the commit of this event was sampled, returns the event's span, which ends when it is dropped. Otherwise returns a disabled
/// span.
pub(super) fn begin(event: &PublishedEvent, device: &DeviceId) -> Span {
    sampled(event).map_or_else(Span::none, |traceparent| child(traceparent, device))
}

/// Returns the trace of the event's commit, if the commit was sampled.
fn sampled(event: &PublishedEvent) -> Option<&str> {
    let traceparent = event.traceparent.as_deref();
    // `-01` are the W3C trace flags of a sampled trace.
    traceparent.filter(|text| text.ends_with("-01"))
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
        tracing::debug!(error = error_chain(&error), "cannot join the remote trace");
    }
    span
}

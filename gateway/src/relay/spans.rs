//! The spans of events: each a child of its commit, where that is told, and else told where it was late or unreadable.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry::{Context, KeyValue};
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, MESSAGING_DESTINATION_TEMPLATE, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::keys::CHANNEL_TEMPLATE;
use shared::lines::chain;
use shared::trace::{DEVICE_ID, Done, Traces};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::replay::Published;

/// Whether its trace is told.
pub(super) fn is_sampled(event: &Published) -> bool {
    let traceparent = event.traceparent.as_deref();
    traceparent.is_some_and(|text| text.ends_with("-01"))
}

/// How long ago this was; 0 for what is yet to come.
pub(super) fn age(now: Time, of: Time) -> Duration {
    Duration::from_millis(u64::try_from(now.millis_since(of)).unwrap_or(0))
}

/// Tells an event that was late or could not be read, and whose trace is not told.
pub(super) fn tell(
    traces: &Traces,
    device: &DeviceId,
    took: Duration,
    error: Option<&'static str>,
) {
    let Some(trace) = traces.begin(None) else {
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
    traces.tell(Done {
        trace: trace.sampled(),
        origin: None,
        links: &[],
        name: format!("process {CHANNEL_TEMPLATE}").into(),
        kind: SpanKind::Consumer,
        took,
        attributes,
        error: error.map(str::to_owned),
    });
}

/// The span of one event's way to its clients: a child of its commit, only where that was sampled.
pub(super) fn of(event: &Published, device: &DeviceId) -> Span {
    let Some(traceparent) = event.traceparent.as_deref().filter(|_| is_sampled(event)) else {
        return Span::none();
    };
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
        tracing::debug!(error = chain(&error), "trace cannot be continued");
    }
    span
}

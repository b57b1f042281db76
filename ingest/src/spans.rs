//! The spans of this service. They are built when something is done, and only where they are sampled: a share, and every
//! change of an alarm, error and slow message.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_semantic_conventions::attribute::{
    DB_OPERATION_BATCH_SIZE, DB_OPERATION_NAME, DB_SYSTEM_NAME, DEVICE_ID, ERROR_TYPE,
    MESSAGING_CLIENT_ID, MESSAGING_DESTINATION_NAME, MESSAGING_DESTINATION_TEMPLATE,
    MESSAGING_MESSAGE_BODY_SIZE, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
};
use shared::apply::{Applied, Work, sampled_if_alarm_changed};
use shared::store::StoreError;
use shared::trace::{CompletedSpan, MAX_LINKS, SLOW, SpanRecorder, TraceContext};

use crate::mqtt::message::MqttMessage;

/// Transitions of alarms; the conventions know no attribute for them.
const ALARM_CHANGES: &str = "alarm.changes";

/// Tells what was done. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    pub(crate) recorder: SpanRecorder,
    /// What is subscribed to: the template of all topics.
    pub(crate) template: Arc<str>,
    pub(crate) client_id: Arc<str>,
}

impl Spans {
    /// A message was committed.
    pub(crate) fn committed(
        &self,
        message: &MqttMessage,
        trace: Option<TraceContext>,
        applied: &Applied,
        took: Duration,
    ) {
        let Some(trace) = trace.map(|trace| sampled_if_alarm_changed(trace, &applied.decision))
        else {
            return;
        };
        let trace = if took > SLOW { trace.sampled() } else { trace };
        if trace.is_sampled() {
            let mut attributes = self.of_message(message);
            let latest = applied.decision.state.latest.as_ref();
            if let Some(latest) = latest {
                let device = latest.reading.device.to_string();
                attributes.push(KeyValue::new(DEVICE_ID, device));
            }
            attributes.push(changes(applied));
            self.tell_message(message, trace, attributes, took, None);
        }
    }

    /// A message became a dead letter.
    pub(crate) fn rejected(
        &self,
        message: &MqttMessage,
        trace: Option<TraceContext>,
        reason: &'static str,
    ) {
        let Some(trace) = trace else {
            return;
        };
        let mut attributes = self.of_message(message);
        attributes.push(KeyValue::new(ERROR_TYPE, reason));
        let took = message.received_at.elapsed();
        let error = Some(reason.to_owned());
        self.tell_message(message, trace.sampled(), attributes, took, error);
    }

    /// A batch was committed, with these messages in it; told where one of them is, or where it was slow.
    pub(crate) fn batch(
        &self,
        traces: &[Option<TraceContext>],
        results: &[Result<Applied, StoreError>],
        took: Duration,
    ) {
        let told = traces.iter().zip(results).filter_map(|(trace, result)| {
            let trace = (*trace)?;
            let decision = result.as_ref().ok().map(|applied| &applied.decision);
            let trace =
                decision.map_or(trace, |decision| sampled_if_alarm_changed(trace, decision));
            trace.is_sampled().then_some(trace)
        });
        let links: Vec<TraceContext> = told.take(MAX_LINKS).collect();
        if !links.is_empty() || took > SLOW {
            self.call(traces.len(), &links, took, None);
        }
    }

    /// Redis did not take a batch.
    pub(crate) fn not_committed(
        &self,
        traces: &[Option<TraceContext>],
        err: &StoreError,
        took: Duration,
    ) {
        let links: Vec<TraceContext> = traces.iter().flatten().copied().take(MAX_LINKS).collect();
        self.call(traces.len(), &links, took, Some(err.to_string()));
    }

    fn call(&self, messages: usize, links: &[TraceContext], took: Duration, error: Option<String>) {
        let Some(trace) = self.recorder.begin(None) else {
            return;
        };
        let mut attributes = vec![
            KeyValue::new(DB_SYSTEM_NAME, "redis"),
            KeyValue::new(DB_OPERATION_NAME, "EVALSHA"),
        ];
        if let (2.., Ok(size)) = (messages, i64::try_from(messages)) {
            attributes.push(KeyValue::new(DB_OPERATION_BATCH_SIZE, size));
        }
        if error.is_some() {
            attributes.push(KeyValue::new(ERROR_TYPE, "not_committed"));
        }
        self.recorder.record(CompletedSpan {
            trace: trace.sampled(),
            remote: None,
            links,
            name: "EVALSHA".into(),
            kind: SpanKind::Client,
            took,
            attributes,
            error,
        });
    }

    /// A deadline was looked at.
    pub(crate) fn deadline(&self, item: &Work<'_>, applied: &Applied, took: Duration) {
        let Some(trace) = item
            .trace
            .map(|trace| sampled_if_alarm_changed(trace, &applied.decision))
        else {
            return;
        };
        let trace = if took > SLOW { trace.sampled() } else { trace };
        if trace.is_sampled() {
            self.tell_deadline(item, trace, changes(applied), took, None);
        }
    }

    /// What a deadline asks for cannot be written.
    pub(crate) fn deadline_refused(&self, item: &Work<'_>, err: &StoreError, took: Duration) {
        let Some(trace) = item.trace.map(TraceContext::sampled) else {
            return;
        };
        let error = KeyValue::new(ERROR_TYPE, err.code());
        self.tell_deadline(item, trace, error, took, Some(err.to_string()));
    }

    fn tell_deadline(
        &self,
        item: &Work<'_>,
        trace: TraceContext,
        outcome: KeyValue,
        took: Duration,
        error: Option<String>,
    ) {
        self.recorder.record(CompletedSpan {
            trace,
            remote: None,
            links: &[],
            name: "deadline".into(),
            kind: SpanKind::Internal,
            took,
            attributes: vec![KeyValue::new(DEVICE_ID, item.device.to_string()), outcome],
            error,
        });
    }

    fn tell_message(
        &self,
        message: &MqttMessage,
        trace: TraceContext,
        attributes: Vec<KeyValue>,
        took: Duration,
        error: Option<String>,
    ) {
        self.recorder.record(CompletedSpan {
            trace,
            remote: message.remote_trace.as_ref(),
            links: &[],
            name: format!("process {}", self.template).into(),
            kind: SpanKind::Consumer,
            took,
            attributes,
            error,
        });
    }

    fn of_message(&self, message: &MqttMessage) -> Vec<KeyValue> {
        vec![
            KeyValue::new(MESSAGING_SYSTEM, "mqtt"),
            KeyValue::new(MESSAGING_OPERATION_NAME, "process"),
            KeyValue::new(MESSAGING_OPERATION_TYPE, "process"),
            KeyValue::new(MESSAGING_DESTINATION_TEMPLATE, self.template.to_string()),
            KeyValue::new(MESSAGING_DESTINATION_NAME, message.topic.clone()),
            KeyValue::new(MESSAGING_CLIENT_ID, self.client_id.to_string()),
            KeyValue::new(
                MESSAGING_MESSAGE_BODY_SIZE,
                i64::try_from(message.size_bytes).unwrap_or(i64::MAX),
            ),
        ]
    }
}

fn changes(applied: &Applied) -> KeyValue {
    let changes = applied.decision.changes.iter();
    let words: Vec<&str> = changes.map(|change| change.kind.code()).collect();
    KeyValue::new(ALARM_CHANGES, words.join(","))
}

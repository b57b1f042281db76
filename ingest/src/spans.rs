//! The trace spans of this service. A span is built when its work is done, and only if it is sampled: a share of all, and
//! every alarm change, error and slow message.

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

use crate::dead_letter_reason::DeadLetterReason;
use crate::mqtt::message::MqttMessage;

/// Attribute with the alarm changes; the semantic conventions have none for them.
const ALARM_CHANGES: &str = "alarm.changes";

/// Records the spans. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    pub(crate) recorder: SpanRecorder,
    /// The topic filters: the template of all topics.
    pub(crate) template: Arc<str>,
    pub(crate) client_id: Arc<str>,
}

impl Spans {
    /// Records a message that was committed.
    pub(crate) fn committed(
        &self,
        message: &MqttMessage,
        trace: Option<TraceContext>,
        applied: &Applied,
        duration: Duration,
    ) {
        let Some(trace) = sampled_if_notable(trace, applied, duration) else {
            return;
        };
        let mut attributes = self.message_attributes(message);
        if let Some(latest) = &applied.decision.state.latest {
            let device = latest.reading.device.to_string();
            attributes.push(KeyValue::new(DEVICE_ID, device));
        }
        attributes.push(alarm_changes(applied));
        self.record_message(message, trace, attributes, duration, None);
    }

    /// Records a message that became a dead letter.
    pub(crate) fn dead_letter(
        &self,
        message: &MqttMessage,
        trace: Option<TraceContext>,
        reason: DeadLetterReason,
    ) {
        let Some(trace) = trace else {
            return;
        };
        let mut attributes = self.message_attributes(message);
        attributes.push(KeyValue::new(ERROR_TYPE, reason.code()));
        let duration = message.received_at.elapsed();
        let error = Some(reason.code().to_owned());
        self.record_message(message, trace.sampled(), attributes, duration, error);
    }

    /// Records the commit of a batch, linked to its messages, if one of them is sampled or the commit was slow.
    pub(crate) fn batch(
        &self,
        traces: &[Option<TraceContext>],
        results: &[Result<Applied, StoreError>],
        duration: Duration,
    ) {
        let sampled = traces.iter().zip(results).filter_map(|(trace, result)| {
            let trace = (*trace)?;
            let decision = result.as_ref().ok().map(|applied| &applied.decision);
            let trace =
                decision.map_or(trace, |decision| sampled_if_alarm_changed(trace, decision));
            trace.is_sampled().then_some(trace)
        });
        let links: Vec<TraceContext> = sampled.take(MAX_LINKS).collect();
        if !links.is_empty() || duration > SLOW {
            self.record_commit(traces.len(), &links, duration, None);
        }
    }

    /// Records a commit that Redis did not confirm.
    pub(crate) fn not_committed(
        &self,
        traces: &[Option<TraceContext>],
        err: &StoreError,
        duration: Duration,
    ) {
        let links: Vec<TraceContext> = traces.iter().flatten().copied().take(MAX_LINKS).collect();
        self.record_commit(traces.len(), &links, duration, Some(err.to_string()));
    }

    /// Records a deadline that was evaluated.
    pub(crate) fn deadline(&self, work: &Work<'_>, applied: &Applied, duration: Duration) {
        if let Some(trace) = sampled_if_notable(work.trace, applied, duration) {
            self.record_deadline(work, trace, alarm_changes(applied), duration, None);
        }
    }

    /// Records a deadline that cannot be evaluated or committed.
    pub(crate) fn deadline_refused(&self, work: &Work<'_>, err: &StoreError, duration: Duration) {
        let Some(trace) = work.trace.map(TraceContext::sampled) else {
            return;
        };
        let error = KeyValue::new(ERROR_TYPE, err.code());
        self.record_deadline(work, trace, error, duration, Some(err.to_string()));
    }

    fn record_commit(
        &self,
        messages: usize,
        links: &[TraceContext],
        duration: Duration,
        error: Option<String>,
    ) {
        let Some(trace) = self.recorder.begin(None) else {
            return;
        };
        let mut attributes = vec![
            KeyValue::new(DB_SYSTEM_NAME, "redis"),
            KeyValue::new(DB_OPERATION_NAME, "EVALSHA"),
        ];
        // The semantic conventions ask for a batch size only if it is 2 or more.
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
            took: duration,
            attributes,
            error,
        });
    }

    fn record_deadline(
        &self,
        work: &Work<'_>,
        trace: TraceContext,
        outcome: KeyValue,
        duration: Duration,
        error: Option<String>,
    ) {
        self.recorder.record(CompletedSpan {
            trace,
            remote: None,
            links: &[],
            name: "deadline".into(),
            kind: SpanKind::Internal,
            took: duration,
            attributes: vec![KeyValue::new(DEVICE_ID, work.device.to_string()), outcome],
            error,
        });
    }

    fn record_message(
        &self,
        message: &MqttMessage,
        trace: TraceContext,
        attributes: Vec<KeyValue>,
        duration: Duration,
        error: Option<String>,
    ) {
        self.recorder.record(CompletedSpan {
            trace,
            remote: message.remote_trace.as_ref(),
            links: &[],
            name: format!("process {}", self.template).into(),
            kind: SpanKind::Consumer,
            took: duration,
            attributes,
            error,
        });
    }

    fn message_attributes(&self, message: &MqttMessage) -> Vec<KeyValue> {
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

/// Returns the trace if its span must be recorded: it is sampled, its work changed an alarm, or its work was slow.
fn sampled_if_notable(
    trace: Option<TraceContext>,
    applied: &Applied,
    duration: Duration,
) -> Option<TraceContext> {
    let trace = sampled_if_alarm_changed(trace?, &applied.decision);
    let trace = if duration > SLOW {
        trace.sampled()
    } else {
        trace
    };
    trace.is_sampled().then_some(trace)
}

fn alarm_changes(applied: &Applied) -> KeyValue {
    let changes = applied.decision.changes.iter();
    let codes: Vec<&str> = changes.map(|change| change.kind.code()).collect();
    KeyValue::new(ALARM_CHANGES, codes.join(","))
}

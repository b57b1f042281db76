//! Processes received messages. Takes a batch from the queue and splits it into rounds with at most one message per device.
//! Commits each round in one Redis round trip. Acknowledges a message only once it is committed or stored as a dead letter.
//!
//! Memory bounds: a batch of `batch_max` messages here, two receive windows in the queue before it, and the fingerprints of the
//! last four receive windows.

mod committed_fingerprints;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use shared::apply::{self, Applied, ApplyConfig, Cause, Work};
use shared::backoff::Backoff;
use shared::decide::{Message, Outcome};
use shared::lifecycle::Lifecycle;
use shared::order::Class;
use shared::reading::Reading;
use shared::store::{DeadLetter, Store, StoreError};
use shared::trace::{SLOW, TraceContext};
use tokio::sync::mpsc::Receiver;
use xxhash_rust::xxh3::xxh3_64;

use self::committed_fingerprints::CommittedFingerprints;
use crate::dead_letter_reason::DeadLetterReason;
use crate::log_lines::LogLines;
use crate::metrics::Metrics;
use crate::mqtt::message::MqttMessage;
use crate::payload::{self, Format};
use crate::spans::Spans;

/// The task that processes messages.
pub(crate) struct Pipeline {
    pub(crate) store: Store,
    pub(crate) apply_config: ApplyConfig,
    pub(crate) format: Format,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether messages of unknown devices are accepted.
    pub(crate) accept_new_devices: Arc<AtomicBool>,
    pub(crate) batch_max: usize,
    /// Maximum number of unacknowledged messages (MQTT Receive Maximum).
    pub(crate) receive_maximum: usize,
    pub(crate) dead_letters_max: u64,
    pub(crate) live_raw_message: bool,
    pub(crate) spans: Spans,
    pub(crate) log_lines: Arc<LogLines>,
}

/// A message whose payload is a reading.
struct ParsedMessage {
    message: MqttMessage,
    reading: Reading,
    /// XXH3 of the payload.
    fingerprint: u64,
    /// Whether an earlier commit of this message got no answer from Redis, and may have been carried out.
    in_doubt: bool,
    trace: Option<TraceContext>,
}

impl ParsedMessage {
    /// Samples the trace if the message is already slow. This happens before the decision, so that the event carries the
    /// sampled trace to the gateways.
    fn sample_if_slow(&mut self) {
        if self.message.received_at.elapsed() > SLOW {
            self.trace = self.trace.map(TraceContext::sampled);
        }
    }
}

/// A message that can never be processed.
struct RejectedMessage {
    message: MqttMessage,
    trace: Option<TraceContext>,
    reason: DeadLetterReason,
    detail: String,
}

impl Pipeline {
    /// Runs until the queue is closed and empty, or the drain period is over.
    pub(crate) async fn run(
        self,
        mut queue: Receiver<MqttMessage>,
        lifecycle: Lifecycle,
    ) -> anyhow::Result<()> {
        // Twice the number of messages that can be received and not acknowledged at one time.
        let mut committed = CommittedFingerprints::new(4 * self.receive_maximum);
        loop {
            let first = tokio::select! {
                () = lifecycle.hard().cancelled() => return Ok(()),
                message = queue.recv() => match message {
                    Some(message) => message,
                    None => return Ok(()),
                },
            };
            let mut batch = vec![first];
            while batch.len() < self.batch_max
                && let Ok(message) = queue.try_recv()
            {
                batch.push(message);
            }
            let (parsed, rejected) = self.parse(batch);
            // Only the hard token may cancel this, even during a commit: an unfinished message is not acknowledged.
            let work = async {
                self.dead_letter(rejected).await;
                self.commit(parsed, &mut committed).await;
            };
            tokio::select! {
                () = lifecycle.hard().cancelled() => return Ok(()),
                () = work => {}
            }
        }
    }

    fn parse(&self, batch: Vec<MqttMessage>) -> (VecDeque<ParsedMessage>, Vec<RejectedMessage>) {
        let mut messages = VecDeque::with_capacity(batch.len());
        let mut rejected = Vec::new();
        for message in batch {
            let trace = self.spans.recorder.begin(message.remote_trace.as_ref());
            let parsed = payload::check_size(message.size_bytes, &self.format)
                .and_then(|()| payload::parse(&message.payload, &self.format));
            match parsed {
                Ok(reading) => messages.push_back(ParsedMessage {
                    fingerprint: xxh3_64(&message.payload),
                    trace,
                    message,
                    reading,
                    in_doubt: false,
                }),
                Err(err) => rejected.push(RejectedMessage {
                    message,
                    trace,
                    reason: err.reason(),
                    detail: err.to_string(),
                }),
            }
        }
        (messages, rejected)
    }

    /// Commits all messages. Retries for as long as Redis is unavailable.
    async fn commit(
        &self,
        mut messages: VecDeque<ParsedMessage>,
        committed: &mut CommittedFingerprints,
    ) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        while !messages.is_empty() {
            messages = self.acknowledge_repeats(messages, committed);
            let (mut round, later) = one_per_device(messages);
            messages = later;
            for item in &mut round {
                item.sample_if_slow();
            }
            let results = self.commit_round(&round).await;
            let mut rejected = Vec::new();
            let mut unfinished = Vec::new();
            let mut failure = None;
            for (mut item, result) in round.into_iter().zip(results) {
                match result {
                    Ok(applied) => {
                        self.record(&item, &applied);
                        committed.insert(item.fingerprint);
                        item.message.ack.done();
                    }
                    Err(err) if err.is_transient() => {
                        item.in_doubt |= err.is_in_doubt();
                        unfinished.push(item);
                        failure = Some(err);
                    }
                    Err(err) => rejected.push(RejectedMessage {
                        message: item.message,
                        trace: item.trace,
                        reason: match err {
                            StoreError::TooManyDevices => DeadLetterReason::TooManyDevices,
                            _ => DeadLetterReason::CommitFailed,
                        },
                        detail: err.to_string(),
                    }),
                }
            }
            self.dead_letter(rejected).await;
            // Return them to the front, so that the messages of a device stay in order.
            for item in unfinished.into_iter().rev() {
                messages.push_front(item);
            }
            if let Some(err) = failure {
                self.record_failure(&err);
                tokio::time::sleep(backoff.pause()).await;
            } else {
                backoff.reset();
            }
        }
    }

    /// Acknowledges the redelivered messages that this process has already committed, and returns the others. A redelivery
    /// contains nothing new. It does not even show that the device is alive.
    fn acknowledge_repeats(
        &self,
        messages: VecDeque<ParsedMessage>,
        committed: &CommittedFingerprints,
    ) -> VecDeque<ParsedMessage> {
        let mut others = VecDeque::with_capacity(messages.len());
        for item in messages {
            if item.message.dup && committed.contains(item.fingerprint) {
                self.metrics.committed.increment();
                self.metrics.duplicates.increment();
                item.message.ack.done();
            } else {
                others.push_back(item);
            }
        }
        others
    }

    async fn commit_round(&self, round: &[ParsedMessage]) -> Vec<Result<Applied, StoreError>> {
        let work: Vec<Work<'_>> = round.iter().map(|item| self.work(item)).collect();
        let apply_config = ApplyConfig {
            accept_new: self.accept_new_devices.load(Ordering::Relaxed),
            ..self.apply_config.clone()
        };
        let start = Instant::now();
        let results = apply::apply(&self.store, &work, &apply_config).await;
        let duration = start.elapsed();
        let traces: Vec<Option<TraceContext>> = round.iter().map(|item| item.trace).collect();
        let mut errors = results.iter().filter_map(|result| result.as_ref().err());
        if let Some(err) = errors.find(|err| err.is_transient()) {
            self.spans.not_committed(&traces, err, duration);
        } else {
            self.metrics.commit_duration.record(duration);
            self.spans.batch(&traces, &results, duration);
        }
        results
    }

    fn work<'a>(&self, item: &'a ParsedMessage) -> Work<'a> {
        let live_raw_message = self
            .live_raw_message
            .then(|| serde_json::from_slice::<&RawValue>(&item.message.payload).ok())
            .flatten();
        Work {
            device: item.reading.device.clone(),
            cause: Cause::Message {
                message: Message {
                    reading: item.reading.clone(),
                    fingerprint: item.fingerprint,
                    dup: item.message.dup || item.in_doubt,
                    retain: item.message.retain,
                    live_raw_message,
                },
                raw: &item.message.payload,
            },
            trace: item.trace,
        }
    }

    /// Stores messages as dead letters, and acknowledges them. Retries for as long as Redis is unavailable.
    async fn dead_letter(&self, rejected: Vec<RejectedMessage>) {
        if rejected.is_empty() {
            return;
        }
        for item in &rejected {
            self.record_rejection(item);
        }
        let letters: Vec<DeadLetter<'_>> = rejected
            .iter()
            .map(|item| DeadLetter {
                reason: item.reason.code(),
                detail: &item.detail,
                topic: &item.message.topic,
                payload: &item.message.payload,
                size: item.message.size_bytes,
            })
            .collect();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        while let Err(err) = self
            .store
            .dead_letter(&letters, self.dead_letters_max)
            .await
        {
            self.record_failure(&err);
            tokio::time::sleep(backoff.pause()).await;
        }
        for item in rejected {
            item.message.ack.done();
        }
    }

    /// Records metrics, span and log lines of a committed message.
    fn record(&self, item: &ParsedMessage, applied: &Applied) {
        let duration = item.message.received_at.elapsed();
        self.spans
            .committed(&item.message, item.trace, applied, duration);
        let changes = &applied.decision.changes;
        let now = self.store.clock().now();
        let device = &item.reading.device;
        self.log_lines
            .alarms
            .log_changes(device, changes, item.trace, now);
        let metrics = &self.metrics;
        metrics.message_duration.record(duration);
        metrics.committed.increment();
        metrics.conflicts.add(u64::from(applied.conflicts));
        metrics.count_changes(changes);
        match applied.decision.outcome {
            Outcome::Message(Class::Duplicate | Class::Ignored) => {
                metrics.duplicates.increment();
            }
            Outcome::Message(Class::Late) => {
                metrics.late.increment();
            }
            _ => {}
        }
    }

    /// Records metrics, span and log line of a message that becomes a dead letter.
    fn record_rejection(&self, item: &RejectedMessage) {
        let RejectedMessage {
            message,
            trace,
            reason,
            detail,
        } = item;
        self.metrics.count_dead_letter(*reason);
        self.spans.dead_letter(message, *trace, *reason);
        let now = self.store.clock().now();
        self.log_lines
            .dead_letter(*reason, detail, &message.topic, *trace, now);
    }

    fn record_failure(&self, err: &StoreError) {
        self.metrics.failures.increment();
        self.log_lines.not_committed(err, self.store.clock().now());
    }
}

/// Separates the first message of each device from the later ones, which wait for the next round.
fn one_per_device(
    messages: VecDeque<ParsedMessage>,
) -> (Vec<ParsedMessage>, VecDeque<ParsedMessage>) {
    let mut devices = HashSet::new();
    let mut round = Vec::new();
    let mut later = VecDeque::new();
    for item in messages {
        if devices.insert(item.reading.device.clone()) {
            round.push(item);
        } else {
            later.push_back(item);
        }
    }
    (round, later)
}

//! Takes what waits, decides one message of a device at a time, commits many devices in one round trip, and
//! acknowledges only what is committed.
//!
//! Bound: at most `batch_max` messages are in hand here, at most two receive windows wait before it, and the fingerprints
//! of four are remembered.

mod recent;

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

use self::recent::Recent;
use crate::log_lines::LogLines;
use crate::metrics::Metrics;
use crate::mqtt::message::MqttMessage;
use crate::payload::{self, Format};
use crate::spans::Spans;

/// What the pipeline works with.
pub(crate) struct Pipeline {
    pub(crate) store: Store,
    pub(crate) apply_config: ApplyConfig,
    pub(crate) format: Format,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether devices that were never heard of are still taken.
    pub(crate) accept_new_devices: Arc<AtomicBool>,
    pub(crate) batch_max: usize,
    /// What the broker may send before the first of it is acknowledged.
    pub(crate) receive_maximum: usize,
    pub(crate) dead_letters_max: u64,
    pub(crate) live_raw_message: bool,
    pub(crate) spans: Spans,
    pub(crate) log_lines: Arc<LogLines>,
}

/// A message in hand.
struct InHand {
    message: MqttMessage,
    reading: Reading,
    fingerprint: u64,
    /// Whether a commit of it may already have happened.
    second_try: bool,
    trace: Option<TraceContext>,
}

impl InHand {
    /// What is late before it is decided is told all the way to its clients.
    fn tell_if_slow(&mut self) {
        if self.message.received_at.elapsed() > SLOW {
            self.trace = self.trace.map(TraceContext::sampled);
        }
    }
}

/// A message that can never be processed.
struct Rejected {
    message: MqttMessage,
    trace: Option<TraceContext>,
    reason: &'static str,
    detail: String,
}

impl Pipeline {
    /// Runs until the queue is closed and empty, or the process must end at once.
    pub(crate) async fn run(
        self,
        mut incoming: Receiver<MqttMessage>,
        lifecycle: Lifecycle,
    ) -> anyhow::Result<()> {
        // What can have been in hand, twice over.
        let mut recent = Recent::new(4 * self.receive_maximum);
        loop {
            let first = tokio::select! {
                () = lifecycle.hard().cancelled() => return Ok(()),
                message = incoming.recv() => match message {
                    Some(message) => message,
                    None => return Ok(()),
                },
            };
            let mut batch = vec![first];
            while batch.len() < self.batch_max
                && let Ok(message) = incoming.try_recv()
            {
                batch.push(message);
            }
            let (in_hand, rejected) = self.parse(batch);
            // Not cancelled in the middle of a commit: what is left undone at the hard end was never acknowledged.
            let work = async {
                self.dead_letter(rejected).await;
                self.commit(in_hand, &mut recent).await;
            };
            tokio::select! {
                () = lifecycle.hard().cancelled() => return Ok(()),
                () = work => {}
            }
        }
    }

    fn parse(&self, batch: Vec<MqttMessage>) -> (VecDeque<InHand>, Vec<Rejected>) {
        let mut in_hand = VecDeque::with_capacity(batch.len());
        let mut rejected = Vec::new();
        for message in batch {
            let trace = self.spans.recorder.begin(message.remote_trace.as_ref());
            let parsed = payload::check_size(message.size_bytes, &self.format)
                .and_then(|()| payload::parse(&message.payload, &self.format));
            match parsed {
                Ok(reading) => in_hand.push_back(InHand {
                    fingerprint: xxh3_64(&message.payload),
                    trace,
                    message,
                    reading,
                    second_try: false,
                }),
                Err(err) => rejected.push(Rejected {
                    message,
                    trace,
                    reason: err.code(),
                    detail: err.to_string(),
                }),
            }
        }
        (in_hand, rejected)
    }

    /// Commits everything in hand, however long Redis is away.
    async fn commit(&self, mut in_hand: VecDeque<InHand>, recent: &mut Recent) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        while !in_hand.is_empty() {
            in_hand = self.without_repeats(in_hand, recent);
            let (mut round, later) = one_per_device(in_hand);
            in_hand = later;
            for item in &mut round {
                item.tell_if_slow();
            }
            let results = self.commit_round(&round).await;
            let mut refused = Vec::new();
            let mut again = Vec::new();
            let mut failure = None;
            for (mut item, result) in round.into_iter().zip(results) {
                match result {
                    Ok(applied) => {
                        self.tell(&item, &applied);
                        recent.remember(item.fingerprint);
                        item.message.ack.done();
                    }
                    Err(err) if err.is_passing() => {
                        item.second_try = true;
                        again.push(item);
                        failure = Some(err);
                    }
                    Err(err) => refused.push(Rejected {
                        message: item.message,
                        trace: item.trace,
                        reason: match err {
                            StoreError::TooManyDevices => "too_many_devices",
                            _ => "commit_failed",
                        },
                        detail: err.to_string(),
                    }),
                }
            }
            self.dead_letter(refused).await;
            // Back to the front: order within a device is kept.
            for item in again.into_iter().rev() {
                in_hand.push_front(item);
            }
            if let Some(err) = failure {
                self.not_taken(&err);
                tokio::time::sleep(backoff.pause()).await;
            } else {
                backoff.reset();
            }
        }
    }

    /// Redis did not take what it was given.
    fn not_taken(&self, err: &StoreError) {
        self.metrics.failures.increment();
        self.log_lines.not_committed(err, self.store.clock().now());
    }

    /// Acknowledges what the broker sends again although this process has committed it: it says nothing new, and nothing of
    /// whether the device is alive.
    fn without_repeats(&self, in_hand: VecDeque<InHand>, recent: &Recent) -> VecDeque<InHand> {
        let is_repeat = |item: &InHand| item.message.dup && recent.contains(item.fingerprint);
        let mut rest = VecDeque::with_capacity(in_hand.len());
        for item in in_hand {
            if is_repeat(&item) {
                self.metrics.committed.increment();
                self.metrics.duplicates.increment();
                item.message.ack.done();
            } else {
                rest.push_back(item);
            }
        }
        rest
    }

    async fn commit_round(&self, round: &[InHand]) -> Vec<Result<Applied, StoreError>> {
        let work: Vec<Work<'_>> = round.iter().map(|item| self.work(item)).collect();
        let apply_config = ApplyConfig {
            accept_new: self.accept_new_devices.load(Ordering::Relaxed),
            ..self.apply_config.clone()
        };
        let began = Instant::now();
        let results = apply::apply(&self.store, &work, &apply_config).await;
        let took = began.elapsed();
        let traces: Vec<Option<TraceContext>> = round.iter().map(|item| item.trace).collect();
        let mut errors = results.iter().filter_map(|result| result.as_ref().err());
        if let Some(err) = errors.find(|err| err.is_passing()) {
            self.spans.not_committed(&traces, err, took);
        } else {
            self.metrics.commit_duration.record(took);
            self.spans.batch(&traces, &results, took);
        }
        results
    }

    fn work<'a>(&self, item: &'a InHand) -> Work<'a> {
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
                    dup: item.message.dup || item.second_try,
                    retain: item.message.retain,
                    live_raw_message,
                },
                raw: &item.message.payload,
            },
            trace: item.trace,
        }
    }

    /// Keeps what can never be processed, however long Redis is away, and acknowledges it.
    async fn dead_letter(&self, rejected: Vec<Rejected>) {
        if rejected.is_empty() {
            return;
        }
        for letter in &rejected {
            self.metrics.rejected.increment(letter.reason);
            self.spans
                .rejected(&letter.message, letter.trace, letter.reason);
            let now = self.store.clock().now();
            let (topic, detail) = (&letter.message.topic, &letter.detail);
            self.log_lines
                .rejected(letter.reason, detail, topic, letter.trace, now);
        }
        let letters: Vec<DeadLetter<'_>> = rejected
            .iter()
            .map(|letter| DeadLetter {
                reason: letter.reason,
                detail: &letter.detail,
                topic: &letter.message.topic,
                payload: &letter.message.payload,
                size: letter.message.size_bytes,
            })
            .collect();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        while let Err(err) = self
            .store
            .dead_letter(&letters, self.dead_letters_max)
            .await
        {
            self.not_taken(&err);
            tokio::time::sleep(backoff.pause()).await;
        }
        for letter in rejected {
            letter.message.ack.done();
        }
    }

    /// Metrics, span and log line of a message that was committed.
    fn tell(&self, item: &InHand, applied: &Applied) {
        let took = item.message.received_at.elapsed();
        self.spans
            .committed(&item.message, item.trace, applied, took);
        let changes = &applied.decision.changes;
        let now = self.store.clock().now();
        let device = &item.reading.device;
        self.log_lines
            .alarms
            .log_changes(device, changes, item.trace, now);
        let metrics = &self.metrics;
        metrics.message_duration.record(took);
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
}

/// Splits off the first message of every device; the others wait for the next round.
fn one_per_device(in_hand: VecDeque<InHand>) -> (Vec<InHand>, VecDeque<InHand>) {
    let mut devices = HashSet::new();
    let mut round = Vec::new();
    let mut later = VecDeque::new();
    for item in in_hand {
        if devices.insert(item.reading.device.clone()) {
            round.push(item);
        } else {
            later.push_back(item);
        }
    }
    (round, later)
}

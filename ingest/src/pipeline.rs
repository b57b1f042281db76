//! Processes received messages. Takes a batch from the queue and sorts it by device. Decides the items of a device in a row and
//! commits them at once, all devices in one Redis round trip. So a device that sends much delays the others by the time it takes to
//! decide its items, and not by a round trip for each. Acknowledges a message only once all its items are committed or stored as
//! dead letters.
//!
//! Nearly every message is one item: one reading. A payload with several objects has an item for each of them. A payload that
//! cannot be read, but names its detector, is a dead letter first, and then an item without a value.
//!
//! Under load a second batch is parsed and decided while Redis carries out the first. It begins only if it has no device of the first, so
//! that the messages of a device are committed in their order.
//!
//! Memory bounds: two batches here, two receive windows in the queue before them, and as many fingerprints as sixteen receive
//! windows have messages. No message is added to a batch that has items of `batch_max` devices, or as many items as half a receive window
//! has messages. So it has at most those and the items of one further message, which has no more items than serials with their key fit
//! into its payload.

mod batch;
pub(crate) mod committed_fingerprints;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use shared::apply::{self, Applied, ApplyConfig, Cause, Work};
use shared::backoff::Backoff;
use shared::decide::{Message, Outcome};
use shared::device::DeviceId;
use shared::lifecycle::Lifecycle;
use shared::order::Class;
use shared::reading::Repair;
use shared::store::{DeadLetter, RawPayload, Store, StoreError};
use shared::trace::TraceContext;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use self::batch::{Batch, OwnItem, ParsedMessage, RejectedMessage, by_device};
use self::committed_fingerprints::CommittedFingerprints;
use crate::heartbeat::LastHeartbeat;
use crate::log_lines::LogLines;
use crate::metrics::Metrics;
use crate::mqtt::message::MqttMessage;
use crate::mqtt::shared_ack::SharedAck;
use crate::payload::{self, Format, Item, ItemContent};
use crate::spans::Spans;

/// Batches that are committed at the same time: while Redis carries out one, the next is parsed and decided.
const MAX_UNDER_WAY: usize = 2;
/// While a batch is under way, another one begins only if so many messages wait. Otherwise more come together for one commit.
const WORTH_OVERLAPPING: usize = 64;

/// The task that processes messages.
pub(crate) struct Pipeline {
    pub(crate) store: Store,
    pub(crate) apply_config: ApplyConfig,
    pub(crate) format: Format,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) heartbeat: watch::Receiver<LastHeartbeat>,
    pub(crate) batch_max: usize,
    /// Maximum number of unacknowledged messages (MQTT Receive Maximum).
    pub(crate) receive_maximum: usize,
    pub(crate) dead_letters_max: u64,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) live_raw_message: bool,
    pub(crate) spans: Spans,
    pub(crate) log_lines: Arc<LogLines>,
}

/// What is recorded of received messages, where an operator wants it.
pub(crate) struct Recorder {
    /// How many payloads are kept.
    pub(crate) max: u64,
    /// The settings of the rules, as the settings line of a replay file.
    pub(crate) settings: String,
}

impl Pipeline {
    /// Runs until the queue is closed and empty, or the drain period is over.
    pub(crate) async fn run(
        self,
        mut queue: Receiver<MqttMessage>,
        lifecycle: Lifecycle,
    ) -> anyhow::Result<()> {
        // Until Redis has answered, it is not known whether an earlier release is at work.
        let mut heartbeat = self.heartbeat.clone();
        tokio::select! {
            () = lifecycle.hard().cancelled() => return Ok(()),
            _ = heartbeat.wait_for(|last| last.earlier_rules_at_work.is_some()) => {}
        }
        let committed = Mutex::new(CommittedFingerprints::new(self.receive_maximum));
        let mut under_way = FuturesUnordered::new();
        // The devices of each batch under way.
        let mut devices: Vec<(u64, HashSet<DeviceId>)> = Vec::new();
        for number in 0.. {
            let batch = loop {
                let is_full = under_way.len() >= MAX_UNDER_WAY || queue.len() < WORTH_OVERLAPPING;
                let may_begin = under_way.is_empty() || !is_full;
                tokio::select! {
                    biased;
                    () = lifecycle.hard().cancelled() => return Ok(()),
                    Some(finished) = under_way.next() => devices.retain(|(number, _)| *number != finished),
                    message = queue.recv(), if may_begin => break message.map(|first| self.next_batch(first, &mut queue)),
                }
            };
            let is_free = |batch: &Batch, devices: &[(u64, HashSet<DeviceId>)]| {
                let mut others = devices.iter();
                others.all(|(_, devices)| devices.is_disjoint(&batch.devices))
            };
            // The messages of a device are committed one after the other. After the last batch, all must be finished.
            while batch
                .as_ref()
                .map_or(!under_way.is_empty(), |batch| !is_free(batch, &devices))
            {
                // Only the hard token may cancel this, even during a commit: an unfinished message is not acknowledged.
                tokio::select! {
                    () = lifecycle.hard().cancelled() => return Ok(()),
                    Some(finished) = under_way.next() => devices.retain(|(number, _)| *number != finished),
                }
            }
            let Some(mut batch) = batch else {
                break;
            };
            devices.push((number, std::mem::take(&mut batch.devices)));
            under_way.push(self.process(number, batch, &committed));
        }
        Ok(())
    }

    /// Takes what waits in the queue.
    fn next_batch(&self, first: MqttMessage, queue: &mut Receiver<MqttMessage>) -> Batch {
        let max_items = self.receive_maximum.div_ceil(MAX_UNDER_WAY);
        let mut batch = Batch::default();
        self.parse(first, &mut batch);
        while batch.devices.len() < self.batch_max
            && batch.len() < max_items
            && let Ok(message) = queue.try_recv()
        {
            self.parse(message, &mut batch);
        }
        batch
    }

    /// Commits a batch. Returns its number.
    async fn process(
        &self,
        number: u64,
        batch: Batch,
        committed: &Mutex<CommittedFingerprints>,
    ) -> u64 {
        self.record_raw(batch.recording).await;
        self.dead_letter(batch.rejected, committed).await;
        self.commit(batch.parsed, committed).await;
        number
    }

    /// Returns a message as it arrived, if an operator wants it recorded.
    fn recording(&self, message: &MqttMessage) -> Option<RawPayload> {
        self.recorder.as_ref().map(|_| RawPayload {
            arrived: self.store.clock().now(),
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            size: message.size_bytes,
            retain: message.retain,
            dup: message.dup,
        })
    }

    /// Records messages as they arrived. Only a recording depends on it, so a failure is logged and leaves a gap.
    async fn record_raw(&self, payloads: Vec<RawPayload>) {
        let Some(recorder) = &self.recorder else {
            return;
        };
        let result = self
            .store
            .record_raw(&payloads, recorder.max, &recorder.settings)
            .await;
        if let Err(err) = result {
            self.log_lines.not_recorded(&err, self.store.clock().now());
        }
    }

    /// Parses a message, and adds its items to a batch.
    fn parse(&self, mut message: MqttMessage, batch: &mut Batch) {
        batch.recording.extend(self.recording(&message));
        let trace = self.spans.recorder.begin(message.remote_trace.as_ref());
        let items = payload::read_received(&message.payload, message.size_bytes, &self.format);
        let is_part = items.len() > 1;
        let items: Vec<OwnItem> = items
            .into_iter()
            .map(|item| {
                self.record_repair(&item);
                OwnItem::of(item, is_part)
            })
            .collect();
        let acks = message.split_ack(items.iter().map(OwnItem::parts).sum());
        batch.add(&Arc::new(message), items, acks, trace);
    }

    /// Commits all messages. Retries for as long as Redis is unavailable.
    async fn commit(
        &self,
        mut messages: VecDeque<ParsedMessage>,
        committed: &Mutex<CommittedFingerprints>,
    ) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        while !messages.is_empty() {
            messages = self.acknowledge_repeats(messages, committed);
            let (mut round, later) = by_device(messages);
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
                        let device = &item.reading.device;
                        finish(item.ack, Some(device), item.message_fingerprint, committed);
                    }
                    Err(err) if err.is_transient() => {
                        item.in_doubt |= err.is_in_doubt();
                        unfinished.push(item);
                        failure = Some(err);
                    }
                    // The dead letter has been stored before.
                    Err(err) if item.is_dead_letter => {
                        self.record_refused_danger(&item, &err);
                        let device = &item.reading.device;
                        finish(item.ack, Some(device), item.message_fingerprint, committed);
                    }
                    Err(err) => {
                        self.record_refused_danger(&item, &err);
                        rejected.push(item.rejected(&err));
                    }
                }
            }
            self.dead_letter(rejected, committed).await;
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

    /// Acknowledges the redelivered messages that this process has already committed as a whole, and returns the others. A redelivery
    /// contains nothing new. It does not even show that the device is alive.
    fn acknowledge_repeats(
        &self,
        messages: VecDeque<ParsedMessage>,
        committed: &Mutex<CommittedFingerprints>,
    ) -> VecDeque<ParsedMessage> {
        let mut others = VecDeque::with_capacity(messages.len());
        for item in messages {
            if item.message.dup && lock(committed).contains(item.message_fingerprint) {
                self.metrics.committed.increment();
                self.metrics.duplicates.increment();
                item.ack.done();
            } else {
                others.push_back(item);
            }
        }
        others
    }

    async fn commit_round(&self, round: &[ParsedMessage]) -> Vec<Result<Applied, StoreError>> {
        let work: Vec<Work<'_>> = round.iter().map(|item| self.work(item)).collect();
        let mut apply_config = self.apply_config.clone();
        apply_config.settings.earlier_release_at_work = self
            .heartbeat
            .borrow()
            .earlier_rules_at_work
            .unwrap_or(true);
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
        let raw = item.json.as_ref().unwrap_or(&item.message.payload);
        // Events are stored too. While Redis is full no payload is.
        let live_raw_message = (self.live_raw_message && self.store.full().is_none())
            .then(|| serde_json::from_slice::<&RawValue>(raw).ok())
            .flatten();
        Work {
            device: item.reading.device.clone(),
            cause: Cause::Message {
                message: Message {
                    reading: Arc::clone(&item.reading),
                    facts: item.facts.clone(),
                    fingerprint: item.fingerprint,
                    dup: item.message.dup || item.in_doubt,
                    retain: item.message.retain,
                    live_raw_message,
                },
                raw,
            },
            trace: item.trace,
        }
    }

    /// Stores messages as dead letters, and acknowledges them. Retries for as long as Redis is unavailable.
    async fn dead_letter(
        &self,
        rejected: Vec<RejectedMessage>,
        committed: &Mutex<CommittedFingerprints>,
    ) {
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
                payload: item.part.as_ref().unwrap_or(&item.message.payload),
                size: item.part.as_ref().map_or(item.message.size_bytes, Vec::len),
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
            // Most name no device. They have one share together.
            finish(item.ack, None, item.message_fingerprint, committed);
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
        metrics.log_folded.add(u64::from(applied.decision.folded));
        match applied.decision.outcome {
            Outcome::Message(Class::Duplicate | Class::Repeated | Class::Ignored) => {
                metrics.duplicates.increment();
            }
            Outcome::Message(Class::Late(_)) => {
                metrics.late.increment();
            }
            _ => {}
        }
    }

    /// Logs that a message which may show a danger is refused.
    fn record_refused_danger(&self, item: &ParsedMessage, err: &StoreError) {
        if err.may_hide_danger() {
            let now = self.store.clock().now();
            self.log_lines.refused_danger(item.device(), err, now);
        }
    }

    /// Records metrics, span and log line of a message that becomes a dead letter.
    fn record_rejection(&self, item: &RejectedMessage) {
        let RejectedMessage {
            message,
            trace,
            reason,
            detail,
            ..
        } = item;
        self.metrics.count_dead_letter(*reason);
        self.spans.dead_letter(message, *trace, *reason);
        let now = self.store.clock().now();
        self.log_lines
            .dead_letter(*reason, detail, &message.topic, *trace, now);
    }

    /// Records metrics and log line of a payload that had to be repaired.
    fn record_repair(&self, item: &Item<'_>) {
        if item.repairs.is_empty() {
            return;
        }
        self.metrics.count_repairs(item.repairs);
        if let ItemContent::Reading(parsed) = &item.content
            && parsed.facts.repair != Repair::None
        {
            let now = self.store.clock().now();
            let device = &parsed.reading.device;
            self.log_lines.repaired(device, item.repairs, now);
        }
    }

    fn record_failure(&self, err: &StoreError) {
        self.metrics.failures.increment();
        self.log_lines.not_committed(err, self.store.clock().now());
    }
}

fn lock(committed: &Mutex<CommittedFingerprints>) -> MutexGuard<'_, CommittedFingerprints> {
    committed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finishes a part of a message. With the last part, its fingerprint is remembered: one for all parts, so that a few messages
/// with many objects do not displace all others.
fn finish(
    ack: SharedAck,
    device: Option<&DeviceId>,
    message_fingerprint: u64,
    committed: &Mutex<CommittedFingerprints>,
) {
    if ack.is_last() {
        lock(committed).insert(device, message_fingerprint);
    }
    ack.done();
}

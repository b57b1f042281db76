//! The checks of the ledger. They run when every fault is over and everything is processed.

use std::collections::{HashMap, HashSet};
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::device::DeviceId;
use shared::keys::{MAX_CHANGES, PartitionKeys};

use super::oracle::{self, Sample};
use super::positions::{Position, Recoveries, check_positions, position};
use super::{Entry, Ledger};
use crate::browser::{Browser, BrowserEvent};
use crate::eventually::eventually;
use crate::stack::Stack;

/// Number of partitions: the default of both services, which no test changes.
const PARTITIONS: u16 = 64;
/// Maximum number of samples that REST returns.
const MAX_SAMPLES: usize = 1000;

/// Figures for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    /// Payloads the broker acknowledged at the first try.
    pub acknowledged: usize,
    /// Payloads that had to be sent again.
    pub sent_again: usize,
    /// Payloads of both kinds that the broker lost before an ingest received them.
    pub lost_by_broker: usize,
    /// Samples that are marked late.
    pub late: usize,
    /// Alarm changes.
    pub changes: usize,
    /// Subscriptions of clients that recovered exactly.
    pub recovered: usize,
    /// Subscriptions answered with every alarm change and a snapshot.
    pub gaps: usize,
    /// Subscriptions answered with a snapshot, where alarm changes may be missing.
    pub alarm_gaps: usize,
    /// Readings that were skipped for slow clients, by the field `skipped`.
    pub skipped: u64,
}

impl Verdict {
    /// Adds the figures of another load.
    pub fn append(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.sent_again += other.sent_again;
        self.lost_by_broker += other.lost_by_broker;
        self.late += other.late;
        self.changes += other.changes;
        self.recovered += other.recovered;
        self.gaps += other.gaps;
        self.alarm_gaps += other.alarm_gaps;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acknowledged,
            sent_again,
            lost_by_broker,
            late,
            changes,
            recovered,
            gaps,
            alarm_gaps,
            skipped,
        } = self;
        write!(
            f,
            "{} readings, {sent_again} of them sent again, {lost_by_broker} lost by the broker, {late} late; \
             {changes} alarm changes; clients recovered {recovered} times exactly, {gaps} times with a snapshot, \
             {alarm_gaps} times with alarm changes missing; {skipped} readings skipped for slow clients",
            acknowledged + sent_again
        )
    }
}

impl Ledger {
    /// Waits until the last reading of each device has arrived.
    pub async fn wait_for_last_readings(&self, stack: &Stack) -> Result<()> {
        for serial in &self.serials {
            let of_device = |entry: &&Entry| entry.serial == *serial;
            let last = self.entries.iter().rfind(of_device);
            let last = last.context("nothing was sent")?;
            self.wait_for_samples(stack, serial, &[last]).await?;
        }
        Ok(())
    }

    /// Waits until everything has arrived, then checks the history, the alarm log, the latest reading and the events of every
    /// client.
    ///
    /// `delivered`: the tokens of the payloads that reached an ingest, if the broker may lose acknowledged payloads.
    /// The other payloads are counted and need not arrive. `None`: every acknowledged payload must arrive.
    pub async fn judge(
        &self,
        stack: &Stack,
        clients: &[Browser],
        delivered: Option<&HashSet<String>>,
    ) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        for entry in &self.entries {
            ensure!(
                entry.acknowledged.is_some(),
                "never acknowledged: {entry:?}"
            );
            match entry.attempts {
                1 => verdict.acknowledged += 1,
                _ => verdict.sent_again += 1,
            }
            let has_arrived = delivered.is_none_or(|tokens| tokens.contains(&entry.token()));
            verdict.lost_by_broker += usize::from(!has_arrived);
        }
        for serial in &self.serials {
            let sent: Vec<&Entry> = self
                .entries
                .iter()
                .filter(|entry| entry.serial == *serial)
                .filter(|entry| delivered.is_none_or(|tokens| tokens.contains(&entry.token())))
                .collect();
            self.wait_for_samples(stack, serial, &sent).await?;
        }
        wait_for_empty_backlog(stack).await?;
        for serial in &self.serials {
            let of_device = |entry: &&Entry| entry.serial == *serial;
            let sent: Vec<&Entry> = self.entries.iter().filter(of_device).collect();
            let late = self
                .judge_device(stack, clients, serial, &sent, delivered, &mut verdict)
                .await
                .with_context(|| format!("device {serial}"))?;
            verdict.late += late;
        }
        Ok(verdict)
    }

    /// Waits until the last readings have arrived. Returns the payloads that are not in the history. Fails if one is there twice.
    pub async fn missing(&self, stack: &Stack) -> Result<Vec<&Entry>> {
        self.wait_for_last_readings(stack).await?;
        wait_for_empty_backlog(stack).await?;
        let mut missing = Vec::new();
        for serial in &self.serials {
            let history = history(stack, serial).await?;
            let by_time = count_by_time(&history);
            let of_device = |entry: &&Entry| entry.serial == *serial;
            let sent: Vec<&Entry> = self.entries.iter().filter(of_device).collect();
            check_samples(&history, &sent, None).with_context(|| format!("device {serial}"))?;
            missing.extend(
                sent.iter()
                    .filter(|entry| !by_time.contains_key(&entry.time)),
            );
        }
        Ok(missing)
    }

    /// Waits until every sent payload is in the history.
    async fn wait_for_samples(&self, stack: &Stack, serial: &str, sent: &[&Entry]) -> Result<()> {
        eventually(&format!("everything of {serial} arrives"), async || {
            let by_time = count_by_time(&history(stack, serial).await?);
            let missing: Vec<&&Entry> = sent
                .iter()
                .filter(|entry| !by_time.contains_key(&entry.time))
                .collect();
            ensure!(
                missing.is_empty(),
                "{} of {} are missing, first {:?}",
                missing.len(),
                sent.len(),
                missing[0]
            );
            Ok(())
        })
        .await
    }

    async fn judge_device(
        &self,
        stack: &Stack,
        clients: &[Browser],
        serial: &str,
        sent: &[&Entry],
        delivered: Option<&HashSet<String>>,
        verdict: &mut Verdict,
    ) -> Result<usize> {
        let history = history(stack, serial).await?;
        let samples = check_samples(&history, sent, delivered)?;
        let late = history.iter().filter(|sample| is_late(sample)).count();

        let changes = stored_changes(stack, serial).await?;
        let logged = logged_changes(stack, serial).await?;
        verdict.changes += logged.len();
        let streamed: Vec<String> = alerts(&changes).map(change_and_id).collect();
        // The stream keeps only the newest changes. The log keeps all changes of such a short time.
        let is_all = changes.len() < MAX_CHANGES;
        ensure!(
            logged.ends_with(&streamed) && (!is_all || logged.len() == streamed.len()),
            "the log has\n{logged:?}, the changes stream\n{streamed:?}"
        );
        if late == 0 {
            // Committed in order: the readings alone determine the changes.
            let streamed: Vec<String> = alerts(&changes).map(change_and_type).collect();
            let expected = oracle::changes(samples.iter().copied());
            ensure!(
                expected.ends_with(&streamed) && expected.len() == logged.len(),
                "the alarm changes are\n{streamed:?}, the readings require\n{expected:?}"
            );
        }

        let newest = sent
            .iter()
            .rfind(|entry| delivered.is_none_or(|tokens| tokens.contains(&entry.token())))
            .context("nothing was sent")?;
        let latest = stack.latest(serial).await?;
        ensure!(
            latest["timestamp"] == newest.time && latest["sensor_reading"] == newest.value,
            "the latest is {latest}, the newest reading {newest:?}"
        );

        let end = last_position(stack, serial).await?;
        let follows = |client: &&Browser| client.follows(serial);
        ensure!(
            clients.iter().any(|client| follows(&client)),
            "no client follows this device"
        );
        for (index, client) in clients.iter().enumerate() {
            if !follows(&client) {
                continue;
            }
            let gaps = judge_client(client, serial, &changes, &logged, &end)
                .await
                .with_context(|| format!("client {index}"))?;
            verdict.recovered += gaps.recovered;
            verdict.gaps += gaps.gaps;
            verdict.alarm_gaps += gaps.alarm_gaps;
            verdict.skipped += gaps.skipped;
        }
        Ok(late)
    }
}

/// Waits until no message is on its way to an ingest or queued in one.
///
/// Members of a share group get messages in turn. With twice as many markers as members, each member gets a marker. The marker
/// comes after every other message that the broker has for that member, including repeated deliveries.
pub(super) async fn wait_for_empty_backlog(stack: &Stack) -> Result<()> {
    const MARKER: &str = "OTSM-MARKER";
    let marker = stack.device(MARKER);
    let before = count_by_time(&history(stack, MARKER).await.unwrap_or_default()).len();
    let count = 2 * stack.ingests.len();
    for number in 0..count {
        marker.send(number).await?;
    }
    eventually("the markers arrive", async || {
        let arrived = count_by_time(&history(stack, MARKER).await?).len();
        ensure!(arrived == before + count, "{arrived} of {count}");
        Ok(())
    })
    .await?;
    for ingest in &stack.ingests {
        eventually("nothing waits in an ingest", async || {
            let waiting = ingest.metric("ingest_messages_unacknowledged").await?;
            ensure!(waiting < 0.5, "{waiting} messages");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn history(stack: &Stack, serial: &str) -> Result<Vec<Value>> {
    let path = format!("/api/devices/{serial}/history?limit={MAX_SAMPLES}");
    let answer = stack.get(&path).await?.expect(200)?;
    let samples = answer["samples"].as_array().context("no samples")?;
    ensure!(samples.len() < MAX_SAMPLES, "more samples than REST gives");
    Ok(samples.clone())
}

/// Returns the device times in the history.
pub(super) async fn committed_times(stack: &Stack, serial: &str) -> Result<HashSet<String>> {
    let counts = count_by_time(&history(stack, serial).await?);
    Ok(counts.into_keys().collect())
}

/// Counts how often each device time is in the history.
fn count_by_time(history: &[Value]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for sample in history {
        let time = sample["reading_timestamp"].as_str().unwrap_or_default();
        *counts.entry(time.to_owned()).or_default() += 1;
    }
    counts
}

fn is_late(sample: &Value) -> bool {
    sample["late"] == true
}

/// Checks that every sample is one reading that was sent, that none is stored twice, and that only late ones are out of
/// order. Returns the samples in the order of their commits.
fn check_samples(
    history: &[Value],
    sent: &[&Entry],
    delivered: Option<&HashSet<String>>,
) -> Result<Vec<Sample>> {
    for (time, count) in count_by_time(history) {
        let is_of_time = |sample: &&Value| sample["reading_timestamp"] == time.as_str();
        let samples: Vec<&Value> = history.iter().filter(is_of_time).collect();
        ensure!(count == 1, "{count} samples of {time}: {samples:?}");
    }
    let by_time: HashMap<&str, &&Entry> = sent
        .iter()
        .map(|entry| (entry.time.as_str(), entry))
        .collect();
    let mut samples = Vec::new();
    let mut newest = "";
    // The late samples since the newest one.
    let mut late = Vec::new();
    // The last one that went back because the clock looked set. Readings with the right time seem ahead from then on and do not
    // move the order, until the clock is learnt anew.
    let mut set_back_to = None;
    for sample in history {
        let time = sample["reading_timestamp"].as_str().unwrap_or_default();
        let entry = by_time
            .get(time)
            .with_context(|| format!("never sent: {sample}"))?;
        ensure!(
            sample["sensor_reading"] == entry.value,
            "{sample}: {entry:?}"
        );
        ensure!(
            delivered.is_none_or(|tokens| tokens.contains(&entry.token())),
            "counted as lost by the broker, but stored: {sample}"
        );
        let committed = sample["timestamp"].as_str().context("no server time")?;
        let times = Times {
            device: time.parse()?,
            committed: committed.parse()?,
        };
        if is_late(sample) {
            ensure!(time < newest, "{sample} after {newest}");
            late.push(times);
        } else {
            if time < newest {
                let is_set_back = looks_like_a_set_clock(&late, times);
                ensure!(
                    is_set_back || set_back_to.is_some_and(|start| time >= start),
                    "{sample} after {newest}"
                );
                if is_set_back {
                    set_back_to = Some(time);
                }
            }
            newest = time;
            late.clear();
        }
        samples.push(Sample {
            level: entry.level,
            fault: entry.fault,
        });
    }
    Ok(samples)
}

/// The times of one sample.
#[derive(Clone, Copy, Debug)]
struct Times {
    device: Timestamp,
    committed: Timestamp,
}

/// Returns whether ingest may conclude from these late readings and this one that the device's clock was set back: the device's
/// clock has advanced with ours since one of them. The rule is in `shared::order`. It also applies if a busy machine processes
/// a backlog as slowly as it was sent.
fn looks_like_a_set_clock(late: &[Times], now: Times) -> bool {
    const SPAN_MS: i64 = 2_000;
    const SLACK_MS: i64 = 2_000;
    let millis = |from: Timestamp, to: Timestamp| to.as_millisecond() - from.as_millisecond();
    late.iter().any(|before| {
        let passed_ms = millis(before.committed, now.committed);
        let advanced_ms = millis(before.device, now.device);
        passed_ms >= SPAN_MS && (0..=passed_ms + SLACK_MS).contains(&advanced_ms)
    })
}

fn keys(serial: &str) -> Result<(PartitionKeys, DeviceId)> {
    let device: DeviceId = serial.parse().context("a serial of the load")?;
    Ok((PartitionKeys::new(device.partition(PARTITIONS)), device))
}

/// Reads the entries of a stream, oldest first.
async fn stream(stack: &Stack, key: String) -> Result<Vec<(String, HashMap<String, Vec<u8>>)>> {
    let mut redis = stack.redis_connection().await?;
    let mut range = redis::cmd("XRANGE");
    let entries = range.arg(&key).arg("-").arg("+").query_async(&mut redis);
    entries.await.with_context(|| format!("reading `{key}`"))
}

/// Reads the payload of every position with alarm changes, oldest first.
async fn stored_changes(stack: &Stack, serial: &str) -> Result<Vec<Value>> {
    let (keys, device) = keys(serial)?;
    let mut changes = Vec::new();
    for (_, entry) in stream(stack, keys.changes(&device)).await? {
        let payload = entry.get("payload").context("an entry without payload")?;
        changes.push(serde_json::from_slice(payload)?);
    }
    Ok(changes)
}

/// Reads `<change> <alarm id>` of every line of the alarm log about this device, oldest first.
pub async fn logged_changes(stack: &Stack, serial: &str) -> Result<Vec<String>> {
    let (keys, _) = keys(serial)?;
    let mut logged = Vec::new();
    for (_, entry) in stream(stack, keys.log()).await? {
        let device = entry.get("device").context("a line without device")?;
        if device != serial.as_bytes() {
            continue;
        }
        let line = entry.get("line").context("an entry without line")?;
        let line: Value = serde_json::from_slice(line)?;
        logged.push(joined(&line["change"], &line["alarm"]["id"]));
    }
    Ok(logged)
}

/// Reads the position of the newest event.
async fn last_position(stack: &Stack, serial: &str) -> Result<Position> {
    let (keys, device) = keys(serial)?;
    let events = stream(stack, keys.events(&device)).await?;
    let (id, entry) = events.last().context("no event")?;
    let seq = id.split('-').next().unwrap_or_default().parse()?;
    let epoch = entry.get("epoch").context("an event without epoch")?;
    Ok((String::from_utf8(epoch.clone())?, seq))
}

fn alerts(changes: &[Value]) -> impl Iterator<Item = &Value> {
    let alerts = changes.iter().filter_map(|body| body["alerts"].as_array());
    alerts.flatten()
}

fn joined(first: &Value, second: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{} {}", word(first), word(second))
}

fn change_and_type(alert: &Value) -> String {
    joined(&alert["change"], &alert["type"])
}

fn change_and_id(alert: &Value) -> String {
    joined(&alert["change"], &alert["id"])
}

/// Waits until this client has received the last position, then checks everything it received about the device.
async fn judge_client(
    client: &Browser,
    serial: &str,
    changes: &[Value],
    logged: &[String],
    end: &Position,
) -> Result<Recoveries> {
    let what = format!("position {end:?} of {serial}");
    client
        .wait_for(&what, |seen| {
            let is_of_device = seen.body["deviceId"] == serial;
            is_of_device && position(&seen.body).as_ref() == Some(end)
        })
        .await?;
    // The answer to this request arrives after the last event of that position.
    client
        .ask("subscribe:device", json!("OTSM-MARKER-2"))
        .await?;

    let seen: Vec<BrowserEvent> = client.seen();
    let recoveries = check_positions(&seen, serial)?;
    let received: Vec<&Value> = seen
        .iter()
        .filter(|seen| seen.is_of("device:alerts:changed", serial))
        .map(|seen| &seen.body)
        .collect();
    let received_changes: Vec<String> = received
        .iter()
        .flat_map(|body| alerts(std::slice::from_ref(*body)))
        .map(change_and_id)
        .collect();
    if recoveries.alarm_gaps == 0 {
        // The stream no longer holds the oldest changes.
        let dropped = received.len().saturating_sub(changes.len());
        check_equal(&received[dropped..], changes)?;
        ensure!(
            received_changes == logged,
            "the client received\n{received_changes:?}, the log has\n{logged:?}"
        );
    } else {
        // The client was informed that changes may be missing. Those it received must be in the log, in order and without repetition.
        let mut rest = logged.iter();
        for change in &received_changes {
            ensure!(
                rest.any(|line| line == change),
                "twice, not in the log or out of order: {change}"
            );
        }
    }
    Ok(recoveries)
}

fn check_equal(received: &[&Value], changes: &[Value]) -> Result<()> {
    let brief = |body: &Value| {
        let alerts: Vec<String> = alerts(std::slice::from_ref(body))
            .map(change_and_type)
            .collect();
        format!("{} {alerts:?}", body["seq"])
    };
    for (index, stored) in changes.iter().enumerate() {
        let Some(received) = received.get(index) else {
            bail!("never received: {}", brief(stored));
        };
        // Before a snapshot it has `more`, although it was the last event of its position when it was published.
        let mut published = (*received).clone();
        if let Some(fields) = published.as_object_mut() {
            fields.shift_remove("more");
        }
        ensure!(
            published == *stored,
            "received {} where the log has {}",
            brief(received),
            brief(stored)
        );
    }
    Ok(())
}

/// Checks what this client received about the device; see `check_positions`.
pub fn check_positions_of(client: &Browser, serial: &str) -> Result<()> {
    check_positions(&client.seen(), serial).map(drop)
}

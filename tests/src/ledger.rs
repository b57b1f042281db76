//! A steady load of readings and alarms, and a ledger of the sent payloads. In the end, every payload that the broker
//! acknowledged must be in the history, at every client and in the alarm log, exactly once.
//!
//! Every payload has a device time and a value that no other payload of its device has, and a unique token. A device sends
//! one payload at a time, in the order of its clock. It sends the same bytes again until the broker acknowledges
//! them, as a detector does that stores its readings.

mod oracle;
mod positions;
mod verdict;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use shared::clock::{SystemClock, Time};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::device::{Device, Payload};
use crate::eventually::eventually;
use crate::seed::Seed;
use crate::stack::Stack;
use crate::tcp_proxy::TcpProxy;

pub use verdict::{Verdict, check_positions_of, logged_changes};

/// How long a device tries to send one payload. Every fault is over long before.
const PUBLISH_TIMEOUT: Duration = Duration::from_mins(2);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The key of the token in a payload. The services store it with the raw message and do not use it.
const TOKEN_KEY: &str = "Ledger";

/// One payload of one device.
#[derive(Clone, Debug)]
pub struct Entry {
    pub serial: String,
    /// The device time as in the payload.
    pub time: String,
    pub value: f64,
    /// The alarm level that the value reaches, 0 to 3.
    level: u8,
    /// Whether the fault flag is set.
    fault: bool,
    /// How often the payload was sent to the broker.
    pub attempts: u32,
    /// When it was sent for the first time.
    pub sent: Option<Instant>,
    /// When the broker acknowledged the payload.
    pub acknowledged: Option<Instant>,
}

/// The running devices.
#[derive(Debug)]
pub struct Load {
    serials: Vec<String>,
    entries: Arc<Mutex<Vec<Entry>>>,
    stop: watch::Sender<bool>,
    devices: JoinSet<Result<(Device, Story)>>,
}

/// The payloads that the devices sent, after the end of the load.
#[derive(Debug)]
pub struct Ledger {
    pub serials: Vec<String>,
    pub entries: Vec<Entry>,
}

impl Load {
    /// Returns the serials of `count` devices.
    pub fn serials(count: usize) -> Vec<String> {
        (1..=count)
            .map(|number| format!("OTSM-{number:04}"))
            .collect()
    }

    /// Starts these devices. Each publishes one payload per period, unless the broker does not acknowledge.
    pub fn start(stack: &Stack, serials: &[String], period: Duration, seed: &mut Seed) -> Self {
        Self::begin(stack, serials, period, seed, false)
    }

    /// As [`Self::start`]. Every second reading of the first device raises an alarm, which the next one clears.
    pub fn start_with_a_flapping_alarm(
        stack: &Stack,
        serials: &[String],
        period: Duration,
        seed: &mut Seed,
    ) -> Self {
        Self::begin(stack, serials, period, seed, true)
    }

    fn begin(
        stack: &Stack,
        serials: &[String],
        period: Duration,
        seed: &mut Seed,
        first_flaps: bool,
    ) -> Self {
        let entries = Arc::<Mutex<Vec<Entry>>>::default();
        let (stop, stopped) = watch::channel(false);
        let mut devices = JoinSet::new();
        for (index, serial) in serials.iter().enumerate() {
            let device = stack.device(serial);
            let flaps = first_flaps && index == 0;
            let episodes = if flaps { FLAPPING } else { MIXED };
            let story = Story::new(seed.fork(), episodes);
            devices.spawn(publish(
                device,
                story,
                period,
                Arc::clone(&entries),
                stopped.clone(),
            ));
        }
        Self {
            serials: serials.to_vec(),
            entries,
            stop,
            devices,
        }
    }

    /// Creates a load without devices.
    pub fn idle() -> Self {
        Self {
            serials: Vec::new(),
            entries: Arc::default(),
            stop: watch::Sender::new(true),
            devices: JoinSet::new(),
        }
    }

    /// Returns how many payloads the broker has acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let entries = lock(&self.entries);
        let acknowledged = entries.iter().filter(|entry| entry.acknowledged.is_some());
        acknowledged.count()
    }

    /// Waits until an ingest receives, through this proxy, a payload that the broker acknowledged after this call. This proves
    /// that the ingest has a subscription.
    pub async fn wait_for_delivery(&self, proxy: &TcpProxy) -> Result<()> {
        let now = Instant::now();
        eventually(
            "a payload that was acknowledged just now reaches an ingest",
            async || {
                let delivered = delivered_tokens(proxy);
                let entries = lock(&self.entries);
                let mut new = entries
                    .iter()
                    .filter(|entry| entry.acknowledged.is_some_and(|at| at > now));
                ensure!(
                    new.any(|entry| delivered.contains(&entry.token())),
                    "not yet"
                );
                Ok(())
            },
        )
        .await
    }

    /// Waits until a reading that an ingest has received is not committed, but a newer one of the same device is. It will be
    /// late. The stack must have been recording the connections to the broker since its start.
    pub async fn wait_for_overtaken_reading(&self, stack: &Stack) -> Result<()> {
        eventually("a reading is overtaken", async || {
            // Read before the history: a payload is delivered before it is committed.
            let delivered = delivered_tokens(&stack.broker_proxy);
            for serial in &self.serials {
                let committed = verdict::committed_times(stack, serial).await?;
                let newest = committed.iter().max();
                let entries = lock(&self.entries);
                let mut of_device = entries.iter().filter(|entry| entry.serial == *serial);
                let is_overtaken = |entry: &Entry| {
                    delivered.contains(&entry.token())
                        && !committed.contains(&entry.time)
                        && newest > Some(&entry.time)
                };
                if of_device.any(is_overtaken) {
                    return Ok(());
                }
            }
            bail!("none yet")
        })
        .await
    }

    /// Waits until the latest reading of every device is newer than this call. Then no older one waits for Redis.
    pub async fn wait_until_caught_up(&self, stack: &Stack) -> Result<()> {
        let now = SystemClock::local().as_millis();
        let now = Time::from_millis(now).to_iso();
        for serial in &self.serials {
            stack
                .latest_with(serial, "a reading of now", |latest| {
                    latest["timestamp"].as_str() > Some(&now)
                })
                .await?;
        }
        Ok(())
    }

    /// Ends the load. When everything is processed, every device sends one last reading without an alarm. No late reading can
    /// follow it.
    pub async fn stop(mut self, stack: &Stack) -> Result<Ledger> {
        self.stop.send_replace(true);
        let mut devices = Vec::new();
        while let Some(ended) = self.devices.join_next().await {
            devices.push(ended.context("a device of the load died")??);
        }
        verdict::wait_for_empty_backlog(stack).await?;
        for (device, mut story) in devices {
            let (entry, payload) = story.end(&device);
            deliver(&device, entry, &payload, &self.entries).await?;
        }
        let entries = lock(&self.entries).clone();
        Ok(Ledger {
            serials: self.serials,
            entries,
        })
    }
}

impl Entry {
    fn token(&self) -> String {
        format!("{}@{}", self.serial, self.time)
    }
}

/// Returns the tokens of all payloads that a proxy has forwarded completely since [`TcpProxy::record`].
pub fn delivered_tokens(proxy: &TcpProxy) -> HashSet<String> {
    let start = format!("\"{TOKEN_KEY}\":\"");
    let mut tokens = HashSet::new();
    for piece in proxy.recorded() {
        let text = String::from_utf8_lossy(&piece);
        for rest in text.split(&start).skip(1) {
            // The token is the last key, so the payload is complete after it.
            if let Some((token, _)) = rest.split_once("\"}") {
                tokens.insert(token.to_owned());
            }
        }
    }
    tokens
}

/// Returns how many acknowledgements the broker was sent through this proxy.
pub fn acknowledgements(proxy: &TcpProxy) -> usize {
    const PUBACK: u8 = 4;
    let pieces = proxy.recorded_from_clients();
    let types = pieces.iter().flat_map(|piece| packet_types(piece));
    types.filter(|found| *found == PUBACK).count()
}

/// Returns the type of each whole MQTT packet (MQTT 5.0, section 2.1).
fn packet_types(mut bytes: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let mut length = 0;
        for index in 0..4 {
            let digit = *bytes.get(1 + index)?;
            length |= usize::from(digit & 0x7f) << (7 * index);
            if digit & 0x80 == 0 {
                let kind = bytes[0] >> 4;
                bytes = bytes.get(2 + index + length..)?;
                return Some(kind);
            }
        }
        None
    })
}

async fn publish(
    device: Device,
    mut story: Story,
    period: Duration,
    entries: Arc<Mutex<Vec<Entry>>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(Device, Story)> {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // An error means that the load was dropped, which ends the device too.
            _ = stopped.wait_for(|stopped| *stopped) => return Ok((device, story)),
        }
        let (entry, payload) = story.next(&device);
        deliver(&device, entry, &payload, &entries).await?;
    }
}

/// Sends a payload until the broker has acknowledged it, and notes each attempt.
async fn deliver(
    device: &Device,
    mut entry: Entry,
    payload: &Payload,
    entries: &Mutex<Vec<Entry>>,
) -> Result<()> {
    let index = {
        let mut entries = lock(entries);
        entries.push(entry.clone());
        entries.len() - 1
    };
    let started = Instant::now();
    entry.sent = Some(started);
    while entry.acknowledged.is_none() {
        entry.attempts += 1;
        match device.publish(payload).await {
            Ok(()) => entry.acknowledged = Some(Instant::now()),
            Err(err) if started.elapsed() > PUBLISH_TIMEOUT => {
                return Err(err).context("the broker acknowledged a payload too late");
            }
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
        lock(entries)[index] = entry.clone();
    }
    Ok(())
}

/// The readings of one device: random episodes, one after the other.
#[derive(Debug)]
struct Story {
    random: Rng,
    episodes: &'static [&'static [u8]],
    count: u32,
    // The remaining levels of this episode, the last one first. `FAULT` stands for the fault flag.
    plan: Vec<u8>,
}

const FAULT: u8 = 4;

/// Mostly no alarm, sometimes alarms or a fault.
const MIXED: &[&[u8]] = &[
    &[0, 1, 2, 0, 0],
    &[0, 1, 0],
    &[0, 1, 2, 3, 2, 1],
    &[0, 0, FAULT, FAULT, 0],
    &[0, 3, 1, 1],
    &[0, 0, 0],
];
const FLAPPING: &[&[u8]] = &[&[0, 1]];

impl Story {
    fn new(random: Rng, episodes: &'static [&'static [u8]]) -> Self {
        Self {
            random,
            episodes,
            count: 0,
            plan: Vec::new(),
        }
    }

    fn next(&mut self, device: &Device) -> (Entry, Payload) {
        let step = loop {
            if let Some(step) = self.plan.pop() {
                break step;
            }
            let episode = self.episodes[self.random.usize(..self.episodes.len())];
            self.plan = episode.iter().rev().copied().collect();
        };
        self.render(device, step)
    }

    fn end(&mut self, device: &Device) -> (Entry, Payload) {
        self.render(device, 0)
    }

    fn render(&mut self, device: &Device, step: u8) -> (Entry, Payload) {
        let fault = step == FAULT;
        let level = if fault { 0 } else { step };
        // Far from the levels and their deadbands. The fraction makes every value of the device different.
        let whole = [20, 300, 600, 1100][usize::from(level)] + self.random.u32(..40);
        self.count += 1;
        let value = f64::from(whole) + f64::from(self.count) / 10_000.0;
        let led = |of: u8| u8::from(level >= of);
        let payload = device
            .newest(value)
            .with_parameter("Sensor Fault", u8::from(fault))
            .with_parameter("Alarm 1 LED Status", led(1))
            .with_parameter("Alarm 2 LED Status", led(2))
            .with_parameter("Alarm 3 LED Status", led(3));
        let time = payload.0["Date Time At Reading"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let entry = Entry {
            serial: device.serial().to_owned(),
            time,
            value,
            level,
            fault,
            attempts: 0,
            sent: None,
            acknowledged: None,
        };
        let token = entry.token();
        (entry, payload.with(TOKEN_KEY, token))
    }
}

fn lock(entries: &Mutex<Vec<Entry>>) -> MutexGuard<'_, Vec<Entry>> {
    entries
        .lock()
        .expect("no thread panics while holding the lock")
}

#[cfg(test)]
mod tests;

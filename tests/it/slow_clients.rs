//! Clients that stop reading cost bounded memory, and lose no alarm. The other clients get everything.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use tests::crowd::Crowd;
use tests::device::Device;
use tests::episodes::every_client_received_the_log;
use tests::eventually::eventually;
use tests::report;
use tests::stack::{Plan, Stack};

const READERS: usize = 400;
/// How many devices each reader watches.
const WATCHED: usize = 2;
/// A fifth of all clients.
const STALLED: usize = 100;
const DEVICES: usize = 20;
/// One device in five raises an alarm in every eighth round, which the next round clears.
const WITH_ALARMS: usize = 5;
const ROUNDS_PER_ALARM: usize = 8;
/// Number of bytes added to each `device:data`, so that the buffers of the stalled clients are full soon.
const PADDING: usize = 16_384;
/// Maximum size of a packet with this padding.
const PACKET: u64 = 20 * 1024;

const CLIENT_BUFFER: u64 = 16;
/// Holds a replay of one device, which is up to 64 readings of 17 KiB.
const OUTBOX_BYTES: u64 = 1536 * 1024;
/// What waits in front of the outbox of a WebSocket: the rest of one event, and readings that were held.
const IN_FRONT: u64 = PACKET + 2 * 16 * 1024;
/// Maximum growth of everything else during the test: the allocator, the history of 400 busy clients.
const REST: u64 = 16 * 1024 * 1024;

/// Number of rounds before memory is measured for the first time.
const WARM_UP: usize = 10;
/// After this many readings were replaced by newer ones, the outboxes of the stalled clients are full.
const CONFLATED: f64 = 20_000.0;
/// Kernels buffer a few hundred readings of 17 KiB per connection. After this many rounds every buffer is full.
const MAX_ROUNDS: usize = 400;

/// The detectors. Every reader must get every reading before the next one is sent, so no reader is slow, even on a busy
/// machine.
struct Feed<'a> {
    stack: &'a Stack,
    devices: Vec<Device>,
    readers: Crowd,
    rounds: usize,
    expected: u64,
    raised: BTreeMap<String, usize>,
}

impl Feed<'_> {
    /// Sends a reading of every device, and waits until every reader has received it.
    async fn round(&mut self) -> Result<()> {
        self.rounds += 1;
        let padding = "x".repeat(PADDING);
        for (number, device) in self.devices.iter().enumerate() {
            let is_alarm =
                number.is_multiple_of(WITH_ALARMS) && self.rounds.is_multiple_of(ROUNDS_PER_ALARM);
            let value = if is_alarm { 300 } else { self.rounds % 200 };
            *self.raised.entry(device.serial().to_owned()).or_default() += usize::from(is_alarm);
            let payload = device.newest(value).with("Padding", padding.clone());
            device.publish(&payload).await?;
        }
        self.expected += (READERS * WATCHED) as u64;
        let (readers, expected) = (&mut self.readers, self.expected);
        eventually("every reader has every reading", async || {
            let counts = readers.counts().await?;
            ensure!(counts.readings >= expected, "{expected}: {counts:?}");
            Ok(())
        })
        .await
    }

    /// Rounds until the outboxes of clients that do not read are full.
    async fn until_outboxes_are_full(&mut self) -> Result<()> {
        let gateway = &self.stack.gateways[0];
        for _ in 0..MAX_ROUNDS {
            if gateway.metric("gateway_packets_conflated_total").await? >= CONFLATED {
                return Ok(());
            }
            self.round().await?;
        }
        bail!("the outboxes did not fill within {MAX_ROUNDS} rounds")
    }
}

#[tokio::test]
async fn clients_that_stop_reading_cost_bounded_memory_and_no_client_misses_an_alarm() -> Result<()>
{
    let stack = Plan::default()
        .ingest_flags("--live-raw-message")
        .every_raise_is_an_alarm()
        .gateway_flags(&format!(
            "--client-buffer={CLIENT_BUFFER} --outbox-bytes={OUTBOX_BYTES}"
        ))
        // The test ends the stall. How long a client may stall is the subject of another test.
        .gateway_flags("--alarm-deadline=10m --tcp-user-timeout=10m")
        .start()
        .await?;
    let serials: Vec<String> = (1..=DEVICES)
        .map(|number| format!("OTSM-{number:04}"))
        .collect();
    for serial in &serials {
        stack.device(serial).send(1).await?;
        stack.shows(serial, 1).await?;
    }
    let port = stack.gateways[0].port();
    // Every device has the same number of readers. The clients that will stall watch every device.
    let pairs: Vec<Vec<String>> = (0..READERS)
        .map(|number| [number % DEVICES, (number + 7) % DEVICES])
        .map(|pair| pair.map(|index| serials[index].clone()).to_vec())
        .collect();
    let readers = Crowd::open(port, &pairs).await?;
    let mut slow = Crowd::open(port, &vec![serials.clone(); STALLED]).await?;
    let mut feed = Feed {
        stack: &stack,
        devices: serials.iter().map(|serial| stack.device(serial)).collect(),
        readers,
        rounds: 0,
        expected: 0,
        raised: BTreeMap::new(),
    };

    slow.disconnect().await?;
    for _ in 0..WARM_UP {
        feed.round().await?;
    }
    let gateway = &stack.gateways[0].process;
    let before = gateway.resident_kib()? * 1024;
    slow.reconnect().await?;
    slow.stall().await?;
    feed.until_outboxes_are_full().await?;
    let grown = (gateway.resident_kib()? * 1024).saturating_sub(before);
    slow.resume().await?;
    // The last reading of every device has no alarm.
    while feed.rounds.is_multiple_of(ROUNDS_PER_ALARM) {
        feed.round().await?;
    }
    let changes = every_client_received_the_log(&stack, &mut feed.readers, &feed.raised).await?;
    every_client_received_the_log(&stack, &mut slow, &feed.raised).await?;

    let counts = slow.counts().await?;
    let bound = STALLED as u64 * (OUTBOX_BYTES + IN_FRONT) + REST;
    report::line(&format!(
        "slow clients: {STALLED} of {} stalled for {} rounds; memory grew by {} KiB (bound {}); {} readings skipped for \
         {} clients, {} of their subscriptions not recovered; {changes} alarm changes, complete for every client",
        STALLED + READERS,
        feed.rounds - WARM_UP,
        grown / 1024,
        bound / 1024,
        counts.skipped,
        counts.skipping,
        counts.fresh,
    ));
    ensure!(counts.backwards == 0, "{counts:?}");
    let reading = feed.readers.counts().await?;
    ensure!(reading.skipped == 0, "readers missed readings: {reading:?}");
    ensure!(reading.backwards == 0, "{reading:?}");
    ensure!(grown <= bound, "{grown} bytes, bound {bound}");
    drop(feed);
    stack.pass()
}

//! Clients that stop reading cost bounded memory, delay nobody and lose no alarm.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::crowd::Crowd;
use tests::episodes::{Episodes, Habit, everybody_saw_the_log};
use tests::eventually::eventually;
use tests::report;
use tests::stack::Plan;

const READERS: usize = 400;
/// A fifth of all.
const STALLED: usize = 100;
const DEVICES: usize = 20;
/// Ten times the usual rate of a detector, which is a reading in 5 s.
const EVERY: Duration = Duration::from_millis(500);
/// Makes a `device:data` this much longer, so that the buffers of those who stall are full soon.
const PADDING: usize = 16_384;
/// Largest packet with that.
const PACKET: u64 = 20 * 1024;

const CLIENT_BUFFER: u64 = 16;
/// Holds a replay of one device, which is up to 64 readings of 17 KiB.
const OUTBOX_BYTES: u64 = 1536 * 1024;
/// What the library buffers before it waits for the socket: 128 KiB, grown by doubling.
const WRITE_BUFFER: u64 = 256 * 1024;
/// What everything else may grow by meanwhile: the allocator, the history of 400 busy clients.
const REST: u64 = 16 * 1024 * 1024;

/// Readings in one window of measurement.
const SAMPLES: u64 = 800;
/// Rounds of so many windows without those who stall and so many with them. By turns: what else the machine does changes
/// meanwhile, and must not be taken for their doing.
const ROUNDS: usize = 2;
const WINDOWS: usize = 4;
/// Windows in which the buffers of those who stall get full: 40 readers per device, so 280 readings of 17 KiB. Kernels
/// give some connections more room than that.
const FILL: usize = 14;
/// Below this a factor says nothing.
const FLOOR_MS: u64 = 20;

#[tokio::test]
async fn clients_that_stop_reading_cost_bounded_memory_and_delay_nobody() -> Result<()> {
    let stack = Plan::default()
        .ingest("--live-raw-message")
        .gateway(&format!(
            "--client-buffer={CLIENT_BUFFER} --outbox-bytes={OUTBOX_BYTES}"
        ))
        // The test ends the stall by itself; how long a client may stall is not what it is about.
        .gateway("--alarm-deadline=60s --tcp-user-timeout=60s")
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
    // The readers watch two devices each, so that every device has some; those who will stall watch everything.
    let pairs: Vec<Vec<String>> = (0..READERS)
        .map(|number| [number % DEVICES, (number + 7) % DEVICES])
        .map(|pair| pair.map(|index| serials[index].clone()).to_vec())
        .collect();
    let mut readers = Crowd::open(port, &pairs).await?;
    let mut slow = Crowd::open(port, &vec![serials.clone(); STALLED]).await?;

    let devices = serials.iter().enumerate().map(|(number, serial)| {
        let habit = Habit {
            every: EVERY,
            // One device in five has an alarm every four seconds.
            raises: number.is_multiple_of(5).then_some(8),
            padding: PADDING,
        };
        (stack.device(serial), habit)
    });
    let episodes = Episodes::begin(devices);
    let gateway = &stack.gateways[0].process;
    let (mut alone, mut during) = (Vec::new(), Vec::new());
    slow.leave().await?;
    windows(&mut readers, 1).await?;
    let before = gateway.resident_kib()? * 1024;
    let mut memory = Vec::new();
    let mut skipped = 0;
    for _ in 0..ROUNDS {
        slow.leave().await?;
        windows(&mut readers, 1).await?;
        alone.extend(windows(&mut readers, WINDOWS).await?);
        slow.come_back().await?;
        slow.stall().await?;
        windows(&mut readers, FILL).await?;
        during.extend(windows(&mut readers, WINDOWS).await?);
        memory.push((gateway.resident_kib()? * 1024).saturating_sub(before));
        slow.resume().await?;
        // Else nothing waited, and nothing would be shown.
        skipped = eventually("those who stalled skip readings", async || {
            let counts = slow.counts().await?;
            ensure!(counts.skipped > skipped, "{counts:?}");
            Ok(counts.skipped)
        })
        .await?;
    }
    let raised = episodes.end().await?;
    let changes = everybody_saw_the_log(&stack, &mut readers, &raised).await?;
    everybody_saw_the_log(&stack, &mut slow, &raised).await?;

    let counts = slow.counts().await?;
    let grown = memory.into_iter().max().unwrap_or_default();
    let bound =
        STALLED as u64 * (OUTBOX_BYTES + (CLIENT_BUFFER + 1) * PACKET + WRITE_BUFFER) + REST;
    report::line(&format!(
        "slow clients: {STALLED} of {} stalled; memory grew by {} KiB (bound {}); p99 of the others, lower quartile of the \
         windows by turns: {} ms without them, {} ms while they stall; {} readings skipped for {} clients, {} of their \
         subscriptions not recovered; {changes} alarm changes, complete for everybody",
        STALLED + READERS,
        grown / 1024,
        bound / 1024,
        lower_quartile(&alone),
        lower_quartile(&during),
        counts.skipped,
        counts.skipping,
        counts.fresh,
    ));
    ensure!(
        counts.skipping >= STALLED / 2,
        "few lanes ever filled: {counts:?}"
    );
    ensure!(counts.backwards == 0, "{counts:?}");
    let reading = readers.counts().await?;
    ensure!(reading.skipped == 0, "readers were slow: {reading:?}");
    ensure!(reading.backwards == 0, "{reading:?}");
    ensure!(grown <= bound, "{grown} bytes, bound {bound}");
    let allowed = (lower_quartile(&alone) * 2).max(FLOOR_MS);
    ensure!(
        lower_quartile(&during) <= allowed,
        "p99 without them {alone:?}, while they stall {during:?}"
    );
    stack.pass()
}

/// The p99 in milliseconds of so many windows, each of enough readings.
async fn windows(crowd: &mut Crowd, count: usize) -> Result<Vec<u64>> {
    let mut p99s = Vec::new();
    for _ in 0..count {
        p99s.push(crowd.latencies(SAMPLES).await?.p99);
    }
    Ok(p99s)
}

/// Noise of the machine only adds; what slow clients cost would be in every window.
fn lower_quartile(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 4]
}

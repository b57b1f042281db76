//! Clients without events: what a connection costs while nothing happens, and how long it takes until all are connected.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Scenario;
use super::measure::number;
use crate::kernel;
use crate::load::clock::Clock;
use crate::load::crowd::{Crowd, Transport, Wish};
use crate::load::publisher::{self, Publisher};
use crate::load::schedule::Schedule;
use crate::report::row::{Figure, Row};
use crate::systems::{Kind, Role, Running, Setup, System};

const CLIENTS: u64 = 5000;
const DEVICES: u64 = 101;
const PRIME_PER_SECOND: u64 = 500;
/// Until buffers of the handshake are freed.
const SETTLE: Duration = Duration::from_secs(3);
const BURST_BYTES: u64 = 64 * 1024;
/// The length of one event.
const EVENT_BYTES: u64 = 690;
const BURST_PER_SECOND: u64 = 1000;
const KIB: f64 = 1024.0;

/// Measures one system.
pub(super) async fn run(scenario: Scenario, system: &System) -> Result<Vec<Row>> {
    let transport = match (scenario, &system.kind) {
        (Scenario::IdleUpgraded, kind) if *kind != Kind::Floor => Transport::Upgrade,
        _ => Transport::WebSocket,
    };
    let running = Running::start(system, &Setup::default()).await?;
    let clock = Clock::start();
    publisher::prime(running.broker_port(), clock, DEVICES, PRIME_PER_SECOND).await?;
    running.processed(DEVICES).await?;
    let ports = running.ports();
    let wishes: Vec<Wish> = (0..CLIENTS)
        .zip(ports.iter().cycle())
        .map(|(client, port)| Wish {
            port: *port,
            transport,
            devices: vec![client % DEVICES],
            is_stalled: false,
        })
        .collect();
    let memory_before = running.resident_kib(Role::Gateway)?;
    let time_before = running.cpu_time(Role::Gateway)?;
    let kernel_before = kernel::read()?;
    let began = clock.micros();
    let mut crowd = Crowd::new(clock);
    if scenario == Scenario::Storm {
        crowd.storm(wishes).await?;
    } else {
        crowd.connect(wishes).await?;
    }
    let took = clock.micros() - began;
    let kernel = kernel::read()?;
    let time = running.cpu_time(Role::Gateway)?.saturating_sub(time_before);
    let connecting = Figure::new(
        "connecting",
        time.as_secs_f64() * 1e6 / number(CLIENTS),
        "µs each",
    );
    let mut end = 0;
    let mut row = if scenario == Scenario::Storm {
        let seconds = number(took) / 1e6;
        let mut row = Row::new(
            &scenario.name(),
            &system.name,
            Figure::new("all subscribed", seconds, "s"),
        );
        let overflows = kernel.listen_overflows - kernel_before.listen_overflows;
        let again = kernel.retransmits - kernel_before.retransmits;
        let probes = kernel.loss_probes - kernel_before.loss_probes;
        row.more.push(connecting);
        row.more
            .push(Figure::new("", number(overflows), "listen overflows"));
        row.more
            .push(Figure::new("", number(again), "segments sent again"));
        row.more
            .push(Figure::new("", number(probes), "loss probes"));
        row
    } else {
        tokio::time::sleep(SETTLE).await;
        crowd.check()?;
        let memory = running.resident_kib(Role::Gateway)?;
        let each = number(memory.saturating_sub(memory_before)) / number(CLIENTS);
        let mut row = Row::new(
            &scenario.name(),
            &system.name,
            Figure::new("resident per connection", each, "KiB"),
        );
        row.more.push(connecting);
        end = burst(&running, &mut crowd, clock).await?;
        let kept = number(running.resident_kib(Role::Gateway)?) - number(memory);
        row.more.push(Figure::new(
            "kept after 64 KiB to each",
            kept / number(CLIENTS),
            "KiB",
        ));
        row.more.push(Figure::new(
            "kernel memory of all sockets",
            number(kernel.socket_bytes) / KIB / KIB,
            "MiB",
        ));
        row
    };
    let closed = crowd.seen.closed.load(Ordering::Relaxed);
    if closed > 0 {
        row.more.push(Figure::new(
            "",
            number(closed),
            "clients closed by the server",
        ));
    }
    let sums = crowd.finish(end).await?;
    row.sums = (end > 0).then_some(sums);
    running.stop()?;
    Ok(vec![row])
}

/// Sends every client readings of [`BURST_BYTES`] together, and waits until nothing happens any more. Returns the number after
/// the last message.
async fn burst(running: &Running, crowd: &mut Crowd, clock: Clock) -> Result<u64> {
    let schedule = Schedule {
        devices: DEVICES,
        per_second: BURST_PER_SECOND,
        first: DEVICES,
        start_us: clock.micros() + 100_000,
    };
    let once = crowd.seen.schedule.set(schedule);
    once.ok().context("a second schedule")?;
    let end = DEVICES + DEVICES * BURST_BYTES.div_ceil(EVENT_BYTES);
    let publisher = Publisher::start(running.broker_port(), clock, schedule, end)?;
    publisher.finish().await?;
    running.processed(end).await?;
    crowd.settle().await?;
    tokio::time::sleep(SETTLE).await;
    Ok(end)
}

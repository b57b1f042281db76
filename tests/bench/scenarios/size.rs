//! As many clients as an operator with several sites has, on four gateways.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use super::measure::{latency, number, per};
use crate::load::clock::Clock;
use crate::load::crowd_process::{Clients, CrowdProcess, Measured};
use crate::load::histogram::Histogram;
use crate::load::publisher::{self, Publisher};
use crate::load::schedule::Schedule;
use crate::load::tally::Sums;
use crate::report::row::{Figure, Row};
use crate::systems::{Role, Running, Setup, System};

const GATEWAYS: usize = 4;
/// Clients of each gateway, in a process of their own. Client and server both need a file descriptor for each.
const CLIENTS_EACH: u64 = 15_000;
const GATEWAY_FLAGS: &str = "--max-connections=15500";
const DEVICES: u64 = 5003;
const PRIME_PER_SECOND: u64 = 2000;
const PER_SECOND: u64 = 1000;
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);
const KIB: f64 = 1024.0;

/// Measures one system.
pub(super) async fn run(system: &System) -> Result<Vec<Row>> {
    let setup = Setup {
        gateways: GATEWAYS,
        gateway_flags: Some(GATEWAY_FLAGS),
        ..Setup::default()
    };
    let running = Running::start(system, &setup).await?;
    let clock = Clock::start();
    publisher::prime(running.broker_port(), clock, DEVICES, PRIME_PER_SECOND).await?;
    running.processed(DEVICES).await?;

    let began = clock.micros();
    let mut crowds = Vec::new();
    for (number, port) in (0..).zip(running.ports()) {
        crowds.push(CrowdProcess::start(&Clients {
            port,
            first: number * CLIENTS_EACH,
            count: CLIENTS_EACH,
            devices: DEVICES,
        })?);
    }
    try_join_all(crowds.iter_mut().map(CrowdProcess::ready)).await?;
    let connecting = number(clock.micros() - began) / 1e6;

    let start_us = clock.micros() + 1_000_000;
    let schedule = Schedule {
        devices: DEVICES,
        per_second: PER_SECOND,
        first: DEVICES,
        start_us,
    };
    let from_us = start_us + micros(WARM_UP);
    let measured = Measured {
        schedule,
        from_us,
        until_us: from_us + micros(MEASURED),
    };
    try_join_all(crowds.iter_mut().map(|crowd| crowd.measure(&measured))).await?;
    let end = schedule.due_before(measured.until_us);
    let publisher = Publisher::start(running.broker_port(), clock, schedule, end)?;
    tokio::time::sleep(Duration::from_micros(from_us - clock.micros())).await;
    let before = running.cpu_time(Role::Gateway)?;
    publisher.finish().await?;
    running.processed(end).await?;
    let time = running.cpu_time(Role::Gateway)?.saturating_sub(before);
    let memory = number(running.resident_kib(Role::Gateway)?) / KIB;

    let latencies = Histogram::default();
    let (mut sums, mut closed) = (Sums::default(), 0);
    for received in try_join_all(crowds.into_iter().map(|crowd| crowd.finish(end))).await? {
        latencies.add_counts(&received.latency);
        sums += received.sums;
        closed += received.closed;
    }
    running.stop()?;
    ensure!(latencies.count() > 0, "nothing was delivered");

    let mut row = Row::new(
        "size",
        &system.name,
        Figure::new("four gateways", memory, "MiB"),
    );
    row.latency = latency(&latencies);
    row.sums = Some(sums);
    let clients = CLIENTS_EACH * u64::try_from(GATEWAYS)?;
    let delivered = number(latencies.count()) / MEASURED.as_secs_f64();
    for figure in [
        Figure::new("", number(clients - closed), "clients"),
        Figure::new("all subscribed after", connecting, "s"),
        Figure::new("", delivered, "delivered/s"),
        Figure::new("gateways per delivery", per(time, latencies.count()), "µs"),
    ] {
        row.more.push(figure);
    }
    Ok(vec![row])
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

//! Readings at an even pace, and clients that watch them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Scenario;
use crate::load::clock::Clock;
use crate::load::crowd::{Crowd, Transport, Wish};
use crate::load::publisher::{self, Publisher};
use crate::load::schedule::Schedule;
use crate::load::tally::Sums;
use crate::report::row::{Figure, Latency, Row};
use crate::systems::{Kind, Role, Running, Setup, System};

/// Every device is published once before clients subscribe, at this pace.
const PRIME_PER_SECOND: u64 = 2000;
/// Flags of a gateway that collects telemetry for a time before it is written.
const COALESCE: &str = "--coalesce=20ms";

/// Devices and clients.
#[derive(Clone, Copy, Debug)]
struct Load {
    devices: u64,
    per_second: u64,
    clients: u64,
    /// Devices that each client watches: neighbours, so that every device is watched by as many clients.
    each: u64,
    /// Of so many clients one is stalled.
    stalled_of: Option<u64>,
    transport: Transport,
    gateways: usize,
    warm_up: Duration,
    measured: Duration,
}

const LOAD: Load = Load {
    devices: 5,
    per_second: 50,
    clients: 1000,
    each: 5,
    stalled_of: None,
    transport: Transport::WebSocket,
    gateways: 1,
    warm_up: Duration::from_secs(3),
    measured: Duration::from_secs(12),
};

/// What was measured.
#[derive(Debug)]
struct Outcome {
    ingest: Duration,
    gateway: Duration,
    redis: Duration,
    took: Duration,
    messages: u64,
    deliveries: u64,
    bytes: u64,
    other_events: u64,
    latency: Option<Latency>,
    sums: Sums,
}

/// Measures one system.
pub(super) async fn run(scenario: Scenario, system: &System) -> Result<Vec<Row>> {
    let name = scenario.name();
    let transport = match (scenario, &system.kind) {
        // The floor has no polling. Its row is there to be compared with.
        (Scenario::FanUpgraded, kind) if *kind != Kind::Floor => Transport::Upgrade,
        _ => Transport::WebSocket,
    };
    let fan = Load { transport, ..LOAD };
    let mut rows = Vec::new();
    match scenario {
        Scenario::Fan | Scenario::FanUpgraded => {
            rows.push(per_delivery(&name, system, &fan, None).await?);
        }
        Scenario::Dash => {
            let load = Load {
                devices: 203,
                per_second: 500,
                clients: 500,
                each: 40,
                ..LOAD
            };
            rows.push(per_delivery(&name, system, &load, None).await?);
            if can_coalesce(system)? {
                let name = format!("{name} {COALESCE}");
                rows.push(per_delivery(&name, system, &load, Some(COALESCE)).await?);
            }
        }
        Scenario::Pipeline => {
            let load = Load {
                devices: 1003,
                per_second: 8000,
                clients: 17,
                each: 59,
                ..LOAD
            };
            rows.push(pipeline(&name, system, &load).await?);
        }
        Scenario::Latency => {
            let load = Load {
                devices: 101,
                per_second: 1000,
                clients: 100,
                each: 1,
                ..LOAD
            };
            rows.push(latency(&name, system, &load).await?);
        }
        Scenario::Stalled => {
            let slow = Load {
                devices: 101,
                per_second: 100,
                clients: 500,
                each: 10,
                ..LOAD
            };
            let fast = Load {
                per_second: 1000,
                ..slow
            };
            let stalled = Load {
                stalled_of: Some(5),
                ..fast
            };
            for (name, load) in [
                ("none, 100/s", slow),
                ("none, 1000/s", fast),
                ("every fifth, 1000/s", stalled),
            ] {
                rows.push(latency(&format!("stalled: {name}"), system, &load).await?);
            }
        }
        Scenario::Unwatched => {
            let load = Load {
                devices: 4001,
                per_second: 4001,
                clients: 0,
                gateways: 4,
                ..LOAD
            };
            rows.push(unwatched(&name, system, &load).await?);
        }
        _ => {}
    }
    Ok(rows)
}

async fn per_delivery(
    name: &str,
    system: &System,
    load: &Load,
    flags: Option<&'static str>,
) -> Result<Row> {
    let outcome = measure(system, load, flags).await?;
    let cost = per(outcome.gateway, outcome.deliveries);
    let figure = Figure::new("gateway per delivery", cost, "µs");
    Ok(row(name, system, figure, &outcome))
}

async fn pipeline(name: &str, system: &System, load: &Load) -> Result<Row> {
    let outcome = measure(system, load, None).await?;
    let own = per(outcome.ingest + outcome.gateway, outcome.messages);
    let figure = Figure::new("own per message", own, "µs");
    let mut row = row(name, system, figure, &outcome);
    for (name, time) in [
        ("ingest", outcome.ingest),
        ("gateway", outcome.gateway),
        ("Redis", outcome.redis),
    ] {
        if !time.is_zero() {
            row.more
                .push(Figure::new(name, per(time, outcome.messages), "µs"));
        }
    }
    Ok(row)
}

async fn latency(name: &str, system: &System, load: &Load) -> Result<Row> {
    let outcome = measure(system, load, None).await?;
    let p99 = outcome.latency.map_or(0.0, |latency| latency.p99_ms);
    Ok(row(name, system, Figure::new("p99", p99, "ms"), &outcome))
}

async fn unwatched(name: &str, system: &System, load: &Load) -> Result<Row> {
    let outcome = measure(system, load, None).await?;
    let share = 100.0 * outcome.gateway.as_secs_f64() / outcome.took.as_secs_f64();
    let figure = Figure::new("four gateways", share, "% of a core");
    let mut row = row(name, system, figure, &outcome);
    row.latency = None;
    row.sums = None;
    Ok(row)
}

fn row(name: &str, system: &System, figure: Figure, outcome: &Outcome) -> Row {
    let mut row = Row::new(name, &system.name, figure);
    row.latency = outcome.latency;
    row.sums = Some(outcome.sums);
    let seconds = outcome.took.as_secs_f64();
    let messages = number(outcome.messages) / seconds;
    row.more.push(Figure::new("", messages, "messages/s"));
    if outcome.deliveries > 0 {
        let deliveries = number(outcome.deliveries) / seconds;
        row.more.push(Figure::new("", deliveries, "deliveries/s"));
        let bytes = number(outcome.bytes) / number(outcome.deliveries);
        row.more.push(Figure::new("", bytes, "bytes each"));
    }
    if outcome.sums.announced > 0 {
        let announced = number(outcome.sums.announced);
        row.more
            .push(Figure::new("", announced, "left out and said so"));
    }
    if outcome.other_events > 0 {
        let events = number(outcome.other_events);
        row.more.push(Figure::new("", events, "other events"));
    }
    row
}

async fn measure(system: &System, load: &Load, flags: Option<&'static str>) -> Result<Outcome> {
    let setup = Setup {
        gateways: load.gateways,
        gateway_flags: flags,
        broker: None,
    };
    let running = Running::start(system, &setup).await?;
    let clock = Clock::start();
    publisher::prime(running.broker_port(), clock, load.devices, PRIME_PER_SECOND).await?;
    running.processed(load.devices).await?;
    let mut crowd = Crowd::new(clock);
    crowd.connect(wishes(load, &running.ports())).await?;

    let schedule = Schedule {
        devices: load.devices,
        per_second: load.per_second,
        first: load.devices,
        // Far enough for the publisher to be connected by then.
        start_us: clock.micros() + 100_000,
    };
    crowd
        .seen
        .schedule
        .set(schedule)
        .ok()
        .context("a second schedule")?;
    let publisher = Publisher::start(running.broker_port(), clock, schedule, u64::MAX)?;
    tokio::time::sleep(load.warm_up).await;
    let before = Counted::read(&running, &crowd, clock)?;
    crowd.measure();
    tokio::time::sleep(load.measured).await;
    let after = Counted::read(&running, &crowd, clock)?;
    crowd.measured();
    crowd.check()?;
    let end = publisher.stop().await?;
    running.processed(end).await?;

    let seen = std::sync::Arc::clone(&crowd.seen);
    let sums = crowd.finish(end).await?;
    running.stop()?;
    let times = seen.latency();
    let millis = |micros: u64| number(micros) / 1000.0;
    let latency = (times.count() > 0).then(|| Latency {
        p50_ms: millis(times.quantile(500)),
        p99_ms: millis(times.quantile(990)),
        max_ms: millis(times.max()),
    });
    let took_us = after.at_us - before.at_us;
    Ok(Outcome {
        ingest: after.ingest.saturating_sub(before.ingest),
        gateway: after.gateway.saturating_sub(before.gateway),
        redis: after.redis.saturating_sub(before.redis),
        took: Duration::from_micros(took_us),
        messages: schedule.due_before(after.at_us) - schedule.due_before(before.at_us),
        deliveries: after.deliveries - before.deliveries,
        bytes: after.bytes - before.bytes,
        other_events: seen.other_events.load(Ordering::Relaxed),
        latency,
        sums,
    })
}

/// What each client watches: the devices behind those of the client before it.
fn wishes(load: &Load, ports: &[u16]) -> Vec<Wish> {
    let devices = |client: u64| {
        let first = client * load.each;
        (first..first + load.each)
            .map(|device| device % load.devices)
            .collect()
    };
    (0..load.clients)
        .zip(ports.iter().cycle())
        .map(|(client, port)| Wish {
            port: *port,
            transport: load.transport,
            devices: devices(client),
            is_stalled: load.stalled_of.is_some_and(|one| client % one == 0),
        })
        .collect()
}

/// What processes used and clients received so far.
#[derive(Debug)]
struct Counted {
    at_us: u64,
    ingest: Duration,
    gateway: Duration,
    redis: Duration,
    deliveries: u64,
    bytes: u64,
}

impl Counted {
    fn read(running: &Running, crowd: &Crowd, clock: Clock) -> Result<Self> {
        Ok(Self {
            at_us: clock.micros(),
            ingest: running.cpu_time(Role::Ingest)?,
            gateway: running.cpu_time(Role::Gateway)?,
            redis: running.cpu_time(Role::Redis)?,
            deliveries: crowd.seen.deliveries.load(Ordering::Relaxed),
            bytes: crowd.seen.bytes.load(Ordering::Relaxed),
        })
    }
}

/// Returns the microseconds for each.
fn per(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / number(count.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

fn can_coalesce(system: &System) -> Result<bool> {
    let Kind::Ours(folder) = &system.kind else {
        return Ok(false);
    };
    let gateway: &Path = &folder.join("gateway");
    let help = Command::new(gateway).arg("--help").output()?;
    Ok(String::from_utf8_lossy(&help.stdout).contains("--coalesce"))
}

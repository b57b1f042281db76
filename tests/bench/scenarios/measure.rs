//! One system under a load: readings at an even pace, and clients that watch them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::clock::Clock;
use crate::load::crowd::{Crowd, Transport, Wish};
use crate::load::histogram::Histogram;
use crate::load::publisher::{self, Publisher};
use crate::load::schedule::Schedule;
use crate::load::tally::Sums;
use crate::report::row::Latency;
use crate::systems::{Role, Running, Setup, System};

/// Every device is published once before clients subscribe, at this pace.
const PRIME_PER_SECOND: u64 = 2000;

/// Devices and clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) devices: u64,
    pub(super) per_second: u64,
    pub(super) clients: u64,
    /// Devices that each client watches: neighbours, so that every device is watched by as many clients.
    pub(super) each: u64,
    /// Of so many clients one is stalled.
    pub(super) stalled_of: Option<u64>,
    pub(super) transport: Transport,
    pub(super) gateways: usize,
    pub(super) gateway_flags: Option<&'static str>,
    pub(super) ingest_flags: Option<&'static str>,
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

pub(super) const LOAD: Load = Load {
    devices: 5,
    per_second: 50,
    clients: 1000,
    each: 5,
    stalled_of: None,
    transport: Transport::WebSocket,
    gateways: 1,
    gateway_flags: None,
    ingest_flags: None,
    warm_up: Duration::from_secs(3),
    measured: Duration::from_secs(12),
};

/// What was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ingest: Duration,
    pub(super) gateway: Duration,
    pub(super) redis: Duration,
    pub(super) took: Duration,
    pub(super) messages: u64,
    pub(super) deliveries: u64,
    pub(super) bytes: u64,
    pub(super) alarm_events: u64,
    pub(super) status_events: u64,
    pub(super) closed: u64,
    pub(super) latency: Option<Latency>,
    pub(super) sums: Sums,
}

/// Starts a system, puts the load on it, and reads what its processes used and the clients received.
pub(super) async fn measure(system: &System, load: &Load) -> Result<Outcome> {
    let setup = Setup {
        gateways: load.gateways,
        gateway_flags: load.gateway_flags,
        ingest_flags: load.ingest_flags,
        ..Setup::default()
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

    let seen = Arc::clone(&crowd.seen);
    let sums = crowd.finish(end).await?;
    running.stop()?;
    let took_us = after.at_us - before.at_us;
    Ok(Outcome {
        ingest: after.ingest.saturating_sub(before.ingest),
        gateway: after.gateway.saturating_sub(before.gateway),
        redis: after.redis.saturating_sub(before.redis),
        took: Duration::from_micros(took_us),
        messages: schedule.due_before(after.at_us) - schedule.due_before(before.at_us),
        deliveries: after.deliveries - before.deliveries,
        bytes: after.bytes - before.bytes,
        alarm_events: seen.alarm_events.load(Ordering::Relaxed),
        status_events: seen.status_events.load(Ordering::Relaxed),
        closed: seen.closed.load(Ordering::Relaxed),
        latency: latency(seen.latency()),
        sums,
    })
}

/// Returns what the table shows of latencies, unless there are none.
pub(super) fn latency(times: &Histogram) -> Option<Latency> {
    let millis = |micros: u64| number(micros) / 1000.0;
    (times.count() > 0).then(|| Latency {
        p50: millis(times.quantile(500)),
        p99: millis(times.quantile(990)),
        max: millis(times.max()),
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
pub(super) fn per(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / number(count.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

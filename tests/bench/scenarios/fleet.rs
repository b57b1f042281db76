//! What clients cost that follow the rows of all devices: nobody, one and twenty of them, in the same run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::measure::number;
use crate::load::clock::Clock;
use crate::load::followers::Followers;
use crate::load::publisher::{self, Publisher};
use crate::load::schedule::Schedule;
use crate::report::row::{Figure, Row};
use crate::systems::{Role, Running, Setup, System};

/// Each sends once a second.
const DEVICES: u64 = 2003;
const CLIENTS: [usize; 3] = [0, 1, 20];
const SETTLED: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);

/// Measures one system.
pub(super) async fn run(system: &System) -> Result<Vec<Row>> {
    let running = Running::start(system, &Setup::default()).await?;
    let clock = Clock::start();
    publisher::prime(running.broker_port(), clock, DEVICES, DEVICES).await?;
    running.processed(DEVICES).await?;
    let schedule = Schedule {
        devices: DEVICES,
        per_second: DEVICES,
        first: DEVICES,
        start_us: clock.micros() + 100_000,
    };
    let publisher = Publisher::start(running.broker_port(), clock, schedule, u64::MAX)?;
    let mut followers = Followers::default();
    let mut rows: Vec<Row> = Vec::new();
    for clients in CLIENTS {
        followers.grow_to(running.ports()[0], clients).await?;
        tokio::time::sleep(SETTLED).await;
        let before = Counted::read(&running, &followers, clock)?;
        tokio::time::sleep(MEASURED).await;
        followers.check()?;
        let after = Counted::read(&running, &followers, clock)?;
        let row = row(system, clients, &before, &after, &rows);
        rows.push(row);
    }
    let end = publisher.stop().await?;
    running.processed(end).await?;
    drop(followers);
    running.stop()?;
    Ok(rows)
}

/// What processes used and clients received so far.
struct Counted {
    at_us: u64,
    gateway: Duration,
    redis: Duration,
    resident_kib: u64,
    rows: u64,
    bytes: u64,
}

impl Counted {
    fn read(running: &Running, followers: &Followers, clock: Clock) -> Result<Self> {
        Ok(Self {
            at_us: clock.micros(),
            gateway: running.cpu_time(Role::Gateway)?,
            redis: running.cpu_time(Role::Redis)?,
            resident_kib: running.resident_kib(Role::Gateway)?,
            rows: followers.followed.rows.load(Ordering::Relaxed),
            bytes: followers.followed.bytes.load(Ordering::Relaxed),
        })
    }
}

/// `others`: the rows with fewer clients, with which this one is compared.
fn row(system: &System, clients: usize, before: &Counted, after: &Counted, others: &[Row]) -> Row {
    let seconds = number(after.at_us - before.at_us) / 1e6;
    let share = |before: Duration, after: Duration| {
        100.0 * after.saturating_sub(before).as_secs_f64() / seconds
    };
    let gateway = share(before.gateway, after.gateway);
    let figure = Figure::new("gateway", gateway, "% of a core");
    let clients = match clients {
        0 => "nobody".to_owned(),
        1 => "one client".to_owned(),
        several => format!("{several} clients"),
    };
    let mut row = Row::new(&format!("fleet: {clients}"), &system.name, figure);
    let redis = share(before.redis, after.redis);
    row.more.push(Figure::new("Redis", redis, "% of a core"));
    for other in others {
        let name = format!("× {}", other.scenario);
        let times = gateway / other.figure.value;
        row.more.push(Figure::new(&name, times, ""));
    }
    for (name, value, unit) in [
        (
            "gateway resident",
            number(after.resident_kib) / 1024.0,
            "MiB",
        ),
        ("", number(after.rows - before.rows) / seconds, "rows/s"),
        (
            "",
            number(after.bytes - before.bytes) / seconds / 1024.0,
            "KiB/s",
        ),
    ] {
        row.more.push(Figure::new(name, value, unit));
    }
    row
}

//! What Redis keeps of a device.

use anyhow::{Context, Result, ensure};

use super::measure::number;
use crate::load::clock::Clock;
use crate::load::publisher::Publisher;
use crate::load::readings;
use crate::load::schedule::Schedule;
use crate::report::row::{Figure, Row};
use crate::systems::{Running, Setup, System};

const DEVICES: u64 = 101;
/// Each device is published so often: more than any of its streams keeps, except for the history.
const ROUNDS: u64 = 200;
const PER_SECOND: u64 = 1000;
const KIB: f64 = 1024.0;
/// A key of the history has this in its name.
const HISTORY: &str = "history";

/// Measures one system.
pub(super) async fn run(system: &System) -> Result<Vec<Row>> {
    let running = Running::start(system, &Setup::default()).await?;
    let clock = Clock::start();
    let schedule = Schedule {
        devices: DEVICES,
        per_second: PER_SECOND,
        first: 0,
        start_us: clock.micros(),
    };
    let end = DEVICES * ROUNDS;
    let publisher = Publisher::start(running.broker_port(), clock, schedule, end)?;
    publisher.finish().await?;
    running.processed(end).await?;
    let Running::Ours(stack) = &running else {
        anyhow::bail!("only ours keeps devices");
    };
    let mut redis = stack.redis_connection().await?;
    let serial = readings::serial(0);
    let mut parts: Vec<(String, u64)> = Vec::new();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("*{serial}*"))
        .query_async(&mut redis)
        .await?;
    for key in keys {
        let bytes: u64 = redis::cmd("MEMORY")
            .arg(&["USAGE", &key, "SAMPLES", "0"])
            .query_async(&mut redis)
            .await?;
        let name = key.rsplit(':').find(|part| !part.contains(&serial));
        let name = name.context("a key has a name")?.to_owned();
        parts.push((name, bytes));
    }
    ensure!(!parts.is_empty(), "no keys of {serial}");
    drop(redis);
    running.stop()?;

    let (history, rest): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .partition(|(name, _)| name.contains(HISTORY));
    let sum = |parts: &[(String, u64)]| parts.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let kib = |bytes: u64| number(bytes) / KIB;
    let figure = Figure::new("Redis per device", kib(sum(&rest)), "KiB");
    let mut row = Row::new("memory", &system.name, figure);
    for (name, bytes) in &rest {
        row.more.push(Figure::new(name, kib(*bytes), "KiB"));
    }
    let name = format!("history of {ROUNDS}");
    row.more.push(Figure::new(&name, kib(sum(&history)), "KiB"));
    Ok(vec![row])
}

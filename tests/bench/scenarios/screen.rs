//! The dashboard in Chromium with two thousand devices at 1 Hz: how smooth it is, and whether it grows.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tests::repository;
use tests::screens::CHROMIUM;
use tokio::process::Command;

use super::measure::number;
use crate::load::clock::Clock;
use crate::load::publisher::{self, Publisher};
use crate::load::schedule::Schedule;
use crate::report::row::{Figure, Row};
use crate::systems::{Role, Running, Setup, System};

/// Each sends once a second.
const DEVICES: u64 = 2003;
/// For how long the screen is measured.
const SECONDS: u64 = 300;

/// What the script has measured.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    /// Milliseconds between two frames.
    frame_p50: f64,
    frame_p99: f64,
    frame_max: f64,
    /// Frames per second.
    frames: f64,
    /// Tasks that kept the page from drawing for more than 50 ms, per minute, and the longest in milliseconds.
    long_tasks: f64,
    longest_task: f64,
    /// The heap after a collection at the beginning and at the end, in MiB, and how it grew by the line through all collections.
    heap_first: f64,
    heap_last: f64,
    heap_growth_kib_per_minute: f64,
    /// Nodes of the document at the beginning and at the end.
    nodes_first: f64,
    nodes_last: f64,
    /// Changes of the document per second: it shows that it is live.
    changes: f64,
}

/// Measures one system.
pub(super) async fn run(system: &System) -> Result<Vec<Row>> {
    let setup = Setup {
        has_dashboard: true,
        ..Setup::default()
    };
    let running = Running::start(system, &setup).await?;
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
    let script = repository::root().join("gateway/dashboard/test/measure.mjs");
    let url = format!("http://127.0.0.1:{}", running.ports()[0]);
    let output = Command::new("node")
        .arg(script)
        .args([&url, &SECONDS.to_string(), CHROMIUM])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("`node` is missing: install Node 20")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    let measured: Measured = serde_json::from_slice(&output.stdout)?;
    let resident = number(running.resident_kib(Role::Gateway)?) / 1024.0;
    publisher.stop().await?;
    running.stop()?;

    let figure = Figure::new("p99 between frames", measured.frame_p99, "ms");
    let mut row = Row::new("screen", &system.name, figure);
    for (name, value, unit) in [
        ("median", measured.frame_p50, "ms"),
        ("longest", measured.frame_max, "ms"),
        ("", measured.frames, "frames/s"),
        ("", measured.long_tasks, "long tasks/min"),
        ("longest task", measured.longest_task, "ms"),
        ("heap at first", measured.heap_first, "MiB"),
        ("at last", measured.heap_last, "MiB"),
        ("growth", measured.heap_growth_kib_per_minute, "KiB/min"),
        ("nodes at first", measured.nodes_first, ""),
        ("at last", measured.nodes_last, ""),
        ("", measured.changes, "changes of the document/s"),
        ("gateway resident", resident, "MiB"),
    ] {
        row.more.push(Figure::new(name, value, unit));
    }
    Ok(vec![row])
}

//! Whether the cost of each message and each delivery stays the same while devices and clients become many and histories long.

use std::time::Duration;

use anyhow::Result;

use super::measure::{LOAD, Load, measure, per};
use super::watched;
use crate::report::row::{Figure, Row};
use crate::systems::System;

/// At every size: the same number of messages, and with clients of deliveries.
const PER_SECOND: u64 = 2000;
/// Room for the largest number of devices.
const MAX_DEVICES: &str = "--max-devices=110000";

/// Measures one system.
pub(super) async fn run(system: &System) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    // Clients, and how many devices each watches. No device is watched twice, and none is above its rate.
    for (clients, each) in [(1, 211), (10, 23), (101, 3), (1009, 1), (10_007, 1)] {
        let load = Load {
            devices: clients * each,
            per_second: PER_SECOND,
            clients,
            each,
            ..LOAD
        };
        let name = format!("growth: clients {clients}");
        rows.push(watched::per_delivery(&name, system, &load).await?);
    }
    for devices in [211, 1009, 10_007, 100_003] {
        let load = Load {
            devices,
            ingest_flags: Some(MAX_DEVICES),
            ..COMMITS
        };
        rows.push(per_commit(&format!("growth: devices {devices}"), system, &load).await?);
    }
    // What a history has to hold before it is full, and how long that takes at nine samples a second.
    for (name, flag, warm_up) in [
        ("growing", None, 3),
        ("full", Some("--history-max=300"), 40),
    ] {
        let load = Load {
            ingest_flags: flag,
            warm_up: Duration::from_secs(warm_up),
            ..COMMITS
        };
        rows.push(per_commit(&format!("growth: history {name}"), system, &load).await?);
    }
    Ok(rows)
}

/// Readings that nobody watches.
const COMMITS: Load = Load {
    devices: 211,
    per_second: PER_SECOND,
    clients: 0,
    ..LOAD
};

/// Measures what a message costs ingest and Redis.
async fn per_commit(name: &str, system: &System, load: &Load) -> Result<Row> {
    let outcome = measure(system, load).await?;
    let cost = per(outcome.ingest + outcome.redis, outcome.messages);
    let figure = Figure::new("ingest and Redis per message", cost, "µs");
    let mut row = watched::row(name, system, figure, &outcome);
    row.latency = None;
    row.sums = None;
    Ok(row)
}

//! What clients that watch readings cost, and how late the readings are.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Scenario;
use super::measure::{LOAD, Load, Outcome, measure, number, per};
use crate::load::crowd::Transport;
use crate::report::row::{Figure, Row};
use crate::systems::{Kind, System};

/// Flags of a gateway that collects telemetry for a time before it is written.
const COALESCE: &str = "--coalesce=20ms";

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
            rows.push(per_delivery(&name, system, &fan).await?);
        }
        Scenario::Dash => {
            let load = Load {
                devices: 203,
                per_second: 500,
                clients: 500,
                each: 40,
                ..LOAD
            };
            rows.push(per_delivery(&name, system, &load).await?);
            if can_coalesce(system)? {
                let name = format!("{name} {COALESCE}");
                let load = Load {
                    gateway_flags: Some(COALESCE),
                    ..load
                };
                rows.push(per_delivery(&name, system, &load).await?);
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

pub(super) async fn per_delivery(name: &str, system: &System, load: &Load) -> Result<Row> {
    let outcome = measure(system, load).await?;
    let cost = per(outcome.gateway, outcome.deliveries);
    let figure = Figure::new("gateway per delivery", cost, "µs");
    Ok(row(name, system, figure, &outcome))
}

async fn pipeline(name: &str, system: &System, load: &Load) -> Result<Row> {
    let outcome = measure(system, load).await?;
    // Each message is delivered once. Not all that were published in this time are, if a server cannot keep up.
    let messages = outcome.deliveries;
    let own = per(outcome.ingest + outcome.gateway, messages);
    let figure = Figure::new("own per message", own, "µs");
    let mut row = row(name, system, figure, &outcome);
    for (name, time) in [
        ("ingest", outcome.ingest),
        ("gateway", outcome.gateway),
        ("Redis", outcome.redis),
    ] {
        if !time.is_zero() {
            row.more.push(Figure::new(name, per(time, messages), "µs"));
        }
    }
    Ok(row)
}

async fn latency(name: &str, system: &System, load: &Load) -> Result<Row> {
    let outcome = measure(system, load).await?;
    let p99 = outcome.latency.map_or(0.0, |latency| latency.p99);
    Ok(row(name, system, Figure::new("p99", p99, "ms"), &outcome))
}

async fn unwatched(name: &str, system: &System, load: &Load) -> Result<Row> {
    let outcome = measure(system, load).await?;
    let share = 100.0 * outcome.gateway.as_secs_f64() / outcome.took.as_secs_f64();
    let figure = Figure::new("four gateways", share, "% of a core");
    let mut row = row(name, system, figure, &outcome);
    row.latency = None;
    row.sums = None;
    Ok(row)
}

pub(super) fn row(name: &str, system: &System, figure: Figure, outcome: &Outcome) -> Row {
    let mut row = Row::new(name, &system.name, figure);
    row.latency = outcome.latency;
    row.sums = Some(outcome.sums);
    let seconds = outcome.took.as_secs_f64();
    let messages = number(outcome.messages) / seconds;
    row.more.push(Figure::new("", messages, "published/s"));
    if outcome.deliveries > 0 {
        let deliveries = number(outcome.deliveries) / seconds;
        row.more.push(Figure::new("", deliveries, "delivered/s"));
        let bytes = number(outcome.bytes) / number(outcome.deliveries);
        row.more.push(Figure::new("", bytes, "bytes each"));
    }
    for (name, count) in [
        ("left out and said so", outcome.sums.announced),
        ("events of alarms", outcome.alarm_events),
        ("times told that data may be late", outcome.status_events),
        ("clients closed by the server", outcome.closed),
    ] {
        if count > 0 {
            row.more.push(Figure::new("", number(count), name));
        }
    }
    row
}

fn can_coalesce(system: &System) -> Result<bool> {
    let Kind::Ours(folder) = &system.kind else {
        return Ok(false);
    };
    let gateway: &Path = &folder.join("gateway");
    let help = Command::new(gateway).arg("--help").output()?;
    Ok(String::from_utf8_lossy(&help.stdout).contains("--coalesce"))
}

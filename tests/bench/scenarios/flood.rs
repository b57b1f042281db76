//! How many messages ingest and Redis commit, if nothing else needs the processor: the broker is in this process and publishes as
//! fast as ingest acknowledges.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::eventually::eventually;

use super::measure::number;
use crate::load::broker::Broker;
use crate::load::clock::Clock;
use crate::report::row::{Figure, Row};
use crate::systems::{Role, Running, Setup, System};

const DEVICES: u64 = 4001;
const WARM_UP: Duration = Duration::from_secs(4);
const MEASURED: Duration = Duration::from_secs(12);

/// Measures one system.
pub(super) async fn run(system: &System) -> Result<Vec<Row>> {
    let broker = Broker::start(DEVICES).await?;
    let setup = Setup {
        broker: Some(broker.port()),
        ..Setup::default()
    };
    let running = Running::start(system, &setup).await?;
    let clock = Clock::start();
    broker.open();
    tokio::time::sleep(WARM_UP).await;
    let count = || {
        anyhow::Ok((
            clock.micros(),
            broker.acknowledged(),
            running.cpu_time(Role::Ingest)?,
            running.cpu_time(Role::Redis)?,
        ))
    };
    let before = count()?;
    tokio::time::sleep(MEASURED).await;
    let after = count()?;
    broker.close();
    eventually("everything is acknowledged", async || {
        ensure!(broker.is_idle(), "messages are under way");
        Ok(())
    })
    .await?;
    let acknowledged = broker.acknowledged();
    running.processed(acknowledged).await?;
    running.stop()?;

    let messages = number(after.1 - before.1);
    let seconds = number(after.0 - before.0) / 1e6;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / messages;
    let figure = Figure::new("committed and acknowledged", messages / seconds, "/s");
    let mut row = Row::new("flood", &system.name, figure);
    for (name, time) in [
        ("ingest", after.2.saturating_sub(before.2)),
        ("Redis", after.3.saturating_sub(before.3)),
    ] {
        row.more.push(Figure::new(name, each(time), "µs"));
        let share = 100.0 * time.as_secs_f64() / seconds;
        row.more.push(Figure::new("that is", share, "% of a core"));
    }
    Ok(vec![row])
}

//! Detectors that report regularly. Some of them raise and clear an alarm again and again. Also the check that every client
//! received the changes in the alarm log.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::crowd::Crowd;
use crate::device::Device;
use crate::eventually::eventually;
use crate::stack::Stack;

/// The reporting pattern of one device.
#[derive(Clone, Debug)]
pub struct Habit {
    /// Time between two readings.
    pub every: Duration,
    /// With `Some(n)`, every n-th reading raises an alarm, which the next one clears.
    pub raises: Option<u32>,
}

/// The running devices.
#[derive(Debug)]
pub struct Episodes {
    stop: watch::Sender<bool>,
    devices: JoinSet<Result<(String, usize)>>,
}

impl Episodes {
    /// Starts these devices. They report until they are stopped.
    pub fn begin(devices: impl IntoIterator<Item = (Device, Habit)>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (number, (device, habit)) in (0_u32..).zip(devices) {
            tasks.spawn(report(device, habit, number, stopped.clone()));
        }
        Self {
            stop,
            devices: tasks,
        }
    }

    /// Ends the devices, each with a last reading without an alarm. Returns how many alarms each one raised.
    pub async fn end(mut self) -> Result<BTreeMap<String, usize>> {
        self.stop.send_replace(true);
        let mut raised = BTreeMap::new();
        while let Some(ended) = self.devices.join_next().await {
            let (serial, count) = ended??;
            raised.insert(serial, count);
        }
        Ok(raised)
    }
}

async fn report(
    device: Device,
    habit: Habit,
    number: u32,
    mut stopped: watch::Receiver<bool>,
) -> Result<(String, usize)> {
    // Spread the first readings evenly over the period.
    let first = habit.every * (number % 10) / 10;
    let mut ticks = interval_at(tokio::time::Instant::now() + first, habit.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let send = async |value: u32| device.publish(&device.newest(value)).await;
    let mut raised = 0;
    for reading in 1_u32.. {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            _ = ticks.tick() => {}
        }
        let is_alarm = habit.raises.is_some_and(|nth| reading % nth == 0);
        raised += usize::from(is_alarm);
        send(if is_alarm { 300 } else { reading % 200 }).await?;
    }
    send(1).await?;
    Ok((device.serial().to_owned(), raised))
}

/// Waits until every client of the crowd has received, for each device it watches, exactly the changes in the alarm log, in
/// their order: each alarm raised once and cleared once. Returns the number of changes.
pub async fn every_client_received_the_log(
    stack: &Stack,
    crowd: &mut Crowd,
    raised: &BTreeMap<String, usize>,
) -> Result<usize> {
    let mut changes = 0;
    let mut expected = BTreeMap::new();
    for (serial, raised) in raised {
        let logged = eventually(&format!("the log of {serial} is complete"), async || {
            let path = format!("/devices/{serial}/alarm-logs?limit=1000");
            let body = stack.gateways[0].get(&path).await?.expect(200)?;
            let rows = body["logs"].as_array().context("no rows")?;
            ensure!(rows.len() == *raised, "{} rows of {raised}", rows.len());
            let mut logged = Vec::new();
            for row in rows.iter().rev() {
                let id = row["alarm_id"].as_str().context("no id")?;
                ensure!(row["cleared_at"].is_string(), "still open: {row}");
                logged.extend([format!("raised {id}"), format!("cleared {id}")]);
            }
            Ok(logged)
        })
        .await?;
        changes += logged.len();
        expected.insert(serial, logged);
    }
    eventually("every client received the log", async || {
        for (serial, sequences) in crowd.changes().await? {
            let expected = &expected[&serial];
            for sequence in sequences {
                ensure!(
                    sequence.changes == *expected,
                    "{serial}: {} clients received {}",
                    sequence.clients,
                    difference(&sequence.changes, expected)
                );
            }
        }
        Ok(())
    })
    .await?;
    Ok(changes)
}

/// Describes the first difference between two sequences.
fn difference(seen: &[String], expected: &[String]) -> String {
    let index = seen
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    format!(
        "{} changes of {}; number {index} is {:?} and not {:?}",
        seen.len(),
        expected.len(),
        seen.get(index),
        expected.get(index)
    )
}

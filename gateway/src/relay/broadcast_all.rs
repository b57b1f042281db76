//! With `--broadcast-all`, watches every device for every client, even without a subscription.

use std::collections::HashSet;
use std::time::Duration;

use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::store::Store;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::command::ShardCommand;
use super::shard_senders::ShardSenders;

/// How often the list of devices is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// How much the clocks of ingest and gateway may differ, in milliseconds.
const CLOCK_TOLERANCE_MS: i64 = 1000;

/// Pins every listed device, and every new one, until `finish`: the relay then watches it for every client. `started` is the
/// time at which the gateway started.
pub(super) async fn pin_all(
    store: Store,
    shards: ShardSenders,
    started: Time,
    finish: CancellationToken,
) -> anyhow::Result<()> {
    let earliest = Time::from_millis(started.as_millis().saturating_sub(CLOCK_TOLERANCE_MS));
    // Bounded by `--max-devices`.
    let mut pinned: HashSet<DeviceId> = HashSet::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = finish.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let devices = match store.devices().await {
            Ok(devices) => devices,
            Err(error) => {
                let error = error_chain(&error);
                tracing::debug!(error, "cannot list the devices, trying again");
                continue;
            }
        };
        for (device, last_message) in devices {
            if pinned.insert(device.clone()) {
                // A device that sent something before it was listed: its readings since then are sent late.
                let since = last_message
                    .is_some_and(|at| at >= earliest)
                    .then_some(earliest);
                let pin = |channel| ShardCommand::Pin {
                    channel,
                    device: device.clone(),
                    since,
                };
                shards.send(&device, pin).await;
            }
        }
    }
}

//! Everything to everybody, where that is switched on: every device is watched, not only those somebody subscribed to.

use std::collections::HashSet;
use std::time::Duration;

use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Relay;

/// How often new devices are looked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the clocks of ingest and gateway may differ by.
const SLACK_MS: i64 = 1000;

/// Pins every device there is, and every one that turns up, until `finish`. `begun`: when the gateway started.
pub(super) async fn pin(
    relay: Relay,
    begun: Time,
    finish: CancellationToken,
) -> anyhow::Result<()> {
    let begun = Time::from_millis(begun.as_millis().saturating_sub(SLACK_MS));
    // Bounded by the limit of devices.
    let mut pinned: HashSet<DeviceId> = HashSet::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = finish.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let devices = match relay.store.devices().await {
            Ok(devices) => devices,
            Err(error) => {
                let error = error_chain(&error);
                tracing::debug!(error, "cannot list the devices, trying on");
                continue;
            }
        };
        for (device, last_message) in devices {
            if pinned.insert(device.clone()) {
                // Heard before it was listed: its first reading is told late rather than never.
                let since = last_message.is_some_and(|at| at >= begun).then_some(begun);
                relay.pin(device, since).await;
            }
        }
    }
}

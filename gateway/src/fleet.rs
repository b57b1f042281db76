//! The view of the whole fleet: the watchers at all replicas, and the state of all devices. Only metrics and analytics use
//! it; no decision depends on it.
//!
//! Once per interval this replica writes its own report to Redis, which expires after three intervals. It reads the reports
//! of the others, and the sample of all devices. The first replica that finds the sample too old makes a new one.

pub(crate) mod latest;
pub(crate) mod totals;

use std::cmp::Reverse;
use std::time::Duration;

use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::store::{Store, StoreError, WatchReport};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::relay::Relay;
use latest::{FleetReport, LatestFleetReport};
use totals::FleetTotals;

/// Number of intervals after which a report expires, if its replica did not withdraw it.
const EXPIRES_AFTER: u32 = 3;

/// The task that writes this replica's report and reads those of all.
pub(crate) struct FleetReporter {
    pub(crate) store: Store,
    pub(crate) relay: Relay,
    pub(crate) clients: Clients,
    /// Name of this replica; no other replica has the same.
    pub(crate) replica: String,
    pub(crate) interval: Duration,
    pub(crate) latest: LatestFleetReport,
}

impl FleetReporter {
    /// Reports and reads until `finish`, then withdraws the report.
    pub(crate) async fn run(self, finish: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut log = FleetLog::default();
        loop {
            tokio::select! {
                () = finish.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let exchange = finish.run_until_cancelled(self.exchange());
            if let Some(result) = exchange.await {
                log.log_changes(result);
            }
        }
        // If it cannot be withdrawn, it expires.
        self.store.withdraw_watchers(&self.replica).await.ok();
        Ok(())
    }

    /// Writes the report, then reads the sample and all reports. Each part is done even if another one fails: a Redis that
    /// refuses writes may still be read. Returns the devices whose state cannot be read.
    async fn exchange(&self) -> Result<Vec<DeviceId>, StoreError> {
        let report = self.report().await;
        let life = self.interval * EXPIRES_AFTER;
        let reported = self.store.report_watchers(&self.replica, &report, life);
        let reported = reported.await;
        // Half an interval, so that the sample this replica made last time is always too old.
        let sample = self.store.fleet(self.interval / 2).await?;
        let unreadable = sample.unreadable.clone();
        let reports = self.store.watchers().await;
        let totals = reports.map(|reports| FleetTotals::of(&reports));
        let (totals, failed) = match totals {
            Ok(totals) => (Some(totals), reported.err()),
            Err(error) => (None, Some(error)),
        };
        self.latest.replace(FleetReport { sample, totals });
        failed.map_or(Ok(unreadable), Err)
    }

    async fn report(&self) -> WatchReport {
        let watched = self.relay.watchers().await;
        let clients = self.clients.by_transport();
        WatchReport {
            websocket: clients.websocket,
            polling: clients.polling,
            ..report_of(watched)
        }
    }
}

/// Logs when something begins or ends to fail, and nothing while it continues.
#[derive(Debug, Default)]
struct FleetLog {
    is_failing: bool,
    unreadable: Vec<DeviceId>,
}

impl FleetLog {
    fn log_changes(&mut self, result: Result<Vec<DeviceId>, StoreError>) {
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        match result {
            Err(error) if !was_failing => {
                let error = error_chain(&error);
                tracing::warn!(error, "cannot read or publish the fleet report");
            }
            Err(_) => {}
            Ok(unreadable) => {
                if was_failing {
                    tracing::info!("the fleet report can be read and published again");
                }
                if unreadable != self.unreadable {
                    if !unreadable.is_empty() {
                        tracing::warn!(devices = ?unreadable, "cannot read the stored states of devices; the first ones are listed");
                    }
                    self.unreadable = unreadable;
                }
            }
        }
    }
}

/// Builds the report of the watched devices. It names the devices with the most watchers, up to
/// [`WatchReport::MAX_DEVICES`].
fn report_of(mut watched: Vec<(DeviceId, u64)>) -> WatchReport {
    let rooms = watched.len() as u64;
    let subscriptions = watched.iter().map(|(_, watchers)| watchers).sum();
    if watched.len() > WatchReport::MAX_DEVICES {
        watched.sort_unstable_by_key(|(_, watchers)| Reverse(*watchers));
        watched.truncate(WatchReport::MAX_DEVICES);
    }
    WatchReport {
        subscriptions,
        rooms,
        devices: watched.into_iter().collect(),
        ..WatchReport::default()
    }
}

#[cfg(test)]
mod tests;

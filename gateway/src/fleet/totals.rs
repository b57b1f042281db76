//! The sums of the reports of all replicas.

use std::collections::BTreeMap;

use shared::device::DeviceId;
use shared::store::WatchReport;

/// The clients of all replicas together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FleetTotals {
    pub(crate) connections: u64,
    pub(crate) subscriptions: u64,
    /// The watched devices that at least one replica names, each with its number of watchers per replica.
    pub(crate) devices: BTreeMap<DeviceId, BTreeMap<String, u64>>,
    pub(crate) replicas: u64,
    /// Number of `devices`.
    pub(crate) rooms: u64,
}

impl FleetTotals {
    /// Sums the reports, which are keyed by replica.
    pub(crate) fn of(reports: &BTreeMap<String, WatchReport>) -> Self {
        let mut totals = Self::default();
        for (replica, report) in reports {
            totals.replicas += 1;
            totals.connections += report.websocket + report.polling;
            totals.subscriptions += report.subscriptions;
            for (device, watchers) in &report.devices {
                let watchers_by_replica = totals.devices.entry(device.clone()).or_default();
                watchers_by_replica.insert(replica.clone(), *watchers);
            }
        }
        totals.rooms = totals.devices.len() as u64;
        totals
    }
}

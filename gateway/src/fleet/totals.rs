//! The sum of what all replicas report.

use std::collections::BTreeMap;

use shared::device::DeviceId;
use shared::store::WatchReport;

/// The clients of all replicas together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FleetTotals {
    pub(crate) connections: u64,
    pub(crate) subscriptions: u64,
    /// The watched devices that some replica names, each with its number of watchers at each replica.
    pub(crate) devices: BTreeMap<DeviceId, BTreeMap<String, u64>>,
    pub(crate) replicas: u64,
    /// Number of `devices`.
    pub(crate) rooms: u64,
}

impl FleetTotals {
    /// The sum of these reports, which are given by replica.
    pub(crate) fn of(reports: &BTreeMap<String, WatchReport>) -> Self {
        let mut totals = Self::default();
        for (replica, report) in reports {
            totals.replicas += 1;
            totals.connections += report.websocket + report.polling;
            totals.subscriptions += report.subscriptions;
            for (device, watchers) in &report.devices {
                let of_device = totals.devices.entry(device.clone()).or_default();
                of_device.insert(replica.clone(), *watchers);
            }
        }
        totals.rooms = totals.devices.len() as u64;
        totals
    }
}

//! The sums of the reports of all replicas.

use std::collections::{BTreeMap, HashSet};

use shared::device::DeviceId;
use shared::store::WatchReport;

/// The clients of all replicas together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FleetTotals {
    pub(crate) connections: u64,
    pub(crate) subscriptions: u64,
    pub(crate) replicas: u64,
    /// Number of distinct devices that the reports name.
    pub(crate) rooms: u64,
}

impl FleetTotals {
    /// Sums the reports, which are keyed by replica.
    pub(crate) fn of(reports: &BTreeMap<String, WatchReport>) -> Self {
        let mut totals = Self::default();
        for report in reports.values() {
            totals.replicas += 1;
            totals.connections += report.websocket + report.polling;
            totals.subscriptions += report.subscriptions;
        }
        let devices = reports.values().flat_map(|report| report.devices.keys());
        // Borrowed: a report may name 20 000 devices.
        totals.rooms = devices.collect::<HashSet<&DeviceId>>().len() as u64;
        totals
    }
}

/// Returns the watched devices that at least one replica names, each with its number of watchers per replica.
pub(crate) fn watchers_by_device(
    reports: &BTreeMap<String, WatchReport>,
) -> BTreeMap<&DeviceId, BTreeMap<&str, u64>> {
    let mut devices: BTreeMap<&DeviceId, BTreeMap<&str, u64>> = BTreeMap::new();
    for (replica, report) in reports {
        for (device, watchers) in &report.devices {
            let by_replica = devices.entry(device).or_default();
            by_replica.insert(replica, *watchers);
        }
    }
    devices
}

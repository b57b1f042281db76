//! Counts of the rows of the alarm log. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::alarm::{Condition, Severity};
use shared::device::DeviceId;

/// Counts of rows, as they are answered.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Statistics {
    total_alarms: u64,
    by_type: BTreeMap<Condition, u64>,
    by_severity: BTreeMap<Severity, u64>,
    by_device: BTreeMap<DeviceId, u64>,
    acknowledged_count: u64,
    unacknowledged_count: u64,
}

impl Statistics {
    /// Adds rows of one kind.
    pub(super) fn add(
        &mut self,
        condition: Condition,
        severity: Severity,
        is_acknowledged: bool,
        count: u64,
    ) {
        self.total_alarms += count;
        *self.by_type.entry(condition).or_default() += count;
        *self.by_severity.entry(severity).or_default() += count;
        if is_acknowledged {
            self.acknowledged_count += count;
        } else {
            self.unacknowledged_count += count;
        }
    }

    /// Adds rows of a device, which were added by [`Self::add`], too.
    pub(super) fn add_of_device(&mut self, device: &DeviceId, count: u64) {
        *self.by_device.entry(device.clone()).or_default() += count;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.total_alarms += other.total_alarms;
        add_counts(&mut self.by_type, other.by_type);
        add_counts(&mut self.by_severity, other.by_severity);
        add_counts(&mut self.by_device, other.by_device);
        self.acknowledged_count += other.acknowledged_count;
        self.unacknowledged_count += other.unacknowledged_count;
    }
}

fn add_counts<K: Ord>(counts: &mut BTreeMap<K, u64>, others: BTreeMap<K, u64>) {
    for (key, count) in others {
        *counts.entry(key).or_default() += count;
    }
}

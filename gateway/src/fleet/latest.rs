//! The latest fleet report, and the gauges that show it.

use std::sync::{Arc, PoisonError, RwLock};

use shared::clock::Clock;
use shared::metrics::Meters;
use shared::store::FleetSample;

use super::totals::FleetTotals;

/// The latest report that this replica has read about all devices and replicas. Empty before the first read. Clones share
/// it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LatestFleetReport {
    // A std lock: held for one clone or one assignment, never across an await.
    report: Arc<RwLock<Option<Arc<FleetReport>>>>,
}

#[derive(Debug)]
pub(super) struct FleetReport {
    pub(super) sample: FleetSample,
    /// `None` if the reports of the replicas could not be read.
    pub(super) totals: Option<FleetTotals>,
}

impl LatestFleetReport {
    pub(super) fn replace(&self, report: FleetReport) {
        let mut latest = self.report.write().unwrap_or_else(PoisonError::into_inner);
        *latest = Some(Arc::new(report));
    }

    fn get(&self) -> Option<Arc<FleetReport>> {
        let latest = self.report.read().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }

    /// Registers the gauges of the fleet. They are absent from the output while this is empty.
    pub(crate) fn register(&self, meters: &Meters, clock: &Arc<dyn Clock>) {
        self.register_devices(meters);
        self.register_replicas(meters);
        let (latest, now) = (self.clone(), Arc::clone(clock));
        meters.age(
            "gateway.fleet.unacknowledged.critical.alarm.age",
            "Age of the oldest open critical alarm that is not acknowledged, counted from when it \
             was raised at any level. 0 without such an alarm.",
            move || {
                let since = latest.get()?.sample.unacknowledged_since;
                let age = since.map(|since| now.now().duration_since(since));
                Some(age.unwrap_or_default().as_secs_f64())
            },
        );
        let (latest, now) = (self.clone(), Arc::clone(clock));
        meters.age(
            "gateway.fleet.sample.age",
            "Age of the sample behind the `gateway_fleet_…` metrics. Grows while Redis is \
             unavailable. Absent before the first sample, like all of them.",
            move || {
                let age = now.now().duration_since(latest.get()?.sample.at);
                Some(age.as_secs_f64())
            },
        );
    }

    fn register_devices(&self, meters: &Meters) {
        let latest = self.clone();
        meters.gauges(
            "gateway.fleet.devices",
            "Devices by their worst state: `critical`, `high` or `warning` with an open alarm \
             other than `device_offline`, else `offline`, else `normal`. `unknown`: the stored \
             state cannot be read.",
            move |observe| {
                let Some(report) = latest.get() else { return };
                let devices = &report.sample.devices;
                for (state, count) in [
                    ("unknown", devices.unknown),
                    ("critical", devices.critical),
                    ("high", devices.high),
                    ("warning", devices.warning),
                    ("offline", devices.offline),
                    ("normal", devices.normal),
                ] {
                    observe(count, &[("state", state)]);
                }
            },
        );
        let latest = self.clone();
        meters.gauges("gateway.fleet.alarms", "Open alarms.", move |observe| {
            let Some(report) = latest.get() else { return };
            let alarms = &report.sample.alarms;
            for (severity, counts) in [
                ("warning", alarms.warning),
                ("high", alarms.high),
                ("critical", alarms.critical),
            ] {
                for (acknowledged, count) in [("false", counts[0]), ("true", counts[1])] {
                    let labels = [("severity", severity), ("acknowledged", acknowledged)];
                    observe(count, &labels);
                }
            }
        });
        let latest = self.clone();
        meters.gauges(
            "gateway.fleet.dead.letters",
            "Dead letters stored in Redis.",
            move |observe| {
                if let Some(report) = latest.get() {
                    observe(report.sample.dead_letters, &[]);
                }
            },
        );
    }

    fn register_replicas(&self, meters: &Meters) {
        self.register_total(
            meters,
            "gateway.fleet.connections",
            "Clients connected to all replicas together.",
            |totals| totals.connections,
        );
        self.register_total(
            meters,
            "gateway.fleet.subscriptions",
            "Subscriptions at all replicas together.",
            |totals| totals.subscriptions,
        );
        self.register_total(
            meters,
            "gateway.fleet.rooms",
            "Devices with a subscribed client at any replica. Each replica names at most 20 000 \
             of them.",
            |totals| totals.rooms,
        );
        self.register_total(
            meters,
            "gateway.fleet.replicas",
            "Gateway replicas that report their clients.",
            |totals| totals.replicas,
        );
    }

    fn register_total(
        &self,
        meters: &Meters,
        name: &'static str,
        help: &'static str,
        read: fn(&FleetTotals) -> u64,
    ) {
        let latest = self.clone();
        meters.gauges(name, help, move |observe| {
            let report = latest.get();
            if let Some(totals) = report.as_ref().and_then(|report| report.totals.as_ref()) {
                observe(read(totals), &[]);
            }
        });
    }
}

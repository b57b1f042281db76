//! What all replicas together know: who watches what, and how the devices stand. For `/metrics`, nothing is decided by it.
//!
//! Once per interval this replica writes its own report, with a life of three intervals, and reads those of the others and
//! the sample of the devices, which the first of them to find it old has made.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use shared::clock::{Clock, Time};
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::metrics::Meters;
use shared::store::{FleetSample, Store, StoreError, WatchReport};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::relay::Relay;
use crate::socket::Clients;

/// Reports that outlive their gateway by so many intervals were not withdrawn: it died.
const LIFE: u32 = 3;

/// The task that reports and reads.
pub(crate) struct Fleet {
    pub(crate) store: Store,
    pub(crate) relay: Relay,
    pub(crate) clients: Clients,
    /// Told to nobody else: two replicas never share it.
    pub(crate) replica: String,
    pub(crate) interval: Duration,
    pub(crate) seen: Seen,
}

/// What was read last; `None` before the first time. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    // A std lock: held for one clone or one assignment, never across an await.
    inner: Arc<RwLock<Option<Arc<Reading>>>>,
}

#[derive(Debug)]
struct Reading {
    sample: FleetSample,
    /// Without the devices; `None` where the reports cannot be read.
    totals: Option<Totals>,
}

/// All replicas together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) connections: u64,
    pub(crate) subscriptions: u64,
    /// Devices watched at any of them, and who watches them where.
    pub(crate) devices: BTreeMap<DeviceId, BTreeMap<String, u64>>,
    pub(crate) replicas: u64,
    /// How many devices are named.
    pub(crate) rooms: u64,
}

impl Totals {
    /// Sums reports up.
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

impl Fleet {
    /// Reports and reads until `finish`, then withdraws the report.
    pub(crate) async fn run(self, finish: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Told::default();
        loop {
            tokio::select! {
                () = finish.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let turn = finish.run_until_cancelled(self.turn());
            if let Some(turn) = turn.await {
                told.tell(turn);
            }
        }
        // One that cannot be withdrawn runs out.
        self.store.withdraw_watchers(&self.replica).await.ok();
        Ok(())
    }

    /// Each part for itself: a Redis that takes no report may still tell how the devices stand. Answers with the devices
    /// that cannot be read.
    async fn turn(&self) -> Result<Vec<DeviceId>, StoreError> {
        let report = self.report().await;
        let life = self.interval * LIFE;
        let reported = self.store.report_watchers(&self.replica, &report, life);
        let reported = reported.await;
        // Younger than one interval is the own one, too, of the turn before.
        let sample = self.store.fleet(self.interval / 2).await?;
        let unreadable = sample.unreadable.clone();
        let totals = self.store.watchers().await.map(|reports| Totals {
            devices: BTreeMap::new(),
            ..Totals::of(&reports)
        });
        let (totals, failed) = match totals {
            Ok(totals) => (Some(totals), reported.err()),
            Err(error) => (None, Some(error)),
        };
        self.seen.replace(Reading { sample, totals });
        failed.map_or(Ok(unreadable), Err)
    }

    async fn report(&self) -> WatchReport {
        let watched = self.relay.watchers().await;
        let clients = self.clients.all();
        let websockets = clients
            .iter()
            .filter(|client| client.transport().is_websocket())
            .count() as u64;
        WatchReport {
            websocket: websockets,
            polling: clients.len() as u64 - websockets,
            ..report_of(watched)
        }
    }
}

/// What was logged last: a line when something begins or ends, none while it lasts.
#[derive(Debug, Default)]
struct Told {
    is_failing: bool,
    unreadable: Vec<DeviceId>,
}

impl Told {
    fn tell(&mut self, turn: Result<Vec<DeviceId>, StoreError>) {
        let was_failing = std::mem::replace(&mut self.is_failing, turn.is_err());
        match turn {
            Err(error) if !was_failing => {
                let error = error_chain(&error);
                tracing::warn!(
                    error,
                    "what all replicas tell cannot be read or written whole"
                );
            }
            Err(_) => {}
            Ok(unreadable) => {
                if was_failing {
                    tracing::info!("what all replicas tell is whole again");
                }
                if unreadable != self.unreadable {
                    if !unreadable.is_empty() {
                        tracing::warn!(devices = ?unreadable, "stored states cannot be read, these first");
                    }
                    self.unreadable = unreadable;
                }
            }
        }
    }
}

/// The report of what is watched, as many devices named as it may.
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

impl Seen {
    fn replace(&self, reading: Reading) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        *inner = Some(Arc::new(reading));
    }

    fn get(&self) -> Option<Arc<Reading>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.clone()
    }

    /// Registers the gauges of the fleet; they are absent before the first sample.
    pub(crate) fn register(&self, meters: &Meters, clock: &Arc<dyn Clock>) {
        self.register_devices(meters);
        self.register_watchers(meters);
        let (seen, now) = (self.clone(), Arc::clone(clock));
        meters.age(
            "gateway.fleet.unacknowledged.critical.alarm.age",
            "Age of the oldest open critical alarm that is not acknowledged, counted from when it was raised at any level. 0 without such an alarm.",
            move || {
                let since = seen.get()?.sample.unacknowledged_since;
                Some(since.map_or(0.0, |since| seconds(now.now(), since)))
            },
        );
        let (seen, now) = (self.clone(), Arc::clone(clock));
        meters.age(
            "gateway.fleet.sample.age",
            "Age of the sample behind the `gateway_fleet_…` metrics. Grows while Redis is unavailable. Absent before the first sample, like all of them.",
            move || Some(seconds(now.now(), seen.get()?.sample.at)),
        );
    }

    fn register_devices(&self, meters: &Meters) {
        let seen = self.clone();
        meters.gauges(
            "gateway.fleet.devices",
            "Devices by their worst state: `critical`, `high` or `warning` with an open alarm other than `device_offline`, else `offline`, else `normal`. `unknown`: the stored state cannot be read.",
            move |observe| {
                let Some(seen) = seen.get() else { return };
                let devices = &seen.sample.devices;
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
        let seen = self.clone();
        meters.gauges("gateway.fleet.alarms", "Open alarms.", move |observe| {
            let Some(seen) = seen.get() else { return };
            let alarms = &seen.sample.alarms;
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
        let seen = self.clone();
        meters.gauges(
            "gateway.fleet.dead.letters",
            "Dead letters stored in Redis.",
            move |observe| {
                if let Some(seen) = seen.get() {
                    observe(seen.sample.dead_letters, &[]);
                }
            },
        );
    }

    fn register_watchers(&self, meters: &Meters) {
        self.total(
            meters,
            "gateway.fleet.connections",
            "Clients connected to all replicas together.",
            |totals| totals.connections,
        );
        self.total(
            meters,
            "gateway.fleet.subscriptions",
            "Subscriptions at all replicas together.",
            |totals| totals.subscriptions,
        );
        self.total(
            meters,
            "gateway.fleet.rooms",
            "Devices with a subscribed client at any replica. Each replica names at most 20 000 of them.",
            |totals| totals.rooms,
        );
        self.total(
            meters,
            "gateway.fleet.replicas",
            "Gateway replicas that report their clients.",
            |totals| totals.replicas,
        );
    }

    fn total(
        &self,
        meters: &Meters,
        name: &'static str,
        help: &'static str,
        read: fn(&Totals) -> u64,
    ) {
        let seen = self.clone();
        meters.gauges(name, help, move |observe| {
            if let Some(totals) = seen.get().as_ref().and_then(|seen| seen.totals.as_ref()) {
                observe(read(totals), &[]);
            }
        });
    }
}

fn seconds(now: Time, since: Time) -> f64 {
    let millis = u64::try_from(now.millis_since(since)).unwrap_or(0);
    Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
mod tests;

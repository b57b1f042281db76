//! Metrics whose values are read from other parts of the service at each scrape; `deploy/METRICS.md` lists them.

use shared::metrics::Meters;
use shared::store::{Places, Store};
use tokio::sync::watch;

use crate::heartbeat::LastHeartbeat;
use crate::mqtt::status::BrokerStatus;

/// The parts of the service whose values are read.
pub(crate) struct Gauges {
    pub(crate) broker: BrokerStatus,
    pub(crate) store: Store,
    pub(crate) heartbeat: watch::Receiver<LastHeartbeat>,
    /// How many devices there may be.
    pub(crate) places: Places,
}

impl Gauges {
    pub(crate) fn register(self, meters: &Meters) {
        let of_broker = |read: fn(&BrokerStatus) -> u64| {
            let broker = self.broker.clone();
            move || read(&broker)
        };
        meters.observed_count(
            "ingest.messages.received",
            "Messages received from the broker, without those counted as lost.",
            of_broker(BrokerStatus::received),
        );
        meters.observed_count(
            "ingest.messages.lost",
            "QoS 0 messages dropped because they arrived faster than they were committed.",
            of_broker(BrokerStatus::lost),
        );
        meters.gauge(
            "ingest.messages.queued",
            "Received messages that wait to be processed.",
            of_broker(|broker| broker.queued() as u64),
        );
        meters.gauge(
            "ingest.messages.unacknowledged",
            "Messages received and not yet acknowledged to the broker: the used part of the receive window.",
            of_broker(|broker| broker.unacknowledged() as u64),
        );
        meters.gauge(
            "ingest.broker.link.up",
            "1 while the subscription at the broker is active, else 0.",
            of_broker(|broker| u64::from(broker.is_subscribed())),
        );
        let heartbeat = self.heartbeat.clone();
        meters.gauge(
            "ingest.broker.quiet",
            "1 while the subscription has brought no message for --quiet-after although detectors are known, else 0.",
            move || u64::from(heartbeat.borrow().is_quiet),
        );
        meters.observed_count(
            "ingest.broker.connections",
            "Connections made to the broker.",
            of_broker(BrokerStatus::connections),
        );
        let heartbeat = self.heartbeat.clone();
        meters.gauge(
            "ingest.devices.room.left",
            "1 while messages of unknown devices are accepted, 0 once `--max-devices` is reached.",
            move || u64::from(!heartbeat.borrow().is_full),
        );
        let heartbeat = self.heartbeat.clone();
        meters.gauge(
            "ingest.devices.places.taken",
            "Places of `--max-devices` and `--alarm-reserve` that are taken, by stored devices and by those about to be stored.",
            move || heartbeat.borrow().places_taken,
        );
        let places = self.places.devices + self.places.reserve;
        meters.gauge(
            "ingest.devices.places",
            "Places for devices: `--max-devices` and `--alarm-reserve` together.",
            move || places,
        );
        let heartbeat = self.heartbeat;
        meters.gauge(
            "ingest.redis.link.up",
            "1 while Redis answers, else 0.",
            move || u64::from(heartbeat.borrow().redis_up),
        );
        let store = self.store.clone();
        meters.observed_count(
            "ingest.redis.connections",
            "Connections made to Redis for commits.",
            move || store.connections(),
        );
        let store = self.store;
        meters.observed_count(
            "ingest.reasserted.devices",
            "Devices written to Redis again because it had lost a state committed by this process.",
            move || store.reasserted(),
        );
    }
}

//! A fake detector. It publishes payloads of the known formats over MQTT and waits for the acknowledgement of the broker.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use serde_json::{Value, json};
use shared::clock::{SystemClock, Time};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::eventually::LATE;

/// The topic all detectors share.
pub const TOPIC: &str = "SubTronics/data";

/// An MQTT connection to the broker of a test, made again whenever it is lost.
///
/// It never sends anything a second time by itself: a payload that is not acknowledged when the connection is lost fails.
#[derive(Debug)]
pub struct Publisher {
    connection: Arc<Mutex<Connection>>,
    // Keeps the order of `Waiting::queued` equal to that of the client's queue.
    order: tokio::sync::Mutex<()>,
    _tasks: JoinSet<()>,
}

/// One connection and the payloads that wait for their acknowledgement on it.
#[derive(Clone, Debug)]
struct Connection {
    client: AsyncClient,
    waiting: Arc<Mutex<Waiting>>,
}

/// The senders that wait for an acknowledgement: first in the queue of the client, then by packet id.
#[derive(Debug, Default)]
struct Waiting {
    queued: VecDeque<oneshot::Sender<()>>,
    sent: HashMap<u16, oneshot::Sender<()>>,
}

impl Publisher {
    /// Connects to a broker on the loopback interface.
    pub fn connect(port: u16) -> Self {
        let (connection, events) = Connection::new(port);
        let connection = Arc::new(Mutex::new(connection));
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(port, events, Arc::clone(&connection)));
        Self {
            connection,
            order: tokio::sync::Mutex::default(),
            _tasks: tasks,
        }
    }

    /// Publishes at QoS 1 and waits until the broker acknowledges it.
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<()> {
        let properties = PublishProperties::default();
        self.send(topic, payload.into(), false, properties).await
    }

    /// Publishes a message with MQTT 5 user properties.
    pub async fn publish_with(
        &self,
        topic: &str,
        payload: impl Into<Vec<u8>>,
        user_properties: &[(&str, &str)],
    ) -> Result<()> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let properties = PublishProperties {
            user_properties: user_properties.iter().map(owned).collect(),
            ..PublishProperties::default()
        };
        self.send(topic, payload.into(), false, properties).await
    }

    /// Publishes a retained message.
    pub async fn publish_retained(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<()> {
        let properties = PublishProperties::default();
        self.send(topic, payload.into(), true, properties).await
    }

    async fn send(
        &self,
        topic: &str,
        payload: Vec<u8>,
        retain: bool,
        properties: PublishProperties,
    ) -> Result<()> {
        let (acknowledge, acknowledged) = oneshot::channel();
        {
            let _order = self.order.lock().await;
            let connection = lock(&self.connection).clone();
            lock(&connection.waiting).queued.push_back(acknowledge);
            // Fails if the connection was lost since: then nothing reads its queue.
            connection
                .client
                .publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties)
                .await
                .context("queueing a payload")?;
        }
        tokio::time::timeout(LATE, acknowledged)
            .await
            .with_context(|| format!("the broker did not acknowledge within {LATE:?}"))?
            .context("the broker closed the connection")
    }
}

impl Connection {
    fn new(port: u16) -> (Self, EventLoop) {
        let id = format!("detectors-{:08x}", fastrand::u32(..));
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30));
        options.set_clean_start(true);
        options.set_max_packet_size(Some(4 << 20));
        let (client, events) = AsyncClient::new(options, 1000);
        let waiting = Arc::default();
        (Self { client, waiting }, events)
    }
}

async fn drive(port: u16, mut events: EventLoop, connection: Arc<Mutex<Connection>>) {
    let mut waiting = Arc::clone(&lock(&connection).waiting);
    loop {
        match events.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(id))) => {
                let mut waiting = lock(&waiting);
                if let Some(acknowledge) = waiting.queued.pop_front() {
                    waiting.sent.insert(id, acknowledge);
                }
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                if let Some(acknowledge) = lock(&waiting).sent.remove(&ack.pkid) {
                    // The test may have given up waiting.
                    acknowledge.send(()).ok();
                }
            }
            Ok(_) => {}
            Err(_) => {
                let (next, its_events) = Connection::new(port);
                // Replace the queue first, so that nothing is added to it, then the senders that wait.
                events = its_events;
                *lock(&waiting) = Waiting::default();
                waiting = Arc::clone(&next.waiting);
                *lock(&connection) = next;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared
        .lock()
        .expect("no thread panics while holding the lock")
}

/// One detector with a clock that advances with every payload, so that its readings are in order.
#[derive(Debug)]
pub struct Device {
    serial: String,
    publisher: Arc<Publisher>,
    last_time: AtomicI64,
}

impl Device {
    /// Creates a detector with this serial on a connection that several may share.
    pub fn new(serial: &str, publisher: Arc<Publisher>) -> Self {
        Self {
            serial: serial.to_owned(),
            publisher,
            last_time: AtomicI64::new(0),
        }
    }

    /// Its serial.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Publishes a reading of the newest format, and returns when the broker has it.
    pub async fn send(&self, value: impl Into<Value>) -> Result<()> {
        self.publish(&self.newest(value)).await
    }

    /// Publishes this payload.
    pub async fn publish(&self, payload: &Payload) -> Result<()> {
        self.publisher.publish(TOPIC, payload.0.to_string()).await
    }

    /// Builds a reading of the newest format, at the next time of this device's clock. Its LEDs follow the value.
    pub fn newest(&self, value: impl Into<Value>) -> Payload {
        let mut payload = Payload(json!({
            "Device Alise Name": "Gas Sensor Block1",
            "OTSM-2 Serial Number": self.serial,
            "Date Time At Reading": self.next_time().to_iso(),
            "Message Type": "LOG DATA",
            "lat": "19.011545",
            "long": "72.823872",
            "Parameters": {
                "Live Sensor Readings ": value.into(),
                "Unit of Measurement ": 1,
                "Decimal Point": 0,
                "Alarm Level A1": 250,
                "Alarm Level A2": 500,
                "Alarm Level A3": 1000,
                "Alarm 1 LED Status": 0,
                "Alarm 2 LED Status": 0,
                "Alarm 3 LED Status": 0,
                "Sensor Fault": 0,
            },
        }));
        payload.light_leds();
        payload
    }

    /// Builds a reading of the old format, at the next time of this device's clock. Its LEDs follow the value.
    pub fn old(&self, value: impl Into<Value>) -> Payload {
        let mut payload = Payload(json!({
            "Device Alise Name": "Gas Sensor Block1",
            "OTSM-2 Serial Number": self.serial,
            "Gas": "Carbon Monoxide (CO)",
            "timestamp": self.next_time().to_iso(),
            "Sender": "Device",
            "Message Type": "LOG DATA",
            "Unit of Measurement": "ppm",
            "Parameters": {
                "Offset": value.into(),
                "Span High": 2000,
                "Span Low": 0,
                "Alarm Level A1": 250,
                "Alarm Level A2": 500,
                "Alarm Level A3": 1000,
                "Decimal Point": 0,
                "A1Type": "High",
                "A1Hysterysis": 0,
                "A1Latching": 0,
                "A1Siren": 0,
                "A1Buzzer": 0,
                "Alarm 1 LED Status": 0,
                "Alarm 2 LED Status": 0,
                "Alarm 3 LED Status": 0,
                "SensorFault": 0,
                "lat": "00.00",
                "long": "00.00",
            },
        }));
        payload.light_leds();
        payload
    }

    fn next_time(&self) -> Time {
        let now = SystemClock::local().as_millis();
        let before = self
            .last_time
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(now.max(last + 1))
            })
            .unwrap_or_default();
        Time::from_millis(now.max(before + 1))
    }
}

/// A payload to be changed before it is sent.
#[derive(Clone, Debug)]
pub struct Payload(pub Value);

impl Payload {
    /// Sets this root key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0[key] = value.into();
        self
    }

    /// Sets this key in `Parameters`. The LEDs follow a changed level or side.
    #[must_use]
    pub fn with_parameter(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0["Parameters"][key] = value.into();
        if key.starts_with("Alarm Level") || key == "A1Type" {
            self.light_leds();
        }
        self
    }

    /// Lights the LEDs of the levels that the value reaches, as a detector does. A value that is no number reaches none.
    fn light_leds(&mut self) {
        let parameters = &mut self.0["Parameters"];
        let value = parameters
            .get("Live Sensor Readings ")
            .or(parameters.get("Offset"))
            .and_then(number);
        let is_low = parameters.get("A1Type").is_some_and(|side| side == "Low");
        for level in 1..=3 {
            let threshold = number(&parameters[format!("Alarm Level A{level}")]);
            let is_reached = value.zip(threshold).is_some_and(|(value, threshold)| {
                if is_low {
                    value <= threshold
                } else {
                    value >= threshold
                }
            });
            parameters[format!("Alarm {level} LED Status")] = u8::from(is_reached).into();
        }
    }

    /// Removes this key, at the root and in `Parameters`.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        if let Some(fields) = self.0.as_object_mut() {
            fields.shift_remove(key);
        }
        if let Some(fields) = self.0["Parameters"].as_object_mut() {
            fields.shift_remove(key);
        }
        self
    }
}

/// Reads a number, also one that is sent as text.
fn number(value: &Value) -> Option<f64> {
    let text = value.as_str().and_then(|text| text.trim().parse().ok());
    value.as_f64().or(text)
}

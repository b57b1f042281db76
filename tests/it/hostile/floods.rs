//! Detectors that send far more than they should.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::Value;
use shared::clock::{SystemClock, Time};
use shared::keys;
use tests::device::{Device, Payload, Publisher, TOPIC};
use tests::eventually::{LATE, eventually};
use tests::neighbour::Neighbour;
use tests::report;
use tests::seed::Seed;
use tests::stack::{Plan, Stack};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

const BABBLER: &str = "OTSM-BABBLER";
/// How much the memory of ingest may grow: two receive windows of 1000 small messages take some 2 MiB; the rest is for the
/// allocator.
const MAX_GROWTH_KIB: u64 = 48 << 10;

pub(super) fn plan() -> Plan {
    Plan::default().every_raise_is_an_alarm_up_to_the_rate()
}

/// As [`plan`], for tests that break nothing: what answers late is only a busy machine.
fn patient_plan() -> Plan {
    plan()
        .ingest_flags("--redis-timeout=30s")
        .gateway_flags("--redis-timeout=30s --alarm-deadline=2m --ping-timeout=2m")
}

/// A detector whose clock is right, however much it sends: many of its readings have the same time.
pub(super) struct Babbler {
    publisher: Arc<Publisher>,
    template: Payload,
}

impl Babbler {
    /// Connects to the broker on this port.
    pub(super) fn connect(broker: u16, serial: &str) -> Self {
        Self::on(&Arc::new(Publisher::connect(broker)), serial)
    }

    /// Uses a connection that others use, too.
    fn on(publisher: &Arc<Publisher>, serial: &str) -> Self {
        let device = Device::new(serial, Arc::clone(publisher));
        Self {
            publisher: Arc::clone(publisher),
            template: device.newest(1),
        }
    }

    /// Returns its next reading, which is below every level.
    pub(super) fn reading(&self, number: usize) -> Value {
        let now = SystemClock::local().as_millis();
        let payload = self.template.clone();
        payload
            .with_parameter("Live Sensor Readings ", number % 200)
            .with("Date Time At Reading", Time::from_millis(now).to_iso())
            .with("Counter", number)
            .0
    }

    /// Publishes readings as fast as the broker takes them, at QoS 1.
    pub(super) async fn flood(&self, count: usize) -> Result<()> {
        let readings = (1..=count).map(|number| self.reading(number));
        publish_all(&self.publisher, readings).await
    }

    /// Publishes 600 readings per second.
    pub(super) async fn at_600_per_second(&self, count: usize) -> Result<()> {
        const AT_ONCE: usize = 6;
        let mut ticks = interval(Duration::from_millis(10));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for first in (1..=count).step_by(AT_ONCE) {
            ticks.tick().await;
            let readings = (first..first + AT_ONCE).map(|number| self.reading(number));
            publish_all(&self.publisher, readings).await?;
        }
        Ok(())
    }

    /// Publishes payloads of this many objects each.
    pub(super) async fn many_objects(&self, payloads: usize, objects: usize) -> Result<()> {
        let payload = |number: usize| {
            let first = number * objects;
            let readings = (first..first + objects).map(|number| self.reading(number));
            Value::Array(readings.collect())
        };
        publish_all(&self.publisher, (0..payloads).map(payload)).await
    }

    /// Publishes readings as fast as the broker takes them, at QoS 0. Returns when the broker has all of them.
    async fn flood_at_qos_0(&self, broker: u16, count: usize) -> Result<()> {
        let id = format!("babbler-{:08x}", fastrand::u32(..));
        let options = MqttOptions::new(id, "127.0.0.1", broker);
        let (client, mut events) = AsyncClient::new(options, 100);
        let send = async {
            for number in 1..=count {
                // The broker reads a connection in order: the acknowledgement of the last one shows that it has them all.
                let quality = if number == count {
                    QoS::AtLeastOnce
                } else {
                    QoS::AtMostOnce
                };
                let reading = self.reading(number).to_string();
                client.publish(TOPIC, quality, false, reading).await?;
            }
            anyhow::Ok(())
        };
        let receive = async {
            loop {
                if let Event::Incoming(Packet::PubAck(_)) = events.poll().await? {
                    return anyhow::Ok(());
                }
            }
        };
        let both = async { tokio::try_join!(send, receive) };
        timeout(LATE, both)
            .await
            .context("the broker took the flood too slowly")??;
        Ok(())
    }
}

/// Publishes all of these at QoS 1, many at once.
pub(super) async fn publish_all(
    publisher: &Publisher,
    payloads: impl IntoIterator<Item = Value>,
) -> Result<()> {
    stream::iter(payloads)
        .map(|payload| async move { publisher.publish(TOPIC, payload.to_string()).await })
        .buffer_unordered(200)
        .try_collect()
        .await
}

/// Publishes one reading of each of these devices.
pub(super) async fn one_each(broker: u16, serials: &[String]) -> Result<()> {
    let publisher = Arc::new(Publisher::connect(broker));
    let mut readings = Vec::new();
    for serial in serials {
        readings.push(Babbler::on(&publisher, serial).reading(20));
    }
    publish_all(&publisher, readings).await
}

/// Waits until nothing waits in ingest any more, and returns how long that took.
async fn backlog_ends(stack: &Stack) -> Result<Duration> {
    let since = Instant::now();
    eventually("the backlog of the flood ends", async || {
        let ingest = &stack.ingests[0];
        let waiting = ingest.metric("ingest_messages_unacknowledged").await?
            + ingest.metric("ingest_messages_queued").await?;
        ensure!(waiting < 100.0, "{waiting} messages wait");
        Ok(())
    })
    .await?;
    Ok(since.elapsed())
}

async fn alert_types(stack: &Stack, serial: &str) -> Result<Vec<String>> {
    let alerts = stack.alerts(serial).await?;
    let types = alerts.iter().filter_map(|alert| alert["type"].as_str());
    Ok(types.map(str::to_owned).collect())
}

/// Checks what a flood of one device leaves behind: its last reading, and an alarm that says what it does.
async fn is_known_to_babble(stack: &Stack, serial: &str) -> Result<()> {
    stack.device(serial).send(77).await?;
    stack.shows(serial, 77).await?;
    eventually("it is known to babble", async || {
        let types = alert_types(stack, serial).await?;
        ensure!(types.iter().any(|kind| kind == "babbling"), "{types:?}");
        Ok(())
    })
    .await
}

fn grows_little(stack: &Stack, before: u64) -> Result<u64> {
    let grown = stack.ingests[0]
        .process
        .resident_kib()?
        .saturating_sub(before);
    ensure!(grown <= MAX_GROWTH_KIB, "ingest grew by {grown} KiB");
    Ok(grown)
}

#[tokio::test]
async fn one_device_floods_at_both_qualities_of_service() -> Result<()> {
    const COUNT: usize = 4_000;
    let stack = patient_plan().start().await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let before = stack.ingests[0].process.resident_kib()?;
    let started = Instant::now();
    let babbler = Babbler::connect(stack.broker.port(), BABBLER);
    babbler.flood(COUNT).await?;
    let took = started.elapsed();
    let rest = backlog_ends(&stack).await?;
    babbler.flood_at_qos_0(stack.broker.port(), COUNT).await?;
    backlog_ends(&stack).await?;
    let grown = grows_little(&stack, before)?;
    is_known_to_babble(&stack, BABBLER).await?;
    neighbour.finish(&stack, "a device that floods").await?;
    let lost = stack.ingests[0]
        .metric("ingest_messages_lost_total")
        .await?;
    report::line(&format!(
        "a device that floods: {COUNT} messages within {} ms, backlog for {} ms more; {lost} of {COUNT} of QoS 0 lost; ingest \
         grew by {grown} KiB",
        took.as_millis(),
        rest.as_millis(),
    ));
    stack.pass()
}

async fn six_hundred_per_second(latency: Duration) -> Result<()> {
    const COUNT: usize = 1_800;
    let stack = patient_plan().start().await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    stack.redis_proxy.delay(latency / 2);
    let before = stack.ingests[0].process.resident_kib()?;
    let babbler = Babbler::connect(stack.broker.port(), BABBLER);
    babbler.at_600_per_second(COUNT).await?;
    let rest = backlog_ends(&stack).await?;
    let grown = grows_little(&stack, before)?;
    is_known_to_babble(&stack, BABBLER).await?;
    let attack = format!("600 per second of one device, {latency:?} to Redis");
    neighbour.finish(&stack, &attack).await?;
    report::line(&format!(
        "{attack}: backlog for {} ms more; ingest grew by {grown} KiB",
        rest.as_millis()
    ));
    stack.pass()
}

#[tokio::test]
async fn one_device_sends_600_per_second_with_2_ms_to_redis() -> Result<()> {
    six_hundred_per_second(Duration::from_millis(2)).await
}

#[tokio::test]
async fn one_device_sends_600_per_second_with_20_ms_to_redis() -> Result<()> {
    six_hundred_per_second(Duration::from_millis(20)).await
}

#[tokio::test]
async fn payloads_have_many_objects() -> Result<()> {
    const OBJECTS: usize = 64;
    let stack = patient_plan().start().await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let before = stack.ingests[0].process.resident_kib()?;
    let babbler = Babbler::connect(stack.broker.port(), BABBLER);
    babbler.many_objects(30, OBJECTS).await?;
    // Further objects are refused.
    babbler.many_objects(5, 100).await?;
    let of_many_devices = (0..30).map(|number| {
        let object = |index| {
            let serial = format!("OTSM-MANY-{index}");
            Babbler::on(&babbler.publisher, &serial).reading(number)
        };
        Value::Array((0..OBJECTS).map(object).collect())
    });
    publish_all(&babbler.publisher, of_many_devices).await?;
    backlog_ends(&stack).await?;
    grows_little(&stack, before)?;
    is_known_to_babble(&stack, BABBLER).await?;
    let last = format!("OTSM-MANY-{}", OBJECTS - 1);
    stack.latest_with(&last, "a reading", |_| true).await?;
    let refused = r#"ingest_messages_rejected_total{reason="too_large"}"#;
    let refused = stack.ingests[0].metric(refused).await?;
    ensure!(refused > 0.5, "{refused} dead letters");
    neighbour.finish(&stack, "payloads of many objects").await?;
    stack.pass()
}

/// With MQTT 3.1.1 the broker sends every retained message again after every reconnect.
#[tokio::test]
async fn a_thousand_retained_messages_come_with_every_connection() -> Result<()> {
    const COUNT: usize = 1_000;
    const CONNECTIONS: usize = 3;
    let stack = patient_plan()
        .ingest_flags("--mqtt-version=3.1.1 --mqtt-topic=SubTronics/data,SubTronics/kept/#")
        .start()
        .await?;
    let babbler = Babbler::connect(stack.broker.port(), BABBLER);
    let publisher = &babbler.publisher;
    stream::iter(1..=COUNT)
        .map(|number| {
            let topic = format!("SubTronics/kept/{number}");
            let reading = babbler.reading(number).to_string();
            async move { publisher.publish_retained(&topic, reading).await }
        })
        .buffer_unordered(200)
        .try_collect::<()>()
        .await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let ingest = &stack.ingests[0];
    let received = async || ingest.metric("ingest_messages_received_total").await;
    let count = f64::from(u32::try_from(COUNT)?);
    for _ in 0..CONNECTIONS {
        let before = received().await?;
        stack.broker_proxy.reset();
        eventually("all retained messages come again", async || {
            let again = received().await? - before;
            ensure!(again >= count, "{again} messages");
            Ok(())
        })
        .await?;
    }
    backlog_ends(&stack).await?;
    let path = format!("/api/devices/{BABBLER}/history?limit=1000");
    let history = stack.get(&path).await?.expect(200)?;
    let kept = history["count"].as_u64().context("a count")?;
    neighbour.finish(&stack, "retained messages").await?;
    report::line(&format!(
        "{COUNT} retained messages, {CONNECTIONS} times: {kept} samples of them"
    ));
    stack.pass()
}

#[tokio::test]
async fn a_thousand_unknown_serials_find_no_room() -> Result<()> {
    const COUNT: u32 = 1_000;
    let stack = patient_plan()
        .ingest_flags("--max-devices=50 --dead-letters-max=300")
        .start()
        .await?;
    // The last check of the neighbour needs it.
    stack.device("OTSM-MARKER").send(0).await?;
    stack.shows("OTSM-MARKER", 0).await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let strangers: Vec<String> = (1..=COUNT)
        .map(|number| format!("OTSM-STRANGER-{number}"))
        .collect();
    one_each(stack.broker.port(), &strangers).await?;
    let ingest = &stack.ingests[0];
    eventually("every message is a device or a dead letter", async || {
        let health = stack.get("/health").await?.expect(200)?;
        let devices = health["devices_count"].as_u64().context("a count")?;
        let refused = ingest.metric("ingest_messages_rejected_total").await?;
        // Those of the neighbour, and its marker.
        let known = tests::neighbour::DEVICES as u64 + 1;
        let strangers = devices.saturating_sub(known);
        let missing = f64::from(COUNT - u32::try_from(strangers)?) - refused;
        ensure!(missing.abs() < 0.5, "{devices} and {refused}");
        Ok(())
    })
    .await?;
    let mut redis = stack.redis_connection().await?;
    let dead_letters: u32 = redis::cmd("XLEN")
        .arg(keys::DEAD_LETTERS)
        .query_async(&mut redis)
        .await?;
    // Redis trims whole nodes of 100 entries.
    ensure!(dead_letters <= 400, "{dead_letters} dead letters");
    neighbour.finish(&stack, "unknown serials").await?;
    stack.pass()
}

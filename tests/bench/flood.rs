//! One detector that sends as fast as it is told to: it writes packets of MQTT 3.1.1 at QoS 1 and waits for no acknowledgement.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shared::clock::SystemClock;
use tests::device::{Payload, TOPIC};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};

use crate::load::mqtt::{self, Version};

const TICK: Duration = Duration::from_millis(5);
/// After a pause it catches up in pieces, so that the messages keep an even pace.
const MAX_AT_ONCE: u64 = 500;

/// How much the detector sent.
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) took: Duration,
}

/// Sends as many messages as fit into `time` at this rate, or at the rate at which the broker takes them. Every payload differs from the one before.
pub(crate) async fn send(
    broker: u16,
    payload: Payload,
    per_second: u64,
    time: Duration,
) -> Result<Sent> {
    let mut connection = TcpStream::connect(("127.0.0.1", broker)).await?;
    connection.set_nodelay(true)?;
    connection.write_all(&mqtt::connect()).await?;
    let mut answer = [0; mqtt::ACCEPTED_BYTES];
    connection.read_exact(&mut answer).await?;
    ensure!(
        answer[3] == 0,
        "the broker refuses the connection: {answer:?}"
    );
    let (mut acknowledgements, mut packets) = connection.into_split();

    let total = per_second * u64::try_from(time.as_millis())? / 1000;
    let template = Template::new(payload)?;
    let start = Instant::now();
    let sending = async {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = 0;
        let mut buffer = Vec::new();
        while sent < total {
            ticks.tick().await;
            let elapsed = u64::try_from(start.elapsed().as_micros())?;
            let due = (elapsed * per_second / 1_000_000)
                .min(total)
                .min(sent + MAX_AT_ONCE);
            buffer.clear();
            let device_time = SystemClock::local().to_iso();
            for number in sent..due {
                let own = template.payload(&device_time, number);
                let id = mqtt::packet_id(number)?;
                mqtt::write_publish(&mut buffer, Version::V3, TOPIC, id, own.as_bytes())?;
            }
            packets.write_all(&buffer).await?;
            sent = due;
        }
        anyhow::Ok(start.elapsed())
    };
    // The broker stops reading if nobody reads its acknowledgements, and may lose what it has not read if the connection is closed.
    let acknowledged = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut bytes = 0;
        while bytes < total * mqtt::ACKNOWLEDGEMENT_BYTES {
            let read = acknowledgements.read(&mut buffer).await?;
            ensure!(read > 0, "the broker closed the connection");
            bytes += u64::try_from(read)?;
        }
        anyhow::Ok(())
    };
    let (took, ()) = tokio::try_join!(sending, acknowledged)?;
    Ok(Sent {
        messages: total,
        took,
    })
}

/// A payload around its time and its value.
struct Template {
    before_time: String,
    before_value: String,
    after_value: String,
}

impl Template {
    fn new(payload: Payload) -> Result<Self> {
        const TIME: &str = "device-time";
        const VALUE: u32 = 424_242;
        let text = payload
            .with("Date Time At Reading", TIME)
            .with_parameter("Live Sensor Readings ", VALUE)
            .0
            .to_string();
        let split = text.split_once(TIME).and_then(|(before_time, rest)| {
            let (before_value, after_value) = rest.split_once(&VALUE.to_string())?;
            Some(Self {
                before_time: before_time.to_owned(),
                before_value: before_value.to_owned(),
                after_value: after_value.to_owned(),
            })
        });
        split.context("the payload has no time and value")
    }

    /// Returns a payload that differs from those of all other numbers.
    fn payload(&self, device_time: &str, number: u64) -> String {
        let Self {
            before_time,
            before_value,
            after_value,
        } = self;
        let value = 10 + number % 100;
        format!("{before_time}{device_time}{before_value}{value}.{number:08}{after_value}")
    }
}

//! Publishes readings when they are due, whatever happens to those before: the load does not adapt to the servers.
//!
//! It has two threads of its own. One writes packets at QoS 1, the other counts acknowledgements.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow, ensure};
use tests::device::TOPIC;

use super::clock::Clock;
use super::mqtt::{self, Version};
use super::readings;
use super::schedule::Schedule;

/// After a pause it catches up in pieces.
const MAX_AT_ONCE: u64 = 500;
/// How long the broker may take for its last acknowledgements.
const LATE_US: u64 = 60_000_000;
const PAUSE_US: u64 = 2_000;

/// Devices that publish.
#[derive(Debug)]
pub(crate) struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Publisher {
    /// Starts to publish the messages from `schedule.first` on, up to `end` or until it is stopped.
    pub(crate) fn start(broker: u16, clock: Clock, schedule: Schedule, end: u64) -> Result<Self> {
        let mut connection = TcpStream::connect(("127.0.0.1", broker))?;
        connection.set_nodelay(true)?;
        connection.write_all(&mqtt::connect())?;
        let mut answer = [0; mqtt::ACCEPTED_BYTES];
        connection.read_exact(&mut answer)?;
        ensure!(answer[3] == 0, "the broker refuses: {answer:?}");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || publish(&connection, clock, &schedule, end, &stopped));
        Ok(Self { stop, thread })
    }

    /// Stops it, waits until the broker has everything, and returns the number after that of the last message.
    pub(crate) async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until the broker has all messages up to the end.
    pub(crate) async fn finish(self) -> Result<u64> {
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        joined.map_err(|_| anyhow!("the publisher panicked"))?
    }
}

/// Publishes one message of each device, at this many per second, and returns when the broker has them.
pub(crate) async fn prime(broker: u16, clock: Clock, devices: u64, per_second: u64) -> Result<()> {
    let schedule = Schedule {
        devices,
        per_second,
        first: 0,
        start_us: clock.micros(),
    };
    let publisher = Publisher::start(broker, clock, schedule, devices)?;
    publisher.finish().await.map(|_| ())
}

fn publish(
    connection: &TcpStream,
    clock: Clock,
    schedule: &Schedule,
    end: u64,
    stop: &AtomicBool,
) -> Result<u64> {
    let acknowledged = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| count_acknowledgements(connection, &acknowledged));
        let outcome = write_when_due(connection, clock, schedule, end, stop)
            .and_then(|next| wait_for(&acknowledged, next - schedule.first, clock).map(|()| next));
        // Ends the other thread.
        connection.shutdown(Shutdown::Both)?;
        outcome
    })
}

fn write_when_due(
    mut connection: &TcpStream,
    clock: Clock,
    schedule: &Schedule,
    end: u64,
    stop: &AtomicBool,
) -> Result<u64> {
    let mut next = schedule.first;
    let mut packets = Vec::new();
    let mut payload = Vec::new();
    while next < end && !stop.load(Ordering::Relaxed) {
        let due = schedule.due_before(clock.micros());
        let due = due.min(end).min(next + MAX_AT_ONCE);
        if due <= next {
            clock.sleep_until(schedule.due_us(next));
            continue;
        }
        packets.clear();
        for number in next..due {
            readings::write(&mut payload, schedule, number)?;
            let id = mqtt::packet_id(number)?;
            mqtt::write_publish(&mut packets, Version::V3, TOPIC, id, &payload)?;
        }
        connection.write_all(&packets)?;
        next = due;
    }
    Ok(next)
}

/// Reads until the connection ends. The broker stops reading if nobody reads its acknowledgements.
fn count_acknowledgements(mut connection: &TcpStream, acknowledged: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                bytes += u64::try_from(read).unwrap_or_default();
                acknowledged.store(bytes / mqtt::ACKNOWLEDGEMENT_BYTES, Ordering::Relaxed);
            }
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            // The writer notices it too.
            Err(_) => return,
        }
    }
}

fn wait_for(acknowledged: &AtomicU64, wanted: u64, clock: Clock) -> Result<()> {
    let late = clock.micros() + LATE_US;
    while acknowledged.load(Ordering::Relaxed) < wanted {
        ensure!(
            clock.micros() < late,
            "the broker did not acknowledge every message"
        );
        clock.sleep_until(clock.micros() + PAUSE_US);
    }
    Ok(())
}

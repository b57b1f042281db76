//! A broker for one ingest that never waits: it publishes as fast as ingest acknowledges. So the processor time of a real
//! broker is not missing where ingest and Redis are measured alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use tests::device::TOPIC;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::mqtt::{self, Version};
use super::readings;
use super::schedule::Schedule;

/// Messages under way: the default of `--mqtt-receive-maximum`.
const WINDOW: usize = 1000;
/// Messages that are written at once.
const AT_ONCE: usize = 64;
const ANSWERS: usize = 16;

/// The broker.
#[derive(Debug)]
pub(crate) struct Broker {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<Result<()>>,
}

#[derive(Debug)]
struct Shared {
    devices: u64,
    acknowledged: AtomicU64,
    window: Semaphore,
    is_open: AtomicBool,
    opened: Notify,
}

impl Broker {
    /// Listens. Nothing is published until it is opened.
    pub(crate) async fn start(devices: u64) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            devices,
            acknowledged: AtomicU64::new(0),
            window: Semaphore::new(WINDOW),
            is_open: AtomicBool::new(false),
            opened: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            port,
            shared,
            _tasks: tasks,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Begins to publish.
    pub(crate) fn open(&self) {
        self.shared.is_open.store(true, Ordering::Release);
        self.shared.opened.notify_one();
    }

    /// Stops publishing. What is under way is acknowledged later.
    pub(crate) fn close(&self) {
        self.shared.is_open.store(false, Ordering::Release);
    }

    /// Messages that ingest acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Acquire)
    }

    /// Whether every message that was published is acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.window.available_permits() == WINDOW
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        connections.spawn(serve(connection, Arc::clone(&shared)));
    }
}

async fn serve(connection: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let (reader, writer) = connection.into_split();
    let (answers, to_send) = mpsc::channel(ANSWERS);
    tokio::try_join!(
        read(reader, answers, Arc::clone(&shared)),
        write(writer, to_send, shared)
    )?;
    Ok(())
}

/// Takes acknowledgements, and answers other packets.
async fn read(
    mut reader: OwnedReadHalf,
    answers: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
) -> Result<()> {
    let mut received = Vec::with_capacity(64 * 1024);
    loop {
        if reader.read_buf(&mut received).await? == 0 {
            anyhow::bail!("ingest ended the connection");
        }
        let mut used = 0;
        let mut acknowledgements = 0;
        while let Some(packet) = mqtt::read(&received[used..])? {
            match packet.head >> 4 {
                // CONNECT: accepted, no properties.
                1 => answers.send(vec![0x20, 3, 0, 0, 0]).await?,
                // PUBACK
                4 => acknowledgements += 1,
                // SUBSCRIBE
                8 => answers.send(granted(packet.body)?).await?,
                // PINGREQ
                12 => answers.send(vec![0xd0, 0]).await?,
                _ => {}
            }
            used += packet.bytes;
        }
        received.drain(..used);
        shared.window.add_permits(acknowledgements);
        let count = u64::try_from(acknowledgements)?;
        shared.acknowledged.fetch_add(count, Ordering::AcqRel);
    }
}

/// Grants every topic filter of a SUBSCRIBE QoS 1.
fn granted(body: &[u8]) -> Result<Vec<u8>> {
    let (packet_id, rest) = body.split_at_checked(2).context("no packet id")?;
    let (length, bytes) = mqtt::read_length(rest)?.context("no length of the properties")?;
    let mut rest = rest.get(bytes + length..).context("no topic filter")?;
    let mut filters = 0;
    while let [high, low, text @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = text.get(length + 1..).context("half a topic filter")?;
        filters += 1;
    }
    let mut answer = vec![0x90, u8::try_from(3 + filters)?];
    answer.extend_from_slice(packet_id);
    answer.push(0);
    answer.extend(std::iter::repeat_n(1, filters));
    Ok(answer)
}

/// Writes answers, and messages as far as the window has room.
async fn write(
    mut writer: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
) -> Result<()> {
    let schedule = Schedule {
        devices: shared.devices,
        per_second: 1,
        first: 0,
        start_us: 0,
    };
    let mut next = 0;
    let mut packets = Vec::new();
    let mut payload = Vec::new();
    loop {
        packets.clear();
        let room = async {
            while !shared.is_open.load(Ordering::Acquire) {
                shared.opened.notified().await;
            }
            anyhow::Ok(shared.window.acquire().await?)
        };
        tokio::select! {
            answer = answers.recv() => {
                let answer = answer.context("the reader ended")?;
                packets.extend_from_slice(&answer);
            }
            first = room => {
                first?.forget();
                let more = shared.window.available_permits().min(AT_ONCE - 1);
                let more = match shared.window.try_acquire_many(u32::try_from(more)?) {
                    Ok(permits) => { permits.forget(); more }
                    Err(_) => 0,
                };
                for _ in 0..=more {
                    readings::write(&mut payload, &schedule, next)?;
                    let id = mqtt::packet_id(next)?;
                    mqtt::write_publish(&mut packets, Version::V5, TOPIC, id, &payload)?;
                    next += 1;
                }
            }
        }
        writer.write_all(&packets).await?;
    }
}

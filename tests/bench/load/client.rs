//! One client: a raw websocket that speaks the packets of the official client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use super::crowd::{Seen, Transport, Wish};
use super::packets::{self, Packet};
use super::polling::Polling;
use super::tally::Tally;
use super::websocket::{self, Frame};
use super::{readings, schedule};
use test_support::frames;

/// The kernel holds this much for a stalled client. By default it would hold all that is sent in a run.
const STALLED_BUFFER: u32 = 4096;

/// What one client received of each device that it watches.
pub(crate) type Tallies = Vec<(u64, Tally)>;

/// Connects, subscribes to the devices, and receives until it is stopped.
pub(crate) async fn run(
    wish: Wish,
    seen: Arc<Seen>,
    mut stop: watch::Receiver<bool>,
) -> Result<Tallies> {
    let mut client = Client {
        stream: Stream::open(&wish).await.context("connecting")?,
        // Every device was published once before.
        tallies: wish
            .devices
            .iter()
            .map(|&device| (device, Tally::new(1)))
            .collect(),
        unanswered: wish.devices.len(),
        seen,
    };
    client.tallies.sort_unstable_by_key(|(device, _)| *device);
    let mut subscriptions = Vec::new();
    for (number, device) in wish.devices.iter().enumerate() {
        let packet = packets::subscribe(number, &readings::serial(*device));
        subscriptions.extend(frames::masked(frames::TEXT, packet.as_bytes()));
    }
    client.stream.tcp.write_all(&subscriptions).await?;
    while client.unanswered > 0 {
        client.receive().await.context("subscribing")?;
    }
    client.seen.ready.fetch_add(1, Ordering::Relaxed);
    if wish.is_stalled {
        stop.wait_for(|stop| *stop).await?;
        return Ok(Vec::new());
    }
    loop {
        tokio::select! {
            // Reading is cancel-safe: what was read is in the buffer.
            received = client.receive() => if received.is_err() {
                // What it missed from then on counts as lost.
                client.seen.closed.fetch_add(1, Ordering::Relaxed);
                return Ok(client.tallies);
            },
            _ = stop.wait_for(|stop| *stop) => return Ok(client.tallies),
        }
    }
}

struct Client {
    stream: Stream,
    tallies: Tallies,
    unanswered: usize,
    seen: Arc<Seen>,
}

impl Client {
    /// Waits for bytes and takes the packets that are complete.
    async fn receive(&mut self) -> Result<()> {
        self.stream.read().await?;
        let mut used = 0;
        let mut answers = Vec::new();
        while let Some((frame, bytes)) = websocket::read(&self.stream.received[used..])? {
            match frame {
                Frame::Text(text) => match packets::read(text)? {
                    Packet::Event(event) => {
                        self.seen
                            .bytes
                            .fetch_add(u64::try_from(bytes)?, Ordering::Relaxed);
                        take_event(event, &mut self.tallies, &self.seen)?;
                    }
                    Packet::Answer(_, answer) => {
                        ensure!(answer.contains("\"ok\":true"), "refused: {answer}");
                        self.unanswered -= 1;
                    }
                    Packet::Ping => {
                        answers.extend(frames::masked(frames::TEXT, packets::PONG.as_bytes()));
                    }
                    Packet::Noop => {}
                    other => bail!("unexpected: {other:?}"),
                },
                Frame::Ping(payload) => answers.extend(frames::masked(frames::PONG, payload)),
                Frame::Pong => {}
                Frame::Close => bail!("the server closed the connection"),
            }
            used += bytes;
        }
        self.stream.received.drain(..used);
        if !answers.is_empty() {
            self.stream.tcp.write_all(&answers).await?;
        }
        Ok(())
    }
}

fn take_event(event: &str, tallies: &mut Tallies, seen: &Seen) -> Result<()> {
    if !event.starts_with("[\"device:data\",") {
        let count = if event.starts_with("[\"device:alerts") {
            &seen.alarm_events
        } else {
            &seen.status_events
        };
        count.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let number = schedule::number_in(event).with_context(|| format!("no number in {event}"))?;
    let is_snapshot = event.contains("\"snapshot\":true");
    let Some(schedule) = seen.schedule.get() else {
        return Ok(());
    };
    if is_snapshot || number < schedule.first {
        return Ok(());
    }
    seen.deliveries.fetch_add(1, Ordering::Relaxed);
    seen.add_latency(schedule.due_us(number));
    let device = schedule.device(number);
    let index = tallies
        .binary_search_by_key(&device, |(device, _)| *device)
        .ok()
        .with_context(|| format!("an event of another device: {event}"))?;
    let left_out = match event.split_once("\"skipped\":") {
        Some((_, rest)) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            rest[..digits].parse()?
        }
        None => 0,
    };
    tallies[index].1.add(schedule.turn(number), left_out);
    Ok(())
}

/// A connection that has joined the namespace.
pub(super) struct Stream {
    tcp: TcpStream,
    /// Bytes that are not a whole frame yet.
    pub(super) received: Vec<u8>,
}

impl Stream {
    pub(super) async fn open(wish: &Wish) -> Result<Self> {
        let port = wish.port;
        let socket = TcpSocket::new_v4()?;
        if wish.is_stalled {
            socket.set_recv_buffer_size(STALLED_BUFFER)?;
        }
        match wish.transport {
            Transport::WebSocket => Self::open_websocket(socket, port).await,
            Transport::Upgrade => Self::open_polling_and_upgrade(socket, port).await,
        }
    }

    async fn open_websocket(socket: TcpSocket, port: u16) -> Result<Self> {
        let mut stream = Self::handshake(socket, port, "").await?;
        stream
            .expect(|packet| matches!(packet, Packet::Open(_)))
            .await?;
        stream.send(packets::CONNECT).await?;
        stream
            .expect(|packet| matches!(packet, Packet::Connected))
            .await?;
        Ok(stream)
    }

    /// As the official client does by default. The last poll is under way while the websocket is tried.
    async fn open_polling_and_upgrade(socket: TcpSocket, port: u16) -> Result<Self> {
        let mut polling = Polling::open(port).await?;
        polling.send(packets::CONNECT).await?;
        polling.joined().await?;
        let session = format!("&sid={}", polling.session());
        let probe = async {
            let mut stream = Self::handshake(socket, port, &session).await?;
            stream.send(packets::PROBE).await?;
            stream
                .expect(|packet| matches!(packet, Packet::Probed))
                .await?;
            anyhow::Ok(stream)
        };
        let (mut stream, last) = tokio::try_join!(probe, polling.poll())?;
        stream.send(packets::UPGRADE).await?;
        for packet in last.split(packets::SEPARATOR) {
            match packets::read(packet)? {
                Packet::Ping => stream.send(packets::PONG).await?,
                // Nothing is subscribed to yet: an event can only tell that data may be late.
                Packet::Noop | Packet::Event(_) => {}
                other => bail!("unexpected: {other:?}"),
            }
        }
        Ok(stream)
    }

    async fn handshake(socket: TcpSocket, port: u16, session: &str) -> Result<Self> {
        let mut tcp = socket.connect(([127, 0, 0, 1], port).into()).await?;
        tcp.set_nodelay(true)?;
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket{session} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await?;
        let mut stream = Self {
            tcp,
            received: Vec::with_capacity(1024),
        };
        loop {
            stream.read().await?;
            let head = stream
                .received
                .windows(4)
                .position(|end| end == b"\r\n\r\n");
            if let Some(end) = head {
                let head = String::from_utf8_lossy(&stream.received[..end]);
                ensure!(
                    head.starts_with("HTTP/1.1 101"),
                    "the server answers: {head}"
                );
                stream.received.drain(..end + 4);
                return Ok(stream);
            }
        }
    }

    pub(super) async fn send(&mut self, packet: &str) -> Result<()> {
        let frame = frames::masked(frames::TEXT, packet.as_bytes());
        Ok(self.tcp.write_all(&frame).await?)
    }

    /// Waits for one packet, which must be this one. Pings may come at any time.
    async fn expect(&mut self, is_expected: impl Fn(&Packet<'_>) -> bool) -> Result<()> {
        loop {
            let Some((frame, bytes)) = websocket::read(&self.received)? else {
                self.read().await?;
                continue;
            };
            let Frame::Text(text) = frame else {
                bail!("unexpected: {frame:?}");
            };
            let packet = packets::read(text)?;
            let is_ping = packet == Packet::Ping;
            ensure!(is_ping || is_expected(&packet), "unexpected: {packet:?}");
            self.received.drain(..bytes);
            if !is_ping {
                return Ok(());
            }
            self.send(packets::PONG).await?;
        }
    }

    pub(super) async fn read(&mut self) -> Result<()> {
        let read = self.tcp.read_buf(&mut self.received).await?;
        ensure!(read > 0, "the server ended the connection");
        Ok(())
    }
}

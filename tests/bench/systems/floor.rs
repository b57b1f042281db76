//! The least that any server of these events must do: one frame for all clients of a device, and one write per socket. It is one
//! thread without Redis, bounds, heartbeat, order or recovery. It reads Mosquitto at QoS 0, takes serial and reading out of
//! the payload, and puts them into an event that is as long as ours.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use shared::clock::SystemClock;
use test_support::frames;
use tests::device::TOPIC;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::load::mqtt;

const BACKLOG: u32 = 4096;
const HANDSHAKE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OPEN: &str =
    r#"0{"sid":"floor","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":16384}"#;

/// Clients by the serials that they watch.
type Rooms = Rc<RefCell<HashMap<String, Vec<Rc<Client>>>>>;

struct Client {
    tcp: TcpStream,
    /// What the socket did not take.
    pending: RefCell<Vec<u8>>,
    has_pending: Notify,
}

/// Serves clients at this port.
pub(crate) async fn run(port: u16, broker: u16) -> Result<()> {
    let rooms = Rooms::default();
    let mut connection = TcpStream::connect(("127.0.0.1", broker)).await?;
    connection.write_all(&mqtt::connect()).await?;
    connection.write_all(&mqtt::subscribe(TOPIC)?).await?;
    let mut answer = [0; mqtt::ACCEPTED_BYTES];
    connection.read_exact(&mut answer).await?;
    ensure!(answer[3] == 0, "the broker refuses: {answer:?}");
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(BACKLOG)?;
    let tasks = LocalSet::new();
    let accept = accept(listener, Rc::clone(&rooms), &tasks);
    let publish = publish(connection, rooms);
    tasks
        .run_until(async { tokio::try_join!(accept, publish).map(|((), ())| ()) })
        .await
}

async fn accept(listener: TcpListener, rooms: Rooms, tasks: &LocalSet) -> Result<()> {
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let rooms = Rc::clone(&rooms);
        // A client that fails is gone.
        tasks.spawn_local(async move { serve(tcp, rooms).await.ok() });
    }
}

async fn publish(mut connection: TcpStream, rooms: Rooms) -> Result<()> {
    let mut received = Vec::with_capacity(64 * 1024);
    let mut event = String::new();
    loop {
        ensure!(connection.read_buf(&mut received).await? > 0, "no broker");
        let mut used = 0;
        while let Some(packet) = mqtt::read(&received[used..])? {
            if packet.head >> 4 == 3 {
                let payload = packet.body.get(2 + TOPIC.len()..).context("no payload")?;
                let payload = std::str::from_utf8(payload)?;
                let serial = value_of(payload, "Serial Number\":\"").context("no serial")?;
                write_event(&mut event, payload, serial)?;
                let frame = frames::unmasked(frames::TEXT, event.as_bytes());
                for client in rooms.borrow().get(serial).into_iter().flatten() {
                    client.send(&frame);
                }
            }
            used += packet.bytes;
        }
        received.drain(..used);
    }
}

fn write_event(event: &mut String, payload: &str, serial: &str) -> Result<()> {
    let reading = value_of(payload, "Readings \":").context("no reading")?;
    let time = value_of(payload, "At Reading\":\"").context("no time")?;
    let now = SystemClock::local().to_iso();
    event.clear();
    write!(
        event,
        "42[\"device:data\",{{\"deviceId\":\"{serial}\",\"data\":{{\"device_name\":\"Gas Sensor Block1\",\
         \"serial_number\":\"{serial}\",\"gas_type\":\"Unknown\",\"timestamp\":\"{time}\",\"unit\":\"ppm\",\
         \"message_type\":\"LOG DATA\",\"sender\":\"Device\",\"sensor_reading\":{reading},\"offset\":{reading},\
         \"alarm_status\":\"NORMAL\",\"span_high\":2000,\"span_low\":0,\"a1_level\":250,\"a2_level\":500,\
         \"a3_level\":1000,\"decimal_point\":0,\"a1_type\":\"High\",\"a1_hysteresis\":0,\"a1_latching\":0,\
         \"a1_siren\":0,\"a1_buzzer\":0,\"alarm1_led\":0,\"alarm2_led\":0,\"alarm3_led\":0,\"sensor_fault\":0,\
         \"latitude\":\"19.011545\",\"longitude\":\"72.823872\",\"processed_at\":\"{now}\",\
         \"data_quality\":\"good\"}},\"timestamp\":\"{now}\",\"epoch\":\"73047088fdba\",\"seq\":1234,\"age_ms\":0}}]"
    )?;
    Ok(())
}

/// Returns the characters behind this text, up to the end of the value.
fn value_of<'a>(payload: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = payload.split_once(before)?;
    rest.split(['"', ',', '}']).next()
}

impl Client {
    /// Writes at once if nothing waits.
    fn send(&self, frame: &[u8]) {
        let mut pending = self.pending.borrow_mut();
        if !pending.is_empty() {
            pending.extend_from_slice(frame);
            return;
        }
        let written = match self.tcp.try_write(frame) {
            Ok(written) => written,
            Err(err) if err.kind() == ErrorKind::WouldBlock => 0,
            // Its own task notices it.
            Err(_) => return,
        };
        if written < frame.len() {
            pending.extend_from_slice(&frame[written..]);
            self.has_pending.notify_one();
        }
    }

    /// Waits until the socket takes what is pending.
    async fn flush(&self) -> Result<()> {
        loop {
            if self.pending.borrow().is_empty() {
                self.has_pending.notified().await;
            }
            self.tcp.writable().await?;
            let mut pending = self.pending.borrow_mut();
            match self.tcp.try_write(&pending) {
                Ok(written) => drop(pending.drain(..written)),
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
}

/// Answers the handshake, CONNECT and subscriptions of a client.
async fn serve(tcp: TcpStream, rooms: Rooms) -> Result<()> {
    let client = Rc::new(Client {
        tcp,
        pending: RefCell::default(),
        has_pending: Notify::new(),
    });
    let receive = async {
        let mut received = Vec::new();
        let mut is_open = false;
        loop {
            client.tcp.readable().await?;
            let mut buffer = [0; 4096];
            match client.tcp.try_read(&mut buffer) {
                Ok(0) => anyhow::bail!("gone"),
                Ok(read) => received.extend_from_slice(&buffer[..read]),
                Err(err) if err.kind() == ErrorKind::WouldBlock => continue,
                Err(err) => return Err(err.into()),
            }
            if !is_open {
                if received.ends_with(b"\r\n\r\n") {
                    client.send(HANDSHAKE.as_bytes());
                    client.send_text(OPEN);
                    is_open = true;
                    received = Vec::new();
                }
                continue;
            }
            let mut used = 0;
            while let Some((text, bytes)) = masked_text(&received[used..])? {
                answer(&client, &text, &rooms)?;
                used += bytes;
            }
            received.drain(..used);
            if received.is_empty() {
                received = Vec::new();
            }
        }
    };
    // The two never end well.
    tokio::try_join!(receive, client.flush()).map(|((), ())| ())
}

impl Client {
    fn send_text(&self, text: &str) {
        self.send(&frames::unmasked(frames::TEXT, text.as_bytes()));
    }
}

fn answer(client: &Rc<Client>, text: &str, rooms: &Rooms) -> Result<()> {
    if text == "40" {
        client.send_text(r#"40{"sid":"floor"}"#);
    } else if let Some((number, request)) = text
        .strip_prefix("42")
        .and_then(|rest| rest.split_once('['))
    {
        let serial = value_of(request, "deviceId\":\"").context("no device")?;
        let mut rooms = rooms.borrow_mut();
        rooms
            .entry(serial.to_owned())
            .or_default()
            .push(Rc::clone(client));
        client.send_text(&format!(r#"43{number}[{{"ok":true}}]"#));
    }
    Ok(())
}

/// Reads a short frame of a client. Returns its text and its length in bytes.
fn masked_text(bytes: &[u8]) -> Result<Option<(String, usize)>> {
    let length = match bytes {
        [_, second, ..] if second & 0x7f < 126 => usize::from(second & 0x7f),
        _ => return Ok(None),
    };
    ensure!(bytes[1] & 0x80 != 0, "not masked");
    let Some(payload) = bytes.get(6..6 + length) else {
        return Ok(None);
    };
    let mask = bytes[2..6].iter().cycle();
    let text = payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask);
    Ok(Some((String::from_utf8(text.collect())?, 6 + length)))
}

//! One connection to the broker: bytes to packets, requests to bytes, and pings.

use std::time::Duration;

use bytes::BytesMut;
use shared::tls::ClientStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until, timeout};

use super::stream;
use super::{ClientOptions, ConnectionEnd, Packet, Publish, Request};

/// How many bytes are read at once. Packets that are longer are read in pieces.
const READ_BYTES: usize = 64 * 1024;
/// Requests wait in their channel while this many bytes wait to be written.
const WRITE_BYTES: usize = 16 * 1024;

/// The events of one connection. Nothing is sent or received unless it is polled.
///
/// Memory bounds: [`READ_BYTES`] and one packet that is received, [`WRITE_BYTES`] and one request that is sent.
pub(in crate::mqtt) struct EventLoop {
    options: ClientOptions,
    requests: Receiver<Request>,
    connection: Option<Connection>,
    is_reading: bool,
}

struct Connection {
    reader: ReadHalf<ClientStream>,
    writer: Writer,
    received: BytesMut,
    keep_alive: Duration,
    next_ping: Instant,
    /// Whether nothing arrived since the last ping.
    is_ping_unanswered: bool,
    last_packet_id: u16,
    is_disconnecting: bool,
}

struct Writer {
    stream: WriteHalf<ClientStream>,
    waiting: BytesMut,
    /// Whether written bytes may still be in a buffer of TLS.
    is_flushed: bool,
}

impl EventLoop {
    pub(super) fn new(options: ClientOptions, requests: Receiver<Request>) -> Self {
        Self {
            options,
            requests,
            connection: None,
            is_reading: true,
        }
    }

    /// Stops or resumes reading. Meanwhile requests and pings are sent. Messages that are not read wait in the socket, then at
    /// the broker.
    pub(in crate::mqtt) fn set_reading(&mut self, is_reading: bool) {
        if is_reading
            && !self.is_reading
            && let Some(connection) = &mut self.connection
        {
            // The answer to an earlier ping may be among what was not read.
            connection.is_ping_unanswered = false;
        }
        self.is_reading = is_reading;
    }

    /// Returns the interval of pings. An MQTT 5 broker may have set it.
    pub(in crate::mqtt) fn keep_alive(&self) -> Duration {
        let connection = self.connection.as_ref();
        connection.map_or(self.options.keep_alive, |connection| connection.keep_alive)
    }

    /// Returns the next event. The first one is the CONNACK. Cancel-safe from then on. After an error, drop the connection.
    pub(in crate::mqtt) async fn poll(&mut self) -> Result<Packet, ConnectionEnd> {
        if let Some(connection) = &mut self.connection {
            let requests = &mut self.requests;
            return connection
                .next(&self.options, requests, self.is_reading)
                .await;
        }
        let limit = self.options.connect_timeout;
        let opened = timeout(limit, Connection::open(&self.options)).await;
        let (connection, packet) = opened.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            let error = format!("the broker does not answer within {seconds} s");
            Err(ConnectionEnd::Lost(error))
        })?;
        self.connection = Some(connection);
        Ok(packet)
    }

    /// Removes the messages that were received and not yet returned by [`EventLoop::poll`].
    pub(in crate::mqtt) fn take_received(&mut self) -> Vec<Publish> {
        let mut messages = Vec::new();
        let Some(connection) = &mut self.connection else {
            return messages;
        };
        while let Ok(Some(packet)) = self.options.read(&mut connection.received) {
            if let Packet::Publish(message) = packet {
                messages.push(message);
            }
        }
        messages
    }
}

impl Connection {
    /// Connects, and waits for the CONNACK.
    async fn open(options: &ClientOptions) -> Result<(Self, Packet), ConnectionEnd> {
        let stream = stream::connect(options).await?;
        match Self::log_in(options, stream).await {
            Ok(opened) => Ok(opened),
            Err(end) => Err(options.unanswered(stream::explain(options, end).await)),
        }
    }

    /// Sends CONNECT, and waits for the CONNACK.
    async fn log_in(
        options: &ClientOptions,
        stream: ClientStream,
    ) -> Result<(Self, Packet), ConnectionEnd> {
        let (reader, writer) = tokio::io::split(stream);
        let mut connection = Self {
            reader,
            writer: Writer {
                stream: writer,
                waiting: BytesMut::new(),
                is_flushed: true,
            },
            received: BytesMut::new(),
            keep_alive: options.keep_alive,
            next_ping: Instant::now() + options.keep_alive,
            is_ping_unanswered: false,
            last_packet_id: 0,
            is_disconnecting: false,
        };
        options.write_connect(&mut connection.writer.waiting)?;
        while connection.writer.has_work() {
            connection.writer.write().await?;
        }
        loop {
            match options.read(&mut connection.received)? {
                Some(Packet::ConnAck {
                    session_present,
                    keep_alive,
                }) => {
                    connection.keep_alive = keep_alive.unwrap_or(options.keep_alive);
                    connection.next_ping = Instant::now() + connection.keep_alive;
                    let packet = Packet::ConnAck {
                        session_present,
                        keep_alive,
                    };
                    return Ok((connection, packet));
                }
                Some(_) => {
                    let error = "the first packet of the broker is no CONNACK";
                    return Err(ConnectionEnd::Lost(error.to_owned()));
                }
                None => {}
            }
            connection.read().await?;
        }
    }

    async fn next(
        &mut self,
        options: &ClientOptions,
        requests: &mut Receiver<Request>,
        is_reading: bool,
    ) -> Result<Packet, ConnectionEnd> {
        loop {
            if is_reading && let Some(packet) = options.read(&mut self.received)? {
                return Ok(packet);
            }
            let mut has_taken = false;
            while self.takes_requests()
                && let Ok(request) = requests.try_recv()
            {
                self.request(options, request)?;
                has_taken = true;
            }
            if has_taken {
                // There is room in the channel again.
                return Ok(Packet::Other);
            }
            if self.is_disconnecting && !self.writer.has_work() {
                return Ok(Packet::DisconnectSent);
            }
            let (takes_requests, has_work) = (self.takes_requests(), self.writer.has_work());
            tokio::select! {
                biased;
                () = sleep_until(self.next_ping), if !self.is_disconnecting => {
                    self.ping(options, is_reading)?;
                }
                written = self.writer.write(), if has_work => written?,
                Some(request) = requests.recv(), if takes_requests => {
                    self.request(options, request)?;
                    return Ok(Packet::Other);
                }
                read = read(&mut self.reader, &mut self.received), if is_reading => {
                    read?;
                    self.is_ping_unanswered = false;
                }
            }
        }
    }

    fn takes_requests(&self) -> bool {
        !self.is_disconnecting && self.writer.waiting.len() < WRITE_BYTES
    }

    fn request(&mut self, options: &ClientOptions, request: Request) -> Result<(), ConnectionEnd> {
        self.is_disconnecting = matches!(request, Request::Disconnect);
        if matches!(request, Request::Subscribe(_) | Request::Unsubscribe(_)) {
            // 0 is no packet id.
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        }
        options.write(request, self.last_packet_id, &mut self.writer.waiting)
    }

    /// Sends a ping. Whatever arrived since the last one answered it: the answer itself may be behind a backlog of messages.
    fn ping(&mut self, options: &ClientOptions, is_reading: bool) -> Result<(), ConnectionEnd> {
        if self.is_ping_unanswered && is_reading {
            return Err(ConnectionEnd::Lost(format!(
                "no packet from the broker for {} s",
                self.keep_alive.as_secs()
            )));
        }
        self.is_ping_unanswered = true;
        self.next_ping = Instant::now() + self.keep_alive;
        self.request(options, Request::Ping)
    }

    async fn read(&mut self) -> Result<(), ConnectionEnd> {
        read(&mut self.reader, &mut self.received).await
    }
}

/// Reads what has arrived. Cancel-safe.
async fn read(
    reader: &mut ReadHalf<ClientStream>,
    received: &mut BytesMut,
) -> Result<(), ConnectionEnd> {
    received.reserve(READ_BYTES);
    match reader.read_buf(received).await {
        Ok(0) => Err(ConnectionEnd::Closed),
        Ok(_) => Ok(()),
        Err(err) => Err(ConnectionEnd::Failed(err)),
    }
}

impl Writer {
    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.is_flushed
    }

    /// Writes a part of what waits, or flushes what is written. Cancel-safe.
    async fn write(&mut self) -> Result<(), ConnectionEnd> {
        let result = if self.waiting.is_empty() {
            let result = self.stream.flush().await;
            self.is_flushed = true;
            result
        } else {
            self.is_flushed = false;
            self.stream.write_buf(&mut self.waiting).await.map(drop)
        };
        result.map_err(ConnectionEnd::Failed)
    }
}

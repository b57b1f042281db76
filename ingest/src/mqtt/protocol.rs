//! MQTT 5 and MQTT 3.1.1 behind one interface. rumqttc reads and writes the packets of both, with types of its own for each.
//! All other files of `mqtt` know only this one.
//!
//! The event loop is ours, since rumqttc's cannot stop reading and still send pings. When more arrives than is committed, it
//! stops reading, acknowledges, and keeps the connection.
//!
//! What 3.1.1 lacks is left out here: a session expiry and a receive maximum (the broker decides both), the size limit that the
//! broker would respect, user properties, the rule for retained messages, and the reason of a disconnection.

mod event_loop;
mod stream;
mod v311;
mod v5;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
pub(super) use rumqttc::v5::mqttbytes::QoS;
use shared::tls::ClientTls;
use shared::trace::RemoteContext;
use tokio::sync::mpsc;

pub(super) use self::event_loop::EventLoop;
use super::config::{MqttConfig, TLS_SETTINGS};
use super::connection_end::ConnectionEnd;
use super::version::MqttVersion;

/// The options of a connection.
#[derive(Clone)]
pub(super) struct ClientOptions {
    version: MqttVersion,
    /// Host name or IP address; an IPv6 address is in brackets.
    host: String,
    port: u16,
    tls: Option<Arc<ClientTls>>,
    client_id: String,
    /// User name and password.
    credentials: Option<(String, String)>,
    keep_alive: Duration,
    /// Time limit from the name lookup to the answer of the broker.
    connect_timeout: Duration,
    /// How many seconds the broker keeps the session without a connection. 0: the session ends with its connection. In MQTT 3.1.1
    /// any other number leaves it to the broker.
    session_expiry: u32,
    /// Maximum number of unacknowledged messages. MQTT 5 only.
    receive_maximum: u16,
    /// Largest packet that is accepted.
    max_packet_bytes: u32,
}

/// What is sent to the broker.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Subscribes to all of these filters.
    Subscribe(Vec<Subscription>),
    /// Ends the subscription to this filter.
    Unsubscribe(String),
    /// Acknowledges the message of QoS 1 with this packet id.
    Acknowledge(u16),
    Ping,
    Disconnect,
}

/// A subscription to request.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) filter: String,
    pub(super) qos: QoS,
    /// Whether to receive the retained messages of a new subscription. In MQTT 3.1.1 the broker sends them at every
    /// SUBSCRIBE, whatever this says.
    pub(super) retained: bool,
}

/// What happened on the connection.
#[derive(Debug)]
pub(super) enum Packet {
    ConnAck {
        session_present: bool,
        /// The interval of pings, if the broker sets it.
        keep_alive: Option<Duration>,
    },
    /// The answer to each filter of a SUBSCRIBE.
    SubAck(Vec<Grant>),
    Publish(Publish),
    UnsubAck {
        /// Why the broker refuses to end a subscription.
        refusal: Option<String>,
    },
    /// Our DISCONNECT was sent.
    DisconnectSent,
    /// Any other packet arrived, or requests were sent.
    Other,
}

/// The answer of the broker to one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Granted(QoS),
    Refused(String),
}

/// A received message.
#[derive(Clone, Debug)]
pub(super) struct Publish {
    pub(super) topic: String,
    /// A part of the buffer of the connection, which many messages share: copy it to keep it.
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) packet_id: u16,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) remote_trace: Option<RemoteContext>,
}

impl ClientOptions {
    /// Creates the options of the configured version.
    ///
    /// # Errors
    /// TLS is configured, and a file for it cannot be used, or the system has no readable certificate authority.
    pub(super) fn new(config: &MqttConfig) -> anyhow::Result<Self> {
        let broker = &config.mqtt_broker;
        let credentials = config.mqtt_username.as_ref().map(|username| {
            let password = config.mqtt_password.as_ref();
            let password = password.map_or("", |password| password.expose());
            (username.expose().to_owned(), password.to_owned())
        });
        let tls = broker
            .tls
            .then(|| ClientTls::new(config.tls_files(), &TLS_SETTINGS));
        if let Some(tls) = &tls {
            tls.config().map_err(anyhow::Error::msg)?;
        }
        Ok(Self {
            version: config.mqtt_version,
            host: broker.host.clone(),
            port: broker.port,
            tls: tls.map(Arc::new),
            client_id: config.client_id().to_owned(),
            credentials,
            keep_alive: config.mqtt_keep_alive,
            connect_timeout: config.mqtt_connect_timeout,
            session_expiry: u32::try_from(config.mqtt_session_expiry.as_secs()).unwrap_or(u32::MAX),
            receive_maximum: config.mqtt_receive_maximum,
            max_packet_bytes: match config.mqtt_version {
                MqttVersion::V311 => v311::MAX_PACKET_BYTES,
                MqttVersion::V5 => config.mqtt_max_packet_size,
            },
        })
    }

    /// Prepares a connection, which begins when it is polled. `capacity` is the number of requests that can wait.
    pub(super) fn connect(&self, capacity: usize) -> (Client, EventLoop) {
        let (sender, requests) = mpsc::channel(capacity);
        (Client(sender), EventLoop::new(self.clone(), requests))
    }

    /// Returns the same options for a connection that ends our session and keeps none; `None` if our session ends with its
    /// connection anyway.
    pub(super) fn without_session(&self) -> Option<Self> {
        (self.session_expiry != 0).then(|| Self {
            session_expiry: 0,
            ..self.clone()
        })
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns the host without the brackets of an IPv6 address.
    fn plain_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    fn keep_alive_seconds(&self) -> u16 {
        u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX)
    }

    /// Adds CONNECT to a buffer.
    fn write_connect(&self, buffer: &mut BytesMut) -> Result<(), ConnectionEnd> {
        match self.version {
            MqttVersion::V311 => v311::write_connect(self, buffer),
            MqttVersion::V5 => v5::write_connect(self, buffer),
        }
    }

    /// Adds a request to a buffer. Only subscriptions and their ends need the packet id.
    fn write(
        &self,
        request: Request,
        packet_id: u16,
        buffer: &mut BytesMut,
    ) -> Result<(), ConnectionEnd> {
        match self.version {
            MqttVersion::V311 => v311::write(request, packet_id, buffer),
            MqttVersion::V5 => v5::write(request, packet_id, buffer),
        }
    }

    /// Removes the first packet from a buffer; `None` if it is not complete yet.
    fn read(&self, buffer: &mut BytesMut) -> Result<Option<Packet>, ConnectionEnd> {
        match self.version {
            MqttVersion::V311 => v311::read(buffer),
            MqttVersion::V5 => v5::read(buffer, self.max_packet_bytes),
        }
    }

    /// Describes why there is no answer to CONNECT that can be read.
    fn unanswered(&self, end: ConnectionEnd) -> ConnectionEnd {
        match self.version {
            MqttVersion::V311 => v311::unanswered(end),
            MqttVersion::V5 => v5::unanswered(end),
        }
    }
}

/// The end of a connection whose user or password the broker does not accept. `code`: that of its answer.
fn login_refused(code: &str) -> ConnectionEnd {
    ConnectionEnd::Refused(format!(
        "the broker does not accept the user name or password ({code}): check --mqtt-username and --mqtt-password"
    ))
}

/// The requests of one connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client(mpsc::Sender<Request>);

/// The request does not fit into the channel, or the connection has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many requests wait")]
pub(super) struct NotQueued;

impl Client {
    /// Queues a request. Does not wait.
    pub(super) fn send(&self, request: Request) -> Result<(), NotQueued> {
        self.0.try_send(request).map_err(|_| NotQueued)
    }
}

//! MQTT 5 and MQTT 3.1.1 behind one interface. rumqttc has a client of its own for each version, with types of its own. All
//! other files of `mqtt` know only this one.
//!
//! What 3.1.1 lacks is left out here: a session expiry and a receive maximum (the broker decides both), the size limit that the
//! broker would respect, user properties, the rule for retained messages, and the reason of a disconnection.

mod v311;
mod v5;

use std::time::Duration;

pub(super) use rumqttc::v5::mqttbytes::QoS;
use shared::trace::RemoteContext;

use super::config::MqttConfig;
use super::connection_end::ConnectionEnd;
use super::version::MqttVersion;

/// The options of a connection.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of them per connection"
)]
pub(super) enum ClientOptions {
    V311(v311::Options),
    V5(rumqttc::v5::MqttOptions),
}

/// The requests of one connection. Cheap to clone.
#[derive(Clone)]
pub(super) enum Client {
    V311(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// The events of one connection. Nothing is sent or received unless it is polled.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of them per connection"
)]
pub(super) enum EventLoop {
    V311(v311::Events),
    V5(v5::Events),
}

/// A subscription to request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription<'a> {
    pub(super) filter: &'a str,
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
    /// A part of rumqttc's buffer, which many messages share: copy it to keep it.
    pub(super) payload: axum::body::Bytes,
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
    /// TLS is configured and the system has no readable certificate authority.
    pub(super) fn new(config: &MqttConfig) -> anyhow::Result<Self> {
        Ok(match config.mqtt_version {
            MqttVersion::V311 => Self::V311(v311::Options::new(config)?),
            MqttVersion::V5 => Self::V5(v5::options(config)?),
        })
    }

    /// Prepares a connection, which begins when it is polled. `capacity` is the number of requests that can wait.
    pub(super) fn connect(&self, capacity: usize) -> (Client, EventLoop) {
        match self {
            Self::V311(options) => {
                let (client, events) = v311::connect(options, capacity);
                (Client::V311(client), EventLoop::V311(events))
            }
            Self::V5(options) => {
                let (client, events) = v5::connect(options, capacity);
                (Client::V5(client), EventLoop::V5(events))
            }
        }
    }

    /// Returns the same options for a connection that ends our session and keeps none; `None` if our session ends with its
    /// connection anyway.
    pub(super) fn without_session(&self) -> Option<Self> {
        match self {
            Self::V311(options) => options.without_session().map(Self::V311),
            Self::V5(options) => v5::without_session(options).map(Self::V5),
        }
    }

    pub(super) fn client_id(&self) -> String {
        match self {
            Self::V311(options) => options.client_id(),
            Self::V5(options) => options.client_id(),
        }
    }

    pub(super) fn keep_alive(&self) -> Duration {
        match self {
            Self::V311(options) => options.keep_alive(),
            Self::V5(options) => options.keep_alive(),
        }
    }
}

/// The request does not fit into the channel, or the connection has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many requests wait")]
pub(super) struct NotQueued;

impl Client {
    pub(super) fn subscribe(&self, subscriptions: &[Subscription<'_>]) -> Result<(), NotQueued> {
        match self {
            Self::V311(client) => v311::subscribe(client, subscriptions),
            Self::V5(client) => v5::subscribe(client, subscriptions),
        }
    }

    pub(super) fn unsubscribe(&self, filter: &str) -> Result<(), NotQueued> {
        match self {
            Self::V311(client) => client.try_unsubscribe(filter).map_err(|_| NotQueued),
            Self::V5(client) => client.try_unsubscribe(filter).map_err(|_| NotQueued),
        }
    }

    /// Acknowledges the message of QoS 1 with this packet id.
    pub(super) fn acknowledge(&self, packet_id: u16) -> Result<(), NotQueued> {
        match self {
            Self::V311(client) => v311::acknowledge(client, packet_id),
            Self::V5(client) => v5::acknowledge(client, packet_id),
        }
    }

    pub(super) fn disconnect(&self) -> Result<(), NotQueued> {
        match self {
            Self::V311(client) => client.try_disconnect().map_err(|_| NotQueued),
            Self::V5(client) => client.try_disconnect().map_err(|_| NotQueued),
        }
    }
}

impl EventLoop {
    /// Returns the next event. Not cancel-safe: drop the connection with the future. After an error, too.
    pub(super) async fn poll(&mut self) -> Result<Packet, ConnectionEnd> {
        match self {
            Self::V311(events) => events.poll().await,
            Self::V5(events) => events.poll().await,
        }
    }

    /// Returns the interval of pings. An MQTT 5 broker may have set it.
    pub(super) fn keep_alive(&self) -> Duration {
        match self {
            Self::V311(events) => events.keep_alive(),
            Self::V5(events) => events.keep_alive(),
        }
    }

    /// Removes the messages that were received and not yet returned by [`EventLoop::poll`].
    pub(super) fn take_received(&mut self) -> Vec<Publish> {
        match self {
            Self::V311(events) => events.take_received(),
            Self::V5(events) => events.take_received(),
        }
    }
}

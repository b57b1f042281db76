//! MQTT 5.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, Filter, Packet as V5Packet, Publish as V5Publish,
    RetainForwardRule, SubscribeReasonCode, UnsubAckReason,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use shared::trace::RemoteContext;

use super::{Grant, NotQueued, Packet, Publish, Subscription};
use crate::mqtt::config::MqttConfig;
use crate::mqtt::connection_end::ConnectionEnd;
use crate::mqtt::options;

/// What to do if the broker speaks an older version only.
const TRY_OLDER: &str = "set --mqtt-version=3.1.1";

pub(super) fn options(config: &MqttConfig) -> anyhow::Result<MqttOptions> {
    let broker = &config.mqtt_broker;
    let mut options = MqttOptions::new(config.client_id(), broker.host.clone(), broker.port);
    let expiry = u32::try_from(config.mqtt_session_expiry.as_secs()).unwrap_or(u32::MAX);
    options
        .set_network_options(options::network(config))
        .set_connection_timeout(options::connect_timeout_seconds(config))
        .set_keep_alive(options::keep_alive(config))
        .set_manual_acks(true)
        // A session outlives its connection only with all three: no clean start, an expiry and a stable client id.
        .set_clean_start(expiry == 0)
        .set_session_expiry_interval(Some(expiry))
        .set_receive_maximum(Some(config.mqtt_receive_maximum))
        // Sent to the broker, which then drops larger packets. Otherwise the broker would send such a packet again on every
        // connection, and each time it would end the connection.
        .set_max_packet_size(Some(config.mqtt_max_packet_size))
        // We publish nothing, and rumqttc allocates a slot for every message that could be in flight.
        .set_outgoing_inflight_upper_limit(1);
    if let Some((username, password)) = options::credentials(config) {
        options.set_credentials(username, password);
    }
    if let Some(transport) = options::transport(config)? {
        options.set_transport(transport);
    }
    Ok(options)
}

/// A connection that ends our session, because rumqttc's DISCONNECT cannot carry an expiry.
pub(super) fn without_session(options: &MqttOptions) -> Option<MqttOptions> {
    if options.session_expiry_interval() == Some(0) {
        return None;
    }
    let mut options = options.clone();
    options
        .set_clean_start(true)
        .set_session_expiry_interval(Some(0));
    Some(options)
}

pub(in crate::mqtt) struct Events {
    eventloop: EventLoop,
    is_connected: bool,
}

pub(super) fn connect(options: &MqttOptions, capacity: usize) -> (AsyncClient, Events) {
    let (client, eventloop) = AsyncClient::new(options.clone(), capacity);
    let events = Events {
        eventloop,
        is_connected: false,
    };
    (client, events)
}

pub(super) fn subscribe(
    client: &AsyncClient,
    subscriptions: &[Subscription<'_>],
) -> Result<(), NotQueued> {
    let filters = subscriptions.iter().map(|subscription| Filter {
        retain_forward_rule: if subscription.retained {
            RetainForwardRule::OnNewSubscribe
        } else {
            RetainForwardRule::Never
        },
        ..Filter::new(subscription.filter.to_owned(), subscription.qos)
    });
    client.try_subscribe_many(filters).map_err(|_| NotQueued)
}

pub(super) fn acknowledge(client: &AsyncClient, packet_id: u16) -> Result<(), NotQueued> {
    let mut publish = V5Publish::new("", QoS::AtLeastOnce, Vec::new(), None);
    publish.pkid = packet_id;
    client.try_ack(&publish).map_err(|_| NotQueued)
}

impl Events {
    pub(super) async fn poll(&mut self) -> Result<Packet, ConnectionEnd> {
        match self.eventloop.poll().await {
            Ok(event) => {
                let packet = packet(event);
                self.is_connected |= matches!(packet, Packet::ConnAck { .. });
                Ok(packet)
            }
            Err(err) if self.is_connected => Err(end_of(&err)),
            Err(err) => Err(ConnectionEnd::Lost(connect_error(&err))),
        }
    }

    pub(super) fn keep_alive(&self) -> std::time::Duration {
        self.eventloop.options.keep_alive()
    }

    pub(super) fn take_received(&mut self) -> Vec<Publish> {
        let events = self.eventloop.state.events.drain(..);
        let received = events.filter_map(|event| match event {
            Event::Incoming(V5Packet::Publish(message)) => Some(publish(message)),
            _ => None,
        });
        received.collect()
    }
}

fn packet(event: Event) -> Packet {
    match event {
        Event::Incoming(V5Packet::ConnAck(answer)) => Packet::ConnAck {
            session_present: answer.session_present,
        },
        Event::Incoming(V5Packet::SubAck(answer)) => {
            let grants = answer.return_codes.into_iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Grant::Granted(qos),
                refused => Grant::Refused(format!("{refused:?}")),
            });
            Packet::SubAck(grants.collect())
        }
        Event::Incoming(V5Packet::Publish(message)) => Packet::Publish(publish(message)),
        Event::Incoming(V5Packet::UnsubAck(answer)) => {
            let is_refused = |reason: &&UnsubAckReason| {
                !matches!(
                    reason,
                    UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted
                )
            };
            let refusal = answer.reasons.iter().find(is_refused);
            Packet::UnsubAck {
                refusal: refusal.map(|reason| format!("{reason:?}")),
            }
        }
        Event::Outgoing(rumqttc::Outgoing::Disconnect) => Packet::DisconnectSent,
        _ => Packet::Other,
    }
}

fn publish(message: V5Publish) -> Publish {
    Publish {
        topic: String::from_utf8_lossy(&message.topic).into_owned(),
        remote_trace: remote_trace(&message),
        payload: message.payload,
        qos: message.qos,
        packet_id: message.pkid,
        dup: message.dup,
        retain: message.retain,
    }
}

/// Reads the user properties `traceparent` and `tracestate` (W3C Trace Context). Most messages have none; then nothing is
/// allocated.
fn remote_trace(publish: &V5Publish) -> Option<RemoteContext> {
    let properties = &publish.properties.as_ref()?.user_properties;
    let value_of = |wanted: &str| {
        let property = properties.iter().find(|(name, _)| name == wanted);
        property.map(|(_, value)| value.as_str())
    };
    RemoteContext::read(value_of("traceparent")?, value_of("tracestate"))
}

fn end_of(err: &ConnectionError) -> ConnectionEnd {
    match err {
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => ConnectionEnd::TakenOver,
        ConnectionError::MqttState(StateError::ConnectionAborted) => ConnectionEnd::Closed,
        err => ConnectionEnd::Lost(err.to_string()),
    }
}

/// Describes why there is no connection. A broker that knows only older versions says so, answers in the format of an older
/// version, or closes the connection without an answer.
fn connect_error(err: &ConnectionError) -> String {
    match err {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::RefusedProtocolVersion
            | ConnectReturnCode::UnsupportedProtocolVersion,
        ) => format!("the broker does not speak MQTT 5: {TRY_OLDER}"),
        ConnectionError::MqttState(StateError::Deserialization(_)) => {
            format!(
                "the broker's answer to CONNECT is not MQTT 5: {TRY_OLDER} if it speaks only that"
            )
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => format!(
            "the broker closed the connection without an answer to CONNECT: {TRY_OLDER} if it does not speak MQTT 5"
        ),
        err => err.to_string(),
    }
}

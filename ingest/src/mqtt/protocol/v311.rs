//! MQTT 3.1.1.

use std::time::Duration;

use rumqttc::mqttbytes::QoS as V311QoS;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions,
    Packet as V311Packet, Publish as V311Publish, StateError, SubscribeFilter, SubscribeReasonCode,
};

use super::{Grant, NotQueued, Packet, Publish, Subscription};
use crate::mqtt::config::MqttConfig;
use crate::mqtt::connection_end::ConnectionEnd;
use crate::mqtt::options;

/// The largest packet in MQTT. The broker cannot be told a smaller limit: it would send a larger packet again and again, and
/// each time that would end the connection.
const MAX_PACKET_BYTES: usize = 268_435_455;

#[derive(Clone)]
pub(in crate::mqtt) struct Options {
    mqtt: MqttOptions,
    network: NetworkOptions,
}

impl Options {
    pub(super) fn new(config: &MqttConfig) -> anyhow::Result<Self> {
        let broker = &config.mqtt_broker;
        let mut mqtt = MqttOptions::new(config.client_id(), broker.host.clone(), broker.port);
        mqtt.set_keep_alive(options::keep_alive(config))
            .set_manual_acks(true)
            // The broker decides how long it keeps a session.
            .set_clean_session(config.mqtt_session_expiry.is_zero())
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
            // We publish nothing, and rumqttc allocates a slot for every message that could be in flight.
            .set_inflight(1);
        if let Some((username, password)) = options::credentials(config) {
            mqtt.set_credentials(username, password);
        }
        if let Some(transport) = options::transport(config)? {
            mqtt.set_transport(transport);
        }
        Ok(Self {
            mqtt,
            network: options::network(config),
        })
    }

    pub(super) fn without_session(&self) -> Option<Self> {
        if self.mqtt.clean_session() {
            return None;
        }
        let mut options = self.clone();
        options.mqtt.set_clean_session(true);
        Some(options)
    }

    pub(super) fn client_id(&self) -> String {
        self.mqtt.client_id()
    }

    pub(super) fn keep_alive(&self) -> Duration {
        self.mqtt.keep_alive()
    }
}

pub(in crate::mqtt) struct Events {
    eventloop: EventLoop,
    is_connected: bool,
}

pub(super) fn connect(options: &Options, capacity: usize) -> (AsyncClient, Events) {
    let (client, mut eventloop) = AsyncClient::new(options.mqtt.clone(), capacity);
    eventloop.network_options = options.network.clone();
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
    let filters = subscriptions.iter().map(|subscription| {
        let qos = match subscription.qos {
            QoS::AtMostOnce => V311QoS::AtMostOnce,
            QoS::AtLeastOnce => V311QoS::AtLeastOnce,
            QoS::ExactlyOnce => V311QoS::ExactlyOnce,
        };
        SubscribeFilter::new(subscription.filter.to_owned(), qos)
    });
    client.try_subscribe_many(filters).map_err(|_| NotQueued)
}

pub(super) fn acknowledge(client: &AsyncClient, packet_id: u16) -> Result<(), NotQueued> {
    let mut publish = V311Publish::new("", V311QoS::AtLeastOnce, Vec::new());
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
            // A broker cannot say that it ends a connection, or why.
            Err(ConnectionError::MqttState(StateError::ConnectionAborted)) if self.is_connected => {
                Err(ConnectionEnd::Closed)
            }
            Err(err) => Err(ConnectionEnd::Lost(err.to_string())),
        }
    }

    pub(super) fn keep_alive(&self) -> Duration {
        self.eventloop.mqtt_options.keep_alive()
    }

    pub(super) fn take_received(&mut self) -> Vec<Publish> {
        let events = self.eventloop.state.events.drain(..);
        let received = events.filter_map(|event| match event {
            Event::Incoming(V311Packet::Publish(message)) => Some(publish(message)),
            _ => None,
        });
        received.collect()
    }
}

fn packet(event: Event) -> Packet {
    match event {
        Event::Incoming(V311Packet::ConnAck(answer)) => Packet::ConnAck {
            session_present: answer.session_present,
        },
        Event::Incoming(V311Packet::SubAck(answer)) => {
            let grants = answer.return_codes.into_iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Grant::Granted(neutral_qos(qos)),
                SubscribeReasonCode::Failure => Grant::Refused("Failure".to_owned()),
            });
            Packet::SubAck(grants.collect())
        }
        Event::Incoming(V311Packet::Publish(message)) => Packet::Publish(publish(message)),
        Event::Incoming(V311Packet::UnsubAck(_)) => Packet::UnsubAck { refusal: None },
        Event::Outgoing(rumqttc::Outgoing::Disconnect) => Packet::DisconnectSent,
        _ => Packet::Other,
    }
}

fn publish(message: V311Publish) -> Publish {
    Publish {
        topic: message.topic,
        payload: message.payload,
        qos: neutral_qos(message.qos),
        packet_id: message.pkid,
        dup: message.dup,
        retain: message.retain,
        remote_trace: None,
    }
}

fn neutral_qos(qos: V311QoS) -> QoS {
    match qos {
        V311QoS::AtMostOnce => QoS::AtMostOnce,
        V311QoS::AtLeastOnce => QoS::AtLeastOnce,
        V311QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

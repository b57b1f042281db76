//! The packets of MQTT 3.1.1.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Login, Packet as V311Packet, PubAck,
    Publish as V311Publish, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};
use rumqttc::mqttbytes::{Error, QoS as V311QoS};
use rumqttc::v5::mqttbytes::QoS;

use super::{
    ClientOptions, ConnectionEnd, Grant, Packet, Publish, Request, Subscription, login_refused,
};

/// The largest packet in MQTT. There is no way to announce a smaller limit to the broker: it would send a larger packet again and again, and
/// each time that would end the connection.
pub(super) const MAX_PACKET_BYTES: u32 = 268_435_455;

pub(super) fn write_connect(
    options: &ClientOptions,
    buffer: &mut BytesMut,
) -> Result<(), ConnectionEnd> {
    let mut connect = Connect::new(&options.client_id);
    connect.keep_alive = options.keep_alive_seconds();
    // The broker decides how long it keeps a session.
    connect.clean_session = options.session_expiry == 0;
    let credentials = options.credentials.as_ref();
    connect.login = credentials.map(|(username, password)| Login::new(username, password));
    write_packet(&V311Packet::Connect(connect), buffer)
}

pub(super) fn write(
    request: Request,
    packet_id: u16,
    buffer: &mut BytesMut,
) -> Result<(), ConnectionEnd> {
    let packet = match request {
        Request::Subscribe(subscriptions) => {
            let mut subscribe = Subscribe::new_many(subscriptions.into_iter().map(filter));
            subscribe.pkid = packet_id;
            V311Packet::Subscribe(subscribe)
        }
        Request::Unsubscribe(filter) => {
            let mut unsubscribe = Unsubscribe::new(filter);
            unsubscribe.pkid = packet_id;
            V311Packet::Unsubscribe(unsubscribe)
        }
        Request::Acknowledge(packet_id) => V311Packet::PubAck(PubAck::new(packet_id)),
        Request::Ping => V311Packet::PingReq,
        Request::Disconnect => V311Packet::Disconnect,
    };
    write_packet(&packet, buffer)
}

fn write_packet(packet: &V311Packet, buffer: &mut BytesMut) -> Result<(), ConnectionEnd> {
    let written = packet.write(buffer, usize::MAX);
    written.map_err(|err| ConnectionEnd::Lost(format!("cannot write a packet: {err}")))?;
    Ok(())
}

fn filter(subscription: Subscription) -> SubscribeFilter {
    let qos = match subscription.qos {
        QoS::AtMostOnce => V311QoS::AtMostOnce,
        QoS::AtLeastOnce => V311QoS::AtLeastOnce,
        QoS::ExactlyOnce => V311QoS::ExactlyOnce,
    };
    SubscribeFilter::new(subscription.filter, qos)
}

/// Removes the first packet from a buffer; `None` if it is not complete yet.
pub(super) fn read(buffer: &mut BytesMut) -> Result<Option<Packet>, ConnectionEnd> {
    let max_packet_bytes = usize::try_from(MAX_PACKET_BYTES).unwrap_or(usize::MAX);
    match V311Packet::read(buffer, max_packet_bytes) {
        Ok(packet) => read_packet(packet).map(Some),
        Err(Error::InsufficientBytes(_)) => Ok(None),
        Err(err) => Err(ConnectionEnd::Unreadable(err.to_string())),
    }
}

fn read_packet(packet: V311Packet) -> Result<Packet, ConnectionEnd> {
    Ok(match packet {
        V311Packet::ConnAck(ConnAck {
            session_present,
            code: ConnectReturnCode::Success,
        }) => Packet::ConnAck {
            session_present,
            keep_alive: None,
        },
        V311Packet::ConnAck(ConnAck { code, .. }) => {
            let code_text = format!("{code:?}");
            return Err(match code {
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                    login_refused(&code_text)
                }
                _ => ConnectionEnd::Lost(format!("the broker refuses the connection: {code_text}")),
            });
        }
        V311Packet::SubAck(answer) => {
            let grants = answer.return_codes.into_iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Grant::Granted(neutral_qos(qos)),
                SubscribeReasonCode::Failure => Grant::Refused("Failure".to_owned()),
            });
            Packet::SubAck(grants.collect())
        }
        V311Packet::Publish(message) => Packet::Publish(publish(message)),
        V311Packet::UnsubAck(_) => Packet::UnsubAck { refusal: None },
        _ => Packet::Other,
    })
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

/// Describes why there is no answer to CONNECT that can be read.
pub(super) fn unanswered(end: ConnectionEnd) -> ConnectionEnd {
    match end {
        ConnectionEnd::Closed => ConnectionEnd::Lost(
            "the broker closed the connection without an answer to CONNECT".to_owned(),
        ),
        end => end,
    }
}

//! The packets of MQTT 5.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::Error;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, Login,
    Packet as V5Packet, PingReq, PubAck, Publish as V5Publish, RetainForwardRule, Subscribe,
    SubscribeReasonCode, UnsubAckReason, Unsubscribe,
};
use shared::trace::RemoteContext;

use super::{
    ClientOptions, ConnectionEnd, Grant, Packet, Publish, Request, Subscription, login_refused,
};

/// What to do if the broker speaks an older version only.
const TRY_OLDER: &str = "set --mqtt-version=3.1.1";

pub(super) fn write_connect(
    options: &ClientOptions,
    buffer: &mut BytesMut,
) -> Result<(), ConnectionEnd> {
    let properties = ConnectProperties {
        session_expiry_interval: Some(options.session_expiry),
        receive_maximum: Some(options.receive_maximum),
        // The broker then drops larger packets. Otherwise it would send such a packet again on every connection, and each
        // time it would end the connection.
        max_packet_size: Some(options.max_packet_bytes),
        ..ConnectProperties::new()
    };
    let connect = Connect {
        keep_alive: options.keep_alive_seconds(),
        client_id: options.client_id.clone(),
        // A session outlives its connection only with all three: no clean start, an expiry and a stable client id.
        clean_start: options.session_expiry == 0,
        properties: Some(properties),
    };
    let credentials = options.credentials.as_ref();
    let login = credentials.map(|(username, password)| Login::new(username, password));
    write_packet(&V5Packet::Connect(connect, None, login), buffer)
}

pub(super) fn write(
    request: Request,
    packet_id: u16,
    buffer: &mut BytesMut,
) -> Result<(), ConnectionEnd> {
    let packet = match request {
        Request::Subscribe(subscriptions) => {
            let mut subscribe = Subscribe::new_many(subscriptions.into_iter().map(filter), None);
            subscribe.pkid = packet_id;
            V5Packet::Subscribe(subscribe)
        }
        Request::Unsubscribe(filter) => {
            let mut unsubscribe = Unsubscribe::new(filter, None);
            unsubscribe.pkid = packet_id;
            V5Packet::Unsubscribe(unsubscribe)
        }
        Request::Acknowledge(packet_id) => V5Packet::PubAck(PubAck::new(packet_id, None)),
        Request::Ping => V5Packet::PingReq(PingReq),
        Request::Disconnect => {
            V5Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection))
        }
    };
    write_packet(&packet, buffer)
}

fn write_packet(packet: &V5Packet, buffer: &mut BytesMut) -> Result<(), ConnectionEnd> {
    let written = packet.write(buffer, None);
    written.map_err(|err| ConnectionEnd::Lost(format!("cannot write a packet: {err}")))?;
    Ok(())
}

fn filter(subscription: Subscription) -> Filter {
    Filter {
        retain_forward_rule: if subscription.retained {
            RetainForwardRule::OnNewSubscribe
        } else {
            RetainForwardRule::Never
        },
        ..Filter::new(subscription.filter, subscription.qos)
    }
}

/// Removes the first packet from a buffer; `None` if it is not complete yet.
pub(super) fn read(
    buffer: &mut BytesMut,
    max_packet_bytes: u32,
) -> Result<Option<Packet>, ConnectionEnd> {
    lengthen_disconnect(buffer);
    match V5Packet::read(buffer, Some(max_packet_bytes)) {
        Ok(packet) => read_packet(packet).map(Some),
        Err(Error::InsufficientBytes(_)) => Ok(None),
        Err(err) => Err(ConnectionEnd::Unreadable(err.to_string())),
    }
}

/// Completes a DISCONNECT that leaves out its reason, or the length of its properties. MQTT 5 allows both (3.14.2), and rumqttc
/// cannot read them.
fn lengthen_disconnect(buffer: &mut BytesMut) {
    const DISCONNECT: u8 = 0xe0;
    let reason = match buffer[..] {
        [DISCONNECT, 0, ..] => 0,
        [DISCONNECT, 1, reason, ..] => reason,
        _ => return,
    };
    // Nothing follows a DISCONNECT.
    *buffer = BytesMut::from(&[DISCONNECT, 2, reason, 0][..]);
}

fn read_packet(packet: V5Packet) -> Result<Packet, ConnectionEnd> {
    Ok(match packet {
        V5Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {
            let properties = answer.properties.as_ref();
            let keep_alive = properties.and_then(|properties| properties.server_keep_alive);
            Packet::ConnAck {
                session_present: answer.session_present,
                // 0: the broker wants no pings. We want them, to notice a connection that is dead.
                keep_alive: keep_alive
                    .filter(|seconds| *seconds > 0)
                    .map(|seconds| Duration::from_secs(seconds.into())),
            }
        }
        V5Packet::ConnAck(answer) => return Err(refused(answer.code)),
        V5Packet::SubAck(answer) => {
            let grants = answer.return_codes.into_iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Grant::Granted(qos),
                refused => Grant::Refused(format!("{refused:?}")),
            });
            Packet::SubAck(grants.collect())
        }
        V5Packet::Publish(message) => Packet::Publish(publish(message)),
        V5Packet::UnsubAck(answer) => {
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
        V5Packet::Disconnect(disconnect) => return Err(disconnected(&disconnect)),
        _ => Packet::Other,
    })
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

fn disconnected(disconnect: &Disconnect) -> ConnectionEnd {
    match disconnect.reason_code {
        DisconnectReasonCode::SessionTakenOver => ConnectionEnd::TakenOver,
        DisconnectReasonCode::NormalDisconnection => ConnectionEnd::Closed,
        reason => {
            let properties = disconnect.properties.as_ref();
            let text = properties.and_then(|properties| properties.reason_string.as_deref());
            let text = text.map(|text| format!(": {text}")).unwrap_or_default();
            ConnectionEnd::Lost(format!("the broker disconnects: {reason:?}{text}"))
        }
    }
}

fn refused(code: ConnectReturnCode) -> ConnectionEnd {
    match code {
        ConnectReturnCode::RefusedProtocolVersion
        | ConnectReturnCode::UnsupportedProtocolVersion => {
            ConnectionEnd::Lost(format!("the broker does not speak MQTT 5: {TRY_OLDER}"))
        }
        ConnectReturnCode::BadUserNamePassword
        | ConnectReturnCode::NotAuthorized
        | ConnectReturnCode::BadAuthenticationMethod
        | ConnectReturnCode::Banned => login_refused(&format!("{code:?}")),
        code => ConnectionEnd::Lost(format!("the broker refuses the connection: {code:?}")),
    }
}

/// Describes why there is no answer to CONNECT that can be read. A broker that knows only older versions answers in the format
/// of an older version, or closes the connection without an answer.
pub(super) fn unanswered(end: ConnectionEnd) -> ConnectionEnd {
    match end {
        ConnectionEnd::Unreadable(_) => ConnectionEnd::Lost(format!(
            "the broker's answer to CONNECT is not MQTT 5: {TRY_OLDER} if it speaks only that"
        )),
        ConnectionEnd::Closed => ConnectionEnd::Lost(format!(
            "the broker closed the connection without an answer to CONNECT: {TRY_OLDER} if it does not speak MQTT 5"
        )),
        end => end,
    }
}

#[cfg(test)]
mod tests;

//! What must hold for whatever text a client sends: it is the packet that it looks like, and the command that its packet asks for.

use serde_json::Value;

use super::*;
use crate::access::credential::{Credential, JoinPayload};
use crate::socket::packet::ClientPacket;

/// Input: a text message.
pub(crate) fn check(input: &[u8]) {
    let Ok(message) = std::str::from_utf8(input) else {
        return;
    };
    match ClientPacket::parse(message) {
        Ok(ClientPacket::Connect(namespace, payload)) => {
            check_namespace(message, namespace);
            check_join(payload);
        }
        Ok(ClientPacket::Disconnect(namespace)) => check_namespace(message, namespace),
        Ok(ClientPacket::Event(event) | ClientPacket::BinaryEvent { event, .. }) => {
            check_namespace(message, event.namespace);
            check_event(message, &event);
        }
        Ok(_) | Err(_) => {}
    }
}

fn check_namespace(message: &str, namespace: &str) {
    assert!(namespace.starts_with('/'));
    assert!(!namespace.contains([',', '?']));
    assert!(namespace == "/" || message.contains(namespace));
}

/// Only a text in the field `token` is a token.
fn check_join(payload: &str) {
    let credential = JoinPayload::parse(payload).credential();
    let sent: Value = serde_json::from_str(payload).unwrap_or_default();
    let sent = sent.get("token").and_then(Value::as_str);
    match credential {
        Credential::Token(token) => assert!(token.is_empty() || sent == Some(&token)),
        Credential::None => assert!(sent.is_none_or(str::is_empty)),
        Credential::WebSession(_) => panic!("a packet has no cookie"),
    }
}

fn check_event(message: &str, event: &ClientEvent<'_>) {
    let Some(values) = values_of(message) else {
        return;
    };
    assert_eq!(values[0], event.name);
    let argument = event.argument.map(RawValue::get);
    let argument = argument.and_then(|text| serde_json::from_str::<Value>(text).ok());
    assert_eq!(values.get(1), argument.as_ref());
    let digits = event.ack.map(|ack| ack.to_string());
    assert!(digits.is_none_or(|digits| message.contains(&digits)));

    if let Some(command) = ClientCommand::from_event(event) {
        let names = [
            SUBSCRIBE_DEVICE,
            UNSUBSCRIBE_DEVICE,
            AUTH_REFRESH,
            SUBSCRIBE_FLEET,
            UNSUBSCRIBE_FLEET,
            SUBSCRIBE_ALARMS,
            UNSUBSCRIBE_ALARMS,
        ];
        assert!(names.contains(&event.name.as_str()));
        assert_eq!(command.ack, event.ack);
        check_command(&command, &argument.unwrap_or_default());
    }
}

/// Returns the values of the event, which stand at the end of the message.
fn values_of(message: &str) -> Option<Vec<Value>> {
    let mut starts = message.match_indices('[').map(|(at, _)| &message[at..]);
    starts.find_map(|text| serde_json::from_str(text).ok())
}

/// An event is carried out only if it names what it is about.
pub(super) fn check_command(command: &ClientCommand, argument: &Value) {
    let of_object = |field: &str| argument.get(field).and_then(Value::as_str);
    let sent = |field: &str| argument.as_str().or_else(|| of_object(field));
    match &command.order {
        Order::Subscribe(target) | Order::Unsubscribe(target) => {
            let device = target.device.as_str();
            assert_eq!(sent("deviceId").map(str::trim), Some(device));
            assert_eq!(device.parse().as_ref(), Ok(&target.device));
            assert!(!target.changes || argument["changes"] == true);
            if let Some(Position { epoch, seq }) = target.since {
                let since = &argument["since"];
                let field = |name: &str, index: usize| since.get(name).or(since.get(index));
                let found = (field("epoch", 0), field("seq", 1));
                let expected = (Value::from(epoch.to_string()), Value::from(seq));
                assert_eq!(found, (Some(&expected.0), Some(&expected.1)));
            }
        }
        Order::Refresh(token) => assert_eq!(sent("token"), Some(&**token)),
        Order::Follow(_) => {
            let has_fields = argument.is_object() || argument.is_array();
            assert!(argument.is_null() || has_fields, "{argument}");
        }
        Order::Unfollow(_) | Order::Unreadable(_) => {}
    }
}

use proptest::prelude::*;
use socketioxide_core::Value;
use socketioxide_core::packet::{Packet, PacketData};
use socketioxide_core::parser::{Parse, ParseConfig, ParseError, ParserState};
use socketioxide_parser_common::CommonParser;

use super::*;

/// Reads a Socket.IO packet with the library that serves long polling. An event with attachments is waiting for them then.
fn read_by_library(packet: &str) -> Option<Packet> {
    let state = ParserState::default();
    let config = ParseConfig {
        max_incoming_binaries: usize::MAX,
        ..ParseConfig::default()
    };
    match CommonParser.decode_str(&config, &state, packet.to_owned().into()) {
        Ok(packet) => Some(packet),
        Err(ParseError::NeedsMoreBinaryData) => {
            let partial = state.partial_bin_packet.lock().unwrap().take();
            partial.map(|partial| partial.packet)
        }
        Err(_) => None,
    }
}

/// Returns whether the library reads the same event.
fn is_same(event: &ClientEvent<'_>, packet: &Packet) -> bool {
    let (PacketData::Event(Value::Str(values, _), ack)
    | PacketData::BinaryEvent(Value::Str(values, _), ack)) = &packet.inner
    else {
        return false;
    };
    let values: Vec<Box<RawValue>> = serde_json::from_str(values).unwrap();
    let name: String = serde_json::from_str(values[0].get()).unwrap();
    let argument = values.get(1).map(|value| value.get());
    // It keeps the query behind a namespace.
    let namespace = packet.ns.split('?').next();
    namespace == Some(event.namespace)
        && *ack == event.ack
        && name == event.name
        && argument == event.argument.map(RawValue::get)
}

/// Packets that are nearly right: the parts of one, any of which may be missing or something else.
fn nearly_packets() -> impl Strategy<Value = String> {
    let kind =
        prop_oneof![4 => Just("2"), 2 => Just("5"), 1 => Just("0"), 1 => Just("3"), 1 => Just("9")];
    let attachments = prop_oneof![3 => Just(String::new()), 1 => "[0-9]{0,2}-?"];
    let namespace = prop_oneof![3 => Just(String::new()), 1 => "/[a-zé?=,]{0,6}"];
    let ack = prop_oneof![2 => Just(String::new()), 2 => "[0-9]{1,4}", 1 => "[0-9-]{0,22}"];
    let values = prop_oneof![
        4 => proptest::collection::vec(r#""[a-z:é]{0,9}"|[0-9]{1,3}|null|\{"a":\[1\]\}"#, 0..4)
            .prop_map(|values| format!("[{}]", values.join(","))),
        1 => r#"[\[\]",:{}0-9aé\\ ]{0,12}"#,
    ];
    (kind, attachments, namespace, ack, values).prop_map(
        |(kind, attachments, namespace, ack, values)| {
            format!("{kind}{attachments}{namespace}{ack}{values}")
        },
    )
}

proptest! {
    #[test]
    fn an_event_is_what_the_library_reads(packet in nearly_packets()) {
        let ours = ClientPacket::parse_message(&packet);
        if let Ok(ClientPacket::Event(event) | ClientPacket::BinaryEvent { event, .. }) = &ours {
            let library = read_by_library(&packet);
            prop_assert!(library.as_ref().is_some_and(|read| is_same(event, read)), "{event:?} {library:?}");
        }
    }

    #[test]
    fn no_message_makes_it_panic(message in r#"[0-7]{0,3}[-/,\[\]"a-zé0-9{}:\\]{0,24}"#) {
        read(&message);
    }

    #[test]
    fn an_event_is_read_back(ack in proptest::option::of(0_i64..), name in ".*", argument in ".*") {
        let values = serde_json::to_string(&(&name, &argument)).unwrap();
        let id = ack.map(|ack| ack.to_string()).unwrap_or_default();
        let message = format!("42{id}{values}");
        let Ok(ClientPacket::Event(event)) = ClientPacket::parse(&message) else {
            panic!("{message}");
        };
        prop_assert_eq!((event.namespace, event.ack), (MAIN, ack));
        prop_assert_eq!(event.name, name);
        let read: String = serde_json::from_str(event.argument.unwrap().get()).unwrap();
        prop_assert_eq!(read, argument);
    }
}

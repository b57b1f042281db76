//! Whatever argument an event has: it is a command, or it is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,140}".prop_map(Value::from),
        "[0-9a-f]{12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof![
            Just("deviceId".to_owned()),
            Just("since".to_owned()),
            Just("changes".to_owned()),
            Just("epoch".to_owned()),
            Just("seq".to_owned()),
            Just("token".to_owned()),
            Just("filter".to_owned()),
            Just("prefix".to_owned()),
            Just("interval".to_owned()),
            ".{0,5}",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn an_event_is_carried_out_only_if_it_names_what_it_is_about(
        name in prop_oneof![
            Just(SUBSCRIBE_DEVICE), Just(UNSUBSCRIBE_DEVICE), Just(AUTH_REFRESH),
            Just(SUBSCRIBE_FLEET), Just(UNSUBSCRIBE_FLEET), Just(SUBSCRIBE_ALARMS), Just(UNSUBSCRIBE_ALARMS),
        ],
        argument in json_value(),
    ) {
        let text = serde_json::to_string(&json!([name, argument])).expect("JSON");
        let packet = format!("42{text}");
        let parsed = crate::socket::packet::ClientPacket::parse(&packet);
        let Ok(crate::socket::packet::ClientPacket::Event(event)) = parsed else {
            return Err(TestCaseError::fail(format!("{packet}: {parsed:?}")));
        };
        let command = ClientCommand::from_event(&event).expect("a known name");
        crate::socket::command::fuzz::check_command(&command, &argument);
    }
}

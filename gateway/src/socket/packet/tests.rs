mod properties;

use super::*;

/// Describes a packet in one line.
fn read(message: &str) -> String {
    let event = |event: &ClientEvent<'_>| {
        let argument = event.argument.map_or("none", RawValue::get);
        format!(
            "{} {:?} {} {argument}",
            event.namespace, event.ack, event.name
        )
    };
    match ClientPacket::parse(message) {
        Ok(ClientPacket::Event(packet)) => format!("event {}", event(&packet)),
        Ok(ClientPacket::BinaryEvent {
            event: packet,
            attachments,
        }) => format!("binary {attachments} {}", event(&packet)),
        Ok(packet) => format!("{packet:?}"),
        Err(InvalidPacket) => "invalid".to_owned(),
    }
}

#[test]
fn packets_are_read_as_the_protocol_says() {
    for (message, expected) in [
        ("3", "Ignored"),
        ("2", "Ignored"),
        ("6", "Ignored"),
        ("2probe", "Probe"),
        ("5", "Upgrade"),
        ("1", "Close"),
        ("40", r#"Connect("/", "")"#),
        (r#"40{"token":1}"#, r#"Connect("/", "{\"token\":1}")"#),
        ("40/admin,", r#"Connect("/admin", "")"#),
        ("40/admin?token=1,{}", r#"Connect("/admin", "{}")"#),
        ("40/admin", r#"Connect("/admin", "")"#),
        ("41", r#"Disconnect("/")"#),
        ("41/admin,", r#"Disconnect("/admin")"#),
        (r#"42["name"]"#, "event / None name none"),
        (
            r#"42["name",{"a":[1]},2]"#,
            r#"event / None name {"a":[1]}"#,
        ),
        (r#"4212["name","x"]"#, r#"event / Some(12) name "x""#),
        (
            r#"42/admin,0["name","x"]"#,
            r#"event /admin Some(0) name "x""#,
        ),
        (r#"42["na\u006de",1]"#, "event / None name 1"),
        (
            r#"451-["name",{"_placeholder":true,"num":0}]"#,
            r#"binary 1 / None name {"_placeholder":true,"num":0}"#,
        ),
        (r#"452-/a,7["name",1]"#, "binary 2 /a Some(7) name 1"),
        ("431[1]", "Reply"),
    ] {
        assert_eq!(read(message), expected, "{message}");
    }
}

#[test]
fn what_the_protocol_does_not_know_is_refused() {
    for message in [
        "",
        "0",
        "7",
        "x",
        "4",
        "4x",
        "44{}",
        "42",
        "42{}",
        "42[]",
        "42[1]",
        r#"42["open""#,
        r#"42["name"]x"#,
        r#"4299999999999999999999["name"]"#,
        r#"42-1["name"]"#,
        r#"45["name"]"#,
        r#"45x-["name"]"#,
        r#"45-["name"]"#,
        r#"45+1-["name"]"#,
        "461-[1]",
        "é",
    ] {
        assert_eq!(read(message), "invalid", "{message}");
    }
}

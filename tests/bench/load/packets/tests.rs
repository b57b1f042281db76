use super::*;

#[test]
fn every_packet_of_a_server_is_distinguished() {
    for (text, packet) in [
        (r#"0{"sid":"a"}"#, Packet::Open(r#"{"sid":"a"}"#)),
        ("2", Packet::Ping),
        ("3probe", Packet::Probed),
        ("6", Packet::Noop),
        (r#"40{"sid":"b"}"#, Packet::Connected),
        (
            r#"4312[{"ok":true}]"#,
            Packet::Answer(12, r#"[{"ok":true}]"#),
        ),
        (
            r#"42["device:data",{}]"#,
            Packet::Event(r#"["device:data",{}]"#),
        ),
        ("41", Packet::Closed),
        ("1", Packet::Closed),
    ] {
        assert_eq!(read(text).unwrap(), packet);
    }
    assert!(read(r#"44{"message":"refused"}"#).is_err());
    assert!(read("").is_err());
}

#[test]
fn a_subscription_asks_for_an_answer() {
    assert_eq!(
        subscribe(7, "A"),
        r#"427["subscribe:device",{"deviceId":"A"}]"#
    );
}

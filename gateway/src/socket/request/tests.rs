use super::*;

#[test]
fn session_and_transport_are_read_from_the_query() {
    let uri = |text: &str| text.parse::<Uri>().unwrap();
    let polling = uri("/socket.io/?EIO=4&transport=polling&sid=abc");
    assert_eq!(session_of(&polling), Some("abc"));
    assert!(!is_websocket(&polling));
    let handshake = uri("/socket.io/?EIO=4&transport=websocket&side=1");
    assert_eq!(session_of(&handshake), None);
    assert!(is_websocket(&handshake));
    assert_eq!(session_of(&uri("/socket.io/")), None);
}

#[test]
fn socketioxide_gets_what_was_read() {
    let asked = |method, text: &str| {
        let uri: Uri = text.parse().unwrap();
        (
            format!("{:?}", Asked::read(&method, &uri)),
            canonical(&uri).map(|uri| uri.to_string()),
        )
    };
    let get = |text| asked(Method::GET, text);
    let (read, sent) = get("/socket.io/?t=abc&EIO=4&sid=a&transport=polling&sid=b&b64=1");
    assert_eq!(read, "Poll(\"a\")");
    let canonical = "/socket.io/?EIO=4&transport=polling&sid=a";
    assert_eq!(sent.as_deref(), Some(canonical));
    let (read, sent) = get("/socket.io?EIO=4&transport=websocket");
    assert_eq!(read, "WebSocket");
    assert_eq!(
        sent.as_deref(),
        Some("/socket.io/?EIO=4&transport=websocket")
    );
    let (read, _) = get("/socket.io?EIO=4&transport=websocket&sid=a");
    assert_eq!(read, "Upgrade(\"a\")");
    let (read, _) = get("/socket.io?EIO=3&transport=websocket");
    assert_eq!(read, "Nothing(UnsupportedVersion)");
    // Read up to its second `=`, this would be an upgrade.
    let (read, sent) = get("/socket.io/?EIO=4&transport=websocket=x&sid=a");
    assert_eq!((read.as_str(), sent), ("Nothing(UnknownTransport)", None));
    let (read, _) = asked(Method::POST, "/socket.io/?EIO=4&transport=polling&sid=a");
    assert_eq!(read, "Packets(\"a\")");
    let (read, _) = asked(Method::POST, "/socket.io/?EIO=4&transport=polling");
    assert_eq!(read, "Nothing(BadHandshakeMethod)");
}

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

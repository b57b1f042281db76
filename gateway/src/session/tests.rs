use super::*;
use crate::test_setup;

const RATE: PacketRate = PacketRate {
    per_second: 1,
    burst: 2,
};

const MAX_UNPOLLED: usize = 3;

const HERE: ClientAddress = ClientAddress::unknown();

fn sessions(places: usize) -> Sessions {
    Sessions::new(
        Arc::new(Semaphore::new(places)),
        2 * places,
        MAX_UNPOLLED,
        RATE,
        test_setup::enforcement(&[]),
    )
}

fn sid(text: &str) -> Sid {
    text.parse().unwrap()
}

#[test]
fn a_session_holds_its_place_and_its_entry_until_it_is_dropped() {
    let sessions = sessions(1);
    let session = sessions.begin(HERE).unwrap();
    assert!(sessions.begin(HERE).is_none());
    let first = sid("AAAAAAAAAAAAAAAA");
    sessions.insert(first, &session);
    assert!(sessions.find(first).is_some());
    assert_eq!(sessions.count(), 1);
    drop(session);
    assert!(sessions.find(first).is_none());
    assert!(sessions.table().is_empty());
    assert!(sessions.begin(HERE).is_some());
}

#[test]
fn a_session_with_a_websocket_gives_its_place_back_and_stays_known() {
    let sessions = sessions(1);
    let session = sessions.begin(HERE).unwrap();
    sessions.insert(sid("AAAAAAAAAAAAAAAA"), &session);
    session.release_place();
    assert_eq!(sessions.count(), 0);
    assert!(sessions.begin(HERE).is_some());
    assert!(sessions.find(sid("AAAAAAAAAAAAAAAA")).is_some());
}

#[test]
fn a_websocket_gets_what_is_left_of_the_budget() {
    let session = sessions(1).begin(HERE).unwrap();
    session.admit(b"40").unwrap();
    let (mut budget, now) = (session.budget(), Instant::now());
    budget.admit(RATE, b"", now, || true).unwrap();
    budget.admit(RATE, b"", now, || true).unwrap_err();
    // It has joined already, and may not again.
    let later = now + Duration::from_secs(10);
    let again = session.budget().admit(RATE, b"40", later, || true);
    assert_eq!(again, Err(CloseReason::RepeatedConnect));
}

#[test]
fn a_session_has_one_upgrade_at_a_time() {
    let session = sessions(1).begin(HERE).unwrap();
    assert!(session.begin_upgrade());
    assert!(!session.begin_upgrade());
    session.cancel_upgrade();
    assert!(session.begin_upgrade());
    assert!(!session.has_moved());
}

#[tokio::test]
async fn a_poll_in_flight_ends_with_nothing_when_the_client_is_about_to_use_a_websocket() {
    let session = sessions(1).begin(HERE).unwrap();
    assert_eq!(session.poll(async { 1 }).await, Some(1));
    let polled = tokio::join!(session.poll(std::future::pending::<()>()), async {
        session.begin_probe();
    });
    assert_eq!(polled.0, None);
    // One that comes later gets what waits, and does not wait for more.
    assert_eq!(session.poll(async { 1 }).await, Some(1));
    assert_eq!(session.poll(std::future::pending::<()>()).await, None);
    // The upgrade failed: the client polls again.
    session.cancel_upgrade();
    assert_eq!(session.poll(async { 1 }).await, Some(1));
}

#[test]
fn a_refused_session_admits_nothing_more() {
    let session = sessions(1).begin(HERE).unwrap();
    session.admit(b"40").unwrap();
    assert_eq!(session.admit(b"40"), Err(CloseReason::RepeatedConnect));
    assert_eq!(session.admit(b"3"), Err(CloseReason::RepeatedConnect));
    assert_eq!(session.refused(), Some(CloseReason::RepeatedConnect));
}

#[test]
fn what_waits_for_a_poll_is_bounded() {
    let session = sessions(1).begin(HERE).unwrap();
    assert!(session.reserve(2 * UNPOLLED_BYTES), "one may be larger");
    assert!(!session.reserve(1));
    session.release(2 * UNPOLLED_BYTES);
    assert!(session.reserve(UNPOLLED_BYTES - 1) && session.reserve(1));
    assert!(!session.reserve(1));
    session.release(UNPOLLED_BYTES - 1);
    assert!(session.reserve(1) && session.reserve(1));
    assert!(!session.reserve(1), "there are three packets");
}

#[test]
fn a_poll_makes_room_for_the_packets_that_it_takes() {
    let session = sessions(1).begin(HERE).unwrap();
    let packets = [r#"42["a",1]"#, r#"437[{"ok":true}]"#, r#"42["b",2]"#];
    let fill = || packets.map(|packet| session.reserve(packet.len() + 1));
    assert_eq!(fill(), [true; 3]);
    // Pings, the connect answer and others were not counted.
    for uncounted in ["", "2", "6", r#"40{"sid":"A"}"#, r#"44{"message":"no"}"#] {
        session.record_polled(uncounted.as_bytes());
        assert!(!session.reserve(1), "{uncounted}");
    }
    session.record_polled(b"2\x1e42[\"a\",1]");
    assert!(session.reserve(10) && !session.reserve(1));
    let all = packets.join("\u{1e}");
    session.record_polled(all.as_bytes());
    assert_eq!(fill(), [true; 3]);
    session.record_polled(all.as_bytes());
    assert_eq!(lock(&session.unpolled).bytes, 0);
}

#[test]
fn the_sessions_of_one_address_take_half_of_the_places() {
    let sessions = Sessions::new(
        Arc::new(Semaphore::new(4)),
        4,
        MAX_UNPOLLED,
        RATE,
        test_setup::enforcement(&[]),
    );
    let other = ClientAddress::new(std::net::Ipv4Addr::LOCALHOST.into());
    let first = sessions.begin(HERE).unwrap();
    let second = sessions.begin(HERE).unwrap();
    assert!(sessions.begin(HERE).is_none());
    assert!(sessions.begin(other).is_some());
    // A WebSocket has a place of its own.
    second.release_place();
    assert!(sessions.begin(HERE).is_some());
    drop((first, second));
    assert!(lock(&sessions.held).is_empty());
}

#[tokio::test]
async fn an_upgrade_waits_for_the_packet_that_joins() {
    let session = sessions(1).begin(HERE).unwrap();
    // Without one it does not wait.
    session.wait_for_join().await;
    session.begin_join();
    let mut waiting = std::pin::pin!(session.wait_for_join());
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    assert!(session.join());
    session.end_join();
    waiting.await;
    session.wait_for_join().await;
}

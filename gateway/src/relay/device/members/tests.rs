use bytes::Bytes;
use shared::metrics::Meters;
use shared::position::Epoch;
use socketioxide::socket::Sid;
use test_support::eventually::LATE;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::*;
use crate::client::ClientContext;
use crate::client::link::Link;
use crate::clients::Clients;
use crate::event_names::DEVICE_ALERTS;
use crate::metrics::Metrics;
use crate::test_setup;
use crate::websocket::frame;
use crate::websocket::writer::tests::pair;

fn position(seq: u64) -> Position {
    let epoch = Epoch::from_bits(1);
    Position { epoch, seq }
}

fn event(seq: u64) -> PublishedEvent {
    let text = format!(r#"{{"epoch":"000000000001","seq":{seq},"at":1,"data":{{"seq":{seq}}}}}"#);
    PublishedEvent::parse(text.as_bytes()).unwrap()
}

fn clients(metrics: &Metrics) -> Clients {
    let config = test_setup::config(
        "127.0.0.1:6379",
        &["--coalesce=0s", "--outbox-bytes=67108864"],
    );
    Clients::new(ClientContext::new(&config, Arc::clone(&metrics.client)))
}

async fn connect(clients: &Clients) -> (Arc<Client>, TcpStream) {
    let (writer, peer) = pair().await;
    let link = Link::WebSocket(Arc::new(writer));
    (clients.create(Sid::new(), link, test_setup::anyone()), peer)
}

/// Asserts that exactly these frames are sent to the client next.
async fn expect(peer: &mut TcpStream, frames: &[u8]) {
    let mut received = vec![0; frames.len()];
    let read = tokio::time::timeout(LATE, peer.read_exact(&mut received));
    read.await.unwrap().unwrap();
    assert_eq!(received, frames);
}

#[tokio::test]
async fn each_member_gets_an_event_once_whoever_left_before() {
    // The first, the last and one in between leave. One comes back.
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let clients = clients(&metrics);
    let mut members = Members::new("OTSM-0114".parse().unwrap());
    let mut peers = Vec::new();
    for _ in 0..7 {
        let (client, peer) = connect(&clients).await;
        members.insert(&client, position(0), false);
        peers.push((client, peer));
    }
    for left in [0, 6, 3, 3] {
        members.remove(peers[left].0.id());
    }
    members.insert(&peers[3].0, position(0), false);
    members.insert(&peers[4].0, position(0), true);
    assert_eq!(members.len(), 5);

    let event = event(1);
    let delivery = members.send_event(&event, false);
    assert!(!delivery.has_gap);
    assert_eq!(delivery.at_once, 5);
    // They have it already.
    assert_eq!(members.send_event(&event, false).at_once, 0);

    let marker = RawValue::from_string("1".to_owned()).unwrap();
    let end = frame::events(std::iter::once((DEVICE_DATA, &*marker)), false);
    let marker = Arc::from(marker);
    for (number, (client, peer)) in peers.iter_mut().enumerate() {
        client.send_event(DEVICE_DATA, &marker);
        if number != 0 && number != 6 {
            expect(peer, event.frames(false)).await;
        }
        expect(peer, &end).await;
    }
}

#[tokio::test]
async fn a_member_that_misses_an_event_is_not_sent_the_next_one() {
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let clients = clients(&metrics);
    let mut members = Members::new("OTSM-0114".parse().unwrap());
    let (ahead, _ahead) = connect(&clients).await;
    let (behind, _behind) = connect(&clients).await;
    members.insert(&behind, position(0), false);
    members.insert(&ahead, position(1), false);
    let delivery = members.send_event(&event(2), false);
    assert!(delivery.has_gap);
    assert_eq!(delivery.at_once, 1);
    assert_eq!(
        members.positions().collect::<Vec<_>>(),
        [position(0), position(2)]
    );
}

#[tokio::test]
async fn what_clients_got_at_once_is_counted_as_often_as_there_are_clients() {
    let meters = Meters::local("gateway").unwrap();
    let metrics = Metrics::new(&meters);
    let clients = clients(&metrics);
    let shared = clients.shared();
    shared.count_at_once(&event(1), 3);
    let alarm = r#"{"epoch":"000000000001","seq":2,"at":1,"data":{"a":1},"changes":{"b":1}}"#;
    let alarm = PublishedEvent::parse(alarm.as_bytes()).unwrap();
    shared.count_at_once(&alarm, 2);
    shared.count_at_once(&alarm, 0);
    assert_eq!(metrics.client.telemetry_packets.get(), 3);
    assert_eq!(metrics.client.alarm_packets.get(), 4);
    let text = metrics.to_text();
    assert!(
        text.contains("gateway_alarm_wait_seconds_count 2"),
        "{text}"
    );
}

/// A reading with this value beside a field that stays the same.
fn reading(seq: u64) -> PublishedEvent {
    let text = format!(
        r#"{{"epoch":"000000000001","seq":{seq},"at":1,"data":{{"deviceId":"OTSM-0114","data":{{"gas_type":"Carbon Monoxide (CO), and some more text","offset":{seq}}},"epoch":"000000000001","seq":{seq}}}}}"#
    );
    PublishedEvent::parse(text.as_bytes()).unwrap()
}

/// The frames of a reading for a client that has the one before.
fn changed(before: &PublishedEvent, event: &PublishedEvent) -> Bytes {
    let changed = event.changed(before.data.as_ref().unwrap(), before.position);
    changed.expect("it is shorter").frames(false).clone()
}

#[tokio::test]
async fn a_member_that_wants_changes_gets_a_whole_reading_first_and_after_everything_else() {
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let clients = clients(&metrics);
    let mut members = Members::new("OTSM-0114".parse().unwrap());
    let (client, mut peer) = connect(&clients).await;
    let (plain, mut plain_peer) = connect(&clients).await;
    members.insert(&client, position(0), true);
    members.insert(&plain, position(0), false);
    let events: Vec<PublishedEvent> = (1..=8).map(reading).collect();
    let send = |members: &mut Members, number: usize| {
        assert_eq!(members.send_event(&events[number - 1], false).at_once, 2);
    };
    send(&mut members, 1);
    expect(&mut peer, events[0].frames(false)).await;
    send(&mut members, 2);
    expect(&mut peer, &changed(&events[0], &events[1])).await;
    // Shown as stale: the client has another reading then.
    let stale = Arc::from(RawValue::from_string(r#"{"stale":true}"#.to_owned()).unwrap());
    members.send_data(&stale);
    let stale = frame::events(std::iter::once((DEVICE_DATA, &*stale)), false);
    expect(&mut peer, &stale).await;
    send(&mut members, 3);
    expect(&mut peer, events[2].frames(false)).await;
    send(&mut members, 4);
    expect(&mut peer, &changed(&events[2], &events[3])).await;
    // Subscribed again. It may have been answered with a snapshot.
    members.insert(&client, position(4), true);
    send(&mut members, 5);
    expect(&mut peer, events[4].frames(false)).await;
    // An older event, for a client that has just joined.
    members.send_event(&events[3], false);
    send(&mut members, 6);
    expect(&mut peer, events[5].frames(false)).await;
    // It wants everything again.
    members.insert(&client, position(6), false);
    send(&mut members, 7);
    expect(&mut peer, events[6].frames(false)).await;
    expect(&mut plain_peer, events[0].frames(false)).await;
    expect(&mut plain_peer, events[1].frames(false)).await;
}

#[tokio::test]
async fn readings_that_wait_for_a_slow_member_are_whole() {
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let clients = clients(&metrics);
    let mut members = Members::new("OTSM-0114".parse().unwrap());
    let (client, mut peer) = connect(&clients).await;
    members.insert(&client, position(0), true);
    let events: Vec<PublishedEvent> = (1..=5).map(reading).collect();
    for event in &events[..2] {
        assert_eq!(members.send_event(event, false).at_once, 1);
    }
    let writer = Arc::clone(client.websocket().unwrap());
    let large = format!("\"{}\"", "x".repeat(500_000));
    let large = Arc::from(RawValue::from_string(large).unwrap());
    while !writer.has_unsent() {
        client.send_event(DEVICE_ALERTS, &large);
    }
    // The second one replaces the first one.
    for event in &events[2..4] {
        assert_eq!(members.send_event(event, false).at_once, 0);
    }
    let whole = shared::event::with_skipped(events[3].data.as_ref().unwrap(), 1).unwrap();
    let whole = frame::events(std::iter::once((DEVICE_DATA, &*whole)), false);
    let mut received = Vec::new();
    while !received.ends_with(&whole) {
        writer.flush();
        client.flush();
        // The peer may have read everything before the writer notices that the kernel takes more.
        let has_unsent = writer.has_unsent();
        let progress = async {
            tokio::select! {
                read = peer.read_buf(&mut received) => assert!(read.unwrap() > 0),
                () = writer.writable(), if has_unsent => {}
            }
        };
        tokio::time::timeout(LATE, progress).await.unwrap();
    }
    assert_eq!(members.send_event(&events[4], false).at_once, 1);
    expect(&mut peer, &changed(&events[3], &events[4])).await;
}

use shared::lifecycle::Lifecycle;
use shared::metrics::Meters;
use socketioxide::socket::Sid;
use test_support::eventually::LATE;
use tokio::io::AsyncReadExt;

use super::*;
use crate::client::ClientContext;
use crate::client::link::Link;
use crate::clients::Clients;
use crate::metrics::Metrics;
use crate::replay::PublishedEvent;
use crate::test_setup;
use crate::websocket::writer::tests::pair;

/// An event with a reading and nothing else.
fn event(seq: u64) -> PublishedEvent {
    let text = format!(r#"{{"epoch":"000000000001","seq":{seq},"at":1,"data":{{"seq":{seq}}}}}"#);
    PublishedEvent::parse(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn what_is_held_leaves_at_the_end_of_the_window_for_every_client() {
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let config = test_setup::config("127.0.0.1:6379", &["--coalesce=50ms"]);
    let shared = ClientContext::new(&config, Arc::clone(&metrics.client));
    let lifecycle = Lifecycle::new();
    for task in shared.coalescer.tasks() {
        lifecycle.spawn_short("coalescer", task);
    }
    let clients = Clients::new(shared);
    let device = "OTSM-0114".parse().unwrap();
    let mut peers = Vec::new();
    // More than one task sends to before it lets others run.
    for _ in 0..3 * CLIENTS_IN_A_ROW {
        let (writer, peer) = pair().await;
        let client = clients.create(
            Sid::new(),
            Link::WebSocket(Arc::new(writer)),
            test_setup::anyone(),
        );
        peers.push((client, peer));
    }
    let events = [event(1), event(2), event(3)];
    let now = Instant::now();
    for (client, _) in &peers {
        for event in &events {
            client.send_published(&device, event, false, now);
        }
    }
    let expected: Vec<u8> = events
        .iter()
        .flat_map(|event| event.frames(false).to_vec())
        .collect();
    for (_, peer) in &mut peers {
        let mut received = vec![0; expected.len()];
        let read = tokio::time::timeout(LATE, peer.read_exact(&mut received));
        read.await.unwrap().unwrap();
        assert!(received == expected);
    }
}

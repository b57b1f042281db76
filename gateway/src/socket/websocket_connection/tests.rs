use shared::metrics::Meters;
use test_support::eventually::LATE;

use super::*;
use crate::client::ClientContext;
use crate::clients::Clients;
use crate::metrics::Metrics;
use crate::replay::PublishedEvent;
use crate::test_setup;
use crate::websocket::writer::tests::pair;

/// An event that raises an alarm, with a payload of this many bytes.
fn alarm(seq: u64, bytes: usize) -> PublishedEvent {
    let padding = "x".repeat(bytes);
    let text = format!(
        r#"{{"epoch":"000000000001","seq":{seq},"at":1,"data":{{"text":"{padding}"}},"changes":{{}}}}"#
    );
    PublishedEvent::parse(text.as_bytes()).unwrap()
}

/// Nothing but the time ends this connection: the peer reads nothing, and no further packet is sent.
#[tokio::test]
async fn an_alarm_of_which_the_kernel_has_a_part_has_a_deadline_too() {
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let config = test_setup::config("127.0.0.1:6379", &["--alarm-deadline=1s"]);
    let clients = Clients::new(ClientContext::new(&config, Arc::clone(&metrics.client)));
    let (writer, _peer) = pair().await;
    let writer = Arc::new(writer);
    let client = clients.create(
        Sid::new(),
        Link::WebSocket(Arc::clone(&writer)),
        test_setup::anyone(),
    );
    let device = "OTSM-0114".parse().unwrap();
    let mut seq = 0;
    while !writer.has_unsent() {
        seq += 1;
        client.send_published(&device, &alarm(seq, 100_003), false, Instant::now());
    }
    let ended = async {
        tokio::select! {
            () = client.closed().cancelled() => {}
            () = send_waiting(&client, &writer) => {}
        }
    };
    timeout(LATE, ended).await.expect("the client is closed");
}

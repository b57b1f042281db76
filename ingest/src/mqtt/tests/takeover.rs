//! Another client uses our client id.

use super::*;

const RETRY: [&str; 4] = ["--mqtt-client-id", "same", "--mqtt-takeover-retry", "1s"];

#[tokio::test]
async fn one_of_two_clients_with_the_same_client_id_pauses() {
    let broker = Broker::start("").await;
    let mut old = broker.client(&["--mqtt-client-id", "same"]).await;
    let mut new = TestClient::start(&broker.config(&["--mqtt-client-id", "same"]));
    let is_taken_over = |client: &TestClient| client.status.state() == ConnectionState::TakenOver;
    eventually("one is taken over", async || {
        is_taken_over(&old) || is_taken_over(&new)
    })
    .await;
    if is_taken_over(&new) {
        std::mem::swap(&mut old, &mut new);
    }
    new.subscribed().await;
    let connections = new.status.connections();
    broker.publisher("device").await.publish("marker").await;
    assert_eq!(new.receive().await.payload, b"marker");
    assert_eq!(
        (old.status.state(), new.status.connections()),
        (ConnectionState::TakenOver, connections)
    );
    assert!(
        old.status
            .last_error()
            .is_some_and(|error| error.contains("taken over"))
    );
    old.stop().await;
}

#[tokio::test]
async fn when_the_other_client_has_gone_the_session_is_taken_back() {
    let broker = Broker::start("").await;
    let mut ours = broker.client(&RETRY).await;
    let foreign = TestClient::start(&broker.config(&["--mqtt-client-id", "same"]));
    // Whichever pauses, the other one holds the session.
    eventually("the session is contested", async || {
        [&ours, &foreign]
            .iter()
            .any(|client| client.status.state() == ConnectionState::TakenOver)
    })
    .await;
    foreign.stop().await;
    ours.subscribed().await;
    broker.publisher("device").await.publish("after").await;
    let message = ours.receive().await;
    assert_eq!(message.payload, b"after");
    message.ack.done();
    ours.stop().await;
}

#[tokio::test]
async fn a_takeover_reported_by_the_broker_pauses_and_then_tries_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_to(&listener, &RETRY);
    for _ in 0..3 {
        let mut stream = accept_subscription(&listener, 0).await;
        client.subscribed().await;
        let logged_at = Instant::now();
        stream.write_all(&[0xe0, 2, 0x8e, 0]).await.unwrap();
        client.reaches(ConnectionState::TakenOver).await;
        assert!(!client.status.is_subscribed());
        // The next connection is made only after the pause.
        let (next, _) = timeout(LATE, listener.accept()).await.unwrap().unwrap();
        assert!(logged_at.elapsed() >= Duration::from_secs(1));
        drop(next);
        // It asks once whether the broker speaks TLS.
        let (asked, _) = timeout(LATE, listener.accept()).await.unwrap().unwrap();
        drop(asked);
        // A failed try is followed by another one, as after any lost connection.
        client.reaches(ConnectionState::Down).await;
    }
    client.stop().await;
}

#[tokio::test]
async fn a_stop_ends_the_pause_after_a_takeover() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_to(&listener, &[]);
    let mut stream = accept_subscription(&listener, 0).await;
    client.subscribed().await;
    stream.write_all(&[0xe0, 2, 0x8e, 0]).await.unwrap();
    client.reaches(ConnectionState::TakenOver).await;
    client.stop().await;
}

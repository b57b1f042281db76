//! MQTT 3.1.1, and brokers that do not speak MQTT 5.

use super::*;

const OLD: [&str; 2] = ["--mqtt-version", "3.1.1"];

#[tokio::test]
async fn with_mqtt_3_1_1_a_message_is_acknowledged_only_when_it_is_finished() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&OLD).await;
    for text in ["a", "b", "c"] {
        device.publish(text).await;
    }
    let [first, second, third] = client.receive_n().await;
    assert_eq!(first.topic, TOPIC);
    assert!(!first.dup && !first.retain && first.remote_trace.is_none());
    // Acknowledged in the order of arrival: the third one waits for the second.
    third.ack.done();
    first.ack.done();
    device.publish("d").await;
    let fourth = client.receive().await;
    client.kill().await;
    drop((second, fourth));

    let mut client = broker.client(&OLD).await;
    let messages: [MqttMessage; 3] = client.receive_n().await;
    assert_eq!(texts(&messages), ["b", "c", "d"]);
    assert!(messages.iter().all(|message| message.dup));
    for message in messages {
        message.ack.done();
    }
    client.stop().await;

    let mut client = broker.client(&OLD).await;
    device.publish("marker").await;
    // The broker may accept the new connection before it reads the end of the old one.
    let mut next = client.receive().await;
    if next.dup {
        assert_eq!(next.payload, b"d");
        next = client.receive().await;
    }
    assert_eq!(next.payload, b"marker");
}

#[tokio::test]
async fn with_mqtt_3_1_1_messages_are_received_again_after_a_restart_of_the_broker() {
    let mut broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&OLD).await;
    device.publish("a").await;
    let held = client.receive().await;
    broker.stop().await;
    client.reaches(ConnectionState::Down).await;
    // A handle of the lost connection must not acknowledge the message with the same packet id on the next one.
    held.ack.done();
    broker.restart().await;
    client.subscribed().await;
    let again = client.receive().await;
    assert_eq!(
        (again.payload.as_slice(), again.dup),
        (b"a".as_slice(), true)
    );
    again.ack.done();
    let mut device = broker.publisher("device").await;
    device.publish(vec![b'x'; 100_000]).await;
    assert_eq!(client.receive().await.size_bytes, 100_000);
    assert_eq!(client.status.connections(), 2);
}

#[tokio::test]
async fn with_mqtt_3_1_1_and_no_expiry_there_is_no_session() {
    let broker = Broker::start("").await;
    let flags = ["--mqtt-version", "3.1.1", "--mqtt-session-expiry", "0s"];
    let client = broker.client(&flags).await;
    client.kill().await;
    assert!(!has_session(&broker, "subtronics-ingest").await);
    let client = broker.client(&OLD).await;
    client.kill().await;
    assert!(has_session(&broker, "subtronics-ingest").await);
}

#[tokio::test]
async fn with_mqtt_3_1_1_one_of_two_clients_with_the_same_client_id_pauses() {
    let broker = Broker::start("").await;
    let one = broker.client(&OLD).await;
    let two = TestClient::start(&broker.config(&OLD));
    eventually("one is taken over", async || {
        [&one, &two]
            .iter()
            .any(|client| client.status.state() == ConnectionState::TakenOver)
    })
    .await;
}

/// Answers CONNECT with these bytes, closes the connection, and returns the error of the client.
async fn error_after(answer: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_to(&listener, &[]);
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = [0; 1024];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    stream.write_all(answer).await.unwrap();
    drop(stream);
    client.reaches(ConnectionState::Down).await;
    eventually("the error is reported", async || {
        client.status.last_error().is_some()
    })
    .await;
    client.status.last_error().unwrap()
}

#[tokio::test]
async fn a_broker_without_mqtt_5_is_named_as_such() {
    let refused = "the broker does not speak MQTT 5: set --mqtt-version=3.1.1";
    // As MQTT 5 wants it, and as an MQTT 3.1.1 broker answers.
    assert_eq!(error_after(&[0x20, 3, 0, 0x84, 0]).await, refused);
    for answer in [&[0x20, 2, 0, 1][..], &[]] {
        let error = error_after(answer).await;
        assert!(error.contains("set --mqtt-version=3.1.1 if it"), "{error}");
    }
}

//! The client against a real mosquitto. Each test starts its own.

mod backlog;
mod refused;
mod share_group;
mod takeover;
mod versions;

use std::time::Instant;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use test_support::eventually::{LATE, holds as eventually};
use test_support::server::OwnMosquitto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::config::Config;

const TOPIC: &str = "SubTronics/data";

struct Broker {
    mosquitto: OwnMosquitto,
}

impl Broker {
    async fn start(more: &str) -> Self {
        let mosquitto = OwnMosquitto::start(&[more]).await;
        Self { mosquitto }
    }

    /// Stops it with SIGTERM, so that it saves its sessions.
    async fn stop(&mut self) {
        self.mosquitto.server.process.terminate().await.unwrap();
    }

    async fn restart(&mut self) {
        self.mosquitto.server.process.restart().unwrap();
        self.mosquitto.server.listens().await.unwrap();
    }

    fn port(&self) -> u16 {
        self.mosquitto.server.port()
    }

    fn config(&self, more: &[&str]) -> MqttConfig {
        let url = self.mosquitto.url();
        let needed = ["ingest", "--redis-url", "redis://h", "--mqtt-broker", &url];
        Config::try_from_args(needed.iter().chain(more))
            .unwrap()
            .mqtt
    }

    async fn client(&self, more: &[&str]) -> TestClient {
        let running = TestClient::start(&self.config(more));
        running.subscribed().await;
        running
    }

    async fn publisher(&self, id: &str) -> Publisher {
        Publisher::connect(id, self.port()).await
    }
}

/// The client under test.
struct TestClient {
    lifecycle: Lifecycle,
    messages: Receiver<MqttMessage>,
    status: BrokerStatus,
    session_at_exit: watch::Sender<SessionAtExit>,
}

impl TestClient {
    fn start(config: &MqttConfig) -> Self {
        let lifecycle = Lifecycle::new();
        let (session_at_exit, decision) = watch::channel(SessionAtExit::Undecided);
        let (messages, status) = start(config, &lifecycle, decision, 65_536).unwrap();
        Self {
            lifecycle,
            messages,
            status,
            session_at_exit,
        }
    }

    async fn subscribed(&self) {
        eventually("the client is subscribed", async || {
            self.status.is_subscribed()
        })
        .await;
    }

    async fn reaches(&self, state: ConnectionState) {
        eventually("the state is reached", async || {
            self.status.state() == state
        })
        .await;
    }

    async fn receive(&mut self) -> MqttMessage {
        let message = timeout(LATE, self.messages.recv())
            .await
            .expect("no message arrived");
        message.expect("the queue is closed")
    }

    async fn receive_n<const N: usize>(&mut self) -> [MqttMessage; N] {
        let mut messages = Vec::new();
        for _ in 0..N {
            messages.push(self.receive().await);
        }
        messages.try_into().expect("N messages were received")
    }

    /// Receives and finishes all messages until the client has ended.
    async fn finish_all(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(message) = timeout(LATE, self.messages.recv())
            .await
            .expect("the queue is not closed in time")
        {
            seen.extend(texts(std::slice::from_ref(&message)));
            message.ack.done();
        }
        seen
    }

    /// Ends as a killed process does: the connection is closed, and no message is finished.
    async fn kill(self) {
        self.lifecycle.hard().cancel();
        self.lifecycle.wait(LATE).await.unwrap();
    }

    async fn stop(self) {
        self.lifecycle.request_stop();
        self.lifecycle.wait(LATE).await.unwrap();
    }
}

fn texts(messages: &[MqttMessage]) -> Vec<String> {
    messages
        .iter()
        .map(|message| String::from_utf8_lossy(&message.payload).into_owned())
        .collect()
}

/// A device that publishes, and waits for the acknowledgement of each message.
struct Publisher {
    client: AsyncClient,
    eventloop: EventLoop,
}

impl Publisher {
    async fn connect(id: &str, port: u16) -> Self {
        let options = MqttOptions::new(id, "127.0.0.1", port);
        let (client, eventloop) = AsyncClient::new(options, 10_000);
        let mut publisher = Self { client, eventloop };
        publisher
            .event(|event| matches!(event, Event::Incoming(Packet::ConnAck(_))))
            .await;
        publisher
    }

    async fn event(&mut self, wanted: impl Fn(&Event) -> bool) {
        loop {
            let event = timeout(LATE, self.eventloop.poll())
                .await
                .expect("no answer")
                .unwrap();
            if wanted(&event) {
                return;
            }
        }
    }

    async fn publish(&mut self, text: impl Into<Vec<u8>>) {
        self.send(text, false).await;
    }

    async fn retain(&mut self, text: impl Into<Vec<u8>>) {
        self.send(text, true).await;
    }

    async fn send(&mut self, text: impl Into<Vec<u8>>, retain: bool) {
        self.client
            .publish(TOPIC, QoS::AtLeastOnce, retain, text.into())
            .await
            .unwrap();
        let acknowledged =
            |event: &Event| matches!(event, Event::Incoming(Packet::PubAck(PubAck { .. })));
        self.event(acknowledged).await;
    }
}

/// Whether the broker has a session of this client.
async fn has_session(broker: &Broker, id: &str) -> bool {
    let mut options = MqttOptions::new(id, "127.0.0.1", broker.port());
    options.set_clean_start(false);
    let (_client, mut eventloop) = AsyncClient::new(options, 1);
    let answer = timeout(LATE, eventloop.poll()).await.expect("no answer");
    let Event::Incoming(Packet::ConnAck(answer)) = answer.unwrap() else {
        panic!("no CONNACK came first");
    };
    answer.session_present
}

#[tokio::test]
async fn a_message_is_acknowledged_only_when_it_is_finished() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&[]).await;
    device.publish("a").await;
    device.publish("b").await;
    let messages: [MqttMessage; 2] = client.receive_n().await;
    assert_eq!(texts(&messages), ["a", "b"]);
    assert!(
        messages
            .iter()
            .all(|message| !message.dup && !message.retain)
    );
    assert_eq!(messages[0].topic, TOPIC);
    client.kill().await;

    let mut client = broker.client(&[]).await;
    let messages: [MqttMessage; 2] = client.receive_n().await;
    assert_eq!(texts(&messages), ["a", "b"]);
    assert!(messages.iter().all(|message| message.dup));
    for message in messages {
        message.ack.done();
    }
    client.stop().await;

    let mut client = broker.client(&[]).await;
    device.publish("marker").await;
    let messages: [MqttMessage; 1] = client.receive_n().await;
    assert_eq!(texts(&messages), ["marker"]);
}

#[tokio::test]
async fn acknowledgements_go_out_in_the_order_of_arrival() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&[]).await;
    for text in ["a", "b", "c"] {
        device.publish(text).await;
    }
    let [first, second, third] = client.receive_n().await;
    third.ack.done();
    second.ack.done();
    // A wrong acknowledgement would reach the broker before it sends this message.
    device.publish("d").await;
    let fourth = client.receive().await;
    client.kill().await;
    drop((first, fourth));

    let mut client = broker.client(&["--mqtt-receive-maximum", "4"]).await;
    let messages: [MqttMessage; 4] = client.receive_n().await;
    assert_eq!(texts(&messages), ["a", "b", "c", "d"]);
    let [first, second, third, fourth] = messages;
    second.ack.done();
    first.ack.done();
    // Dropped unfinished, so neither this message nor the one after it is acknowledged.
    drop(third);
    fourth.ack.done();
    // The receive window of 4 was full. So two more messages mean that exactly the first two are acknowledged.
    for text in ["e", "f", "g"] {
        device.publish(text).await;
    }
    let messages: [MqttMessage; 2] = client.receive_n().await;
    assert_eq!(texts(&messages), ["e", "f"]);
    client.kill().await;

    let mut client = broker.client(&[]).await;
    let messages: [MqttMessage; 5] = client.receive_n().await;
    assert_eq!(texts(&messages), ["c", "d", "e", "f", "g"]);
}

#[tokio::test]
async fn after_a_restart_of_the_broker_its_messages_are_received_again() {
    let mut broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&[]).await;
    device.publish("a").await;
    let held = client.receive().await;
    broker.stop().await;
    client.reaches(ConnectionState::Down).await;
    assert!(client.status.last_error().is_some());
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
    device.publish("b").await;
    assert_eq!(client.receive().await.payload, b"b");
    assert_eq!(client.status.connections(), 2);
}

#[tokio::test]
async fn after_a_lost_session_the_client_subscribes_again() {
    let mut broker = Broker::start("").await;
    let mut client = broker.client(&[]).await;
    broker.stop().await;
    for file in std::fs::read_dir(broker.mosquitto.folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "db") {
            std::fs::remove_file(path).unwrap();
        }
    }
    client.reaches(ConnectionState::Down).await;
    broker.restart().await;
    client.subscribed().await;
    broker.publisher("device").await.publish("a").await;
    assert_eq!(client.receive().await.payload, b"a");
}

#[tokio::test]
async fn an_oversize_packet_does_not_stop_later_messages() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let small = [
        "--mqtt-max-packet-size",
        "2048",
        "--max-payload-bytes",
        "1024",
    ];
    let mut client = broker.client(&small).await;
    device.publish(vec![b'x'; 4000]).await;
    device.publish("marker").await;
    assert_eq!(client.receive().await.payload, b"marker");
    assert_eq!(client.status.connections(), 1);
}

#[tokio::test]
async fn a_stop_acknowledges_received_messages_and_leaves_the_others_in_the_session() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&[]).await;
    device.publish("a").await;
    device.publish("b").await;
    let [first, second] = client.receive_n().await;
    client.lifecycle.request_stop();
    assert!(!client.lifecycle.hard().is_cancelled());
    device.publish("c").await;
    second.ack.done();
    first.ack.done();
    // The queue may hold messages that came before the stop; it is closed when the client ends.
    client.finish_all().await;
    let status = client.status.clone();
    client.stop().await;
    assert_eq!(status.state(), ConnectionState::Stopped);

    let mut client = broker.client(&[]).await;
    device.publish("marker").await;
    let mut text = texts(&[client.receive().await]);
    if text == ["c"] {
        text = texts(&[client.receive().await]);
    }
    assert_eq!(text, ["marker"]);
}

#[tokio::test]
async fn qos_0_is_dropped_and_counted_before_it_takes_the_window_of_qos_1() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&["--mqtt-receive-maximum", "4"]).await;
    for _ in 0..50 {
        device
            .client
            .publish(TOPIC, QoS::AtMostOnce, false, "0")
            .await
            .unwrap();
    }
    for _ in 0..4 {
        device.publish("1").await;
    }
    eventually("all are counted", async || {
        client.status.received() + client.status.lost() == 54
    })
    .await;
    let (received, lost) = (client.status.received(), client.status.lost());
    assert_eq!((received, lost), (8, 46));
    let messages: [MqttMessage; 8] = client.receive_n().await;
    assert_eq!(texts(&messages), ["0", "0", "0", "0", "1", "1", "1", "1"]);
    assert_eq!(client.status.connections(), 1);
}

#[tokio::test]
async fn a_long_queue_of_the_broker_is_received_once_on_one_connection() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&["--mqtt-receive-maximum", "4"]).await;
    let expected: Vec<String> = (0..100).map(|number| format!("{number:02}")).collect();
    for text in &expected {
        device.publish(text.as_str()).await;
    }
    // mosquitto exceeds the receive maximum when it has queued messages.
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let message = client.receive().await;
        seen.extend(texts(std::slice::from_ref(&message)));
        message.ack.done();
    }
    assert_eq!(seen, expected);
    assert_eq!(client.status.connections(), 1);
}

#[tokio::test]
async fn no_connection_is_made_before_a_window_is_free() {
    let mut broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut client = broker.client(&["--mqtt-receive-maximum", "2"]).await;
    // The test receives nothing, so the windows of two connections fill the queue.
    for text in ["a", "b", "c"] {
        device.publish(text).await;
    }
    eventually("the first window is received", async || {
        client.status.received() == 2
    })
    .await;
    broker.stop().await;
    client.reaches(ConnectionState::Down).await;
    broker.restart().await;
    eventually("the window is received again", async || {
        client.status.received() == 4
    })
    .await;
    broker.stop().await;
    client.reaches(ConnectionState::Down).await;
    broker.restart().await;
    // First the copies of the earlier connections, then those of the third. Nothing is lost.
    let mut seen = Vec::new();
    while !seen.iter().any(|text| text == "c") {
        let message = client.receive().await;
        seen.extend(texts(std::slice::from_ref(&message)));
        message.ack.done();
    }
    assert_eq!(seen, ["a", "b", "a", "b", "a", "b", "c"]);
    assert_eq!(client.status.connections(), 3);
}

#[tokio::test]
async fn retained_messages_are_marked_and_come_once_per_session() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    device.retain("old").await;
    let mut client = broker.client(&[]).await;
    let retained = client.receive().await;
    assert_eq!(
        (retained.payload.as_slice(), retained.retain),
        (b"old".as_slice(), true)
    );
    retained.ack.done();
    client.stop().await;
    let mut client = broker.client(&[]).await;
    device.publish("marker").await;
    let marker = client.receive().await;
    assert_eq!(
        (marker.payload.as_slice(), marker.retain),
        (b"marker".as_slice(), false)
    );
}

/// A client of a broker that the test itself plays.
fn client_to(listener: &TcpListener, more: &[&str]) -> TestClient {
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let args = ["ingest", "--redis-url", "redis://h", "--mqtt-broker", &url];
    TestClient::start(&Config::try_from_args(args.iter().chain(more)).unwrap().mqtt)
}

/// Accepts the connection and answers the subscription with this code.
async fn accept_subscription(listener: &TcpListener, code: u8) -> TcpStream {
    let (mut stream, _) = timeout(LATE, listener.accept())
        .await
        .expect("it connects")
        .unwrap();
    let mut request = [0; 1024];
    for answer in [&[0x20, 3, 0, 0, 0][..], &[0x90, 4, 0, 1, 0, code]] {
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(answer).await.unwrap();
    }
    stream
}

#[tokio::test]
async fn a_refused_subscription_is_an_error() {
    // mosquitto refuses no subscription without a plugin.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_to(&listener, &[]);
    let _stream = accept_subscription(&listener, 0x87).await;
    client.reaches(ConnectionState::Down).await;
    let refused = "subscription to `SubTronics/data` refused: NotAuthorized";
    eventually("the refusal", async || {
        client.status.last_error().as_deref() == Some(refused)
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_an_answer_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_to(&listener, &["--mqtt-connect-timeout", "1s"]);
    let (_first, _) = listener.accept().await.unwrap();
    let (_second, _) = timeout(LATE, listener.accept())
        .await
        .expect("it tries again")
        .unwrap();
    assert!(!client.status.is_subscribed());
    client.stop().await;
}

//! Against a real mosquitto: each test has its own.

use rumqttc::v5::mqttbytes::v5::PubAck;
use test_support::eventually::{LATE, holds as eventually};
use test_support::server::OwnMosquitto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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

    /// Ends it as an administrator would: it saves its sessions.
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

    async fn link(&self, more: &[&str]) -> Running {
        let running = Running::start(&self.config(more));
        running.subscribed().await;
        running
    }

    async fn publisher(&self, id: &str) -> Publisher {
        Publisher::connect(id, self.port()).await
    }
}

/// One link under test.
struct Running {
    lifecycle: Lifecycle,
    messages: Receiver<Incoming>,
    status: LinkStatus,
    farewell: watch::Sender<Farewell>,
}

impl Running {
    fn start(config: &MqttConfig) -> Self {
        let lifecycle = Lifecycle::new();
        let (farewell, farewells) = watch::channel(Farewell::Undecided);
        let (messages, status) = start(config, &lifecycle, farewells, 65_536).unwrap();
        Self {
            lifecycle,
            messages,
            status,
            farewell,
        }
    }

    async fn subscribed(&self) {
        eventually("the link is subscribed", async || {
            self.status.is_subscribed()
        })
        .await;
    }

    async fn reaches(&self, state: LinkState) {
        eventually("the link's state", async || self.status.state() == state).await;
    }

    async fn receive(&mut self) -> Incoming {
        let message = timeout(LATE, self.messages.recv())
            .await
            .expect("no message came");
        message.expect("the queue is closed")
    }

    async fn take<const N: usize>(&mut self) -> [Incoming; N] {
        let mut messages = Vec::new();
        for _ in 0..N {
            messages.push(self.receive().await);
        }
        messages.try_into().expect("N were taken")
    }

    /// Takes and finishes what comes until the link has ended.
    async fn take_rest(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(message) = timeout(LATE, self.messages.recv())
            .await
            .expect("it closes")
        {
            seen.extend(texts(std::slice::from_ref(&message)));
            message.ack.done();
        }
        seen
    }

    /// Ends as a killed process does: the connection is cut, nothing is finished.
    async fn cut(self) {
        self.lifecycle.hard().cancel();
        self.lifecycle.wait(LATE).await.unwrap();
    }

    async fn stop(self) {
        self.lifecycle.request_stop();
        self.lifecycle.wait(LATE).await.unwrap();
    }
}

fn texts(messages: &[Incoming]) -> Vec<String> {
    messages
        .iter()
        .map(|message| String::from_utf8_lossy(&message.payload).into_owned())
        .collect()
}

/// A device: publishes and waits for the broker's acknowledgement.
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

#[tokio::test]
async fn a_message_is_acknowledged_only_when_it_is_finished() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut link = broker.link(&[]).await;
    device.publish("a").await;
    device.publish("b").await;
    let messages: [Incoming; 2] = link.take().await;
    assert_eq!(texts(&messages), ["a", "b"]);
    assert!(
        messages
            .iter()
            .all(|message| !message.dup && !message.retain)
    );
    assert_eq!(messages[0].topic, TOPIC);
    link.cut().await;

    let mut link = broker.link(&[]).await;
    let messages: [Incoming; 2] = link.take().await;
    assert_eq!(texts(&messages), ["a", "b"]);
    assert!(messages.iter().all(|message| message.dup));
    for message in messages {
        message.ack.done();
    }
    link.stop().await;

    let mut link = broker.link(&[]).await;
    device.publish("marker").await;
    let messages: [Incoming; 1] = link.take().await;
    assert_eq!(texts(&messages), ["marker"]);
}

#[tokio::test]
async fn acknowledgements_go_out_in_the_order_of_arrival() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut link = broker.link(&[]).await;
    for text in ["a", "b", "c"] {
        device.publish(text).await;
    }
    let [first, second, third] = link.take().await;
    third.ack.done();
    second.ack.done();
    // What would have gone out wrongly is with the broker before it sends this.
    device.publish("d").await;
    let fourth = link.receive().await;
    link.cut().await;
    drop((first, fourth));

    let mut link = broker.link(&["--mqtt-receive-maximum", "4"]).await;
    let messages: [Incoming; 4] = link.take().await;
    assert_eq!(texts(&messages), ["a", "b", "c", "d"]);
    let [first, second, third, fourth] = messages;
    second.ack.done();
    first.ack.done();
    // Dropped unfinished: neither it nor the one behind it is acknowledged.
    drop(third);
    fourth.ack.done();
    // The window of 4 was full: that two more come shows that exactly the first two are acknowledged.
    for text in ["e", "f", "g"] {
        device.publish(text).await;
    }
    let messages: [Incoming; 2] = link.take().await;
    assert_eq!(texts(&messages), ["e", "f"]);
    link.cut().await;

    let mut link = broker.link(&[]).await;
    let messages: [Incoming; 5] = link.take().await;
    assert_eq!(texts(&messages), ["c", "d", "e", "f", "g"]);
}

#[tokio::test]
async fn a_restarted_broker_is_subscribed_again_and_sends_again() {
    let mut broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut link = broker.link(&[]).await;
    device.publish("a").await;
    let held = link.receive().await;
    broker.stop().await;
    link.reaches(LinkState::Down).await;
    assert!(link.status.last_error().is_some());
    // Of the connection that is gone: it must not acknowledge what has the same packet id on the next.
    held.ack.done();

    broker.restart().await;
    link.subscribed().await;
    let again = link.receive().await;
    assert_eq!(
        (again.payload.as_slice(), again.dup),
        (b"a".as_slice(), true)
    );
    again.ack.done();
    let mut device = broker.publisher("device").await;
    device.publish("b").await;
    assert_eq!(link.receive().await.payload, b"b");
    assert_eq!(link.status.connections(), 2);
}

#[tokio::test]
async fn a_lost_session_is_subscribed_again() {
    let mut broker = Broker::start("").await;
    let mut link = broker.link(&[]).await;
    broker.stop().await;
    for file in std::fs::read_dir(broker.mosquitto.folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "db") {
            std::fs::remove_file(path).unwrap();
        }
    }
    link.reaches(LinkState::Down).await;
    broker.restart().await;
    link.subscribed().await;
    broker.publisher("device").await.publish("a").await;
    assert_eq!(link.receive().await.payload, b"a");
}

#[tokio::test]
async fn an_oversize_packet_does_not_stop_the_feed() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let small = [
        "--mqtt-max-packet-size",
        "2048",
        "--max-payload-bytes",
        "1024",
    ];
    let mut link = broker.link(&small).await;
    device.publish(vec![b'x'; 4000]).await;
    device.publish("marker").await;
    assert_eq!(link.receive().await.payload, b"marker");
    assert_eq!(link.status.connections(), 1);
}

#[tokio::test]
async fn of_two_links_with_one_client_id_one_stays_away() {
    let broker = Broker::start("").await;
    let mut old = broker.link(&["--mqtt-client-id", "same"]).await;
    let mut new = Running::start(&broker.config(&["--mqtt-client-id", "same"]));
    let away = |link: &Running| link.status.state() == LinkState::TakenOver;
    eventually("one stays away", async || away(&old) || away(&new)).await;
    if away(&new) {
        std::mem::swap(&mut old, &mut new);
    }
    new.subscribed().await;
    let connections = new.status.connections();
    broker.publisher("device").await.publish("marker").await;
    assert_eq!(new.receive().await.payload, b"marker");
    assert_eq!(
        (old.status.state(), new.status.connections()),
        (LinkState::TakenOver, connections)
    );
    assert!(
        old.status
            .last_error()
            .is_some_and(|error| error.contains("taken over"))
    );
    old.stop().await;
}

#[tokio::test]
async fn a_takeover_the_broker_tells_of_is_believed_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link_to(&listener, &[]);
    let mut stream = accept_subscription(&listener, 0).await;
    link.subscribed().await;
    stream.write_all(&[0xe0, 2, 0x8e, 0]).await.unwrap();
    link.reaches(LinkState::TakenOver).await;
    link.stop().await;
}

#[tokio::test]
async fn a_stop_acknowledges_what_is_in_hand_and_leaves_the_rest_in_the_session() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut link = broker.link(&[]).await;
    device.publish("a").await;
    device.publish("b").await;
    let [first, second] = link.take().await;
    link.lifecycle.request_stop();
    assert!(!link.lifecycle.hard().is_cancelled());
    device.publish("c").await;
    second.ack.done();
    first.ack.done();
    // The queue may hold what came before the stop was seen; it ends with the link.
    link.take_rest().await;
    let status = link.status.clone();
    link.stop().await;
    assert_eq!(status.state(), LinkState::Stopped);

    let mut link = broker.link(&[]).await;
    device.publish("marker").await;
    let mut text = texts(&[link.receive().await]);
    if text == ["c"] {
        text = texts(&[link.receive().await]);
    }
    assert_eq!(text, ["marker"]);
}

#[tokio::test]
async fn qos_0_is_dropped_with_a_count_before_it_takes_the_room_of_qos_1() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut link = broker.link(&["--mqtt-receive-maximum", "4"]).await;
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
        link.status.received() + link.status.lost() == 54
    })
    .await;
    let (received, lost) = (link.status.received(), link.status.lost());
    assert_eq!((received, lost), (8, 46));
    let messages: [Incoming; 8] = link.take().await;
    assert_eq!(texts(&messages), ["0", "0", "0", "0", "1", "1", "1", "1"]);
    assert_eq!(link.status.connections(), 1);
}

#[tokio::test]
async fn a_long_queue_comes_on_one_connection_and_only_once() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut link = broker.link(&["--mqtt-receive-maximum", "4"]).await;
    let expected: Vec<String> = (0..100).map(|number| format!("{number:02}")).collect();
    for text in &expected {
        device.publish(text.as_str()).await;
    }
    // mosquitto overruns the window with its queue.
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let message = link.receive().await;
        seen.extend(texts(std::slice::from_ref(&message)));
        message.ack.done();
    }
    assert_eq!(seen, expected);
    assert_eq!(link.status.connections(), 1);
}

#[tokio::test]
async fn no_connection_is_made_before_a_window_is_free() {
    let mut broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    let mut link = broker.link(&["--mqtt-receive-maximum", "2"]).await;
    // Nobody takes anything: two connections fill the queue with their windows.
    for text in ["a", "b", "c"] {
        device.publish(text).await;
    }
    eventually("the first window", async || link.status.received() == 2).await;
    broker.stop().await;
    link.reaches(LinkState::Down).await;
    broker.restart().await;
    eventually("the window again", async || link.status.received() == 4).await;
    broker.stop().await;
    link.reaches(LinkState::Down).await;
    broker.restart().await;
    // Old copies first; the third connection brings the window once more, and nothing is lost.
    let mut seen = Vec::new();
    while !seen.iter().any(|text| text == "c") {
        let message = link.receive().await;
        seen.extend(texts(std::slice::from_ref(&message)));
        message.ack.done();
    }
    assert_eq!(seen, ["a", "b", "a", "b", "a", "b", "c"]);
    assert_eq!(link.status.connections(), 3);
}

#[tokio::test]
async fn replicas_of_a_share_group_divide_the_messages() {
    let broker = Broker::start("").await;
    let group = |id| ["--mqtt-share-group", "g", "--mqtt-client-id", id];
    let mut one = broker.link(&group("one")).await;
    let mut two = broker.link(&group("two")).await;
    let mut device = broker.publisher("device").await;
    let expected: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    for text in &expected {
        device.publish(text.as_str()).await;
    }
    let total = async || one.status.received() + two.status.received() == 20;
    eventually("all are received", total).await;
    let mut seen = Vec::new();
    for link in [&mut one, &mut two] {
        assert!(link.status.received() > 0, "one replica got nothing");
        while let Ok(message) = link.messages.try_recv() {
            seen.extend(texts(std::slice::from_ref(&message)));
        }
    }
    seen.sort();
    assert_eq!(seen, expected);
}

/// Two members with a small window, and messages of which each has more than that.
async fn two_members(broker: &Broker, more: &[&str]) -> (Running, Running, Publisher) {
    let member = async |id| {
        let group = ["--mqtt-share-group", "g", "--mqtt-client-id", id];
        let window = ["--mqtt-receive-maximum", "4"];
        let args: Vec<&str> = group.iter().chain(&window).chain(more).copied().collect();
        broker.link(&args).await
    };
    let (one, two) = (member("one").await, member("two").await);
    let mut device = broker.publisher("device").await;
    for number in 0..40 {
        device.publish(format!("{number:02}")).await;
    }
    (one, two, device)
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
async fn a_member_that_leaves_empties_its_session_and_gives_it_up() {
    for more in [&[][..], &["--mqtt-session-expiry", "0s"]] {
        let broker = Broker::start("").await;
        let (mut one, mut two, mut device) = two_members(&broker, more).await;
        one.lifecycle.request_stop();
        one.farewell.send_replace(Farewell::Leave);
        let mut seen = one.take_rest().await;
        assert!(seen.len() > 8, "no more than windows: {seen:?}");
        assert_eq!(
            (one.status.state(), one.status.last_error()),
            (LinkState::Stopped, None)
        );
        one.stop().await;
        for number in 40..50 {
            device.publish(format!("{number:02}")).await;
        }
        while seen.len() < 50 {
            let message = two.receive().await;
            seen.extend(texts(std::slice::from_ref(&message)));
            message.ack.done();
        }
        seen.sort();
        let expected: Vec<String> = (0..50).map(|number| format!("{number:02}")).collect();
        assert_eq!(seen, expected);
        assert!(!has_session(&broker, "one").await);
    }
}

#[tokio::test]
async fn a_member_that_is_told_nothing_keeps_its_session() {
    let broker = Broker::start("").await;
    let (mut one, _two, _device) = two_members(&broker, &[]).await;
    one.lifecycle.request_stop();
    drop(std::mem::replace(
        &mut one.farewell,
        watch::channel(Farewell::Leave).0,
    ));
    one.take_rest().await;
    assert_eq!(one.status.state(), LinkState::Stopped);
    one.stop().await;
    assert!(has_session(&broker, "one").await);
}

#[tokio::test]
async fn a_member_that_cannot_empty_its_session_in_time_loses_nothing() {
    let broker = Broker::start("").await;
    let (mut one, two, _device) = two_members(&broker, &[]).await;
    let total = async || one.status.received() + two.status.received() == 8;
    eventually("both windows are full", total).await;
    one.lifecycle.request_stop();
    one.farewell.send_replace(Farewell::Leave);
    // Nothing can be committed: the drain period ends.
    let held: [Incoming; 4] = one.take().await;
    one.cut().await;
    drop(held);

    let group = ["--mqtt-share-group", "g", "--mqtt-client-id", "one"];
    let mut one = broker.link(&group).await;
    let messages: [Incoming; 20] = one.take().await;
    assert!(messages[..4].iter().all(|message| message.dup));
}

#[tokio::test]
async fn retained_messages_say_so_and_come_once_per_session() {
    let broker = Broker::start("").await;
    let mut device = broker.publisher("device").await;
    device.retain("old").await;
    let mut link = broker.link(&[]).await;
    let retained = link.receive().await;
    assert_eq!(
        (retained.payload.as_slice(), retained.retain),
        (b"old".as_slice(), true)
    );
    retained.ack.done();
    link.stop().await;
    let mut link = broker.link(&[]).await;
    device.publish("marker").await;
    let marker = link.receive().await;
    assert_eq!(
        (marker.payload.as_slice(), marker.retain),
        (b"marker".as_slice(), false)
    );
}

/// A link to a broker that the test itself plays.
fn link_to(listener: &TcpListener, more: &[&str]) -> Running {
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let args = ["ingest", "--redis-url", "redis://h", "--mqtt-broker", &url];
    Running::start(&Config::try_from_args(args.iter().chain(more)).unwrap().mqtt)
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
async fn a_refused_subscription_is_told() {
    // mosquitto refuses none without a plugin.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link_to(&listener, &[]);
    let _stream = accept_subscription(&listener, 0x87).await;
    link.reaches(LinkState::Down).await;
    let refused = "subscription to `SubTronics/data` refused: NotAuthorized";
    eventually("the refusal", async || {
        link.status.last_error().as_deref() == Some(refused)
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link_to(&listener, &["--mqtt-connect-timeout", "1s"]);
    let (_first, _) = listener.accept().await.unwrap();
    let (_second, _) = timeout(LATE, listener.accept())
        .await
        .expect("it tries again")
        .unwrap();
    assert!(!link.status.is_subscribed());
    link.stop().await;
}

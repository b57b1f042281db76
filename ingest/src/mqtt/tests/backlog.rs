//! A broker that has more for us than we commit.

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::Error;

use super::*;

/// A broker that sends what a test wants.
struct FakeBroker {
    stream: TcpStream,
    received: BytesMut,
}

impl FakeBroker {
    /// Accepts the connection, whose session it has kept, and sets the interval of pings.
    async fn accept(listener: &TcpListener, keep_alive_seconds: u8) -> Self {
        let (stream, _) = timeout(LATE, listener.accept()).await.unwrap().unwrap();
        let mut broker = Self {
            stream,
            received: BytesMut::new(),
        };
        let first = broker.read().await;
        assert!(matches!(first, Packet::Connect(..)), "{first:?}");
        broker
            .write(&[0x20, 6, 1, 0, 3, 0x13, 0, keep_alive_seconds])
            .await;
        broker
    }

    async fn read(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.received, None) {
                Ok(packet) => return packet,
                Err(Error::InsufficientBytes(_)) => {}
                Err(err) => panic!("{err}"),
            }
            let read = timeout(LATE, self.stream.read_buf(&mut self.received)).await;
            let bytes = read.expect("nothing is sent").unwrap();
            assert!(bytes > 0, "the connection is closed");
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends messages of QoS 1 whose payload is their packet id.
    async fn publish(&mut self, packet_ids: std::ops::RangeInclusive<u8>) {
        for packet_id in packet_ids {
            self.write(&[0x32, 7, 0, 1, b't', 0, packet_id, 0, packet_id])
                .await;
        }
    }

    async fn answer_subscription(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.write(&[0x90, 4, high, low, 0, 1]).await;
    }
}

#[tokio::test]
async fn while_the_queue_is_full_pings_are_sent_and_nothing_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = client_to(&listener, &["--mqtt-receive-maximum", "4"]);
    let mut broker = FakeBroker::accept(&listener, 1).await;
    let Packet::Subscribe(subscribe) = broker.read().await else {
        panic!("no subscription");
    };
    broker.answer_subscription(subscribe.pkid).await;
    // The queue has room for eight. Nothing is committed.
    broker.publish(1..=40).await;
    for _ in 0..4 {
        let packet = broker.read().await;
        assert!(matches!(packet, Packet::PingReq(_)), "{packet:?}");
    }
    eventually("the queue is full", async || client.status.received() == 8).await;
    let mut seen = Vec::new();
    for _ in 1..=40 {
        let message = client.receive().await;
        seen.push(message.payload[0]);
        message.ack.done();
    }
    assert!(seen.iter().copied().eq(1..=40), "{seen:?}");
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 40 {
        match broker.read().await {
            Packet::PubAck(ack) => acknowledged.push(ack.pkid),
            Packet::PingReq(_) => broker.write(&[0xd0, 0]).await,
            packet => panic!("{packet:?}"),
        }
    }
    assert!(acknowledged.iter().copied().eq(1..=40), "{acknowledged:?}");
    assert_eq!(client.status.connections(), 1);
}

#[tokio::test]
async fn answers_behind_a_backlog_are_waited_for_while_it_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = client_to(&listener, &[]);
    let mut broker = FakeBroker::accept(&listener, 4).await;
    let Packet::Subscribe(subscribe) = broker.read().await else {
        panic!("no subscription");
    };
    // Neither the subscription nor a ping is answered. Without messages, the client would give up after two pings.
    for packet_id in 1..=4 {
        let packet = broker.read().await;
        assert!(matches!(packet, Packet::PingReq(_)), "{packet:?}");
        assert!(!client.status.is_subscribed());
        broker.publish(packet_id..=packet_id).await;
        let message = client.receive().await;
        assert_eq!(message.payload, [packet_id]);
        // Dropped without being finished, so the next packet of the client is a ping.
    }
    broker.answer_subscription(subscribe.pkid).await;
    client.subscribed().await;
    assert_eq!(client.status.connections(), 1);
}

#[tokio::test]
async fn answers_behind_a_message_that_waited_for_room_are_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = client_to(&listener, &["--mqtt-receive-maximum", "4"]);
    let mut broker = FakeBroker::accept(&listener, 1).await;
    let Packet::Subscribe(subscribe) = broker.read().await else {
        panic!("no subscription");
    };
    // The queue has room for eight. Nothing more is read until one of them is taken.
    broker.publish(1..=9).await;
    broker.answer_subscription(subscribe.pkid).await;
    // For longer than the time in which the subscription must be answered.
    for _ in 0..4 {
        let packet = broker.read().await;
        assert!(matches!(packet, Packet::PingReq(_)), "{packet:?}");
    }
    assert!(!client.status.is_subscribed());
    let first = client.receive().await;
    assert_eq!(first.payload, [1]);
    client.subscribed().await;
    assert_eq!(client.status.connections(), 1);
}

#[tokio::test]
async fn a_broker_that_answers_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_to(&listener, &[]);
    let mut broker = FakeBroker::accept(&listener, 1).await;
    let packet = broker.read().await;
    assert!(matches!(packet, Packet::Subscribe(_)), "{packet:?}");
    eventually("it is given up", async || {
        client.status.last_error().as_deref() == Some("no packet from the broker for 1 s")
    })
    .await;
}

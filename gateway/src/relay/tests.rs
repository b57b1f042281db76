//! A complete gateway on a Redis of its own, seen by a long-polling client. Readings are committed as ingest would.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value as Json, json};
use shared::keys::CANARY_CHANNEL;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::event_names::{
    BROADCAST_DATA, DEVICE_ALERTS, DEVICE_ALERTS_CHANGED, DEVICE_DATA, SYSTEM_STATUS,
};
use crate::test_setup::{self, redis_cli, start_redis};
use test_support::eventually::{LATE, holds as eventually};
use test_support::server::OwnRedis;

const DEVICE: &str = "OTSM-0114";

mod garbled;
mod rare_polls;
mod relink;
mod subscriptions;

struct World {
    redis: OwnRedis,
    store: Store,
    gateway: SocketAddr,
    lifecycle: Lifecycle,
    messages: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        self.lifecycle.hard().cancel();
    }
}

impl World {
    async fn start() -> Self {
        Self::start_on(start_redis().await, &[]).await
    }

    /// Starts a gateway on this Redis, with these further flags.
    async fn start_on(redis: OwnRedis, flags: &[&str]) -> Self {
        let address = redis.address();
        Self::start_at(redis, &address, flags).await
    }

    /// Starts a gateway that reaches this Redis at `address`, which may name a user.
    async fn start_at(redis: OwnRedis, address: &str, flags: &[&str]) -> Self {
        let store = test_setup::store(&test_setup::config(&redis.address(), flags));
        let config = test_setup::config(address, flags);
        eventually("Redis answers", async || store.ping().await.is_ok()).await;
        let listener = crate::listener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let gateway = listener.local_addr().expect("an address");
        let lifecycle = Lifecycle::new();
        let serving = crate::serve(listener, config, lifecycle.clone());
        lifecycle.spawn_short("gateway", async {
            serving.await.expect("the gateway serves until the end");
        });
        Self {
            redis,
            store,
            gateway,
            lifecycle,
            messages: 0,
        }
    }

    async fn reading(&mut self, value: i32) {
        self.reading_of(DEVICE, value).await;
    }

    async fn reading_of(&mut self, device: &str, value: i32) {
        self.messages += 1;
        let reading = test_setup::reading(device, value);
        let silence = Duration::from_mins(3);
        test_setup::commit(&self.store, reading, b"{}", self.messages, silence).await;
    }

    async fn readings_of(&mut self, devices: &[String], value: i32) {
        self.messages += 1;
        for devices in devices.chunks(500) {
            let readings = devices.iter().map(|name| test_setup::reading(name, value));
            let silence = Duration::from_mins(3);
            test_setup::commit_all(
                &self.store,
                readings.collect(),
                b"{}",
                self.messages,
                silence,
            )
            .await;
        }
    }

    async fn retire(&self) {
        let device = DEVICE.parse().expect("a serial");
        let retired = shared::apply::retire(&self.store, &device, "Asha").await;
        assert_eq!(
            retired.expect("answers").answer,
            shared::apply::Retired::Done
        );
    }

    /// Returns the value of a metric of the gateway, added up over its labels.
    async fn metric(&self, name: &str) -> u64 {
        self.metric_of(name, "").await
    }

    /// As [`Self::metric`], of the samples with this label alone.
    async fn metric_of(&self, name: &str, label: &str) -> u64 {
        let text = http_to(self.gateway, "GET", "/metrics", "").await;
        let samples = text.lines().filter_map(|line| line.strip_prefix(name));
        let values = samples.filter(|rest| rest.starts_with([' ', '{']) && rest.contains(label));
        let values = values.filter_map(|rest| rest.rsplit_once(' '));
        values
            .map(|(_, value)| value.parse::<u64>().expect("a number"))
            .sum()
    }

    /// Closes the connections for subscriptions. Returns how many there were.
    fn cut_subscribers(&self) -> usize {
        let closed = redis_cli(&self.redis, &["CLIENT", "KILL", "TYPE", "pubsub"]);
        closed.parse().expect("a number")
    }

    /// Waits until every connection for subscriptions is open, and closes them.
    async fn cut_every_subscriber(&self) {
        let connected = async || self.metric("gateway_subscriber_up").await == 1;
        eventually("every shard is connected", connected).await;
        assert_eq!(self.cut_subscribers(), shard_count());
    }
}

/// A long-polling client.
struct Client {
    gateway: SocketAddr,
    sid: String,
    /// Packets that arrived and were not returned yet.
    packets: Vec<String>,
}

impl Client {
    async fn connect(gateway: SocketAddr) -> Self {
        let handshake = http(gateway, "GET", "", "").await;
        let handshake: Json = serde_json::from_str(&handshake[1..]).expect("an open packet");
        let sid = handshake["sid"].as_str().expect("a session").to_owned();
        let mut client = Self {
            gateway,
            sid,
            packets: Vec::new(),
        };
        client.post("40").await;
        let answer = client.next().await;
        assert!(answer.starts_with("40"), "{answer}");
        client
    }

    async fn post(&self, packet: &str) {
        let answer = http(self.gateway, "POST", &format!("&sid={}", self.sid), packet).await;
        assert_eq!(answer, "ok");
    }

    /// Waits for the next packet other than pings, which are answered, and noops. The first ping comes at once.
    async fn next(&mut self) -> String {
        loop {
            while self.packets.is_empty() {
                let answer = http(self.gateway, "GET", &format!("&sid={}", self.sid), "").await;
                self.packets = answer.split('\u{1e}').map(str::to_owned).collect();
            }
            match self.packets.remove(0).as_str() {
                "2" => self.post("3").await,
                "6" => {}
                packet => return packet.to_owned(),
            }
        }
    }

    /// Waits for the next event and returns its name and payload. Skips `system:status`. A reply has the name `ack`.
    async fn event(&mut self) -> (String, Json) {
        let event = tokio::time::timeout(LATE, self.next_event()).await;
        event.expect("an event in time")
    }

    /// Waits for a `system:status` that meets the condition. Skips everything else.
    async fn status(&mut self, is_expected: impl Fn(&Json) -> bool) -> Json {
        let status = async {
            loop {
                if let Some(event) = self.next().await.strip_prefix("42") {
                    let (name, payload): (String, Json) =
                        serde_json::from_str(event).expect("an event");
                    if name == SYSTEM_STATUS && is_expected(&payload) {
                        return payload;
                    }
                }
            }
        };
        let status = tokio::time::timeout(LATE, status).await;
        status.expect("a status in time")
    }

    async fn next_event(&mut self) -> (String, Json) {
        loop {
            let packet = self.next().await;
            if let Some(event) = packet.strip_prefix("42") {
                let (name, payload): (String, Json) =
                    serde_json::from_str(event).expect("an event");
                if name != SYSTEM_STATUS {
                    return (name, payload);
                }
            } else {
                let (_, answer) = packet.split_at(packet.find('[').expect("an answer"));
                let [answer]: [Json; 1] = serde_json::from_str(answer).expect("an answer");
                return ("ack".to_owned(), answer);
            }
        }
    }

    /// Asserts the name and the `seq` of the next event. Returns its payload.
    #[track_caller]
    fn expect<'a>(&'a mut self, name: &'a str, seq: u64) -> impl Future<Output = Json> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let (found, payload) = self.event().await;
            let found = (found.as_str(), &payload["seq"]);
            assert_eq!(found, (name, &json!(seq)), "{caller}");
            payload
        }
    }

    /// Sends a subscription, for which a reply will come.
    async fn send_subscription(&self) {
        self.send_subscription_to(DEVICE).await;
    }

    async fn send_subscription_to(&self, device: &str) {
        let packet = format!(r#"421["subscribe:device","{device}"]"#);
        self.post(&packet).await;
    }

    /// Subscribes and waits for the reply.
    async fn subscribe(&mut self) -> Json {
        self.subscribe_to(DEVICE).await
    }

    async fn subscribe_to(&mut self, device: &str) -> Json {
        self.send_subscription_to(device).await;
        loop {
            let (name, answer) = self.event().await;
            if name == "ack" {
                return answer;
            }
        }
    }
}

async fn http(gateway: SocketAddr, method: &str, query: &str, body: &str) -> String {
    let path = format!("/socket.io/?EIO=4&transport=polling{query}");
    http_to(gateway, method, &path, body).await
}

/// Returns the body of an answer, which must have status 200.
async fn http_to(gateway: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(gateway).await?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(LATE, exchange).await;
    let answer = answer
        .expect("the gateway answers in time")
        .expect("a connection");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_is_sent_data_first_then_alerts_then_changes() {
    let mut world = World::start().await;
    let mut client = Client::connect(world.gateway).await;
    let answer = client.subscribe().await;
    assert_eq!(answer["seq"], 0);
    world.reading(300).await;
    for (name, has_more) in [
        (DEVICE_DATA, true),
        (DEVICE_ALERTS, true),
        (DEVICE_ALERTS_CHANGED, false),
    ] {
        let payload = client.expect(name, 1).await;
        assert_eq!(payload["more"] == true, has_more, "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_subscriptions_leave_no_gap() {
    let mut world = World::start().await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    for number in 1..=50 {
        if number % 10 == 0 {
            if number == 10 {
                world.cut_every_subscriber().await;
            } else {
                // The next ones may not be open yet.
                world.cut_subscribers();
            }
        }
        world.reading(number).await;
    }
    for seq in 1..=50 {
        let payload = client.expect(DEVICE_DATA, seq).await;
        assert_eq!(payload.get("snapshot"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_while_readings_arrive_leaves_no_gap() {
    let mut world = World::start().await;
    world.reading(1).await;
    let gateway = world.gateway;
    // Clients subscribe one after the other while readings arrive. Each must get every position up to the end.
    let clients = async {
        for _ in 0..5 {
            let mut client = Client::connect(gateway).await;
            let answer = client.subscribe().await;
            let last = answer["seq"].as_u64().expect("a number");
            for seq in last + 1..=100 {
                client.expect(DEVICE_DATA, seq).await;
            }
        }
    };
    let readings = async {
        for _ in 2..=100 {
            world.reading(2).await;
        }
    };
    tokio::join!(clients, readings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_made_while_redis_is_unavailable_is_answered_when_it_is_back() {
    let mut world = World::start_on(start_redis().await, &[]).await;
    world.reading(7).await;
    let mut client = Client::connect(world.gateway).await;
    let stopped = world.redis.server.process.terminate().await;
    stopped.expect("redis ends");
    client.send_subscription().await;
    // The refusal of a second client's command shows that the first command has reached the gateway.
    let mut marker = Client::connect(world.gateway).await;
    marker.post(r#"421["subscribe:device",5]"#).await;
    assert_eq!(marker.event().await.1["ok"], false);
    let started = world.redis.server.process.restart();
    started.expect("redis starts again");
    let data = client.expect(DEVICE_DATA, 1).await;
    assert_eq!(data["snapshot"], true);
    assert_eq!(data["data"]["sensor_reading"], 7);
    let answer = client.expect("ack", 1).await;
    assert_eq!(answer["ok"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_broadcast_all_every_client_gets_every_reading() {
    let mut world = World::start_on(start_redis().await, &["--broadcast-all"]).await;
    let mut client = Client::connect(world.gateway).await;
    // Nobody subscribes, and the device is unknown at first.
    for number in 1..=30 {
        if number % 10 == 0 {
            world.cut_subscribers();
        }
        world.reading(number).await;
    }
    for seq in 1..=30 {
        client.expect(BROADCAST_DATA, seq).await;
    }
    // The device is listed by now, so further readings come live. Clients that connect later get them too.
    let mut other = Client::connect(world.gateway).await;
    for number in 31..=33 {
        world.reading(number).await;
        for client in [&mut client, &mut other] {
            let (name, payload) = client.event().await;
            assert_eq!(
                (name.as_str(), &payload["data"]["sensor_reading"]),
                (BROADCAST_DATA, &json!(number))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_gets_the_broadcast_right_after_the_data() {
    let mut world = World::start_on(start_redis().await, &["--broadcast-all"]).await;
    // The first reading of a new device is read from its stream, and its broadcast follows all its events.
    world.reading(10).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    for (seq, value) in [(2, 300), (3, 600)] {
        world.reading(value).await;
        for name in [
            DEVICE_DATA,
            BROADCAST_DATA,
            DEVICE_ALERTS,
            DEVICE_ALERTS_CHANGED,
        ] {
            client.expect(name, seq).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_device_is_shown_as_stale_once_and_its_successor_follows_without_a_gap() {
    let mut world = World::start().await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    world.reading(300).await;
    for name in [DEVICE_DATA, DEVICE_ALERTS, DEVICE_ALERTS_CHANGED] {
        client.expect(name, 1).await;
    }
    world.retire().await;
    let changes = client.expect(DEVICE_ALERTS_CHANGED, 2).await;
    assert_eq!(changes["alerts"][0]["change"], "retired");
    assert_eq!(changes["alerts"][0]["state"], "cleared");
    // Position 1 had more events. The repetition of its data is no part of it.
    let data = client.expect(DEVICE_DATA, 1).await;
    assert_eq!((&data["stale"], data.get("more")), (&json!(true), None));
    assert_eq!(data["data"]["alarm_status"], "ALARM");
    assert_eq!(data["data"]["data_quality"], "offline");

    // A client that subscribes now gets the answer for an unknown device. One with an old position is also sent that no
    // alarm is open.
    let mut late = Client::connect(world.gateway).await;
    let answer = late.subscribe().await;
    assert_eq!((&answer["ok"], &answer["seq"]), (&json!(true), &json!(0)));
    let since = json!({"deviceId": DEVICE, "since": {"epoch": changes["epoch"], "seq": 1}});
    let mut old = Client::connect(world.gateway).await;
    let packet = format!(r#"421["subscribe:device",{since}]"#);
    old.post(&packet).await;
    let (name, none) = old.event().await;
    assert_eq!(
        (name.as_str(), &none["alerts"]),
        (DEVICE_ALERTS, &json!([]))
    );
    assert_eq!(none["snapshot"], true);
    let (name, answer) = old.event().await;
    assert_eq!(
        (name.as_str(), &answer["recovered"]),
        ("ack", &json!(false))
    );
    assert_eq!(answer["alarmsRecovered"], false);

    // The first reading of the successor is the next event: a normal reading for the member, a snapshot for the others.
    world.reading(10).await;
    let data = client.expect(DEVICE_DATA, 3).await;
    assert_eq!(data.get("stale"), None);
    for other in [&mut late, &mut old] {
        let data = other.expect(DEVICE_DATA, 3).await;
        assert_eq!(data["snapshot"], true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_retirement_is_shown_after_the_gap() {
    let mut world = World::start().await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    world.reading(10).await;
    client.expect(DEVICE_DATA, 1).await;
    // The event of the retirement may arrive or not. Either way the removal is shown once.
    world.cut_subscribers();
    world.retire().await;
    let (name, data) = loop {
        let (name, payload) = client.event().await;
        // Skip the changes, or after a gap the message that no alarm is open.
        if !name.starts_with(DEVICE_ALERTS) {
            break (name, payload);
        }
    };
    assert_eq!((name.as_str(), &data["seq"]), (DEVICE_DATA, &json!(1)));
    assert_eq!(data["stale"], true);
    assert_eq!(data["data"]["data_quality"], "offline");
    world.reading(20).await;
    let data = client.expect(DEVICE_DATA, 3).await;
    assert_eq!(data["data"]["sensor_reading"], 20);
}

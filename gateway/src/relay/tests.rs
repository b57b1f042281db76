//! A whole gateway on a Redis of its own, seen by a long-polling client; readings come through the one commit.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value as Json, json};
use shared::apply::{ApplyConfig, Work, apply};
use shared::clock::SystemClock;
use shared::decide::{Input, Message};
use shared::decimal::Decimal;
use shared::keys::CANARY_CHANNEL;
use shared::reading::{Coordinate, LevelSetting, Reading};
use shared::state::{AlarmSettings, ZeroLevel};
use shared::store::Bounds;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::subscriber::{connect, receiver, until_deaf};
use super::*;
use crate::config::Config;

/// Later than any of this can take on a slow machine.
const LATE: Duration = Duration::from_mins(1);
const DEVICE: &str = "OTSM-0114";
/// Beside the port other tests of this process use on the same address.
const PORT: u16 = 6380;

struct World {
    server: Child,
    // Removed when the test ends, after the server.
    folder: TempDir,
    redis: String,
    store: Store,
    gateway: SocketAddr,
    lifecycle: Lifecycle,
    messages: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        self.lifecycle.hard().cancel();
        // Either may fail only if the server is gone already.
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

fn start_redis(host: &str, folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--bind", host, "--port", &PORT.to_string(), "--dir"])
        .arg(folder.path())
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is missing: run `tests/run`, which installs it")
}

impl World {
    /// `number` makes the address of this test's Redis its own within this process.
    async fn start(number: u8) -> Self {
        Self::start_with(number, &[]).await
    }

    /// A gateway with these further flags.
    async fn start_with(number: u8, flags: &[&str]) -> Self {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let host = format!("127.{}.{middle}.{low}", (high & 0x03) | (number << 2));
        let folder = tempfile::tempdir().expect("a folder");
        let server = start_redis(&host, &folder);
        let redis = format!("{host}:{PORT}");
        let url = format!("redis://{redis}");
        let fixed = ["gateway", "--allow-anonymous", "--redis-url", &url];
        let config = Config::try_from_args(fixed.iter().chain(flags)).expect("flags");
        let store = Store::new(config.redis.clone(), Arc::new(SystemClock::default()));
        eventually("Redis answers", async || store.ping().await.is_ok()).await;
        let listener = crate::listener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let gateway = listener.local_addr().expect("an address");
        let lifecycle = Lifecycle::new();
        let serving = crate::serve(listener, config, lifecycle.clone());
        lifecycle.spawn_short("gateway", async {
            serving.await.expect("the gateway serves until the end");
        });
        Self {
            server,
            folder,
            redis,
            store,
            gateway,
            lifecycle,
            messages: 0,
        }
    }

    async fn reading(&mut self, value: i32) {
        self.messages += 1;
        let zero = Decimal::ZERO;
        let level = |level| LevelSetting {
            level: Some(Decimal::from_int(level)),
            ..LevelSetting::default()
        };
        let reading = Reading {
            device: DEVICE.parse().expect("a serial"),
            device_name: "Block 1".to_owned(),
            gas_type: "Carbon Monoxide (CO)".to_owned(),
            timestamp: None,
            device_time: None,
            unit: "ppm".to_owned(),
            message_type: "LOG DATA".to_owned(),
            sender: "Device".to_owned(),
            value: Some(Decimal::from_int(value)),
            span_high: None,
            span_low: None,
            levels: [level(250), level(500), level(1000)],
            decimal_point: zero,
            a1_type: "High".to_owned(),
            a1_siren: zero,
            a1_buzzer: zero,
            leds: [zero; 3],
            sensor_fault: zero,
            latitude: Coordinate::Text("0.00".to_owned()),
            longitude: Coordinate::Text("0.00".to_owned()),
            doubtful: false,
            unclear: false,
        };
        let message = Message {
            reading,
            fingerprint: self.messages,
            dup: false,
            retain: false,
            live_raw_message: None,
        };
        let rules = ApplyConfig {
            accept_new: true,
            settings: AlarmSettings {
                offline_after: Duration::from_mins(3),
                alarm_deadband: Decimal::from_int(2),
                alarm_off_delay: Duration::ZERO,
                zero_level: ZeroLevel::Value,
            },
            bounds: Bounds {
                history_max: 1000,
                history_age_ms: 86_400_000,
                log_max: 10_000,
                log_age_ms: 86_400_000,
            },
        };
        let work = Work {
            device: message.reading.device.clone(),
            input: Input::Reading(message),
            raw: Some(b"{}"),
            trace: None,
        };
        for applied in apply(&self.store, &[work], &rules).await {
            applied.expect("committed");
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

    fn redis_cli(&self, arguments: &[&str]) -> String {
        let (host, port) = self.redis.split_once(':').expect("host and port");
        let called = Command::new("redis-cli")
            .args(["-h", host, "-p", port])
            .args(arguments)
            .output()
            .expect("redis-cli comes with redis-server");
        assert!(called.status.success(), "{called:?}");
        String::from_utf8_lossy(&called.stdout).trim().to_owned()
    }
}

/// A long-polling client.
struct Client {
    gateway: SocketAddr,
    sid: String,
    /// Packets that came and were not looked at yet.
    packets: Vec<String>,
}

impl Client {
    async fn connect(gateway: SocketAddr) -> Self {
        let opened = http(gateway, "GET", "", "").await;
        let opened: Json = serde_json::from_str(&opened[1..]).expect("an open packet");
        let sid = opened["sid"].as_str().expect("a session").to_owned();
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

    /// The next packet that says something; the first ping comes at once.
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

    /// The next event of the device path: its name and payload; what tells about the path itself is skipped.
    async fn event(&mut self) -> (String, Json) {
        let event = tokio::time::timeout(LATE, self.next_event()).await;
        event.expect("an event in time")
    }

    async fn next_event(&mut self) -> (String, Json) {
        loop {
            let packet = self.next().await;
            if let Some(event) = packet.strip_prefix("42") {
                let (name, payload): (String, Json) =
                    serde_json::from_str(event).expect("an event");
                if name != "system:status" {
                    return (name, payload);
                }
            } else {
                let (_, answer) = packet.split_at(packet.find('[').expect("an answer"));
                let [answer]: [Json; 1] = serde_json::from_str(answer).expect("an answer");
                return ("ack".to_owned(), answer);
            }
        }
    }

    async fn subscribe(&mut self) -> Json {
        self.post(&format!(r#"421["subscribe:device","{DEVICE}"]"#))
            .await;
        loop {
            let (name, answer) = self.event().await;
            if name == "ack" {
                return answer;
            }
        }
    }
}

async fn http(gateway: SocketAddr, method: &str, query: &str, body: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(gateway).await?;
        let length = body.len();
        let request = format!(
            "{method} /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: gateway\r\n\
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

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + LATE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn position_is_sent_data_first_then_alerts_then_changes() {
    let mut world = World::start(1).await;
    let mut client = Client::connect(world.gateway).await;
    let answer = client.subscribe().await;
    assert_eq!(answer["seq"], 0);
    world.reading(300).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let (name, payload) = client.event().await;
        told.push((name, payload["seq"].clone()));
    }
    let expected = ["device:data", "device:alerts", "device:alerts:changed"];
    assert_eq!(told, expected.map(|name| (name.to_owned(), json!(1))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_subscriptions_leave_no_gap() {
    let mut world = World::start(2).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    for number in 1..=50 {
        if number % 10 == 0 {
            let killed = world.redis_cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            // Later ones may find the next connection not made yet.
            assert!(number > 10 || killed == "1", "{killed}");
        }
        world.reading(number).await;
    }
    for seq in 1..=50 {
        let (name, payload) = client.event().await;
        assert_eq!(
            (name.as_str(), &payload["seq"]),
            ("device:data", &json!(seq))
        );
        assert_eq!(payload.get("snapshot"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_in_the_middle_of_a_stream_leaves_no_gap() {
    let mut world = World::start(3).await;
    world.reading(1).await;
    let gateway = world.gateway;
    // While readings come, clients subscribe one after the other; each must see an unbroken line to the end.
    let clients = async {
        let mut last_seqs = Vec::new();
        for _ in 0..5 {
            let mut client = Client::connect(gateway).await;
            let answer = client.subscribe().await;
            let mut seq = answer["seq"].as_u64().expect("a number");
            while seq < 100 {
                let (name, payload) = client.event().await;
                assert_eq!(
                    (name.as_str(), &payload["seq"]),
                    ("device:data", &json!(seq + 1))
                );
                seq += 1;
            }
            last_seqs.push(seq);
        }
        last_seqs
    };
    let readings = async {
        for _ in 2..=100 {
            world.reading(2).await;
        }
    };
    let (last_seqs, ()) = tokio::join!(clients, readings);
    assert_eq!(last_seqs, [100; 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscription_made_while_redis_is_away_is_answered_when_it_is_back() {
    let mut world = World::start(4).await;
    world.reading(7).await;
    let mut client = Client::connect(world.gateway).await;
    world.server.kill().expect("the server runs");
    world.server.wait().expect("the server ends");
    let gateway = world.gateway;
    client
        .post(&format!(r#"421["subscribe:device","{DEVICE}"]"#))
        .await;
    // The command was taken before a second client's is refused, so it was asked for while Redis was away.
    let mut marker = Client::connect(gateway).await;
    marker.post(r#"421["subscribe:device",5]"#).await;
    assert_eq!(marker.event().await.1["ok"], false);
    let (host, _) = world.redis.split_once(':').expect("host and port");
    world.server = start_redis(host, &world.folder);
    let (name, data) = client.event().await;
    assert_eq!(
        (name.as_str(), &data["snapshot"]),
        ("device:data", &json!(true))
    );
    assert_eq!(data["data"]["sensor_reading"], 7);
    let (name, answer) = client.event().await;
    assert_eq!(
        (name.as_str(), &answer["ok"], &answer["seq"]),
        ("ack", &json!(true), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_every_reading_where_that_is_switched_on() {
    let mut world = World::start_with(5, &["--broadcast-all"]).await;
    let mut client = Client::connect(world.gateway).await;
    // Nobody subscribes, and the device was never heard of.
    for number in 1..=30 {
        if number % 10 == 0 {
            world.redis_cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        world.reading(number).await;
    }
    for seq in 1..=30 {
        let (name, payload) = client.event().await;
        assert_eq!(
            (name.as_str(), &payload["seq"]),
            ("subtronics:data", &json!(seq))
        );
    }
    // Listed by now, so the next ones come live; those who connect later get them, too.
    let mut other = Client::connect(world.gateway).await;
    for seq in 31..=33 {
        world.reading(seq).await;
        for client in [&mut client, &mut other] {
            let (name, payload) = client.event().await;
            assert_eq!(
                (name.as_str(), &payload["data"]["sensor_reading"]),
                ("subtronics:data", &json!(seq))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_is_sent_what_everybody_gets_right_after_the_data() {
    let mut world = World::start_with(6, &["--broadcast-all"]).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    for (seq, value) in [(1, 300), (2, 600)] {
        world.reading(value).await;
        let expected = [
            "device:data",
            "subtronics:data",
            "device:alerts",
            "device:alerts:changed",
        ];
        for expected in expected {
            let (name, payload) = client.event().await;
            assert_eq!((name.as_str(), &payload["seq"]), (expected, &json!(seq)));
        }
    }
}

/// Name, seq, and of data whether it is stale, of the next events.
async fn next_events(client: &mut Client, count: usize) -> Vec<(String, Json, Json)> {
    let mut told = Vec::new();
    for _ in 0..count {
        let (name, payload) = client.event().await;
        told.push((name, payload["seq"].clone(), payload["stale"].clone()));
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retired_device_is_shown_as_stale_once_and_its_successor_follows_without_a_gap() {
    let mut world = World::start(7).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    world.reading(300).await;
    for expected in ["device:data", "device:alerts", "device:alerts:changed"] {
        assert_eq!(client.event().await.0, expected);
    }
    world.retire().await;
    let (name, changes) = client.event().await;
    assert_eq!(
        (name.as_str(), &changes["seq"]),
        ("device:alerts:changed", &json!(2))
    );
    assert_eq!(changes["alerts"][0]["change"], "retired");
    assert_eq!(changes["alerts"][0]["state"], "cleared");
    let (name, data) = client.event().await;
    assert_eq!((name.as_str(), &data["seq"]), ("device:data", &json!(1)));
    assert_eq!(data["stale"], true);
    assert_eq!(data["data"]["alarm_status"], "ALARM");
    assert_eq!(data["data"]["data_quality"], "offline");

    // Who comes now gets the answer of a device never heard of, and with an old position no picture that is invented.
    let mut late = Client::connect(world.gateway).await;
    let answer = late.subscribe().await;
    assert_eq!((&answer["ok"], &answer["seq"]), (&json!(true), &json!(0)));
    let since = json!({"deviceId": DEVICE, "since": {"epoch": changes["epoch"], "seq": 1}});
    let mut old = Client::connect(world.gateway).await;
    old.post(&format!(r#"421["subscribe:device",{since}]"#))
        .await;
    let (name, none) = old.event().await;
    assert_eq!(
        (name.as_str(), &none["alerts"]),
        ("device:alerts", &json!([]))
    );
    assert_eq!(none["snapshot"], true);
    let (name, answer) = old.event().await;
    assert_eq!(
        (name.as_str(), &answer["recovered"]),
        ("ack", &json!(false))
    );
    assert_eq!(answer["alarmsRecovered"], false);

    // Nothing more of the old one comes before the new one, for whom it is a reading like any other.
    world.reading(10).await;
    let told = next_events(&mut client, 1).await;
    assert_eq!(told, [("device:data".to_owned(), json!(3), Json::Null)]);
    for other in [&mut late, &mut old] {
        let (name, data) = other.event().await;
        assert_eq!((name.as_str(), &data["seq"]), ("device:data", &json!(3)));
        assert_eq!(data["snapshot"], true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retirement_that_was_not_heard_is_shown_after_the_gap() {
    let mut world = World::start(8).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    world.reading(10).await;
    assert_eq!(client.event().await.0, "device:data");
    // What is published in between is lost with the connection or not: either way the end is told, once.
    world.redis_cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    world.retire().await;
    let (name, data) = loop {
        let (name, payload) = client.event().await;
        // The changes live, or that no alarm is open, after the gap.
        if !name.starts_with("device:alerts") {
            break (name, payload);
        }
    };
    assert_eq!((name.as_str(), &data["seq"]), ("device:data", &json!(1)));
    assert_eq!(data["stale"], true);
    assert_eq!(data["data"]["data_quality"], "offline");
    world.reading(20).await;
    let (name, data) = client.event().await;
    assert_eq!((name.as_str(), &data["seq"]), ("device:data", &json!(3)));
    assert_eq!(data["data"]["sensor_reading"], 20);
}

#[tokio::test]
async fn a_subscriber_that_does_not_hear_the_canary_is_deaf_although_it_answers() {
    let world = World::start(40).await;
    let heard = Arc::new(AtomicBool::new(false));
    let receiver = receiver(Arc::from([]), CancellationToken::new(), Arc::clone(&heard));
    let subscriber = connect(&world.store, receiver).await.expect("subscribes");
    let mut connection = subscriber.connection;
    let (observation, observations) = watch::channel(RedisObservation::default());
    // The key moves, and whoever watches it sees it.
    let sing = async || {
        world.store.beat().await.expect("sung");
        observation.send_modify(|observation| observation.canary += 1);
    };
    sing().await;
    eventually("the canary is heard", async || {
        heard.load(Ordering::Acquire)
    })
    .await;
    redis::cmd("SUNSUBSCRIBE")
        .arg(CANARY_CHANNEL)
        .exec_async(&mut connection)
        .await
        .expect("connected, answering");
    let silent = Instant::now();
    let singing = async {
        loop {
            sing().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = until_deaf(observations, &heard) => {}
        () = singing => {}
        () = tokio::time::sleep(LATE) => panic!("never found out"),
    }
    assert!(silent.elapsed() >= Duration::from_secs(3));
    redis::cmd("PING")
        .exec_async(&mut connection)
        .await
        .expect("still answering");
}

//! Subscriptions in Redis that are lost, refused or not needed.

use super::*;

/// A gateway whose Redis user may lose the right to subscribe.
pub(super) struct LimitedWorld {
    pub(super) world: World,
}

impl LimitedWorld {
    pub(super) async fn start() -> Self {
        let redis = start_redis().await;
        let every_right = ["on", ">pw", "~*", "&*", "+@all"];
        set_user(&redis, &every_right);
        let address = format!("gw:pw@{}", redis.address());
        Self {
            world: World::start_at(redis, &address, &[]).await,
        }
    }

    /// Lets the gateway subscribe to the channels of these devices only, and closes its subscriber connection.
    pub(super) fn allow_only(&self, devices: &[&str]) {
        let mut rights = vec!["resetchannels".to_owned(), format!("&{CANARY_CHANNEL}")];
        for device in devices {
            let device = device.parse().expect("a serial");
            rights.push(format!("&{}", self.world.store.channel(&device)));
        }
        let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
        set_user(&self.world.redis, &rights);
        self.world.cut_subscribers();
    }

    pub(super) fn allow_all(&self) {
        set_user(&self.world.redis, &["allchannels"]);
    }

    async fn readyz(&self) -> Json {
        let body = http_to(self.world.gateway, "GET", "/readyz", "").await;
        serde_json::from_str(&body).expect("a status")
    }
}

fn set_user(redis: &OwnRedis, rights: &[&str]) {
    let command = ["ACL", "SETUSER", "gw"];
    let answer = redis_cli(redis, &[&command[..], rights].concat());
    assert_eq!(answer, "OK");
}

fn is_unconfirmed(status: &Json) -> bool {
    status["dependencies"]["subscriptions"]["ok"] == false
}

fn is_confirmed(status: &Json) -> bool {
    status["dependencies"]["subscriptions"]["ok"] == true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_every_watched_device_is_confirmed_again_the_replica_is_degraded_and_says_so() {
    let mut limited = LimitedWorld::start().await;
    let gateway = limited.world.gateway;
    limited.world.reading(1).await;
    let mut client = Client::connect(gateway).await;
    client.subscribe().await;
    let mut observer = Client::connect(gateway).await;

    limited.allow_only(&[]);
    let status = observer.status(is_unconfirmed).await;
    assert_eq!(status["dependencies"]["redis"]["ok"], true, "{status}");
    let reason = &status["dependencies"]["subscriptions"]["reason"];
    assert!(reason.is_string(), "{status}");
    let readiness = limited.readyz().await;
    assert_eq!(readiness["status"], "degraded", "{readiness}");
    assert!(is_unconfirmed(&readiness), "{readiness}");
    assert_eq!(limited.world.metric("gateway_devices_unconfirmed").await, 1);

    // Events that are published meanwhile are caught up.
    limited.world.reading(2).await;
    limited.world.reading(3).await;
    limited.allow_all();
    for seq in [2, 3] {
        let data = client.expect(DEVICE_DATA, seq).await;
        assert_eq!(data.get("snapshot"), None);
    }
    observer.status(is_confirmed).await;
    eventually("nothing is unconfirmed", async || {
        limited.world.metric("gateway_devices_unconfirmed").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_fails_does_not_undo_the_others() {
    const OTHER: &str = "OTSM-0115";
    let mut limited = LimitedWorld::start().await;
    let gateway = limited.world.gateway;
    for device in [DEVICE, OTHER] {
        limited.world.reading_of(device, 1).await;
    }
    let mut refused = Client::connect(gateway).await;
    refused.subscribe_to(DEVICE).await;
    let mut confirmed = Client::connect(gateway).await;
    confirmed.subscribe_to(OTHER).await;

    limited.allow_only(&[OTHER]);
    limited.world.reading_of(OTHER, 2).await;
    confirmed.expect(DEVICE_DATA, 2).await;
    let lost = limited.world.metric("gateway_subscriber_lost_total").await;
    // Meanwhile the subscription of the first device is refused again and again.
    let tries = async || {
        limited
            .world
            .metric("gateway_subscriptions_failed_total")
            .await
    };
    let before = tries().await;
    eventually("it was refused several times", async || {
        tries().await >= before + 3
    })
    .await;
    assert_eq!(limited.world.metric("gateway_devices_unconfirmed").await, 1);
    limited.world.reading_of(OTHER, 3).await;
    confirmed.expect(DEVICE_DATA, 3).await;
    limited.world.reading_of(DEVICE, 2).await;
    assert_eq!(
        limited.world.metric("gateway_subscriber_lost_total").await,
        lost
    );
    limited.allow_all();
    refused.expect(DEVICE_DATA, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_exist_gets_no_channel_until_its_first_reading() {
    let mut world = World::start().await;
    world.reading_of("OTSM-0115", 1).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe_to("OTSM-0115").await;
    let answer = client.subscribe().await;
    assert_eq!((&answer["ok"], &answer["seq"]), (&json!(true), &json!(0)));
    assert_eq!(world.metric("gateway_devices_unlisted").await, 1);
    assert!(!is_subscribed(&world, DEVICE));
    assert!(is_subscribed(&world, "OTSM-0115"));

    // Every reading from the first one on arrives, in order: those before the subscription, and those after it.
    for value in 1..=20 {
        world.reading(value).await;
    }
    for seq in 1..=20 {
        let data = client.expect(DEVICE_DATA, seq).await;
        assert_eq!(data.get("snapshot"), None);
    }
    assert!(is_subscribed(&world, DEVICE));
    assert_eq!(world.metric("gateway_devices_unlisted").await, 0);
    world.reading(21).await;
    client.expect(DEVICE_DATA, 21).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device_is_found_after_redis_lost_its_data() {
    let mut world = World::start().await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    // The numbers of events begin again, so the next ones are not above those that the gateway has seen.
    for _ in 0..5 {
        world.reading_of("OTSM-0115", 1).await;
    }
    redis_cli(&world.redis, &["FLUSHALL"]);
    eventually("there are epochs again", async || {
        world.store.survey().await.is_ok()
    })
    .await;
    world.reading(1).await;
    client.expect(DEVICE_DATA, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nobody_waits_for_any_more_is_forgotten() {
    let world = World::start().await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    assert_eq!(world.metric("gateway_devices_unlisted").await, 1);
    client
        .post(&format!(r#"421["unsubscribe:device","{DEVICE}"]"#))
        .await;
    assert_eq!(client.event().await.1["ok"], true);
    assert_eq!(world.metric("gateway_devices_unlisted").await, 0);
}

/// Returns whether any client of Redis is subscribed to the channel of this device.
fn is_subscribed(world: &World, device: &str) -> bool {
    let channel = world.store.channel(&device.parse().expect("a serial"));
    let channels = redis_cli(&world.redis, &["PUBSUB", "SHARDCHANNELS"]);
    channels.lines().any(|line| line == channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_of_watched_devices_further_ones_are_refused() {
    let mut world = World::start_on(start_redis().await, &["--max-watched=2"]).await;
    world
        .readings_of(&["A", "B", "C"].map(str::to_owned), 1)
        .await;
    let mut client = Client::connect(world.gateway).await;
    for device in ["A", "B"] {
        assert_eq!(client.subscribe_to(device).await["ok"], true);
    }
    let refusal = client.subscribe_to("C").await;
    assert_eq!(refusal["ok"], false, "{refusal}");
    assert_eq!(refusal["error"]["code"], "limit", "{refusal}");
    assert_eq!(world.metric("gateway_commands_refused_total").await, 1);
    // Devices that are watched already are not refused.
    let mut other = Client::connect(world.gateway).await;
    assert_eq!(other.subscribe_to("A").await["ok"], true);
    assert_eq!(world.metric("gateway_devices_watched").await, 2);

    client.post(r#"421["unsubscribe:device","B"]"#).await;
    assert_eq!(client.event().await.1["ok"], true);
    assert_eq!(other.subscribe_to("C").await["ok"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_of_one_address_watch_a_bounded_number_of_devices_together() {
    let flags = ["--watched-per-address=1"];
    let mut world = World::start_on(start_redis().await, &flags).await;
    world.readings_of(&["A", "B"].map(str::to_owned), 1).await;
    let mut client = Client::connect(world.gateway).await;
    assert_eq!(client.subscribe_to("A").await["ok"], true);
    let mut other = Client::connect(world.gateway).await;
    let refusal = other.subscribe_to("B").await;
    assert_eq!(refusal["error"]["code"], "limit", "{refusal}");
    assert_eq!(other.subscribe_to("A").await["ok"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_not_listed_never_keep_anybody_from_a_device() {
    // All clients of one address have one place for such a name.
    let flags = ["--max-watched=3", "--max-unlisted=4"];
    let mut world = World::start_on(start_redis().await, &flags).await;
    let devices = ["A", "B", "C"].map(str::to_owned);
    world.readings_of(&devices, 1).await;
    let mut client = Client::connect(world.gateway).await;
    assert_eq!(client.subscribe_to("X1").await["ok"], true);
    for name in ["X2", "X3"] {
        let refusal = client.subscribe_to(name).await;
        assert_eq!(refusal["error"]["code"], "limit", "{refusal}");
    }
    assert_eq!(world.metric("gateway_commands_refused_total").await, 2);
    assert_eq!(world.metric("gateway_devices_watched").await, 1);
    assert_eq!(world.metric("gateway_devices_unlisted").await, 1);
    for device in &devices {
        assert_eq!(client.subscribe_to(device).await["ok"], true);
    }
    // The name becomes a device, so another name may have its place.
    world.reading_of("X1", 2).await;
    eventually("the first reading was found", async || {
        world.metric("gateway_devices_unlisted").await == 0
    })
    .await;
    let mut other = Client::connect(world.gateway).await;
    assert_eq!(other.subscribe_to("X1").await["ok"], true);
    for device in &devices {
        client
            .post(&format!(r#"421["unsubscribe:device","{device}"]"#))
            .await;
        while client.event().await.0 != "ack" {}
    }
    let mut last = Client::connect(world.gateway).await;
    for device in ["A", "X2"] {
        let subscribed = last.subscribe_to(device).await;
        assert_eq!(subscribed["ok"], true, "{device}: {subscribed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_connection_many_devices_are_subscribed_to_again_and_none_misses_an_event() {
    const DEVICES: usize = 1000;
    let mut world = World::start().await;
    let names: Vec<String> = (0..DEVICES).map(|number| format!("D{number}")).collect();
    world.readings_of(&names, 1).await;
    let mut client = Client::connect(world.gateway).await;
    for names in names.chunks(100) {
        let packets = names
            .iter()
            .map(|name| format!(r#"421["subscribe:device","{name}"]"#));
        client
            .post(&packets.collect::<Vec<_>>().join("\u{1e}"))
            .await;
        // The reply comes after the snapshot of each device.
        let mut replies = 0;
        while replies < names.len() {
            replies += usize::from(client.event().await.0 == "ack");
        }
    }
    world.cut_every_subscriber().await;
    world.readings_of(&names, 2).await;
    let mut missing: HashSet<String> = names.into_iter().collect();
    while !missing.is_empty() {
        let (name, data) = client.event().await;
        assert_eq!((name.as_str(), &data["seq"]), (DEVICE_DATA, &json!(2)));
        assert!(missing.remove(data["deviceId"].as_str().expect("an id")));
    }
    eventually("nothing is unconfirmed", async || {
        world.metric("gateway_devices_unconfirmed").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_cannot_be_read_does_not_keep_the_replica_degraded() {
    let mut world = World::start().await;
    world.reading(1).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    let key = redis_cli(&world.redis, &["KEYS", &format!("*:device:{DEVICE}")]);
    redis_cli(&world.redis, &["HSET", &key, "latest", "not a reading"]);
    world.cut_every_subscriber().await;
    let shards = shard_count() as u64;
    let lost = async || world.metric("gateway_subscriber_lost_total").await == shards;
    eventually("the loss is noticed", lost).await;
    let unconfirmed = async || world.metric("gateway_devices_unconfirmed").await;
    eventually("nothing is unconfirmed", async || unconfirmed().await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_goes_silent_while_it_is_unconfirmed_is_shown_as_stale() {
    let limited = LimitedWorld::start().await;
    let mut client = Client::connect(limited.world.gateway).await;
    let reading = test_setup::reading(DEVICE, 1);
    let silence = Duration::from_secs(3);
    test_setup::commit(&limited.world.store, reading, b"{}", 1, silence).await;
    client.send_subscription().await;
    let snapshot = client.expect(DEVICE_DATA, 1).await;
    client.expect("ack", 1).await;
    limited.allow_only(&[]);
    if snapshot["data"]["data_quality"] == "offline" {
        // This machine is so slow that the device was silent for too long before. It was shown as such.
        return;
    }
    let data = client.expect(DEVICE_DATA, 1).await;
    assert_eq!(data["stale"], true, "{data}");
    assert_eq!(data["data"]["data_quality"], "offline", "{data}");
    eventually("it is unconfirmed", async || {
        limited.world.metric("gateway_devices_unconfirmed").await == 1
    })
    .await;
}

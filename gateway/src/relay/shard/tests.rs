//! A shard on a Redis of its own, whose steps the test takes one by one: what happens in which order does not depend on how busy the
//! machine is.

use futures_util::FutureExt;
use serde_json::Value as Json;
use shared::device::DeviceId;
use shared::metrics::Meters;
use shared::trace::SpanRecorder;
use socketioxide::socket::Sid;
use test_support::eventually::{LATE, holds as eventually};
use test_support::frames;
use test_support::server::OwnRedis;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::client::{Client, ClientContext};
use crate::client_address::ClientAddress;
use crate::clients::Clients;
use crate::event_names::DEVICE_DATA;
use crate::interest::Linger;
use crate::metrics::Metrics;
use crate::relay::command::Join;
use crate::relay::spans::EventSpans;
use crate::test_setup::{self, start_redis};
use crate::watches::WatchLimits;
use crate::websocket::writer::tests::pair;

const DEVICE: &str = "OTSM-0114";

/// A shard, and a client of it.
struct World {
    // Stops with the test.
    _redis: OwnRedis,
    store: Store,
    shard: Shard,
    metrics: Arc<Metrics>,
    client: Arc<Client>,
    peer: TcpStream,
    received: Vec<u8>,
    messages: u64,
}

impl World {
    async fn start() -> Self {
        let redis = start_redis().await;
        let config = test_setup::config(&redis.address(), &["--coalesce=0s"]);
        let store = test_setup::store(&config);
        eventually("Redis answers", async || store.ping().await.is_ok()).await;
        let metrics = Metrics::new(&Meters::local("gateway").expect("meters"));
        let clients = Clients::new(ClientContext::new(&config, Arc::clone(&metrics.client)));
        let (writer, peer) = pair().await;
        let link = crate::client::link::Link::WebSocket(Arc::new(writer));
        let client = clients.create(Sid::new(), link, test_setup::anyone());
        let fan_out = FanOutContext {
            clients,
            broadcast_all: false,
            clock: store.clock(),
            spans: EventSpans::new(SpanRecorder::disabled()),
            metrics: Arc::clone(&metrics.relay),
        };
        let inputs = ShardInputs {
            commands: mpsc::channel(1).1,
            observations: watch::channel(RedisObservation::default()).1,
            unlisted: UnlistedDevices::new(&store),
            watches: Watches::new(WatchLimits::of(&config), test_setup::enforcement(&[])),
            socket_metrics: Arc::clone(&metrics.socket),
        };
        let interest = Interest::new(Linger {
            time: Duration::ZERO,
            max: 1,
        });
        let counts = Arc::new([ShardWatchCounts::default()]);
        let shard = Shard::new(0, store.clone(), fan_out, interest, inputs, counts);
        Self {
            _redis: redis,
            store,
            shard,
            metrics,
            client,
            peer,
            received: Vec::new(),
            messages: 0,
        }
    }

    /// Commits a reading as ingest would, which publishes it.
    async fn reading(&mut self) {
        self.messages += 1;
        let reading = test_setup::reading(DEVICE, 10);
        let silence = Duration::from_mins(3);
        test_setup::commit(&self.store, reading, b"{}", self.messages, silence).await;
    }

    async fn subscribe(&mut self) {
        let device: DeviceId = DEVICE.parse().expect("a serial");
        let channel: Channel = self.store.channel(&device).into();
        let watches = self.shard.inputs.watches.clone();
        let watch = watches.begin(&device, ClientAddress::unknown()).await;
        let join = Join {
            client: Arc::clone(&self.client),
            device,
            since: None,
            changes: false,
            ack: None,
            _reply: self.client.pending_replies().begin(),
            watch: Arc::new(watch.expect("there is room")),
        };
        self.shard.carry_out(ShardCommand::Join { channel, join });
    }

    /// Takes steps of the shard until the client has an event. Returns its payload.
    async fn next_event(&mut self) -> Json {
        timeout(LATE, async {
            loop {
                if let Some(event) = self.take_event() {
                    return event;
                }
                tokio::select! {
                    () = step(&mut self.shard) => {}
                    read = self.peer.read_buf(&mut self.received) => {
                        assert_ne!(read.expect("the connection stays"), 0);
                    }
                }
            }
        })
        .await
        .expect("an event in time")
    }

    /// Takes the next event out of what the client has received.
    fn take_event(&mut self) -> Option<Json> {
        let frame = frames::read(&self.received).expect("a frame");
        let (_, payload, length) = frame?;
        let text = std::str::from_utf8(payload).expect("a text");
        let event = text.strip_prefix("42").expect("an event");
        let (name, body): (String, Json) = serde_json::from_str(event).expect("an event");
        assert_eq!(name, DEVICE_DATA);
        self.received.drain(..length);
        Some(body)
    }

    /// Asserts that the next event is this reading, as it was published.
    async fn expect(&mut self, seq: u64) {
        let event = self.next_event().await;
        assert_eq!(event["seq"], seq, "{event}");
        assert_eq!(event.get("snapshot"), None, "{event}");
    }

    /// Handles everything that was published before this call, as a shard for which more and more arrives, for longer than it may
    /// lag.
    async fn handle_behind(&mut self) {
        // Published behind everything else.
        self.store.increment_canary().await.expect("published");
        let handled = async {
            while !self.open_link().take_has_canary_arrived() {
                let event = self.shard.link.ready().await;
                self.open_link().fall_behind();
                self.shard.handle_link(event);
            }
        };
        timeout(LATE, handled).await.expect("the canary in time");
    }

    fn open_link(&mut self) -> &mut link::OpenLink {
        self.shard.link.open_mut().expect("it is open")
    }
}

/// Does what the shard's task does next.
async fn step(shard: &mut Shard) {
    shard.begin_work();
    tokio::select! {
        event = shard.link.ready() => {
            shard.handle_link(event);
        }
        Some(completed) = shard.work.next() => shard.complete(completed),
    }
}

#[tokio::test]
async fn what_is_published_faster_than_it_can_be_handled_is_skipped_and_caught_up() {
    let mut world = World::start().await;
    world.reading().await;
    world.subscribe().await;
    assert_eq!(world.next_event().await["snapshot"], true);
    world.reading().await;
    world.expect(2).await;

    let relay = Arc::clone(&world.metrics.relay);
    assert_eq!((relay.events.get(), relay.overruns.get()), (1, 0));
    world.handle_behind().await;
    for _ in 0..3 {
        world.reading().await;
    }
    world.handle_behind().await;
    // They were dropped.
    assert_eq!((relay.events.get(), relay.overruns.get()), (1, 1));

    // Nothing more waits for a moment.
    while let Some(event) = world.shard.link.ready().now_or_never() {
        world.shard.handle_link(event);
    }
    world.reading().await;
    for seq in 3..=6 {
        world.expect(seq).await;
    }
    // What is published now is sent at once.
    let handled = relay.events.get();
    world.reading().await;
    world.expect(7).await;
    assert_eq!((relay.events.get(), relay.overruns.get()), (handled + 1, 1));
}

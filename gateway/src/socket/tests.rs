use shared::clock::SystemClock;
use shared::lifecycle::Lifecycle;
use shared::metrics::Meters;
use shared::store::{ServiceRole, Store};
use tokio_util::sync::CancellationToken;

use super::context::ConnectionLimits;
use super::*;
use crate::access::expiry::TokenExpiry;
use crate::client::ClientContext;
use crate::clients::Clients;
use crate::feeds::Feeds;
use crate::interest::Linger;
use crate::metrics::Metrics;
use crate::monitor::Monitor;
use crate::packet_budget::PacketRate;
use crate::relay::{Relay, RelayConfig};
use crate::status::StatusHandle;
use crate::test_setup;
use crate::watches::{WatchLimits, Watches};

#[tokio::test]
async fn the_service_is_freed_with_its_last_handle() {
    let flags = [
        "gateway",
        "--allow-anonymous",
        "--redis-url=redis://127.0.0.1",
    ];
    let config = Config::try_from_args(flags).unwrap();
    let store = Store::new(
        config.redis.clone(),
        ServiceRole::Gateway,
        Arc::new(SystemClock::default()),
    );
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let clients = Clients::new(ClientContext::new(&config, Arc::clone(&metrics.client)));
    let enforcement = test_setup::enforcement(&[]);
    let watches = Watches::new(WatchLimits::of(&config), enforcement.clone());
    let relay_config = RelayConfig {
        watches: watches.clone(),
        linger: Linger {
            time: config.linger,
            max: config.linger_max,
        },
        broadcast_all: false,
        recorder: shared::trace::SpanRecorder::disabled(),
    };
    // The tasks of the relay end at once, so nothing is requested from Redis.
    let finish = CancellationToken::new();
    finish.cancel();
    let (_, observations) =
        tokio::sync::watch::channel(shared::redis_watch::RedisObservation::default());
    let relay = Relay::start(
        &store,
        &clients,
        &relay_config,
        &metrics,
        &observations,
        &Lifecycle::new(),
        &finish,
    );
    let feeds = Feeds::start(&store, false, &Lifecycle::new(), &finish);
    let status = StatusHandle::new(std::time::Instant::now());
    let monitor = Monitor::new(status, store.clock());
    let context = ConnectionContext {
        access: test_setup::access(&config),
        audit: test_setup::audit(&store),
        token_expiry: TokenExpiry::new(&config.tokens, store.clock()),
        clients,
        relay,
        feeds,
        monitor,
        watches,
        admission: test_setup::admission(&config),
        metrics: Arc::clone(&metrics.socket),
        lifecycle: Lifecycle::new(),
        serving: CancellationToken::new(),
        limits: ConnectionLimits::new(&config),
        compress: config.compress,
    };
    let places = Arc::new(tokio::sync::Semaphore::new(1));
    let sessions = Sessions::new(places, 1, 16, PacketRate::new(100, 100), enforcement);
    let sockets = Sockets::new(&config, context, sessions);
    let inner = Arc::downgrade(&sockets.inner);
    drop(sockets);
    assert!(inner.upgrade().is_none());
}

#[test]
fn a_slim_request_keeps_what_the_library_reads() {
    let request = Request::builder()
        .uri("/socket.io/?EIO=4&transport=polling")
        .header(CONTENT_TYPE, "text/plain")
        .header("cookie", "long")
        .body(Body::empty())
        .unwrap();
    let slim = slim(request);
    assert_eq!(slim.headers().len(), 1);
    assert_eq!(slim.headers()[CONTENT_TYPE], "text/plain");
    assert_eq!(slim.uri().query(), Some("EIO=4&transport=polling"));
}

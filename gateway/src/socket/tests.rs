use shared::clock::SystemClock;
use shared::lifecycle::Lifecycle;
use shared::metrics::Meters;
use shared::store::Store;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::lanes::Limits;
use crate::relay;
use crate::status::StatusHandle;

#[tokio::test]
async fn service_is_freed_with_its_last_handle() {
    let flags = [
        "gateway",
        "--allow-anonymous",
        "--redis-url=redis://127.0.0.1",
    ];
    let config = Config::try_from_args(flags).unwrap();
    let store = Store::new(config.redis.clone(), Arc::new(SystemClock::default()));
    let limits = Limits {
        packets: config.outbox_packets,
        bytes: config.outbox_bytes,
        deadline: config.alarm_deadline,
    };
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let clients = Clients::new(limits, metrics);
    let settings = relay::Settings {
        linger: config.linger,
        broadcast_all: false,
        traces: shared::trace::SpanRecorder::disabled(),
    };
    // Its tasks end at once: nothing is asked of Redis.
    let finish = CancellationToken::new();
    finish.cancel();
    let (_, observations) =
        tokio::sync::watch::channel(shared::redis_watch::RedisObservation::default());
    let relay = Relay::start(
        &store,
        &clients,
        &settings,
        &observations,
        &Lifecycle::new(),
        &finish,
    );
    let status = StatusHandle::new(std::time::Instant::now());
    let monitor = Monitor::new(status, store.clock());
    let sockets = Sockets::new(&config, clients, relay, monitor);
    let inner = Arc::downgrade(&sockets.inner);
    drop(sockets);
    assert!(inner.upgrade().is_none());
}

#[test]
fn query_value_is_found_whole() {
    let query = Some("EIO=4&transport=polling&sid=abc");
    assert_eq!(query_value(query, "sid"), Some("abc"));
    assert_eq!(query_value(query, "transport"), Some("polling"));
    assert_eq!(query_value(query, "id"), None);
    assert_eq!(query_value(None, "sid"), None);
}

#[test]
fn slim_request_keeps_what_the_library_reads() {
    let request = Request::builder()
        .uri("/socket.io/?EIO=4&transport=websocket")
        .header(SEC_WEBSOCKET_KEY, "key")
        .header("cookie", "long")
        .body(Body::empty())
        .unwrap();
    let slim = slim(request);
    assert_eq!(slim.headers().len(), 1);
    assert_eq!(slim.headers()[SEC_WEBSOCKET_KEY], "key");
    assert_eq!(slim.uri().query(), Some("EIO=4&transport=websocket"));
}

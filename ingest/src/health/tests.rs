use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::mqtt::state::ConnectionEvent;

/// Status code and body of one GET.
async fn get(address: SocketAddr, path: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (code, serde_json::from_str(body).unwrap())
}

/// Serves the probes at a free port.
fn serve_probes(
    broker: BrokerStatus,
    redis: impl Fn() -> DependencyStatus + Send + Sync + 'static,
    warning: impl Fn() -> Warning + Send + Sync + 'static,
    lifecycle: &Lifecycle,
) -> SocketAddr {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(broker, redis, warning, lifecycle);
    serve(listener, router, lifecycle);
    address
}

#[tokio::test]
async fn readiness_needs_redis_and_the_subscription() {
    let lifecycle = Lifecycle::new();
    let (reporter, broker) = BrokerStatus::new();
    let redis_ok = Arc::new(AtomicBool::new(false));
    let redis = Arc::clone(&redis_ok);
    let redis = move || DependencyStatus::new(redis.load(Ordering::Relaxed), None);
    let is_quiet = Arc::new(AtomicBool::new(false));
    let quiet = Arc::clone(&is_quiet);
    let no_places = Arc::new(AtomicBool::new(false));
    let has_no_places = Arc::clone(&no_places);
    let warning = move || {
        let no_places = has_no_places.load(Ordering::Relaxed);
        Warning {
            is_quiet: quiet.load(Ordering::Relaxed),
            places: if no_places {
                PlacesLeft::NoneLeft
            } else {
                PlacesLeft::ForAll
            },
        }
    };
    let address = serve_probes(broker, redis, warning, &lifecycle);

    assert_eq!(get(address, "/livez").await, (200, json!({"status": "ok"})));
    let (code, body) = get(address, "/readyz").await;
    let down = json!({"ok": false, "age_ms": null});
    let expected = json!({"status": "unready", "dependencies": {"redis": down, "broker": down}});
    assert_eq!((code, body), (503, expected));

    reporter.apply(ConnectionEvent::ConnAck);
    reporter.apply(ConnectionEvent::SubAck);
    assert_eq!(get(address, "/readyz").await.0, 503);
    redis_ok.store(true, Ordering::Relaxed);
    let (code, body) = get(address, "/readyz").await;
    assert_eq!((code, &body["status"]), (200, &json!("ok")));
    assert_eq!(
        body["dependencies"]["broker"],
        json!({"ok": true, "age_ms": 0})
    );

    is_quiet.store(true, Ordering::Relaxed);
    let (code, body) = get(address, "/readyz").await;
    assert_eq!((code, &body["status"]), (200, &json!("degraded")));
    let expected = json!({"ok": true, "age_ms": 0, "reason": QUIET});
    assert_eq!(body["dependencies"]["broker"], expected);

    no_places.store(true, Ordering::Relaxed);
    let (code, body) = get(address, "/readyz").await;
    assert_eq!((code, &body["status"]), (200, &json!("degraded")));
    let redis = &body["dependencies"]["redis"];
    assert_eq!(
        (&redis["ok"], &redis["reason"]),
        (&json!(true), &json!(NO_PLACES))
    );

    reporter.apply(ConnectionEvent::TakenOver);
    let (code, body) = get(address, "/readyz").await;
    assert_eq!(code, 503);
    assert!(body["dependencies"]["broker"]["age_ms"].is_u64());

    let (code, body) = get(address, "/nothing").await;
    let text = "no such path: /nothing";
    assert_eq!(
        (code, body),
        (404, json!({"error": text, "error_message": text}))
    );

    lifecycle.request_stop();
    lifecycle.wait(Duration::from_mins(1)).await.unwrap();
}

#[tokio::test]
async fn the_error_of_a_port_in_use_names_the_address() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let text = bind(address).unwrap_err().to_string();
    assert_eq!(text, format!("cannot listen on `{address}`"));
}

#[tokio::test]
async fn idle_connections_do_not_keep_probes_waiting() {
    let lifecycle = Lifecycle::new();
    let (_reporter, broker) = BrokerStatus::new();
    let redis = || DependencyStatus::new(true, None);
    let address = serve_probes(broker, redis, Warning::default, &lifecycle);
    // If each kept its place for its deadline, the probe would wait for more than a minute.
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS * 8 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let probe = timeout(test_support::eventually::LATE, get(address, "/livez")).await;
    assert_eq!(probe.unwrap().0, 200);
    drop(idle);
}

#[tokio::test]
async fn a_full_redis_is_degraded_and_says_why() {
    let lifecycle = Lifecycle::new();
    let (reporter, broker) = BrokerStatus::new();
    reporter.apply(ConnectionEvent::ConnAck);
    reporter.apply(ConnectionEvent::SubAck);
    let redis =
        || DependencyStatus::new(true, Some(Duration::ZERO)).with_reason(Some("redis full"));
    let address = serve_probes(broker, redis, Warning::default, &lifecycle);
    let (code, body) = get(address, "/readyz").await;
    assert_eq!((code, &body["status"]), (200, &json!("degraded")));
    let expected = json!({"ok": true, "age_ms": 0, "reason": "redis full"});
    assert_eq!(body["dependencies"]["redis"], expected);
}

#[test]
fn each_state_of_the_places_has_its_own_words() {
    let of = |places| {
        let warning = Warning {
            places,
            ..Warning::default()
        };
        warning.of_places()
    };
    assert_eq!(of(PlacesLeft::ForAll), None);
    let for_danger = of(PlacesLeft::ForDanger).unwrap();
    assert!(for_danger.contains("unless they show a danger"));
    assert!(
        of(PlacesLeft::NoneLeft)
            .unwrap()
            .contains("also those that show a danger")
    );
}

#[test]
fn a_redis_with_two_reasons_says_both() {
    let full = DependencyStatus::new(true, None).with_reason(Some("redis full"));
    let both = full.with_more(PLACES_UNUSABLE).reason.unwrap();
    assert_eq!(both, format!("redis full; {PLACES_UNUSABLE}"));
    let key = shared::keys::ADMITTED;
    assert!(both.contains(key), "{key} is not named: {both}");
}

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tower::ServiceExt;

use super::*;
use crate::rest::{Needs, probe_routes, routes};
use crate::test_setup;

#[test]
fn every_route_with_a_cost_or_a_purpose_exists() {
    let routes = routes();
    let exists = |path: &str| routes.iter().any(|(_, route, ..)| *route == path);
    assert!(exists(ACKNOWLEDGE));
    for (path, cost) in HEAVY {
        assert!(exists(path) && cost > USUAL, "{path}");
    }
}

/// Sends a request and returns its status and `Retry-After`.
async fn send(router: &Router, path: &str, client: [u8; 4]) -> (StatusCode, String) {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().unwrap();
    let address = ClientAddress::new(client.into());
    request.extensions_mut().insert(address);
    let answer = router.clone().oneshot(request).await.unwrap();
    let wait = answer.headers().get("retry-after");
    let wait = wait.map(|wait| wait.to_str().unwrap().to_owned());
    (answer.status(), wait.unwrap_or_default())
}

#[tokio::test]
async fn only_the_client_that_asks_for_too_much_is_refused_and_probes_are_free() {
    const ONE: [u8; 4] = [192, 0, 2, 1];
    const OTHER: [u8; 4] = [192, 0, 2, 2];
    let config = test_setup::config("127.0.0.1:6379", &["--request-rate=10"]);
    let admission = test_setup::admission(&config);
    let mut router = Router::new();
    for (_, path, ..) in routes().iter().chain(&probe_routes(Needs::Nothing)) {
        if !path.ends_with("acknowledge") && *path != "/api/devices/{deviceId}" {
            router = router.route(path, get(async || "answered"));
        }
    }
    let router = router
        .fallback(async || "unknown")
        .layer(from_fn_with_state(admission, admit));
    let mut lists = 0;
    let (status, wait) = loop {
        let answer = send(&router, "/api/devices", ONE).await;
        if answer.0 != 200 {
            break answer;
        }
        lists += 1;
    };
    // Nine tenths of a burst of 100, at 20 each; the clock goes on meanwhile.
    assert!((4..=5).contains(&lists), "{lists}");
    assert_eq!(status, 429);
    assert!(wait.parse::<u64>().unwrap() >= 1, "{wait}");
    for path in ["/livez", "/readyz", "/metrics", "/health"] {
        assert_eq!(send(&router, path, ONE).await.0, 200, "{path}");
    }
    assert_eq!(send(&router, "/api/devices", OTHER).await.0, 200);
    // Unknown paths count, too.
    let mut unknown = 0;
    while send(&router, "/nothing", OTHER).await.0 == 200 {
        unknown += 1;
    }
    assert!(unknown >= 70, "{unknown}");
}

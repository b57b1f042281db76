use std::net::IpAddr;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use futures_util::FutureExt;
use tower::ServiceExt;

use super::super::tests::meters;
use super::*;
use crate::listener::connection::PermitKind;
use crate::metrics::Metrics;

fn limits(bytes: usize) -> AnswerLimits {
    let metrics = Metrics::new(meters());
    let time = Duration::from_secs(30);
    AnswerLimits::new(bytes, time, 4096, Arc::clone(&metrics.rest))
}

fn address(last: u8) -> ClientAddress {
    ClientAddress::new(IpAddr::from([192, 0, 2, last]))
}

/// A service with a small and a large answer.
fn router(limits: &AnswerLimits) -> Router {
    Router::new()
        .route("/large", get(async || vec![b'x'; 100_000]))
        .route("/small", get(async || "{}"))
        .layer(from_fn_with_state(limits.clone(), limit))
}

async fn ask(router: &Router, client: u8, path: &str) -> Response {
    let mut request = Request::get(path).body(Body::empty()).expect("a request");
    request.extensions_mut().insert(address(client));
    let Ok(response) = router.clone().oneshot(request).await;
    response
}

#[tokio::test]
async fn answers_beyond_the_limit_are_refused_until_others_were_read() {
    let router = router(&limits(250_000));
    let held = [
        ask(&router, 1, "/large").await,
        ask(&router, 2, "/large").await,
    ];
    assert!(held.iter().all(|answer| answer.status() == 200));
    assert_eq!(held[0].body().size_hint().exact(), Some(100_000));
    let refused = ask(&router, 3, "/large").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "2");
    assert_eq!(ask(&router, 3, "/small").await.status(), 200);
    drop(held);
    assert_eq!(ask(&router, 3, "/large").await.status(), 200);
}

#[tokio::test]
async fn one_address_leaves_room_for_the_answers_of_others() {
    let limits = limits(500_000);
    let router = router(&limits);
    let mut held = Vec::new();
    let refused = loop {
        let answer = ask(&router, 1, "/large").await;
        if answer.status() != 200 {
            break answer;
        }
        held.push(answer);
    };
    assert_eq!((held.len(), refused.status().as_u16()), (2, 503));
    let of_others = [
        ask(&router, 2, "/large").await,
        ask(&router, 3, "/large").await,
    ];
    assert!(of_others.iter().all(|answer| answer.status() == 200));
    drop((held, of_others));
    assert!(limits.table().addresses.is_empty());
    assert_eq!(limits.table().all, 0);
}

#[test]
fn one_answer_alone_may_exceed_the_share_of_its_address() {
    let limits = limits(100);
    let mut held = limits.begin(address(1));
    held.add(40).expect("room");
    held.add(30).expect("room");
    assert!(!limits.has_room(address(1), 1));
    assert!(limits.has_room(address(2), 100));
    assert!(matches!(held.add(31), Err(ApiError::Busy)));
    drop(held);
    assert!(limits.has_room(address(1), 100));
}

#[test]
fn a_shared_answer_counts_once_in_all_and_for_each_address() {
    let limits = limits(100);
    let mut list = limits.begin_shared();
    list.add(50).expect("room");
    let shares = [1, 2, 3].map(|last| limits.share(address(last), 50).expect("room"));
    assert_eq!(limits.table().all, 50);
    assert!(limits.share(address(1), 1).is_err(), "its share is used up");
    drop(list);
    assert_eq!(limits.table().all, 0);
    assert!(limits.share(address(1), 1).is_err(), "its share is used up");
    drop(shares);
    assert!(limits.table().addresses.is_empty());
}

#[tokio::test]
async fn a_request_waits_for_the_end_of_the_last_answer_to_its_address() {
    let limits = limits(100);
    let earlier = limits.share(address(1), 40).expect("room");
    let mut waiting = Box::pin(limits.wait_for_room(address(1), 40));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(
        limits
            .wait_for_room(address(2), 40)
            .now_or_never()
            .is_some()
    );
    drop(earlier);
    waiting.await.expect("room");
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_long_for_an_address_that_does_not_read() {
    let limits = limits(100);
    let _unread = limits.share(address(1), 40).expect("room");
    let waited = limits.wait_for_room(address(1), 40).await;
    assert!(matches!(waited, Err(ApiError::Busy)));
}

#[tokio::test]
async fn bytes_counted_while_an_answer_was_built_count_until_it_is_sent() {
    let limits = limits(500_000);
    let mut bytes = limits.begin_shared();
    bytes.add(100_000).expect("room");
    let share = limits.share(address(1), 100_000).expect("room");
    let counted = Counted {
        bytes: Arc::new(bytes),
        _of_client: Some(Arc::new(share)),
    };
    let answer = get(async move || {
        let mut response = vec![b'x'; 100_000].into_response();
        response.extensions_mut().insert(counted);
        response
    });
    let router = Router::new()
        .route("/", answer)
        .layer(from_fn_with_state(limits.clone(), limit));
    let connection = Arc::new(ConnectionHandle::new(
        [192, 0, 2, 1].into(),
        PermitKind::Regular,
    ));
    let mut request = Request::get("/").body(Body::empty()).expect("a request");
    request.extensions_mut().insert(Arc::clone(&connection));
    let Ok(response) = router.oneshot(request).await;
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    assert_eq!(body.expect("a body").len(), 100_000);
    // The body has ended, but nothing was written to the connection.
    assert_eq!(limits.table().all, 100_000);
    assert!(!limits.has_room(address(1), 200_000));
    drop(connection);
    assert_eq!(limits.table().all, 0);
    assert!(limits.table().addresses.is_empty());
}

#[test]
fn a_large_answer_may_take_longer() {
    let limits = limits(1);
    assert_eq!(limits.time_for(100_000), Duration::from_secs(30));
    let bytes = 100 * MIN_RATE;
    assert_eq!(limits.time_for(bytes), Duration::from_secs(100));
}

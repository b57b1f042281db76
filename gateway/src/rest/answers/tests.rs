use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tower::ServiceExt;

use super::super::tests::meters;
use super::*;
use crate::metrics::Metrics;

fn limits(bytes: usize) -> AnswerLimits {
    let metrics = Metrics::new(meters());
    let time = Duration::from_secs(30);
    AnswerLimits::new(bytes, time, 4096, Arc::clone(&metrics.rest))
}

async fn ask(router: &Router, path: &str) -> Response {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let Ok(response) = router.clone().oneshot(request).await;
    response
}

#[tokio::test]
async fn answers_beyond_the_limit_are_refused_until_others_were_read() {
    let large = get(async || vec![b'x'; 100_000]);
    let router = Router::new()
        .route("/large", large)
        .route("/small", get(async || "{}"))
        .layer(from_fn_with_state(limits(250_000), limit));
    let held = [ask(&router, "/large").await, ask(&router, "/large").await];
    assert!(held.iter().all(|answer| answer.status() == 200));
    assert_eq!(held[0].body().size_hint().exact(), Some(100_000));
    let refused = ask(&router, "/large").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "2");
    assert_eq!(ask(&router, "/small").await.status(), 200);
    drop(held);
    assert_eq!(ask(&router, "/large").await.status(), 200);
}

#[test]
fn a_large_answer_may_take_longer() {
    let limits = limits(1);
    assert_eq!(limits.time_for(100_000), Duration::from_secs(30));
    let bytes = 100 * MIN_RATE;
    assert_eq!(limits.time_for(bytes), Duration::from_secs(100));
}

#[test]
fn held_bytes_are_returned() {
    let limits = limits(10 * 1024);
    let mut held = limits.begin();
    held.add(4096).expect("room");
    held.add(1).expect("room");
    assert!(matches!(held.add(6 * 1024), Err(ApiError::Busy)));
    assert_eq!(limits.units.available_permits(), 5);
    drop(held);
    assert_eq!(limits.units.available_permits(), 10);
}

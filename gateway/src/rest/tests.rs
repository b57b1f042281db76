//! The router as a client sees it. The tests in `stored` have a Redis of their own. The others have none.

mod access;
mod document;
mod site_plans;
mod stored;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use serde_json::Value;
use shared::lifecycle::Lifecycle;
use shared::metrics::Meters;
use test_support::eventually::LATE;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::cors::{self, Cors};
use crate::metrics::Metrics;
use crate::status::StatusHandle;
use crate::test_setup;

/// Meters that are never dropped: metrics end with their meters.
pub(super) fn meters() -> &'static Meters {
    Box::leak(Box::new(Meters::local("gateway").expect("meters")))
}

/// Builds the REST service of the main port on the Redis at this address, with these further flags, behind the check of
/// origins.
fn gateway(redis: &str, flags: &[&str]) -> Router {
    both_ports(redis, flags).main
}

/// The services of both ports.
struct Ports {
    main: Router,
    operators: Router,
}

/// Builds the services of both ports, that of the main port behind the check of origins. Redis answers here, or refuses connections at
/// once. So no test is about an answer that takes too long, and a busy machine makes none too long.
fn both_ports(redis: &str, flags: &[&str]) -> Ports {
    let late = format!("--redis-timeout={}s", LATE.as_secs());
    let flags = [&[late.as_str()], flags].concat();
    let config = test_setup::config(redis, &flags);
    let store = test_setup::store(&config);
    let metrics = Metrics::new(meters());
    let state = AppState {
        clock: store.clock(),
        audit: test_setup::audit(&store),
        store,
        access: test_setup::access(&config),
        admission: test_setup::admission(&config),
        dashboard: config.dashboard_files().expect("the files").map(Arc::new),
        site_plans: Arc::new(config.site_plans().expect("the plans")),
        config: Arc::new(config),
        status: StatusHandle::new(std::time::Instant::now()),
        metrics,
    };
    let origins = Origins::from_config(
        &state.config.allowed_origins,
        !state.config.no_default_origins,
        Vec::new(),
    );
    let origins = origins.expect("origins were checked");
    let (clock, metrics) = (Arc::clone(&state.clock), Arc::clone(&state.metrics));
    let rest = routers(state, &origins);
    let rendering = rest.lists.run(CancellationToken::new());
    Lifecycle::new().spawn_short("device lists", async {
        // It ends with the routers.
        rendering.await.expect("it never fails");
    });
    let cors = Cors::new(origins, clock, metrics);
    Ports {
        main: rest.main.layer(from_fn_with_state(cors, cors::check)),
        operators: rest.operators,
    }
}

/// Builds the REST service of a gateway whose Redis refuses connections: nothing listens on this port.
fn without_redis(flags: &[&str]) -> Router {
    gateway("127.255.255.253:1", flags)
}

fn request(line: &str) -> Request<Body> {
    let (method, uri) = line.split_once(' ').expect("method and path");
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "gateway.test");
    request.body(Body::empty()).expect("a request")
}

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    let value = value.parse().expect("a header value");
    request.headers_mut().append(name, value);
    request
}

async fn send(router: &Router, request: Request<Body>) -> Response {
    router.clone().oneshot(request).await.expect("infallible")
}

async fn text_of(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX)
        .await
        .expect("a body");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Status and `error` of an answer, which must be a JSON error.
async fn error_of(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(
        response.headers()["content-type"],
        "application/json; charset=utf-8"
    );
    let text = text_of(response).await;
    let body: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(body["error"], body["error_message"], "{text}");
    (status, body["error"].as_str().expect("a text").to_owned())
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().expect("a text"))
}

#[tokio::test]
async fn errors_of_unserved_requests_are_json_too() {
    let router = without_redis(&[]);
    for (line, status, error) in [
        ("GET /", 404, "Not found"),
        ("GET /ui", 404, "Not found"),
        ("GET /nowhere", 404, "Not found"),
        ("GET /devices/OTSM-0114", 404, "Not found"),
        ("GET /devices//subtronics/alerts", 404, "Device not found"),
        ("GET /Health", 404, "Not found"),
        ("POST /test/subtronics/OTSM-0114", 404, "Not found"),
        ("GET /subtronic/devices/CP-1/data", 404, "Not found"),
        ("POST /subtronic/devices/CP-1/commands", 404, "Not found"),
        ("POST /api/alarms", 404, "Not found"),
        ("DELETE /api/alarms/5", 404, "Not found"),
        (
            "GET /api/telemetry/geolocation/reverse?lat=1&lon=2",
            404,
            "Not found",
        ),
        ("POST /api/devices", 404, "Not found"),
        ("PUT /api/devices", 405, "Method not allowed"),
        ("POST /health", 405, "Method not allowed"),
        ("DELETE /alarm-logs/", 405, "Method not allowed"),
        (
            "GET /devices/a/subtronics/alerts/b/acknowledge",
            405,
            "Method not allowed",
        ),
        (
            "GET /api/devices/%FF",
            400,
            "the path is not percent-encoded UTF-8",
        ),
        (
            "GET /devices/%ff/alarm-logs",
            400,
            "the path is not percent-encoded UTF-8",
        ),
        ("GET /api/devices/%20", 404, "Device not found"),
        ("GET /api/devices/a%00b", 404, "Device not found"),
        (
            "GET /devices/a%0Ab/subtronics/alerts",
            404,
            "Device not found",
        ),
        ("GET /devices/%01/alarm-logs", 404, "Device not found"),
        (
            "POST /devices/%01/subtronics/alerts/x/acknowledge",
            404,
            "Alert not found",
        ),
    ] {
        let found = error_of(send(&router, request(line)).await).await;
        assert_eq!(found, (status, error.to_owned()), "{line}");
    }
}

#[tokio::test]
async fn unreadable_queries_are_refused_before_anything_is_read() {
    let router = without_redis(&[]);
    for line in [
        "GET /alarm-logs?limit=many",
        "GET /alarm-logs?start_date=soon",
        "GET /devices/OTSM-0114/alarm-logs?end_date=2026-02-30",
        "GET /alarm-logs/statistics?end_date=x",
        "GET /api/devices/OTSM-0114/history?since=x",
        "GET /api/devices/OTSM-0114/history?limit=x",
    ] {
        let (status, error) = error_of(send(&router, request(line)).await).await;
        assert_eq!(status, 400, "{line}");
        assert!(error.contains("` is not a"), "{line}: {error}");
    }
}

#[tokio::test]
async fn a_time_that_ends_before_it_begins_is_refused() {
    let router = without_redis(&[]);
    for rest in ["", "?points=5", ".csv", ".csv?points=5"] {
        let and = if rest.contains('?') { '&' } else { '?' };
        for begin in ["from", "since"] {
            let line = format!(
                "GET /api/devices/OTSM-0114/history{rest}{and}{begin}=2026-01-02&until=2026-01-01"
            );
            let (status, error) = error_of(send(&router, request(&line)).await).await;
            assert_eq!(status, 400, "{line}");
            assert_eq!(error, "`from` is after `until`", "{line}");
        }
    }
}

#[tokio::test]
async fn without_redis_every_answer_that_needs_it_is_503() {
    let router = without_redis(&[]);
    let unavailable = crate::error::STORE_UNAVAILABLE;
    for (line, error) in [
        (
            "GET /devices/OTSM-0114/subtronics/telemetry/latest",
            unavailable,
        ),
        ("GET /devices/OTSM-0114/subtronics/alerts", unavailable),
        (
            "POST /devices/OTSM-0114/subtronics/alerts/a1/acknowledge",
            unavailable,
        ),
        (
            "GET /devices/OTSM-0114/alarm-logs",
            "Failed to fetch alarm logs",
        ),
        ("GET /alarm-logs/?limit=1000", "Failed to fetch alarm logs"),
        ("GET /alarm-logs/statistics", "Failed to fetch statistics"),
        ("GET /api/devices", unavailable),
        ("GET /api/devices/OTSM-0114", unavailable),
        ("GET /api/devices/OTSM-0114/history", unavailable),
        ("GET /config", unavailable),
    ] {
        let found = error_of(send(&router, request(line)).await).await;
        assert_eq!(found, (503, error.to_owned()), "{line}");
    }
    for line in [
        "GET /livez",
        "GET /livez/",
        "GET /openapi.json",
        "HEAD /livez",
    ] {
        assert_eq!(send(&router, request(line)).await.status(), 200, "{line}");
    }
    let response = send(&router, request("GET /readyz")).await;
    assert_eq!(response.status(), 503);
    assert!(
        text_of(response)
            .await
            .starts_with(r#"{"status":"unready","dependencies":{"redis":"#)
    );
    let response = send(&router, request("GET /health")).await;
    assert_eq!(response.status(), 503);
    let text = text_of(response).await;
    let start = concat!(
        r#"{"status":"unhealthy","mqtt_connected":false,"mongodb_connected":false,"#,
        r#""devices_count":0,"subtronics_devices":0,"pending_commands":0,"#,
        r#""allowed_origins":["http://localhost:3000","#,
    );
    assert!(text.starts_with(start), "{text}");
}

#[tokio::test]
async fn a_word_that_names_nothing_is_answered_without_reading() {
    let router = without_redis(&[]);
    for query in [
        "alarm_type=bogus&limit=1",
        "severity=bogus",
        "device_id=%01",
        "start_date=2026-02-01&end_date=2026-01-01",
    ] {
        let response = send(&router, request(&format!("GET /alarm-logs?{query}"))).await;
        assert_eq!(response.status(), 200, "{query}");
        assert_eq!(text_of(response).await, r#"{"total_count":0,"logs":[]}"#);
    }
    let line = "GET /devices/OTSM-0114/alarm-logs?alarm_type=bogus";
    let text = text_of(send(&router, request(line)).await).await;
    assert_eq!(
        text,
        r#"{"device_id":"OTSM-0114","total_count":0,"logs":[]}"#
    );
}

#[tokio::test]
async fn an_allowed_origin_is_echoed_with_credentials() {
    let router = without_redis(&["--allowed-origins", "https://*.vercel.app"]);
    for origin in [
        "https://x.vercel.app",
        "http://localhost:5173",
        "http://gateway.test",
    ] {
        for line in [
            "GET /livez",
            "GET /nowhere",
            "POST /livez",
            "GET /api/devices",
        ] {
            let response = send(&router, with(request(line), "origin", origin)).await;
            assert_eq!(
                header(&response, "access-control-allow-origin"),
                Some(origin),
                "{line}"
            );
            assert_eq!(
                header(&response, "access-control-allow-credentials"),
                Some("true")
            );
            assert_eq!(
                header(&response, "access-control-expose-headers"),
                Some("ETag, Reaches-From, Retry-After, WWW-Authenticate, X-Request-ID")
            );
            assert_eq!(header(&response, "vary"), Some("Origin"));
            assert_eq!(header(&response, "cache-control"), Some("no-store"));
        }
    }
    let response = send(&router, request("GET /livez")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "access-control-allow-origin"), None);
    assert_eq!(header(&response, "vary"), Some("Origin"));
}

#[tokio::test]
async fn a_preflight_is_answered_on_every_route() {
    let router = without_redis(&["--allowed-origins", "https://*.vercel.app"]);
    for path in [
        "/health",
        "/devices/a/subtronics/alerts/",
        "/nowhere",
        "/api/devices/%FF",
    ] {
        let preflight = with(
            request(&format!("OPTIONS {path}")),
            "origin",
            "https://x.vercel.app",
        );
        let preflight = with(preflight, "access-control-request-method", "GET");
        let preflight = with(preflight, "access-control-request-headers", "x-request-id");
        let response = send(&router, preflight).await;
        assert_eq!(response.status(), 204, "{path}");
        let expected = [
            ("access-control-allow-origin", "https://x.vercel.app"),
            ("access-control-allow-credentials", "true"),
            (
                "access-control-allow-methods",
                "GET, POST, PUT, DELETE, OPTIONS, PATCH",
            ),
            (
                "access-control-allow-headers",
                "Content-Type, Authorization, Accept, If-Match, If-None-Match, X-Request-ID, X-Internal-Request-ID",
            ),
            ("access-control-max-age", "7200"),
            ("vary", "Origin"),
        ];
        for (name, value) in expected {
            assert_eq!(header(&response, name), Some(value), "{path}");
        }
        assert_eq!(text_of(response).await, "");
    }
}

#[tokio::test]
async fn another_origin_is_refused_without_cors_headers() {
    let router = without_redis(&["--allowed-origins", "https://*.vercel.app"]);
    for origin in [
        "https://evil-vercel.app.attacker.com",
        "https://vercel.app.evil.com",
        "null",
    ] {
        for line in ["GET /livez", "OPTIONS /livez", "GET /nowhere"] {
            let response = send(&router, with(request(line), "origin", origin)).await;
            let cors = |name: &str| name.starts_with("access-control-");
            assert!(
                !response.headers().keys().any(|name| cors(name.as_str())),
                "{line}"
            );
            assert_eq!(header(&response, "vary"), Some("Origin"));
            let found = error_of(response).await;
            assert_eq!(
                found,
                (403, "Origin not allowed".to_owned()),
                "{line} from {origin}"
            );
        }
    }
    let twice = with(request("GET /livez"), "origin", "https://x.vercel.app");
    let twice = with(twice, "origin", "https://y.vercel.app");
    assert_eq!(send(&router, twice).await.status(), 403);
}

#[tokio::test]
async fn an_error_repeats_the_request_id_unless_the_front_end_could_not_parse_it() {
    let router = without_redis(&[]);
    let asked = |id: &str| with(request("PUT /livez"), "x-request-id", id);
    let response = send(&router, asked("subtronics_1769600232000_k3j4")).await;
    assert_eq!(header(&response, "allow"), Some("GET,HEAD"));
    assert_eq!(
        text_of(response).await,
        concat!(
            r#"{"error":"Method not allowed","error_message":"Method not allowed","#,
            r#""error_code":"wrong_method","request_id":"subtronics_1769600232000_k3j4"}"#,
        )
    );
    for id in ["subtronics_1_apx4", "two words", &"a".repeat(129)] {
        let text = text_of(send(&router, asked(id)).await).await;
        assert!(!text.contains("request_id"), "{id}: {text}");
    }
}

#[tokio::test]
async fn a_large_or_broken_body_is_refused() {
    let router = without_redis(&[]);
    let post = |body: Body| {
        let uri = "/devices/OTSM-0114/subtronics/alerts/a1/acknowledge";
        Request::post(uri).body(body).expect("a request")
    };
    let large = vec![b' '; edge::MAX_BODY_BYTES + 1];
    let announced = with(post(Body::from(large.clone())), "content-length", "102401");
    let chunks = futures_util::stream::iter(
        large
            .chunks(1000)
            .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
            .collect::<Vec<_>>(),
    );
    let unannounced = post(Body::from_stream(chunks));
    for request in [announced, unannounced] {
        let found = error_of(send(&router, request).await).await;
        assert_eq!(found, (413, "Request body too large".to_owned()));
    }
    let (status, error) = error_of(send(&router, post(Body::from("{"))).await).await;
    assert_eq!(status, 400);
    assert!(error.starts_with("the body cannot be read"), "{error}");
}

#[tokio::test]
async fn a_panic_is_answered_with_json_and_counted() {
    let metrics = Metrics::new(meters());
    let handlers = Router::new().route("/", get(async || -> ApiError { panic!("on purpose") }));
    let limits = answers::AnswerLimits::new(
        1,
        std::time::Duration::from_secs(1),
        4096,
        Arc::clone(&metrics.rest),
    );
    let router = edge::bound_and_observe(handlers, limits, None, Arc::clone(&metrics.rest));
    let response = router.oneshot(request("GET /")).await.expect("infallible");
    assert_eq!(
        error_of(response).await,
        (500, "Internal server error".to_owned())
    );
    let metrics_text = metrics.to_text();
    assert!(
        metrics_text.contains(r#"http_response_status_code="500""#),
        "{metrics_text}"
    );
}

#[tokio::test]
async fn a_refused_origin_is_counted() {
    let router = without_redis(&["--allowed-origins=http://front.test"]);
    let page = with(request("GET /api/devices"), "origin", "http://other.test");
    assert_eq!(send(&router, page).await.status(), 403);
    let metrics_text = text_of(send(&router, request("GET /metrics")).await).await;
    assert!(
        metrics_text.contains(r#"http_response_status_code="403""#),
        "{metrics_text}"
    );
}

#[tokio::test]
async fn a_request_refused_for_its_length_is_counted() {
    let router = without_redis(&[]);
    let uri = "/devices/OTSM-0001/subtronics/alerts/a1/acknowledge";
    let large = with(request(&format!("POST {uri}")), "content-length", "102401");
    assert_eq!(send(&router, large).await.status(), 413);
    let metrics_text = text_of(send(&router, request("GET /metrics")).await).await;
    assert!(
        metrics_text.contains(r#"http_response_status_code="413""#),
        "{metrics_text}"
    );
}

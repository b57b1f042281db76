//! What each route answers to each kind of client. There is no Redis: a request that is let through is answered 503, or without
//! Redis. So a refusal cannot depend on what is stored.

use std::collections::BTreeMap;

use serde_json::json;
use test_support::tokens::{Signed, TokenIssuer, seconds_from_now};

use super::*;

/// Who sends a request, with the header `Authorization` that it has.
fn clients(issuer: &TokenIssuer) -> BTreeMap<&'static str, Option<String>> {
    let token = |changes| {
        let token = issuer.token(Signed::EdDsa, changes).expect("a token");
        Some(format!("Bearer {token}"))
    };
    let confused = issuer.confused_token(Signed::Rs256, json!({}));
    BTreeMap::from([
        ("anonymous", None),
        ("basic", Some("Basic dXNlcjpwYXNz".to_owned())),
        ("no text", Some("Bearer ".to_owned())),
        ("expired", token(json!({"exp": seconds_from_now(-3600)}))),
        ("wrong audience", token(json!({"aud": "other"}))),
        (
            "confused",
            Some(format!("Bearer {}", confused.expect("a token"))),
        ),
        ("other devices", token(json!({"devices": ["OTSM-02*"]}))),
        ("other site", token(json!({"sites": ["Harbour"]}))),
        ("one device", token(json!({"devices": ["OTSM-0114"]}))),
        ("reader", token(json!({"verbs": ["read"]}))),
        ("acknowledger", token(json!({"verbs": ["read", "ack"]}))),
        ("operator", token(json!({"verbs": ["read", "operate"]}))),
        ("admin", token(json!({"verbs": ["admin"]}))),
        (
            "admin of some",
            token(json!({"verbs": ["admin"], "devices": ["OTSM-01*"]})),
        ),
        (
            "admin of a site",
            token(json!({"verbs": ["admin"], "sites": ["Harbour"]})),
        ),
    ])
}

/// What is expected of a route: the clients that are let through. Others are answered 401 or 403.
struct Expected {
    line: &'static str,
    allowed: &'static [&'static str],
}

/// Clients whose token, or lack of one, is refused.
const NOT_ADMITTED: [&str; 6] = [
    "anonymous",
    "basic",
    "no text",
    "expired",
    "wrong audience",
    "confused",
];

const READ: &[&str] = &["one device", "reader", "acknowledger", "operator"];
const ACKNOWLEDGE: &[&str] = &["one device", "acknowledger"];
const ANY_READER: &[&str] = &[
    "one device",
    "reader",
    "acknowledger",
    "operator",
    "other devices",
    "other site",
];
const READER_OF_ALL: &[&str] = &["reader", "acknowledger", "operator"];
const OVERVIEW: &[&str] = &["reader", "acknowledger", "operator", "admin"];
const ADMINISTRATOR: &[&str] = &["admin"];
const HOLDER: &[&str] = &[
    "other devices",
    "other site",
    "one device",
    "reader",
    "acknowledger",
    "operator",
    "admin",
    "admin of some",
    "admin of a site",
];
const OPERATE: &[&str] = &["one device", "operator"];

#[rustfmt::skip]
const ROUTES: [Expected; 24] = [
    Expected { line: "GET /auth/session", allowed: HOLDER },
    Expected { line: "POST /auth/logout", allowed: HOLDER },
    Expected { line: "GET /devices/OTSM-0114/subtronics/telemetry/latest", allowed: READ },
    Expected { line: "GET /devices/OTSM-0114/subtronics/alerts", allowed: READ },
    Expected { line: "POST /devices/OTSM-0114/subtronics/alerts/a1/acknowledge", allowed: ACKNOWLEDGE },
    Expected { line: "GET /devices/OTSM-0114/alarm-logs", allowed: READ },
    Expected { line: "GET /api/devices/OTSM-0114", allowed: READ },
    Expected { line: "GET /api/devices/OTSM-0114/history", allowed: READ },
    Expected { line: "GET /api/devices/OTSM-0114/history.csv", allowed: READ },
    Expected { line: "GET /alarm-logs", allowed: ANY_READER },
    Expected { line: "GET /alarm-logs/statistics", allowed: ANY_READER },
    Expected { line: "GET /api/devices", allowed: ANY_READER },
    Expected { line: "GET /api/alarms", allowed: ANY_READER },
    Expected { line: "GET /api/alarms/history/log", allowed: ANY_READER },
    Expected { line: "GET /api/alarms/open", allowed: ANY_READER },
    Expected { line: "GET /config", allowed: ANY_READER },
    Expected { line: "GET /api/site-plans", allowed: ANY_READER },
    Expected { line: "GET /api/site-plans/hall-1/image", allowed: ANY_READER },
    Expected { line: "GET /api/analytics/connections", allowed: OVERVIEW },
    Expected { line: "GET /api/audit", allowed: ADMINISTRATOR },
    Expected { line: "GET /api/dead-letters", allowed: READER_OF_ALL },
    Expected { line: "GET /api/devices/OTSM-0114/profile", allowed: READ },
    Expected { line: "PUT /api/devices/OTSM-0114/profile", allowed: OPERATE },
    Expected { line: "DELETE /api/devices/OTSM-0114", allowed: OPERATE },
];

async fn answer(router: &Router, line: &str, authorization: Option<&String>) -> Response {
    let request = request(line);
    let request = match authorization {
        Some(value) => with(request, "authorization", value),
        None => request,
    };
    send(router, request).await
}

#[tokio::test]
async fn each_route_lets_through_who_may_use_it_and_nobody_else() {
    let issuer = TokenIssuer::new().expect("keys");
    let flags = issuer.flags();
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.push("--allow-anonymous=none");
    let router = without_redis(&flags);
    for Expected { line, allowed } in ROUTES {
        for (client, authorization) in clients(&issuer) {
            let response = answer(&router, line, authorization.as_ref()).await;
            let status = response.status().as_u16();
            let expected: &[u16] = if allowed.contains(&client) {
                // 404: nobody signs in here, so nobody signs out; and there is no such plan.
                &[200, 404, 503]
            } else if NOT_ADMITTED.contains(&client) {
                &[401]
            } else {
                &[403]
            };
            assert!(expected.contains(&status), "{client}: {line}: {status}");
            let challenge = header(&response, "www-authenticate").map(str::to_owned);
            assert_eq!(challenge.is_some(), status == 401, "{client}: {line}");
            if status == 403 {
                let error = error_of(response).await;
                assert_eq!(error, (403, "Not allowed".to_owned()), "{client}: {line}");
            }
        }
    }
}

#[tokio::test]
async fn the_table_above_has_every_route() {
    let named: Vec<&str> = ROUTES.iter().map(|route| route.line).collect();
    let open = ["/health", "/openapi.json", "/auth/login", "/auth/callback"];
    let all = routes()
        .into_iter()
        .chain([retire_route(true, false), profile_route(true, false)]);
    for (method, path, needs, _) in all {
        let path = path
            .replace("{deviceId}", "OTSM-0114")
            .replace("{alertId}", "a1")
            .replace("{planId}", "hall-1");
        let line = format!("{method} {path}");
        let is_open = open.contains(&path.as_str());
        assert_eq!(needs == Needs::Nothing, is_open, "{line}");
        assert_eq!(named.contains(&line.as_str()), !is_open, "{line}");
    }
}

#[tokio::test]
async fn a_refusal_says_nothing_about_the_device() {
    let issuer = TokenIssuer::new().expect("keys");
    let flags = issuer.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let router = without_redis(&flags);
    let token = issuer.token(Signed::Hs256, json!({"devices": ["OTSM-02*"]}));
    let token = Some(format!("Bearer {}", token.expect("a token")));
    let mut answers = Vec::new();
    // Neither of these could be read: one is no id at all.
    for id in [
        "OTSM-0114",
        "never-seen",
        "%00",
        &"x".repeat(200),
        "OTSM-02%00",
    ] {
        let line = format!("GET /api/devices/{id}");
        answers.push(error_of(answer(&router, &line, token.as_ref()).await).await);
    }
    let last = answers.pop().expect("five answers");
    // The pattern allows this text, which is no id.
    assert_eq!(last, (404, "Device not found".to_owned()));
    for answer in answers {
        assert_eq!(answer, (403, "Not allowed".to_owned()));
    }
}

#[tokio::test]
async fn anonymous_clients_may_do_what_the_setting_says() {
    for (setting, reading, acknowledging, overview) in [
        ("--allow-anonymous=read", 503, 403, 503),
        ("--allow-anonymous=all", 503, 503, 503),
    ] {
        let router = without_redis(&[setting]);
        for (line, expected) in [
            ("GET /api/devices/OTSM-0114", reading),
            (
                "POST /devices/OTSM-0114/subtronics/alerts/a1/acknowledge",
                acknowledging,
            ),
            ("GET /api/analytics/connections", overview),
            ("GET /api/dead-letters", overview),
            ("DELETE /api/devices/OTSM-0114", 403),
        ] {
            let response = send(&router, request(line)).await;
            assert_eq!(response.status().as_u16(), expected, "{setting}: {line}");
        }
    }
}

#[tokio::test]
async fn a_token_in_the_query_counts_only_if_it_is_allowed() {
    let issuer = TokenIssuer::new().expect("keys");
    let flags = issuer.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let token = issuer.token(Signed::Hs256, json!({})).expect("a token");
    let line = format!("GET /api/devices/OTSM-0114?token={token}");
    let strict = ["--allow-anonymous=none"];
    for (more, expected) in [(&[][..], 401), (&["--token-in-query"], 503)] {
        let router = without_redis(&[&flags, &strict[..], more].concat());
        let response = send(&router, request(&line)).await;
        assert_eq!(response.status().as_u16(), expected, "{more:?}");
    }
}

/// The ports as without tokens: whoever reaches the port for operators retires.
#[tokio::test]
async fn with_tokens_both_ports_ask_who_retires() {
    let issuer = TokenIssuer::new().expect("keys");
    let of_issuer = issuer.flags();
    let mut flags: Vec<&str> = of_issuer.iter().map(String::as_str).collect();
    flags.push("--ops-port=3004");
    let line = "DELETE /api/devices/OTSM-0114";
    for (flags, on_main, on_its_own) in [(&flags[..], 403, 403), (&["--ops-port=3004"], 403, 503)] {
        let ports = both_ports("127.255.255.253:1", flags);
        for (router, expected) in [(&ports.main, on_main), (&ports.operators, on_its_own)] {
            let response = send(router, request(line)).await;
            assert_eq!(response.status().as_u16(), expected, "{flags:?}");
        }
    }
}

//! Which pages may use the gateway: those of apps and of no origin only if they are listed, on every transport alike.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::http;
use tests::stack::{Plan, Stack};

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Checks that REST, polling and WebSocket answer a page of this origin, or refuse it, each with the status that it has then.
async fn check(stack: &Stack, origin: &str, allowed: bool) -> Result<()> {
    let port = stack.gateways[0].port();
    for (path, extra, ok) in [
        ("/api/devices", &[][..], 200),
        ("/config", &[], 200),
        ("/socket.io/?EIO=4&transport=polling", &[], 200),
        ("/socket.io/?EIO=4&transport=websocket", &UPGRADE, 101),
    ] {
        let headers = [&[("origin", origin)], extra].concat();
        let answer = http::send(port, "GET", path, &headers, b"").await?;
        let expected = if allowed { ok } else { 403 };
        ensure!(answer.status == expected, "{origin} {path}: {answer:?}");
        if answer.status != 101 {
            let echoed = if allowed { origin } else { "" };
            let echo = answer.header("access-control-allow-origin");
            ensure!(echo == echoed, "{origin} {path}: {answer:?}");
        }
    }
    for transport in ["websocket", "polling"] {
        let options = json!({"transports": [transport], "extraHeaders": {"origin": origin}});
        let browser = Browser::open(port, options).await?;
        let expected = if allowed { "connect" } else { "connect_error" };
        browser
            .wait_for(expected, |seen| seen.what == expected)
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn apps_and_pages_without_an_origin_are_allowed_if_they_are_listed() -> Result<()> {
    let flags = "--no-default-origins --allowed-origins=capacitor://localhost,null";
    let stack = Plan::default().gateway_flags(flags).start().await?;
    for (origin, allowed) in [
        ("capacitor://localhost", true),
        ("null", true),
        ("capacitor://localhost.evil.example", false),
        ("ionic://localhost", false),
        // One of local development.
        ("http://localhost:5173", false),
    ] {
        check(&stack, origin, allowed).await?;
    }
    let listed = json!(["capacitor://localhost", "null"]);
    let health = stack.get("/health").await?.expect(200)?;
    assert_eq!(health["allowed_origins"], listed, "{health}");
    let config = stack.get("/config").await?.expect(200)?;
    assert_eq!(config["frontend_urls"], listed, "{config}");
    // An app that is no page sends no origin.
    let native = stack.browser().await?;
    native.subscribe("OTSM-0001").await?;
    stack.pass()
}

#[tokio::test]
async fn by_default_only_local_development_is_allowed() -> Result<()> {
    let stack = Stack::start().await?;
    for (origin, allowed) in [
        ("http://localhost:5173", true),
        ("capacitor://localhost", false),
        ("null", false),
        ("file://", false),
    ] {
        check(&stack, origin, allowed).await?;
    }
    let config = stack.get("/config").await?.expect(200)?;
    let listed = config["frontend_urls"].as_array().map(Vec::as_slice);
    let first = listed.and_then(<[Value]>::first);
    assert_eq!(first, Some(&json!("http://localhost:3000")), "{config}");
    stack.pass()
}

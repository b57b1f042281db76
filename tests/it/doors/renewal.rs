//! A token is replaced, allows less than the one before, or ends, while its connection stays.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::stack::Stack;
use tests::tokens::{Signed, TokenIssuer, seconds_from_now};

use super::{OTHER, OURS, TRANSPORTS, connected, is_forbidden, joined, open, start};

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    // Every token is about to expire.
    let stack = start(&issuer, "--allow-anonymous=none --token-notice=24h").await?;
    let token = |changes| issuer.token(Signed::Hs256, changes);
    let ours = token(json!({"devices": [OURS]}))?;
    for transport in TRANSPORTS {
        let browser = connected(&stack, transport, &ours).await?;
        let is_told = |seen: &BrowserEvent| seen.is_event("auth:expiring");
        let told = browser.wait_for("the notice", is_told).await?;
        let left = told.body["expiresInMs"].as_i64().context("a time")?;
        ensure!((0..=3_600_000).contains(&left), "{told:?}");
        browser.follow(OURS).await?;
        for (argument, code) in [
            (json!({"token": "x"}), "unauthorized"),
            (json!({"token": token(json!({"exp": 1}))?}), "unauthorized"),
            (
                json!({"token": token(json!({"sub": "user-2"}))?}),
                "unauthorized",
            ),
            (json!({}), "invalid"),
            (json!(7), "invalid"),
            (Value::Null, "invalid"),
        ] {
            let answer = browser.ask("auth:refresh", argument.clone()).await?;
            ensure!(answer["error"]["code"] == code, "{argument}: {answer}");
        }
        let answer = browser.subscribe(OTHER).await?;
        ensure!(is_forbidden(&answer), "{answer}");
        let from = browser.seen_count();
        for wider in [
            json!({"token": token(json!({"exp": seconds_from_now(7200)}))?}),
            json!(token(json!({}))?),
        ] {
            let answer = browser.ask("auth:refresh", wider).await?;
            ensure!(answer["ok"] == true, "{answer}");
        }
        ensure!(browser.subscribe(OTHER).await?["ok"] == true);
        browser.wait_after(from, "the next notice", is_told).await?;
        // The connection is the same one.
        let ends = |seen: &BrowserEvent| seen.what == "disconnect";
        ensure!(!browser.seen().iter().any(ends));
        // A token that does not allow what is watched ends it.
        let narrow = json!({"token": ours});
        browser.emit("auth:refresh", narrow).await?;
        browser.wait_after(from, "the end", ends).await?;
    }
    stack.pass()
}

#[tokio::test]
async fn a_connection_takes_ten_new_tokens_at_once_and_no_more() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    let token = issuer.token(Signed::EdDsa, json!({}))?;
    for transport in TRANSPORTS {
        let greedy = connected(&stack, transport, &token).await?;
        let good = connected(&stack, transport, &token).await?;
        let refresh =
            async |browser: &Browser| browser.ask("auth:refresh", json!({"token": token})).await;
        // One more for every ten seconds that this takes.
        let mut accepted = 0;
        let refused = loop {
            let answer = refresh(&greedy).await?;
            if answer["ok"] != true {
                break answer;
            }
            accepted += 1;
            ensure!(accepted < 1_000, "{transport:?}: none was refused");
        };
        ensure!(accepted >= 10, "{transport:?}: {accepted} accepted");
        let error = json!({"code": "limit", "message": "too many new tokens, try again later"});
        ensure!(refused["error"] == error, "{transport:?}: {refused}");
        // It goes on with the token that it has, and others do not notice.
        ensure!(greedy.subscribe(OURS).await?["ok"] == true);
        ensure!(refresh(&good).await?["ok"] == true);
        let lost = greedy
            .seen()
            .into_iter()
            .find(|seen| seen.what == "disconnect");
        ensure!(lost.is_none(), "{transport:?}: {lost:?}");
    }
    stack.pass()
}

/// Connects with a token that expires soon, but not before a slow machine has connected.
async fn connected_for_a_short_time(
    stack: &Stack,
    issuer: &TokenIssuer,
    transport: Transport,
) -> Result<Browser> {
    for seconds in [3, 10, 30] {
        let token = issuer.token(Signed::Es256, json!({"exp": seconds_from_now(seconds)}))?;
        let browser = open(stack, transport, Some(&token)).await?;
        let answer = browser.wait_for("the answer to joining", joined).await?;
        if answer.what == "connect" {
            return Ok(browser);
        }
        ensure!(answer.name == "expired token", "{answer:?}");
    }
    bail!("no client connected within 30 s")
}

/// What was asked for with the former token may still be on its way, also of a device that the client has left.
#[tokio::test]
async fn a_token_that_allows_less_ends_the_connection_whatever_is_subscribed_to() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    let token = |devices: Value| issuer.token(Signed::Hs256, json!({"devices": devices}));
    for (before, after, ends) in [
        (json!(["*"]), json!([OTHER]), true),
        (json!([OURS, OTHER]), json!([OTHER]), true),
        (json!(["OTSM-*"]), json!(["OTSM-0*"]), true),
        (json!(["OTSM-0*"]), json!(["OTSM-*"]), false),
        (json!([OURS]), json!([OTHER, OURS]), false),
    ] {
        let browser = connected(&stack, Transport::WebSocket, &token(before.clone())?).await?;
        browser.emit("subscribe:device", json!(OURS)).await?;
        browser.emit("unsubscribe:device", json!(OURS)).await?;
        let refreshed = json!({"token": token(after.clone())?});
        if ends {
            browser.emit("auth:refresh", refreshed).await?;
            let is_end = |seen: &BrowserEvent| seen.what == "disconnect";
            browser.wait_for("the end", is_end).await?;
        } else {
            let answer = browser.ask("auth:refresh", refreshed).await?;
            ensure!(answer["ok"] == true, "{before} {after}: {answer}");
        }
    }
    stack.pass()
}

#[tokio::test]
async fn a_client_whose_token_has_expired_is_disconnected() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let flags = "--allow-anonymous=none --token-notice=1s --token-grace=0s --token-leeway=0s";
    let stack = start(&issuer, flags).await?;
    for transport in TRANSPORTS {
        let browser = connected_for_a_short_time(&stack, &issuer, transport).await?;
        let from = browser.seen_count();
        browser
            .wait_after(from, "the end", |seen| seen.what == "disconnect")
            .await?;
        // The library tries again with the same token.
        let refused = browser
            .wait_after(from, "the refusal", |seen| seen.what == "connect_error")
            .await?;
        ensure!(refused.name == "expired token", "{refused:?}");
    }
    let ended = r#"gateway_disconnections_total{reason="token_expired"}"#;
    ensure!(stack.gateways[0].metric(ended).await? > 2.5);
    stack.pass()
}

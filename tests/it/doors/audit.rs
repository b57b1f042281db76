//! The audit trail has what people did and what was refused, by whom, and from where.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Transport;
use tests::eventually::eventually;
use tests::stack::Stack;
use tests::tokens::{Signed, TokenIssuer};

use super::token_command::token_command;
use super::{OTHER, OURS, UNKNOWN, connected, joined, open, rest, start};

/// Reads a whole part of the trail, in pages of three.
async fn trail(stack: &Stack, part: &str, token: &str) -> Result<Vec<Value>> {
    let mut entries = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/api/audit?part={part}&limit=3{before}");
        let page = rest(stack, "GET", &path, Some(token)).await?.expect(200)?;
        entries.extend(page["entries"].as_array().context("entries")?.clone());
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return Ok(entries),
        }
    }
}

fn has(entries: &[Value], wanted: &Value) -> Result<()> {
    let wanted_fields = wanted.as_object().context("an object")?;
    let matches = |entry: &Value| {
        wanted_fields
            .iter()
            .all(|(name, value)| entry[name] == *value)
    };
    let found = entries.iter().find(|entry| matches(entry));
    let found = found.with_context(|| format!("no {wanted} in {entries:#?}"))?;
    ensure!(found["at"].is_string(), "{found}");
    Ok(())
}

#[tokio::test]
async fn what_people_did_and_what_was_refused_is_in_the_audit_trail() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    let token = |changes| issuer.token(Signed::Es256, changes);
    let admin = token(json!({"sub": "admin-1", "verbs": ["admin"]}))?;
    let operator = token(json!({"sub": "operator-1"}))?;
    let reader = token(json!({"sub": "reader-1", "devices": [OURS], "verbs": ["read"]}))?;

    open(&stack, Transport::Polling, Some("x"))
        .await?
        .wait_for("the refusal", joined)
        .await?;
    let browser = connected(&stack, Transport::WebSocket, &reader).await?;
    browser.subscribe(OTHER).await?;
    browser
        .ask("auth:refresh", json!({"token": operator}))
        .await?;
    let path = format!("/api/devices/{UNKNOWN}");
    rest(&stack, "GET", &path, Some(&reader))
        .await?
        .expect(403)?;
    rest(&stack, "GET", "/config", None).await?.expect(401)?;
    let alerts = format!("/devices/{OURS}/subtronics/alerts");
    let open_alerts = rest(&stack, "GET", &alerts, Some(&operator))
        .await?
        .expect(200)?;
    let alarm = open_alerts[0]["id"].as_str().context("an alarm")?;
    let acknowledge = format!("{alerts}/{alarm}/acknowledge");
    rest(&stack, "POST", &acknowledge, Some(&operator))
        .await?
        .expect(200)?;
    let retire = format!("/api/devices/{OTHER}");
    rest(&stack, "DELETE", &retire, Some(&operator))
        .await?
        .expect(200)?;
    let url = format!("--redis-url=redis://127.0.0.1:{}", stack.redis.port());
    for more in [&[][..], &["--lift"]] {
        let arguments = [&["revoke", &url, "--subject=user-9"], more].concat();
        let (code, text) = token_command(&arguments, "").await?;
        ensure!(code == 0, "{text}");
    }

    let here = "127.0.0.1";
    let entries = eventually("every entry is written", async || {
        let entries = trail(&stack, "done", &admin).await?;
        let refused = trail(&stack, "refused", &admin).await?;
        for wanted in [
            json!({"action": "started"}),
            json!({"action": "refused", "reason": "invalid_token", "detail": "connect", "address": here}),
            json!({"action": "refused", "reason": "forbidden", "detail": "subscribe:device", "device_id": OTHER,
                   "subject": "reader-1", "address": here}),
            json!({"action": "refused", "reason": "unauthorized", "detail": "auth:refresh", "subject": "reader-1"}),
            json!({"action": "refused", "reason": "forbidden", "detail": format!("GET {path}"), "subject": "reader-1",
                   "name": "Ada Example"}),
            json!({"action": "refused", "reason": "token_required", "detail": "GET /config", "address": here}),
            json!({"action": "acknowledged", "subject": "operator-1", "device_id": OURS, "detail": alarm, "address": here,
                   "name": "Ada Example"}),
            json!({"action": "retired", "subject": "operator-1", "device_id": OTHER, "address": here}),
            json!({"action": "revoked", "detail": "subject:user-9"}),
            json!({"action": "revocation_lifted", "detail": "subject:user-9"}),
        ] {
            let is_refused = wanted["action"] == "refused";
            has(if is_refused { &refused } else { &entries }, &wanted)?;
        }
        Ok(entries)
    })
    .await?;
    let times: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["at"].as_str())
        .collect();
    ensure!(
        times.is_sorted_by(|newer, older| newer >= older),
        "{times:?}"
    );

    for (token, status) in [(Some(&operator), 403), (None, 401)] {
        let token = token.map(String::as_str);
        rest(&stack, "GET", "/api/audit", token)
            .await?
            .expect(status)?;
    }
    let path = "/api/audit?before=(5-1";
    rest(&stack, "GET", path, Some(&admin)).await?.expect(400)?;
    stack.pass()
}

/// Anybody can be refused as often as it likes. What people do has an entry all the same.
#[tokio::test]
async fn refusals_in_any_number_leave_room_for_what_people_do() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    let operator = issuer.token(Signed::Hs256, json!({"sub": "operator-1"}))?;
    let admin = issuer.token(Signed::Hs256, json!({"verbs": ["admin"]}))?;
    for _ in 0..700 {
        rest(&stack, "GET", "/config", None).await?.expect(401)?;
    }
    let retire = format!("/api/devices/{OTHER}");
    rest(&stack, "DELETE", &retire, Some(&operator))
        .await?
        .expect(200)?;
    eventually("the retirement", async || {
        let done = trail(&stack, "done", &admin).await?;
        has(
            &done,
            &json!({"action": "retired", "subject": "operator-1"}),
        )?;
        let refused = trail(&stack, "refused", &admin).await?;
        // 600 a minute, and a minute may have passed.
        ensure!((1..700).contains(&refused.len()), "{}", refused.len());
        ensure!(!done.iter().any(|entry| entry["action"] == "refused"));
        Ok(())
    })
    .await?;
    rest(&stack, "GET", "/api/audit?part=x", Some(&admin))
        .await?
        .expect(400)?;
    stack.pass()
}

/// An acknowledgement needs Redis, and its entry is written afterwards: also if Redis goes away between the two, or just does not answer.
#[tokio::test]
async fn what_people_did_around_an_outage_of_redis_is_written_exactly_once() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none --redis-timeout=1s").await?;
    let operator = issuer.token(Signed::Hs256, json!({"sub": "operator-1"}))?;
    let admin = issuer.token(Signed::Hs256, json!({"verbs": ["admin"]}))?;
    let alarm_of = async |device: &str| {
        let path = format!("/devices/{device}/subtronics/alerts");
        let alerts = rest(&stack, "GET", &path, Some(&operator))
            .await?
            .expect(200)?;
        let alarm = alerts[0]["id"].as_str().context("an alarm")?;
        anyhow::Ok((format!("{path}/{alarm}/acknowledge"), alarm.to_owned()))
    };
    let (first, second) = (alarm_of(OURS).await?, alarm_of(OTHER).await?);
    let acknowledge = async |path: &str| rest(&stack, "POST", path, Some(&operator)).await;

    // It is written, and the answer of Redis is lost.
    stack.redis_proxy.never_answer(r#""action":"acknowledged""#);
    acknowledge(&first.0).await?.expect(200)?;
    // Waits until the connection without answers is given up.
    let times = async |alarm: &str| {
        let done = trail(&stack, "done", &admin).await?;
        let of_alarm = |entry: &&Value| {
            entry["action"] == "acknowledged"
                && entry["subject"] == "operator-1"
                && entry["detail"] == alarm
        };
        anyhow::Ok(done.iter().filter(of_alarm).count())
    };
    eventually("the first acknowledgement", async || {
        ensure!(times(&first.1).await? >= 1, "not yet");
        Ok(())
    })
    .await?;
    stack.redis_proxy.cut();
    // Whoever is told that it failed tries again.
    let refused = acknowledge(&second.0).await?;
    ensure!(refused.status == 503, "{refused:?}");
    stack.redis_proxy.heal();
    eventually("the second acknowledgement", async || {
        acknowledge(&second.0).await?.expect(200)
    })
    .await?;
    // Entries are written one after the other, so whatever was to be written about them is there with the next one.
    let retire = format!("/api/devices/{OTHER}");
    rest(&stack, "DELETE", &retire, Some(&operator))
        .await?
        .expect(200)?;
    eventually("the retirement", async || {
        let done = trail(&stack, "done", &admin).await?;
        has(
            &done,
            &json!({"action": "retired", "subject": "operator-1"}),
        )
    })
    .await?;
    ensure!(times(&first.1).await? == 1, "the first one");
    ensure!(times(&second.1).await? == 1, "the second one");
    let lost = stack.gateways[0].metric("gateway_audit_lost_total").await?;
    ensure!(lost < 0.5, "{lost} lost");
    stack.pass()
}

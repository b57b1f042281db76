//! A token is revoked while its holder is connected.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::browser::{Browser, BrowserEvent};
use tests::eventually::eventually;
use tests::http;
use tests::report;
use tests::stack::{Plan, Stack};
use tests::tokens::{Signed, TokenIssuer};
use tokio::time::Instant;

use super::token_command::token_command;
use super::{OURS, TRANSPORTS, joined, open_at, rest, start_plan};

const REPLICAS: usize = 3;
/// How soon a revocation takes effect on an idle machine.
const LIMIT: Duration = Duration::from_secs(1);

/// Changes what is revoked as an operator would.
async fn revoke(stack: &Stack, arguments: &[&str]) -> Result<()> {
    let url = format!("--redis-url=redis://127.0.0.1:{}", stack.redis.port());
    let arguments = [&["revoke", &url], arguments].concat();
    let (status, text) = token_command(&arguments, "").await?;
    ensure!(status == 0, "{text}");
    Ok(())
}

/// Opens a client of each transport at each replica, which follows a device.
async fn clients_everywhere(stack: &Stack, token: &str) -> Result<Vec<Browser>> {
    let mut clients = Vec::new();
    for gateway in &stack.gateways {
        for transport in TRANSPORTS {
            let client = open_at(gateway.port(), transport, Some(token)).await?;
            let answer = client.wait_for("the answer to joining", joined).await?;
            ensure!(answer.what == "connect", "{answer:?}");
            client.follow(OURS).await?;
            clients.push(client);
        }
    }
    Ok(clients)
}

async fn is_refused_everywhere(stack: &Stack, token: &str) -> Result<()> {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    for gateway in &stack.gateways {
        let path = format!("/api/devices/{OURS}");
        let answer = http::send(gateway.port(), "GET", &path, &headers, b"").await?;
        let answer = answer.expect(401)?;
        ensure!(answer["error"] == "revoked token", "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_is_refused_by_every_replica_and_its_connections_end() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let plan = Plan::default().gateways(REPLICAS);
    let stack = start_plan(&issuer, plan, "--allow-anonymous=none").await?;
    let revoked = issuer.token(Signed::Es256, json!({"jti": "stolen"}))?;
    let kept = issuer.token(Signed::Es256, json!({"jti": "kept"}))?;
    let load = stack.device(OURS);
    let victims = clients_everywhere(&stack, &revoked).await?;
    let others = clients_everywhere(&stack, &kept).await?;
    let froms: Vec<usize> = victims.iter().map(Browser::seen_count).collect();

    let ends = |seen: &BrowserEvent| seen.what == "disconnect";
    let revoking = async {
        revoke(&stack, &["--id=stolen"]).await?;
        anyhow::Ok(Instant::now())
    };
    let sending = async {
        for value in 1..=200 {
            load.send(value % 200).await?;
        }
        anyhow::Ok(())
    };
    let (revoked_at, ()) = tokio::try_join!(revoking, sending)?;
    let mut last = revoked_at;
    for (victim, from) in victims.iter().zip(&froms) {
        let ended = victim.wait_after(*from, "the end", ends).await?;
        last = last.max(ended.arrived);
        let refused = |seen: &BrowserEvent| seen.what == "connect_error";
        let refused = victim.wait_after(*from, "the refusal", refused).await?;
        ensure!(refused.name == "revoked token", "{refused:?}");
    }
    report::duration(
        &format!(
            "a revoked token: {} connections at {REPLICAS} replicas ended",
            victims.len()
        ),
        last - revoked_at,
        LIMIT,
    );
    is_refused_everywhere(&stack, &revoked).await?;

    // What follows the end reaches the others and nobody else.
    load.send(777).await?;
    for other in &others {
        let is_last = |seen: &BrowserEvent| {
            seen.is_of("device:data", OURS) && seen.body["data"]["sensor_reading"] == 777
        };
        other.wait_for("the last reading", is_last).await?;
        ensure!(!other.seen().iter().any(ends), "{:?}", other.seen());
    }
    for victim in &victims {
        let seen = victim.seen();
        let end = seen.iter().position(ends).context("an end")?;
        let after = seen[end..].iter().find(|seen| seen.what == "event");
        ensure!(after.is_none(), "{after:?}");
    }
    stack.pass()
}

#[tokio::test]
async fn a_revocation_holds_while_redis_is_away_and_until_it_is_lifted() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let plan = Plan::default().gateways(2);
    let stack = start_plan(&issuer, plan, "--allow-anonymous=none").await?;
    let token = issuer.token(Signed::EdDsa, json!({"sub": "user-9"}))?;
    let admitted = async || rest(&stack, "GET", "/config", Some(&token)).await;
    admitted().await?.expect(200)?;
    revoke(&stack, &["--subject=user-9", "--for=1h"]).await?;
    eventually("it is refused", async || {
        is_refused_everywhere(&stack, &token).await
    })
    .await?;
    stack.redis_proxy.cut();
    // A replica notices at its next look, which fails.
    eventually("Redis is away", async || {
        let ready = stack.get("/readyz").await?.json()?;
        ensure!(ready["dependencies"]["redis"]["ok"] == false, "{ready}");
        Ok(())
    })
    .await?;
    is_refused_everywhere(&stack, &token).await?;
    stack.redis_proxy.heal();
    revoke(&stack, &["--subject=user-9", "--lift"]).await?;
    eventually("it is admitted again", async || {
        admitted().await?.expect(200)?;
        Ok(())
    })
    .await?;
    stack.pass()
}

#[tokio::test]
async fn a_revocation_holds_when_redis_has_lost_its_data() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let plan = Plan::default().gateways(2);
    let stack = start_plan(&issuer, plan, "--allow-anonymous=none").await?;
    let token = |subject: &str| issuer.token(Signed::EdDsa, json!({"sub": subject}));
    let (first, second) = (token("user-8")?, token("user-9")?);
    revoke(&stack, &["--subject=user-8", "--for=1h"]).await?;
    eventually("it is refused", async || {
        is_refused_everywhere(&stack, &first).await
    })
    .await?;
    let mut redis = stack.redis_connection().await?;
    redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await?;
    revoke(&stack, &["--subject=user-9", "--for=1h"]).await?;
    eventually("both are refused", async || {
        is_refused_everywhere(&stack, &second).await?;
        is_refused_everywhere(&stack, &first).await
    })
    .await?;
    stack.pass()
}

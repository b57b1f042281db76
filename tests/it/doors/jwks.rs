//! The keys of tokens are published by an identity provider, which changes them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::browser::BrowserEvent;
use tests::eventually::eventually;
use tests::http::Response;
use tests::key_server::KeyServer;
use tests::repository;
use tests::server_process::kept_environment;
use tests::stack::{Plan, Stack};
use tests::tokens::{AUDIENCE, ISSUER, Signed, TokenIssuer};
use tokio::process::Command;

use super::token_command::token_command;
use super::{OURS, TRANSPORTS, connected, joined, open, rest};

const PUBLIC: [Signed; 3] = [Signed::Rs256, Signed::Es256, Signed::EdDsa];

/// Returns every key of an issuer, also the secret, under names that begin with this text.
fn keys(issuer: &TokenIssuer, name: &str) -> Result<Vec<Value>> {
    let all = PUBLIC.into_iter().chain([Signed::Hs256]);
    all.map(|signed| issuer.published_key(signed, &format!("{name}-{signed:?}")))
        .collect()
}

fn token(issuer: &TokenIssuer, name: &str, signed: Signed) -> Result<String> {
    issuer.named_token(signed, &format!("{name}-{signed:?}"), json!({}))
}

fn flags(server: &KeyServer) -> [String; 3] {
    [
        format!("--token-jwks-url={}", server.url()),
        format!("--token-issuer={ISSUER}"),
        format!("--token-audience={AUDIENCE}"),
    ]
}

/// Starts a stack with a device whose tokens have the keys at this server.
async fn start(server: &KeyServer) -> Result<Stack> {
    let flags = format!("--allow-anonymous=none {}", flags(server).join(" "));
    let stack = Plan::default()
        .operator_port()
        .gateway_flags(&flags)
        .start()
        .await?;
    stack.device(OURS).send(12).await?;
    Ok(stack)
}

/// Expects that REST answers this to whoever has this token.
async fn answers(stack: &Stack, token: &str, status: u16) -> Result<Value> {
    rest(stack, "GET", "/config", Some(token))
        .await?
        .expect(status)
}

#[tokio::test]
async fn keys_change_without_a_restart_a_refusal_or_a_lost_connection() -> Result<()> {
    let (first, second) = (TokenIssuer::new()?, TokenIssuer::new()?);
    let server = KeyServer::start().await?;
    server.publish(&keys(&first, "first")?);
    let stack = start(&server).await?;
    for signed in PUBLIC {
        answers(&stack, &token(&first, "first", signed)?, 200).await?;
        // It does not name its key.
        answers(&stack, &first.token(signed, json!({}))?, 200).await?;
    }
    let old = token(&first, "first", Signed::Es256)?;
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        let client = connected(&stack, transport, &old).await?;
        client.follow(OURS).await?;
        clients.push(client);
    }

    server.publish(&keys(&second, "second")?);
    // The first token with a new key is not refused.
    for signed in PUBLIC {
        answers(&stack, &token(&second, "second", signed)?, 200).await?;
    }
    ensure!(server.asked() == 2, "{}", server.asked());
    let new = token(&second, "second", Signed::EdDsa)?;
    stack.device(OURS).send(34).await?;
    for client in &clients {
        let is_new = |seen: &BrowserEvent| {
            seen.is_of("device:data", OURS) && seen.body["data"]["sensor_reading"] == 34
        };
        client
            .wait_for("the reading after the change", is_new)
            .await?;
        let answer = client.ask("auth:refresh", json!({"token": new})).await?;
        ensure!(answer["ok"] == true, "{answer}");
        let ends = |seen: &BrowserEvent| seen.what == "disconnect";
        ensure!(!client.seen().iter().any(ends), "{:?}", client.seen());
    }
    for transport in TRANSPORTS {
        connected(&stack, transport, &new).await?;
    }
    // The withdrawn key does not count any more. It may be too early to ask again whether it does.
    eventually("a token with a withdrawn key is refused", async || {
        let answer = rest(&stack, "GET", "/config", Some(&old)).await?;
        ensure!(answer.status != 200, "{answer:?}");
        answer.expect(401)
    })
    .await?;
    stack.pass()
}

/// Restarts the gateway while nobody publishes keys, and waits until it answers and has Redis. Returns what `/readyz` answers then.
async fn restarted_without_provider(stack: &mut Stack, server: &KeyServer) -> Result<Response> {
    server.leave();
    stack.gateways[0].process.terminate().await?;
    stack.gateways[0].process.restart()?;
    eventually("the gateway has Redis again", async || {
        let answer = stack.gateways[0].get("/readyz").await?;
        let redis = &answer.json()?["dependencies"]["redis"];
        ensure!(redis["ok"] == true, "{answer:?}");
        Ok(answer)
    })
    .await
}

#[tokio::test]
async fn without_any_key_a_gateway_waits_for_those_who_publish_some() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let server = KeyServer::start().await?;
    server.publish(&keys(&issuer, "k")?);
    let mut stack = start(&server).await?;
    let unready = restarted_without_provider(&mut stack, &server).await?;
    let body = unready.expect(503)?;
    ensure!(body["status"] == "unready", "{body}");
    let missing = &body["dependencies"]["keys"];
    ensure!(
        missing["ok"] == false && missing["reason"].is_string(),
        "{body}"
    );
    // Another restart would not help.
    stack.get("/health").await?.expect(200)?;
    server.publish(&keys(&issuer, "k")?);
    stack.gateways[0].ready().await?;
    let token = token(&issuer, "k", Signed::EdDsa)?;
    answers(&stack, &token, 200).await?;
    // Once there are keys, nothing depends on the provider.
    server.leave();
    let ready = stack.gateways[0].get("/readyz").await?.expect(200)?;
    ensure!(ready["dependencies"]["keys"].is_null(), "{ready}");
    stack.pass()
}

#[tokio::test]
async fn with_another_way_in_a_gateway_does_not_wait_for_published_keys() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let server = KeyServer::start().await?;
    let secret = issuer.public_key(Signed::Hs256);
    for other in [
        format!(
            "--allow-anonymous=none --token-secret-file={}",
            secret.display()
        ),
        "--allow-anonymous=read".to_owned(),
    ] {
        let flags = format!("{other} {}", flags(&server).join(" "));
        // Waits until it is ready.
        let stack = Plan::default().gateway_flags(&flags).start().await?;
        let ready = stack.get("/readyz").await?.expect(200)?;
        ensure!(ready["dependencies"]["keys"].is_null(), "{other}: {ready}");
        stack.pass()?;
    }
    Ok(())
}

#[tokio::test]
async fn while_nobody_publishes_keys_the_known_ones_count_and_others_may_try_again() -> Result<()> {
    let (first, second) = (TokenIssuer::new()?, TokenIssuer::new()?);
    let server = KeyServer::start().await?;
    server.publish(&keys(&second, "second")?);
    let mut stack = start(&server).await?;
    restarted_without_provider(&mut stack, &server).await?;
    let stack = stack;
    let of_first = token(&first, "first", Signed::EdDsa)?;
    let tries_again = async |token: &str| {
        let answer = rest(&stack, "GET", "/config", Some(token)).await?;
        ensure!(answer.header("retry-after") == "2", "{answer:?}");
        let body = answer.expect(503)?;
        ensure!(body["error_code"] == "keys_away", "{body}");
        for transport in TRANSPORTS {
            let browser = open(&stack, transport, Some(token)).await?;
            let answer = browser.wait_for("the answer to joining", joined).await?;
            let is_told = answer.what == "connect_error" && answer.name.contains("try again later");
            ensure!(is_told, "{answer:?}");
        }
        anyhow::Ok(())
    };
    // Before the first answer.
    tries_again(&of_first).await?;
    server.publish(&keys(&first, "first")?);
    eventually("the keys are there", async || {
        answers(&stack, &of_first, 200).await
    })
    .await?;
    let client = connected(&stack, TRANSPORTS[0], &of_first).await?;

    server.leave();
    let of_second = token(&second, "second", Signed::Rs256)?;
    tries_again(&of_second).await?;
    let answer = client
        .ask("auth:refresh", json!({"token": of_second}))
        .await?;
    ensure!(answer["error"]["code"] == "unavailable", "{answer}");
    answers(&stack, &of_first, 200).await?;
    connected(&stack, TRANSPORTS[0], &of_first).await?;
    let failed = stack.gateways[0]
        .metric("gateway_jwks_fetches_total{of=\"tokens\",outcome=\"failed\"")
        .await?;
    ensure!(failed > 0.0, "{failed}");
    let known = stack.gateways[0]
        .metric("gateway_jwks_keys{of=\"tokens\"")
        .await?;
    ensure!(known.to_string() == "3", "{known}");
    stack.pass()
}

#[tokio::test]
async fn a_check_of_the_settings_asks_for_the_keys() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let server = KeyServer::start().await?;
    server.publish(&keys(&issuer, "k")?);
    let stack = start(&server).await?;
    let check = async || {
        let output = Command::new(repository::binary("gateway")?)
            .args(["check-config", "--connect"])
            .arg(format!(
                "--redis-url=redis://127.0.0.1:{}",
                stack.redis.port()
            ))
            .args(flags(&server))
            .env_clear()
            .envs(kept_environment())
            .output()
            .await?;
        anyhow::Ok(String::from_utf8(output.stdout)?)
    };
    let named = format!("connect keys of tokens {}", server.url());
    let text = check().await?;
    ensure!(text.contains(&format!("{named}: ok, 3 keys")), "{text}");
    server.leave();
    let text = check().await?;
    ensure!(text.contains(&format!("{named}: FAILED")), "{text}");
    stack.pass()
}

#[tokio::test]
async fn a_token_is_inspected_with_published_keys() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let server = KeyServer::start().await?;
    server.publish(&keys(&issuer, "k")?);
    let flags = flags(&server);
    let mut arguments = vec!["inspect"];
    arguments.extend(flags.iter().map(String::as_str));
    let (code, text) = token_command(&arguments, &token(&issuer, "k", Signed::Rs256)?).await?;
    ensure!(code == 0 && text.contains("accepted"), "{text}");
    let (code, text) = token_command(&arguments, &token(&issuer, "x", Signed::Rs256)?).await?;
    ensure!(code == 1 && text.contains("invalid token"), "{text}");
    server.leave();
    let (code, text) = token_command(&arguments, &token(&issuer, "k", Signed::Rs256)?).await?;
    ensure!(
        code == 1 && text.contains("cannot be checked now"),
        "{text}"
    );
    ensure!(text.contains(&server.url()), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_published_secret_signs_nothing() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let server = KeyServer::start().await?;
    server.publish(&keys(&issuer, "k")?);
    let stack = start(&server).await?;
    answers(&stack, &token(&issuer, "k", Signed::Es256)?, 200).await?;
    for refused in [
        token(&issuer, "k", Signed::Hs256)?,
        issuer.token(Signed::Hs256, json!({}))?,
        issuer.confused_token(Signed::Es256, json!({}))?,
    ] {
        let answer = answers(&stack, &refused, 401).await?;
        ensure!(answer["error"] == "invalid token", "{answer}");
    }
    // Nobody was asked for keys because of them.
    ensure!(server.asked() == 1, "{}", server.asked());
    stack.pass()
}

//! Redis answers and refuses to work: the services say so and why, acknowledge nothing, and lose, double and blame nothing.

use anyhow::{Context, Result, ensure};
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0001";

async fn run(redis: &mut MultiplexedConnection, words: &str) -> Result<()> {
    let mut rest = words.split(' ');
    let mut command = redis::cmd(rest.next().unwrap_or_default());
    for word in rest {
        command.arg(word);
    }
    let done = command.exec_async(redis).await;
    done.with_context(|| words.to_owned())
}

/// Reads `/readyz` of the ingest or the gateway, whatever its status code.
async fn readiness(stack: &Stack, of_ingest: bool) -> Result<(u16, Value)> {
    let service = if of_ingest {
        &stack.ingests[0]
    } else {
        &stack.gateways[0]
    };
    let answer = service.get("/readyz").await?;
    Ok((answer.status, answer.json()?))
}

/// Reads the transitions in the alarm log of the device, newest first.
async fn log_lines(redis: &mut MultiplexedConnection) -> Result<Vec<String>> {
    let mut keys = redis::cmd("KEYS");
    let keys: Vec<String> = keys.arg("st:*:log").query_async(redis).await?;
    let mut lines = Vec::new();
    for key in keys {
        let mut range = redis::cmd("XREVRANGE");
        let range = range.arg(key).arg("+").arg("-");
        let found: Vec<(String, Vec<String>)> = range.query_async(redis).await?;
        lines.extend(
            found
                .into_iter()
                .filter_map(|(_, fields)| fields.last().cloned()),
        );
    }
    Ok(lines)
}

/// Runs `refuse`, sends an alarm, checks what everybody is told, runs `heal`, and checks that the alarm exists exactly once.
/// `reason` is how the reason begins.
async fn refused(refuse: &[&str], heal: &[&str], reason: &str) -> Result<()> {
    let plan = Plan::default()
        .redis_flags("--enable-protected-configs yes --save 3600 1")
        // Without memory beyond `maxmemory`.
        .ingest_flags("--memory-reserve=0")
        .gateway_flags("--memory-reserve=0");
    let mut stack = plan.start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(20).await?;
    stack.shows(SERIAL, 20).await?;
    browser.event_after(0, "device:data", SERIAL).await?;
    eventually("all is well", async || {
        let (_, body) = readiness(&stack, false).await?;
        ensure!(body["status"] == "ok", "{body}");
        Ok(())
    })
    .await?;
    let mut redis = stack.redis_connection().await?;
    let from = browser.seen_count();
    for words in refuse {
        run(&mut redis, words).await?;
    }
    device.send(1_200).await?;

    for of_ingest in [true, false] {
        eventually("the report of Redis", async || {
            let (status, body) = readiness(&stack, of_ingest).await?;
            ensure!(
                status == if of_ingest { 503 } else { 200 },
                "{status} {body}"
            );
            let told = &body["dependencies"]["redis"];
            ensure!(told["ok"] == false, "{body}");
            let text = told["reason"].as_str().unwrap_or_default();
            ensure!(text.starts_with(reason), "{body}");
            ensure!(of_ingest || body["status"] == "degraded", "{body}");
            Ok(())
        })
        .await?;
    }
    browser
        .wait_after(from, "the clients are told", |seen| {
            let redis = &seen.body["dependencies"]["redis"];
            let text = redis["reason"].as_str().unwrap_or_default();
            seen.is_event("system:status") && redis["ok"] == false && text.starts_with(reason)
        })
        .await?;
    let path = format!("/devices/{SERIAL}/subtronics/telemetry/latest");
    eventually("REST tells the age or nothing", async || {
        let answer = stack.get(&path).await?;
        let is_old = answer.status == 200 && answer.header("age").parse::<u64>().is_ok();
        ensure!(is_old || answer.status == 503, "{answer:?}");
        Ok(())
    })
    .await?;
    // Nothing was acknowledged: another process gets the reading from the broker.
    stack.ingests[0].process.kill().await?;

    for words in heal {
        run(&mut redis, words).await?;
    }
    stack.ingests[0].process.restart()?;
    stack.ingests[0].ready().await?;
    stack.shows(SERIAL, 1_200).await?;
    browser
        .wait_after(from, "the clients are told that all is well", |seen| {
            seen.is_event("system:status") && seen.body["status"] == "ok"
        })
        .await?;
    browser.event_after(from, "device:alerts", SERIAL).await?;
    once(&stack, &mut redis).await?;
    let changes = browser.events("device:alerts:changed", SERIAL);
    ensure!(changes.len() == 1, "{changes:?}");
    stack.pass()
}

/// Checks that the alarm was raised once, in the log and in the alerts, and that no message became a dead letter.
async fn once(stack: &Stack, redis: &mut MultiplexedConnection) -> Result<()> {
    let lines = log_lines(redis).await?;
    ensure!(lines.len() == 1, "{lines:?}");
    ensure!(lines[0].contains(r#""change":"raised""#), "{lines:?}");
    let alerts = stack.alerts(SERIAL).await?;
    ensure!(alerts.len() == 1, "{alerts:?}");
    let dead: u64 = redis::cmd("XLEN")
        .arg("st:dead-letters")
        .query_async(redis)
        .await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}

/// Takes a right from the users of both services, and gives it back.
async fn right_is_lost(refuse: &str, heal: &str) -> Result<()> {
    let of_both =
        |rules: &str| ["ingest", "gateway"].map(|user| format!("ACL SETUSER {user} {rules}"));
    let (refuse, heal) = (of_both(refuse), of_both(heal));
    let (refuse, heal) = (
        refuse.each_ref().map(String::as_str),
        heal.each_ref().map(String::as_str),
    );
    refused(&refuse, &heal, "NOPERM").await
}

#[tokio::test]
async fn a_command_that_is_no_longer_allowed() -> Result<()> {
    right_is_lost("-zadd", "+zadd").await
}

#[tokio::test]
async fn a_stream_command_that_is_no_longer_allowed() -> Result<()> {
    right_is_lost("-xadd", "+xadd").await
}

#[tokio::test]
async fn a_key_pattern_that_is_no_longer_allowed() -> Result<()> {
    let refuse = "resetkeys ~st:partitions ~st:dead-letters* ~st:{[acfir]* ~st:{p??}:[^l]*";
    right_is_lost(refuse, "~st:{p*}:*").await
}

#[tokio::test]
async fn a_channel_that_is_no_longer_allowed() -> Result<()> {
    right_is_lost("resetchannels &st:{canary}:live", "&st:{p*}:live:*").await
}

#[tokio::test]
async fn a_failed_snapshot() -> Result<()> {
    // Redis cannot replace a folder by its snapshot.
    let refuse = ["CONFIG SET dbfilename appendonlydir", "BGSAVE"];
    let heal = ["CONFIG SET dbfilename dump.rdb", "BGSAVE"];
    refused(&refuse, &heal, "MISCONF").await
}

#[tokio::test]
async fn too_few_replicas() -> Result<()> {
    let refuse = ["CONFIG SET min-replicas-to-write 1"];
    refused(
        &refuse,
        &["CONFIG SET min-replicas-to-write 0"],
        "NOREPLICAS",
    )
    .await
}

#[tokio::test]
async fn no_memory() -> Result<()> {
    refused(
        &["CONFIG SET maxmemory 1"],
        &["CONFIG SET maxmemory 0"],
        "OOM",
    )
    .await
}

#[tokio::test]
async fn a_master_that_became_a_replica() -> Result<()> {
    let refuse = ["REPLICAOF 127.0.0.1 1"];
    refused(&refuse, &["REPLICAOF NO ONE"], "READONLY").await
}

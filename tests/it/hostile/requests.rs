//! Requests that cost more than they look: each costs and holds a bounded amount, and others have their turns beside it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use redis::AsyncCommands;
use serde_json::Value;
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Stack};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::answers::{ask_and_stop_reading, with_devices};

const SERIAL: &str = "OTSM-0001";

#[tokio::test]
async fn a_client_that_takes_one_byte_at_a_time_is_disconnected() -> Result<()> {
    // More than it takes, and more time than the test has.
    let stack = with_devices("--answer-rate=65536 --answer-time=1h").await?;
    let gateway = &stack.gateways[0];
    let mut dripping = ask_and_stop_reading(gateway.port()).await?;
    eventually("the connection was closed", async || {
        // A byte, if there is one.
        let mut byte = [0];
        let read = dripping.read_exact(&mut byte);
        tokio::time::timeout(Duration::from_millis(10), read)
            .await
            .ok();
        let unread = gateway.metric("gateway_answers_unread_total").await?;
        ensure!(unread >= 1.0, "{unread}");
        Ok(())
    })
    .await?;
    stack.pass()
}

/// Asks for the log of one device as a client of this address, as a proxy tells it.
async fn ask_for_logs(port: u16, client: &str) -> Result<()> {
    let path = format!("/devices/{SERIAL}/alarm-logs");
    let headers = [("x-forwarded-for", client)];
    let answer = http::send(port, "GET", &path, &headers, b"").await?;
    answer.expect(200)?;
    Ok(())
}

/// Requests of the greedy client at the same time.
const GREEDY: usize = 12;

/// Lets one client ask for much, and then another one ask once. Returns how many answers the greedy one had got when the other
/// one got its answer.
async fn answers_before_the_modest_client(flags: &str) -> Result<usize> {
    let stack = Plan::default().gateway_flags(flags).start().await?;
    stack.device(SERIAL).send(1_200).await?;
    stack.shows(SERIAL, 1_200).await?;
    // Every read takes a while, so that all requests wait at the same time.
    stack.redis_proxy.delay(Duration::from_millis(100));
    let port = stack.gateways[0].port();
    let mut greedy = JoinSet::new();
    for _ in 0..GREEDY {
        greedy.spawn(ask_for_logs(port, "10.0.0.1"));
    }
    // They all have a place in the queue once the first one is answered.
    greedy.join_next().await.context("an answer")???;
    ask_for_logs(port, "10.0.0.2").await?;
    let mut answered = 1;
    while let Some(answer) = greedy.try_join_next() {
        answer??;
        answered += 1;
    }
    while let Some(answer) = greedy.join_next().await {
        answer??;
    }
    stack.redis_proxy.delay(Duration::ZERO);
    stack.pass()?;
    Ok(answered)
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_take_turns() -> Result<()> {
    let answered = answers_before_the_modest_client("--trusted-proxies=127.0.0.1").await?;
    ensure!(answered < GREEDY, "it waited for all {answered}");
    Ok(())
}

#[tokio::test]
async fn what_an_untrusted_peer_says_of_its_address_is_ignored() -> Result<()> {
    // Both are clients of the same address, so the later one waits behind the earlier ones.
    let answered = answers_before_the_modest_client("--trusted-proxies=10.9.9.9").await?;
    ensure!(answered > GREEDY / 2, "only {answered} were before it");
    Ok(())
}

#[tokio::test]
async fn statistics_follow_the_log_without_reading_it_again() -> Result<()> {
    let stack = Stack::start().await?;
    for value in [1_200, 10, 1_200] {
        stack.device(SERIAL).send(value).await?;
        stack.shows(SERIAL, value).await?;
    }
    let rows = || async {
        let found = stack.get("/alarm-logs?limit=1000").await?.expect(200)?;
        let rows = found["logs"].as_array().context("rows")?.clone();
        let acknowledged = rows.iter().filter(|row| row["acknowledged"] == true);
        let acknowledged = acknowledged.count();
        anyhow::Ok((rows.len(), acknowledged))
    };
    let counted = || async {
        let found = stack.get("/alarm-logs/statistics").await?.expect(200)?;
        let count = |name: &str| -> Result<usize> {
            Ok(usize::try_from(found[name].as_u64().context("a count")?)?)
        };
        let acknowledged = count("acknowledged_count")?;
        ensure!(count("total_alarms")? == acknowledged + count("unacknowledged_count")?);
        Ok((count("total_alarms")?, acknowledged))
    };
    let before = rows().await?;
    ensure!(before.0 > 0 && counted().await? == before, "{before:?}");

    let mut redis = stack.redis_connection().await?;
    let logs: Vec<String> = redis.keys("st:*:log").await?;
    ensure!(logs.len() == 1, "{logs:?}");
    // Entries that are no alarms, as many as a log may have.
    let fill =
        "for _ = 1, 50000 do redis.call('XADD', KEYS[1], '*', 'device', 'X', 'line', '{') end";
    let script = redis::Script::new(fill);
    let mut call = script.prepare_invoke();
    call.key(&logs[0]);
    let _: () = call.invoke_async(&mut redis).await?;
    ensure!(counted().await? == before, "after the log was filled");
    let bytes_sent = async || -> Result<f64> {
        let mut redis = stack.redis_connection().await?;
        let info: String = redis::cmd("INFO")
            .arg("stats")
            .query_async(&mut redis)
            .await?;
        let sent = info
            .lines()
            .find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        Ok(sent.context("bytes sent by Redis")?.trim().parse()?)
    };
    let sent = bytes_sent().await?;
    for _ in 0..10 {
        ensure!(counted().await? == before, "without a change");
    }
    let sent = bytes_sent().await? - sent;
    // Reading the log once is 2 MB, and other parts of the system read beside.
    ensure!(sent < 5e6, "Redis sent {sent} bytes");

    // An acknowledgement, and a new alarm of another device in the same or another partition.
    let alarms = stack.alerts(SERIAL).await?;
    let id = alarms.last().context("an alarm")?["id"].clone();
    let id = id.as_str().context("an id")?;
    stack.acknowledge(SERIAL, id, "{}").await?.expect(200)?;
    stack.device("OTSM-0002").send(1_200).await?;
    stack.shows("OTSM-0002", 1_200).await?;
    let of_device = stack.get(&format!("/devices/{SERIAL}/alarm-logs")).await?;
    let of_device: Value = of_device.expect(200)?;
    let acknowledged = of_device["logs"].as_array().context("rows")?.iter();
    let acknowledged = acknowledged.filter(|row| row["acknowledged"] == true);
    let acknowledged = acknowledged.count();
    ensure!(acknowledged > 0, "{of_device}");
    ensure!(counted().await? == (before.0 + 1, acknowledged));

    // The log is trimmed, and in the end it is gone.
    let _: usize = redis::cmd("XTRIM")
        .arg(&logs[0])
        .arg("MAXLEN")
        .arg(10)
        .query_async(&mut redis)
        .await?;
    ensure!(
        counted().await? == rows().await?,
        "after the log was trimmed"
    );
    let _: usize = redis.del(&logs[0]).await?;
    ensure!(
        counted().await? == rows().await?,
        "after the log was deleted"
    );
    stack.pass()
}

#[tokio::test]
async fn the_alerts_of_a_flapping_device_are_bounded() -> Result<()> {
    let plan = Plan::default().every_raise_is_an_alarm();
    let stack = plan.start().await?;
    for number in 0..250 {
        let value = if number % 2 == 0 { 1_200 } else { 10 };
        stack.device(SERIAL).send(value).await?;
    }
    // The last one stays open.
    stack.device(SERIAL).send(1_201).await?;
    stack.shows(SERIAL, 1_201).await?;
    let path = format!("/devices/{SERIAL}/subtronics/alerts");
    let asked = (0..50).map(|_| stack.get(&path));
    for answer in join_all(asked).await {
        let answer = answer?;
        let alerts = answer.expect(200)?;
        ensure!(answer.body.len() < 70 * 1024, "{} bytes", answer.body.len());
        let alerts = alerts.as_array().context("alerts")?;
        ensure!(alerts.len() <= 100, "{} alerts", alerts.len());
        let is_open = |alert: &&Value| alert["state"] != "cleared";
        ensure!(alerts.iter().filter(is_open).count() >= 1, "{alerts:?}");
    }
    stack.pass()
}

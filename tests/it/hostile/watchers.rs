//! Clients that subscribe and leave again and again, or to names that never existed, and a lost connection for events.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::crowd::Crowd;
use tests::eventually::eventually;
use tests::neighbour::{self, Neighbour};
use tests::report;
use tests::seed::Seed;
use tests::stack::Stack;
use tokio::sync::watch;

use super::floods::{one_each, plan};

/// Makes this many detectors known, each with one reading. Returns their serials.
pub(super) async fn populate(stack: &Stack, count: usize) -> Result<Vec<String>> {
    let serials: Vec<String> = (1..=count)
        .map(|number| format!("OTSM-QUIET-{number}"))
        .collect();
    one_each(stack.broker.port(), &serials).await?;
    eventually("every device is listed", async || {
        let health = stack.get("/health").await?.expect(200)?;
        let devices = health["devices_count"].as_u64();
        ensure!(devices >= Some(count as u64), "{health}");
        Ok(())
    })
    .await?;
    Ok(serials)
}

/// Returns the number of Redis channels that anybody is subscribed to.
async fn channels(redis: &mut MultiplexedConnection) -> Result<usize> {
    let names: Vec<String> = redis::cmd("PUBSUB")
        .arg("SHARDCHANNELS")
        .query_async(redis)
        .await?;
    Ok(names.len())
}

/// Subscribes to each of these and leaves it when that is answered, some at once.
pub(super) async fn come_and_go(client: &Browser, serials: &[String]) -> Result<()> {
    for some in serials.chunks(20) {
        try_join_all(some.iter().map(async |serial| {
            let answer = client.subscribe(serial).await?;
            ensure!(answer["ok"] == true, "{serial}: {answer}");
            client.emit("unsubscribe:device", json!(serial)).await
        }))
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn clients_that_come_and_go_leave_few_channels() -> Result<()> {
    const DEVICES: usize = 300;
    const LINGERING: u16 = 40;
    const CLIENTS: usize = 4;
    let flags = format!("--linger=10m --linger-max={LINGERING}");
    let stack = plan().gateway_flags(&flags).start().await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let serials = populate(&stack, DEVICES).await?;
    let mut redis = stack.redis_connection().await?;
    let clients: Vec<Browser> = try_join_all((0..CLIENTS).map(|_| stack.browser())).await?;
    let (over, mut is_over) = watch::channel(false);
    let churn = async {
        try_join_all(clients.iter().enumerate().map(async |(index, client)| {
            for round in 0..2 {
                // The clients are never at the same device.
                let mut turned = serials.clone();
                turned.rotate_left((index + round) * DEVICES / CLIENTS % DEVICES);
                come_and_go(client, &turned).await?;
            }
            anyhow::Ok(())
        }))
        .await?;
        over.send_replace(true);
        anyhow::Ok(())
    };
    let mut most = 0;
    let count = async {
        while !*is_over.borrow_and_update() {
            most = most.max(channels(&mut redis).await?);
        }
        anyhow::Ok(())
    };
    tokio::try_join!(churn, count)?;
    // Those of the neighbour, and that of the canary.
    let bound = usize::from(LINGERING) + neighbour::DEVICES + 1;
    eventually("few channels are left", async || {
        let left = channels(&mut redis).await?;
        ensure!(left <= bound, "{left} channels, bound {bound}");
        Ok(())
    })
    .await?;
    // The metric may be older than the last channels that ended.
    eventually("few channels linger", async || {
        let gateway = &stack.gateways[0];
        let lingering = gateway.metric("gateway_channels_lingering").await?;
        ensure!(lingering <= f64::from(LINGERING), "{lingering} channels");
        Ok(())
    })
    .await?;
    neighbour.finish(&stack, "clients that come and go").await?;
    report::line(&format!(
        "clients that come and go: at most {most} channels for {DEVICES} devices, {bound} allowed to stay"
    ));
    stack.pass()
}

/// Subscribes to this many names that nobody has, and returns how many were refused.
pub(super) async fn subscribe_to_nothing(
    client: &Browser,
    prefix: &str,
    count: usize,
) -> Result<usize> {
    let from = client.seen_count();
    let mut refused = 0;
    for first in (0..count).step_by(100) {
        let names = (first..count.min(first + 100)).map(|number| format!("{prefix}-{number}"));
        let asked = names.map(async |name| client.ask("subscribe:device", json!(name)).await);
        let answers: Vec<Value> = try_join_all(asked).await?;
        for answer in answers {
            if answer["ok"] != true {
                ensure!(
                    answer["error"]["code"] == "limit" || answer["code"] == "limit",
                    "{answer}"
                );
                refused += 1;
            }
        }
    }
    let seen = client.seen_after(from);
    ensure!(
        !seen.iter().any(|seen| seen.what == "disconnect"),
        "disconnected"
    );
    Ok(refused)
}

#[tokio::test]
async fn names_that_never_existed_get_no_channel_and_are_bounded() -> Result<()> {
    const CLIENTS: usize = 3;
    const NAMES: usize = 300;
    const PER_ADDRESS: u16 = 200;
    // The devices below are all that may be watched beside the names.
    let devices = neighbour::DEVICES + 10;
    let max = 4 * PER_ADDRESS;
    let flags = format!("--max-unlisted={max} --max-watched={devices}");
    let stack = plan().gateway_flags(&flags).start().await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let mut redis = stack.redis_connection().await?;
    let clients: Vec<Browser> = try_join_all((0..CLIENTS).map(|_| stack.browser())).await?;
    let refused = try_join_all(clients.iter().enumerate().map(async |(index, client)| {
        subscribe_to_nothing(client, &format!("OTSM-NOBODY-{index}"), NAMES).await
    }))
    .await?;
    let refused: usize = refused.iter().sum();
    let least = CLIENTS * NAMES - usize::from(PER_ADDRESS);
    ensure!(refused == least, "{refused} refused, not {least}");
    let names = stack.gateways[0].metric("gateway_devices_unlisted").await?;
    ensure!(names <= f64::from(PER_ADDRESS), "{names} names");
    // A real one is not refused to anybody, although the names would fill its bound many times.
    stack.device("OTSM-REAL").send(20).await?;
    stack.shows("OTSM-REAL", 20).await?;
    let answer = clients[0].subscribe("OTSM-REAL").await?;
    ensure!(answer["ok"] == true, "{answer}");
    let left = channels(&mut redis).await?;
    // Those of the neighbour, that of the real one, and that of the canary.
    ensure!(left <= neighbour::DEVICES + 2, "{left} channels");
    drop(clients);
    eventually("the names are forgotten", async || {
        let watched = stack.gateways[0].metric("gateway_devices_watched").await?;
        // The neighbour's, and one that its check watches.
        ensure!(watched <= 10.0, "{watched} watched");
        Ok(())
    })
    .await?;
    neighbour.finish(&stack, "names that never existed").await?;
    stack.pass()
}

/// Closes the connection on which the gateway receives events.
pub(super) async fn cut_subscriber(stack: &Stack) -> Result<()> {
    let mut redis = stack.redis_connection().await?;
    let _: usize = redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .query_async(&mut redis)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_lost_connection_for_events_is_reported_until_every_device_is_confirmed() -> Result<()> {
    const DEVICES: usize = 900;
    let stack = plan().start().await?;
    let serials = populate(&stack, DEVICES).await?;
    let neighbour = Neighbour::start(&stack, &mut Seed::from_environment()).await?;
    let port = stack.gateways[0].port();
    let mut crowd = Crowd::open(port, std::slice::from_ref(&serials)).await?;
    let browser = stack.browser().await?;
    let lost = "gateway_subscriber_lost_total";
    for round in 1..=3 {
        let from = browser.seen_count();
        cut_subscriber(&stack).await?;
        let told = browser
            .wait_after(from, "that subscriptions are missing", |seen| {
                let subscriptions = &seen.body["dependencies"]["subscriptions"];
                seen.is_event("system:status") && subscriptions["ok"] == false
            })
            .await?;
        ensure!(told.body["status"] == "degraded", "{told:?}");
        browser
            .wait_after(from, "that everything is confirmed", |seen| {
                seen.is_event("system:status") && seen.body["status"] == "ok"
            })
            .await?;
        let missing = stack.gateways[0]
            .metric("gateway_devices_unconfirmed")
            .await?;
        ensure!(
            missing < 0.5,
            "{missing} not confirmed, but the status is ok"
        );
        let times = stack.gateways[0].metric(lost).await?;
        ensure!(times >= f64::from(round), "{times} times");
    }
    let counts = crowd.counts().await?;
    ensure!(
        counts.connections == 1 && counts.backwards == 0,
        "{counts:?}"
    );
    // A reading of the last one reaches the crowd over the new connection.
    let watched = serials.last().cloned().unwrap_or_default();
    stack.device(&watched).send(30).await?;
    eventually("the crowd receives a reading", async || {
        let counts = crowd.counts().await?;
        ensure!(counts.readings == 1, "{counts:?}");
        Ok(())
    })
    .await?;
    neighbour
        .finish(&stack, "a lost connection for events")
        .await?;
    stack.pass()
}

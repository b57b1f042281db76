//! Another Redis server takes over. The old one may still answer.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tests::browser::Browser;
use tests::eventually::{LATE, eventually};
use tests::ports::Port;
use tests::server_process::ServerProcess;
use tests::stack::{Plan, Stack};

use super::{DETECTION_LIMIT, LATCHED, RECOVERY_LIMIT, report_duration, start};

/// A second Redis server. It is a replica of the stack's Redis.
struct Replica {
    process: ServerProcess,
    port: Port,
}

impl Replica {
    async fn follow(stack: &Stack) -> Result<Self> {
        let mut master = stack.redis_connection().await?;
        redis::cmd("CONFIG")
            .arg("SET")
            .arg("repl-diskless-sync-delay")
            .arg(0)
            .exec_async(&mut master)
            .await?;
        let port = Port::reserve()?;
        let folder = stack.folder().join("replica");
        std::fs::create_dir(&folder).context("cannot create a folder for the replica")?;
        let master_address = format!("127.0.0.1 {}", stack.redis.port());
        let number = port.number().to_string();
        // Replication does not copy users.
        let users = stack.redis_users().display().to_string();
        let flags = [
            "--aclfile",
            &users,
            "--port",
            &number,
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "yes",
            "--maxmemory-policy",
            "noeviction",
            "--replicaof",
            &master_address,
        ];
        let process = ServerProcess::start("replica", Path::new("redis-server"), flags, &folder)?;
        let replica = Self { process, port };
        eventually("the replica is synchronised", async || {
            let mut redis = replica.connection().await?;
            let info: String = redis::cmd("INFO")
                .arg("replication")
                .query_async(&mut redis)
                .await?;
            ensure!(info.contains("master_link_status:up"), "{info}");
            Ok(())
        })
        .await?;
        Ok(replica)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "tests read and change Redis directly, not through the store of the services"
    )]
    async fn connection(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port.number()))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LATE))
            .set_response_timeout(Some(LATE));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        Ok(connecting.await?)
    }

    /// Makes this server a master and directs new connections to it. The old master keeps running and keeps its connections.
    async fn promote(&self, stack: &Stack) -> Result<()> {
        let mut redis = self.connection().await?;
        redis::cmd("REPLICAOF")
            .arg("NO")
            .arg("ONE")
            .exec_async(&mut redis)
            .await?;
        stack.redis_proxy.retarget(self.port.number());
        Ok(())
    }

    /// Reads the value of the device's latest reading on this server.
    async fn value_of(&self, device: &str) -> Result<Value> {
        let mut redis = self.connection().await?;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("st:*:device:{device}"))
            .query_async(&mut redis)
            .await?;
        let key = keys
            .first()
            .context("the device is unknown to this server")?;
        let latest: String = redis::cmd("HGET")
            .arg(key)
            .arg("latest")
            .query_async(&mut redis)
            .await?;
        let latest: Value = serde_json::from_str(&latest)?;
        Ok(latest["reading"]["value"].clone())
    }
}

#[tokio::test]
async fn after_a_failover_all_services_use_the_new_master_although_the_old_one_answers()
-> Result<()> {
    let (stack, scene) = start().await?;
    let mut replica = Replica::follow(&stack).await?;
    let from = scene.browser.seen_count();
    let promoted = Instant::now();
    replica.promote(&stack).await?;
    let device = stack.device("OTSM-0003");
    // The old master may commit this reading. Then it is sent again until the new master has it.
    device.send(1).await?;
    eventually("the reading is on the new master", async || {
        device.send(1).await?;
        let value = replica.value_of("OTSM-0003").await?;
        ensure!(value == 1, "{value}");
        Ok(())
    })
    .await?;
    report_duration(
        "failover, the old master still answers",
        "noticed",
        promoted,
        DETECTION_LIMIT,
    );
    scene.browser.subscribe("OTSM-0003").await?;
    device.send(2).await?;
    scene
        .browser
        .wait_after(from, "a reading from the new master", |seen| {
            seen.is_of("device:data", "OTSM-0003") && seen.body["data"]["sensor_reading"] == 2
        })
        .await?;
    report_duration(
        "failover, the old master still answers",
        "healed",
        promoted,
        RECOVERY_LIMIT,
    );
    scene.alarms_survive_and_clear(&stack).await?;
    replica.process.check_alive()?;
    stack.pass()
}

/// Promotes the replica, and closes all connections to the old master except those with subscriptions. A subscriber then
/// gets answers from the old master, but no messages.
async fn deafen(stack: &Stack, replica: &Replica) -> Result<()> {
    replica.promote(stack).await?;
    let mut old = stack.redis_connection().await?;
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes")
        .exec_async(&mut old)
        .await?;
    Ok(())
}

#[tokio::test]
async fn only_the_redis_watch_notices_a_subscriber_that_receives_nothing() -> Result<()> {
    let watched = Stack::start().await?;
    let unwatched = Plan::default()
        .ingest_flags("--redis-watch=0s")
        .gateway_flags("--redis-watch=0s")
        .start()
        .await?;
    let mut browsers = Vec::new();
    for stack in [&watched, &unwatched] {
        let device = stack.device(LATCHED);
        let browser = stack.browser().await?;
        browser.subscribe(LATCHED).await?;
        device.send(1).await?;
        browser.event_after(0, "device:data", LATCHED).await?;
        browsers.push((browser, device));
    }
    let replicas = (
        Replica::follow(&watched).await?,
        Replica::follow(&unwatched).await?,
    );
    deafen(&unwatched, &replicas.1).await?;
    deafen(&watched, &replicas.0).await?;
    let deafened = Instant::now();
    for (_, device) in &browsers {
        device.send(2).await?;
    }
    // The services of both stacks now use their new master.
    for stack in [&watched, &unwatched] {
        stack.shows(LATCHED, 2).await?;
    }
    let has_received = |browser: &Browser| {
        let received = browser.events("device:data", LATCHED);
        received
            .iter()
            .any(|body| body["data"]["sensor_reading"] == 2)
    };
    eventually(
        "the browser of the stack with the watch receives the reading",
        async || {
            ensure!(has_received(&browsers[0].0), "not received");
            Ok(())
        },
    )
    .await?;
    report_duration("deaf subscriber", "healed", deafened, RECOVERY_LIMIT);
    ensure!(
        !has_received(&browsers[1].0),
        "without the watch the browser must not receive the reading"
    );
    watched.pass()?;
    unwatched.pass()
}

//! SIGKILL at a random time and a restart after five seconds: one test per process of the system.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::server::Server;
use tests::stack::Plan;
use tokio::time::{Instant, sleep};

use super::load::{OUTAGE, Scene};

fn two_gateways() -> Plan {
    Plan::default().gateways(2)
}

/// Kills a service and restarts it after [`OUTAGE`]. Returns when it was dead.
async fn kill_and_restart(server: &mut Server) -> Result<Instant> {
    server.process.kill().await?;
    let dead = Instant::now();
    sleep(OUTAGE).await;
    server.process.restart()?;
    server.listens().await?;
    Ok(dead)
}

#[tokio::test]
async fn the_only_ingest() -> Result<()> {
    let mut scene = Scene::start(two_gateways()).await?;
    for _ in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        kill_and_restart(&mut scene.stack.ingests[0]).await?;
    }
    let verdict = scene.finish("kill -9 of the only ingest").await?;
    ensure!(verdict.late == 0, "committed out of order: {verdict:?}");
    Ok(())
}

#[tokio::test]
async fn one_of_two_ingests_in_a_share_group() -> Result<()> {
    let mut scene = Scene::start(two_gateways().ingests(2)).await?;
    for round in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        kill_and_restart(&mut scene.stack.ingests[round % 2]).await?;
    }
    scene.finish("kill -9 of one of two ingests").await?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_whose_clients_use_the_other_or_wait_for_it() -> Result<()> {
    let mut scene = Scene::start(two_gateways()).await?;
    let other = scene.stack.gateways[1].port();
    let of_first = scene.proxies.len() / 2;
    for round in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        if round % 2 == 0 {
            // As a load balancer that has noticed it.
            for proxy in &scene.proxies[..of_first] {
                proxy.retarget(other);
            }
        }
        kill_and_restart(&mut scene.stack.gateways[0]).await?;
        for proxy in &scene.proxies[..of_first] {
            proxy.retarget(scene.stack.gateways[0].port());
        }
    }
    let verdict = scene.finish("kill -9 of a gateway").await?;
    ensure!(verdict.recovered > 0, "no client recovered: {verdict:?}");
    Ok(())
}

/// Strikes Redis and returns when.
async fn redis(scene: &mut Scene) -> Result<Vec<Instant>> {
    let mut kills = Vec::new();
    for _ in 0..scene.seed.rounds() {
        // Everything that waited for the last restart is committed before the next kill.
        scene.load.wait_until_caught_up(&scene.stack).await?;
        scene.wait_for_random_time().await;
        kills.push(kill_and_restart(&mut scene.stack.redis).await?);
    }
    Ok(kills)
}

/// Every write that Redis has answered is on the disk.
#[tokio::test]
async fn redis_that_syncs_always() -> Result<()> {
    let mut scene = Scene::start(two_gateways().redis_flags("--appendfsync always")).await?;
    redis(&mut scene).await?;
    scene.finish("kill -9 of Redis, appendfsync always").await?;
    Ok(())
}

/// Redis writes to its append-only file before it answers, and the file survives the process. But while an earlier sync is
/// slow, it delays the write for up to 2 s, and a kill within that time loses it. This happens on a busy disk.
#[tokio::test]
async fn redis_that_syncs_every_second() -> Result<()> {
    // The 2 s, and the time from the acknowledgement of the broker to the commit on a busy machine.
    const LOSS: Duration = Duration::from_secs(7);
    let mut scene = Scene::start(two_gateways()).await?;
    let kills = redis(&mut scene).await?;
    let what = "kill -9 of Redis, appendfsync everysec";
    scene.finish_with_a_lossy_redis(what, LOSS, &kills).await
}

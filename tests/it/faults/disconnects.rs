//! Clients that keep losing their connection.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use tests::browser::Browser;
use tests::eventually::eventually;
use tests::link::Link;
use tests::stack::Plan;
use tokio::time::sleep;

use super::load::Scene;

const CLIENTS: usize = 10;
/// Of all clients together.
const DISCONNECTS: usize = 1000;
/// How long a client has a connection, at most; it is back within 50 ms and what a connection takes.
const CONNECTED_MS: u64 = 100;
/// How many devices each follows: every connection begins with a subscription of each.
const FOLLOWED: usize = 3;

#[tokio::test]
async fn a_thousand_disconnects_lose_and_double_nothing() -> Result<()> {
    let plan = Plan::default().gateways(2);
    let mut scene = Scene::with_clients(plan, CLIENTS / 2, FOLLOWED).await?;
    let mut randoms: Vec<Rng> = scene.links.iter().map(|_| scene.seed.fork()).collect();
    let each = scene.clients.iter().zip(&scene.links).zip(&mut randoms);
    try_join_all(each.map(async |((client, link), random)| {
        for _ in 0..DISCONNECTS / CLIENTS {
            sleep(Duration::from_millis(random.u64(..CONNECTED_MS))).await;
            lose(client, link, random).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    let verdict = scene.finish("1000 disconnects of ten clients").await?;
    let answered = verdict.recovered + verdict.gaps;
    ensure!(
        answered >= DISCONNECTS,
        "only {answered} subscriptions lived long enough: {verdict}"
    );
    Ok(())
}

/// Loses the connection in one of three ways, and waits for the next one.
async fn lose(client: &Browser, link: &Link, random: &mut Rng) -> Result<()> {
    match random.u8(..3) {
        0 => client.lose_connection().await,
        1 => {
            client.disconnect().await?;
            client.reconnect().await
        }
        _ => {
            let from = client.seen_count();
            let gone = eventually("the client notices", async || {
                // By polling there may be no connection to be cut just now.
                link.reset();
                let seen = client.seen();
                let index = seen[from..].iter().position(|s| s.what == "disconnect");
                index.context("still connected")
            })
            .await?;
            client
                .wait_after(from + gone, "the next connection", |seen| {
                    seen.what == "connect"
                })
                .await?;
            Ok(())
        }
    }
}

//! Clients that keep losing their connection.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use tests::browser::Browser;
use tests::eventually::eventually;
use tests::stack::Plan;
use tests::tcp_proxy::TcpProxy;
use tokio::time::sleep;

use super::load::Scene;

const CLIENTS: usize = 10;
/// Number of disconnections of all clients together.
const DISCONNECTS: usize = 500;
/// The longest time until a client loses its connection, from the connection or from the first answer. It reconnects after
/// 50 ms.
const CONNECTED_MS: u64 = 100;
/// How many devices each client follows. Every connection begins with a subscription of each.
const FOLLOWED: usize = 3;

#[tokio::test]
async fn clients_that_disconnect_again_and_again_miss_nothing_and_get_nothing_twice() -> Result<()>
{
    let plan = Plan::default().gateways(2);
    let mut scene = Scene::with_clients(plan, CLIENTS / 2, FOLLOWED).await?;
    let mut randoms: Vec<Rng> = scene.proxies.iter().map(|_| scene.seed.fork()).collect();
    let each = scene.clients.iter().zip(&scene.proxies).zip(&mut randoms);
    try_join_all(each.map(async |((client, proxy), random)| {
        let mut from = 0;
        for _ in 0..DISCONNECTS / CLIENTS {
            // Half of the connections last until something is recovered, the others may end during the recovery.
            if random.bool() {
                client
                    .wait_after(from, "an answer", |seen| seen.what == "followed")
                    .await?;
            }
            sleep(Duration::from_millis(random.u64(..CONNECTED_MS))).await;
            from = client.seen_count();
            lose(client, proxy, random).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    let verdict = scene.finish("500 disconnects of ten clients").await?;
    ensure!(verdict.recovered > DISCONNECTS / 3, "{verdict}");
    Ok(())
}

/// Loses the connection in one of three ways, and waits for the next connection.
async fn lose(client: &Browser, proxy: &TcpProxy, random: &mut Rng) -> Result<()> {
    match random.u8(..3) {
        0 => client.lose_connection().await,
        1 => {
            client.disconnect().await?;
            client.reconnect().await
        }
        _ => {
            let from = client.seen_count();
            let disconnected_at = eventually("the client notices", async || {
                // A polling client may have no open connection now.
                proxy.reset();
                let seen = client.seen();
                let index = seen[from..].iter().position(|s| s.what == "disconnect");
                index.context("still connected")
            })
            .await?;
            client
                .wait_after(from + disconnected_at, "the next connection", |seen| {
                    seen.what == "connect"
                })
                .await?;
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_between_the_events_of_a_position_hides_no_alarm() -> Result<()> {
    const SERIAL: &str = "OTSM-0001";
    let stack = Plan::default().start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.follow(SERIAL).await?;
    device.send(20).await?;
    browser.event_after(0, "device:data", SERIAL).await?;
    // Positions 2 and 3 have three events each. The connection ends after the first one of 2 and after the second one of 3.
    browser.cut_within("device:data", 2).await?;
    device.send(300).await?;
    browser
        .event_after(0, "device:alerts:changed", SERIAL)
        .await?;
    browser.cut_within("device:alerts", 3).await?;
    device.send(600).await?;
    device.send(21).await?;
    browser
        .wait_for("the last position, complete", |seen| {
            seen.is_of("device:alerts:changed", SERIAL) && seen.seq() == Some(4)
        })
        .await?;
    let received: Vec<(String, Option<u64>)> = browser
        .seen()
        .into_iter()
        .filter(|seen| seen.what == "event" && seen.body["deviceId"] == SERIAL)
        .map(|seen| (seen.name.clone(), seen.seq()))
        .collect();
    let expected = [
        ("device:data", 1),
        ("device:data", 2),
        ("device:alerts", 2),
        ("device:alerts:changed", 2),
        ("device:data", 3),
        ("device:alerts", 3),
        ("device:alerts:changed", 3),
        ("device:data", 4),
        ("device:alerts:changed", 4),
    ];
    let expected: Vec<_> = expected
        .map(|(name, seq)| (name.to_owned(), Some(seq)))
        .into();
    ensure!(received == expected, "{received:?}");
    stack.pass()
}

//! Clients that keep losing their connection.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use tests::browser::{Browser, BrowserEvent, Rule};
use tests::eventually::eventually;
use tests::ledger::check_positions_of;
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

const SERIAL: &str = "OTSM-0001";
const DATA: &str = "device:data";
const ALERTS: &str = "device:alerts";
const CHANGED: &str = "device:alerts:changed";

/// Returns what the client received for the first time: name, seq, and whether it has `more`.
fn received(browser: &Browser) -> Vec<(String, u64, bool)> {
    let is_of_device =
        |seen: &BrowserEvent| seen.what == "event" && seen.body["deviceId"] == SERIAL;
    let brief = |seen: BrowserEvent| {
        let has_more = seen.body["more"] == true;
        (seen.name.clone(), seen.seq().unwrap_or_default(), has_more)
    };
    let seen = browser.seen().into_iter();
    seen.filter(is_of_device).map(brief).collect()
}

fn owned(events: &[(&str, u64, bool)]) -> Vec<(String, u64, bool)> {
    let owned = |(name, seq, more): &(&str, u64, bool)| ((*name).to_owned(), *seq, *more);
    events.iter().map(owned).collect()
}

/// One client knows `more`, the other one does not.
#[tokio::test]
async fn a_connection_that_ends_between_the_events_of_a_position_hides_no_alarm() -> Result<()> {
    let stack = Plan::default().start().await?;
    let device = stack.device(SERIAL);
    let browsers = [stack.browser().await?, stack.browser().await?];
    let rules = [Rule::Whole, Rule::BeforeNewest];
    for (browser, rule) in browsers.iter().zip(rules) {
        browser.follow_by(rule, SERIAL).await?;
    }
    device.send(20).await?;
    for browser in &browsers {
        browser.event_after(0, DATA, SERIAL).await?;
        // The connection ends after each event of position 2, after two of 3, and after the first of 4.
        for (name, seq) in [(DATA, 2), (ALERTS, 2), (CHANGED, 2), (ALERTS, 3), (DATA, 4)] {
            browser.cut_within(name, seq).await?;
        }
    }
    for value in [300, 600, 21] {
        device.send(value).await?;
    }
    for (browser, rule) in browsers.iter().zip(rules) {
        browser
            .wait_for("the last position, whole", |seen| {
                seen.is_of(CHANGED, SERIAL) && seen.seq() == Some(4)
            })
            .await?;
        let expected = [
            (DATA, 1, false),
            (DATA, 2, true),
            (ALERTS, 2, true),
            (CHANGED, 2, false),
            (DATA, 3, true),
            (ALERTS, 3, true),
            (CHANGED, 3, false),
            (DATA, 4, true),
            (CHANGED, 4, false),
        ];
        assert_eq!(received(browser), owned(&expected), "{rule:?}");
        let cuts = browser.seen();
        let cuts = cuts.iter().filter(|seen| seen.what == "disconnect");
        assert_eq!(cuts.count(), 5, "{rule:?}");
    }
    check_positions_of(&browsers[0], SERIAL)?;
    stack.pass()
}

#[tokio::test]
async fn a_recovery_with_a_gap_that_ends_anywhere_begins_again_and_hides_nothing() -> Result<()> {
    // More readings than the events stream holds.
    const READINGS: u64 = 80;
    let stack = Plan::default().start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.follow(SERIAL).await?;
    device.send(1).await?;
    browser.event_after(0, DATA, SERIAL).await?;
    browser.disconnect().await?;
    // Positions 2, 3 and 4 raise and escalate an alarm, and show it as returned. The last position escalates it again.
    for value in [300, 600, 20] {
        device.send(value).await?;
    }
    for value in 0..READINGS {
        device.send(20 + value).await?;
    }
    device.send(1200).await?;
    stack.shows(SERIAL, 1200).await?;
    let last = READINGS + 5;
    // After the first change, after the last one, and between the two events of the snapshot.
    for (name, seq) in [(CHANGED, 2), (CHANGED, last), (DATA, last)] {
        browser.cut_within(name, seq).await?;
    }
    browser.reconnect().await?;
    browser
        .wait_for("the answer", |seen| {
            seen.what == "followed" && seen.body["seq"] == last
        })
        .await?;
    let expected = [
        (DATA, 1, false),
        (CHANGED, 2, true),
        (CHANGED, 3, true),
        (CHANGED, 4, true),
        (CHANGED, last, true),
        (DATA, last, true),
        (DATA, last, true),
        (ALERTS, last, false),
    ];
    assert_eq!(received(&browser), owned(&expected));
    check_positions_of(&browser, SERIAL)?;

    // From here on the client continues without a gap.
    browser.lose_connection().await?;
    device.send(10).await?;
    browser
        .wait_for("that the alarm has returned", |seen| {
            seen.is_of(CHANGED, SERIAL) && seen.seq() == Some(last + 1)
        })
        .await?;
    check_positions_of(&browser, SERIAL)?;
    stack.pass()
}

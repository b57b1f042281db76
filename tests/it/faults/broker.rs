//! The broker is unreachable, restarted with and without its persistence file, or killed.
//!
//! Everything that the broker delivered to an ingest must be in the history once, in order, with every alarm change. The
//! broker never delivered the messages that it lost with its memory: they are counted and reported.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::eventually::eventually;
use tests::ledger;
use tests::stack::{Plan, Stack};
use tokio::time::sleep;

use super::load::{OUTAGE, Scene};

/// Makes the broker write its memory to its persistence file, as it does by itself every minute, and waits until it has.
async fn save(stack: &mut Stack) -> Result<()> {
    let path = stack.folder().join("mosquitto.db");
    let written = |path| fs::metadata(path).and_then(|file| file.modified());
    let before = written(&path).ok();
    stack.broker.process.send_usr1()?;
    eventually("the broker saves", async || {
        ensure!(Some(written(&path)?) != before, "not written yet");
        Ok(())
    })
    .await
}

/// Kills the broker with these settings at random times.
async fn kill(plan: Plan, what: &str) -> Result<()> {
    let mut scene = Scene::start(plan).await?;
    // The session of ingest must be in the file.
    save(&mut scene.stack).await?;
    for _ in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        scene.stack.broker.process.kill().await?;
        sleep(OUTAGE).await;
        scene.stack.broker.process.restart()?;
        scene.stack.broker.listens().await?;
    }
    let verdict = scene.finish_with_a_lossy_broker(what).await?;
    ensure!(
        verdict.sent_again > 0,
        "no payload had to be sent again: {verdict:?}"
    );
    Ok(())
}

#[tokio::test]
async fn killed_with_the_shipped_settings() -> Result<()> {
    kill(Plan::default(), "kill -9 of the broker, as shipped").await
}

#[tokio::test]
async fn killed_when_it_saves_on_every_change() -> Result<()> {
    let plan = Plan::default()
        .broker_line("autosave_on_changes true")
        .broker_line("autosave_interval 1");
    kill(plan, "kill -9 of the broker that saves every change").await
}

#[tokio::test]
async fn restarted_with_its_sessions() -> Result<()> {
    let mut scene = Scene::start(Plan::default()).await?;
    for _ in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        scene.stack.broker.process.terminate().await?;
        scene.stack.broker.process.restart()?;
        scene.stack.broker.listens().await?;
    }
    // When it is stopped it saves everything: nothing may be missing.
    scene.finish("restart of the broker").await?;
    Ok(())
}

#[tokio::test]
async fn restarted_without_its_sessions() -> Result<()> {
    let mut scene = Scene::start(Plan::default()).await?;
    for _ in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        scene.stack.broker.process.terminate().await?;
        let file = scene.stack.folder().join("mosquitto.db");
        fs::remove_file(file).context("removing the persistence file of the broker")?;
        scene.stack.broker.process.restart()?;
        scene.stack.broker.listens().await?;
    }
    // Ingest subscribes again, so the last reading of every device arrives.
    scene
        .finish_with_a_lossy_broker("restart of the broker without its persistence file")
        .await?;
    Ok(())
}

#[tokio::test]
async fn unreachable_for_ingest_it_keeps_everything() -> Result<()> {
    // Ingest closes a connection on which nothing arrives after twice the keep-alive.
    let mut scene = Scene::start(Plan::default().ingest_flags("--mqtt-keep-alive=5s")).await?;
    for round in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        match round % 3 {
            0 => scene.stack.broker_proxy.cut(),
            1 => scene.stack.broker_proxy.half_open(),
            _ => scene.stack.broker_proxy.black_hole(),
        }
        sleep(OUTAGE).await;
        scene.stack.broker_proxy.heal();
    }
    scene.finish("the broker out of reach").await?;
    Ok(())
}

#[tokio::test]
async fn lost_acknowledgements_double_nothing() -> Result<()> {
    // Fewer messages of each device are delivered again than its state has fingerprints.
    const FEW: usize = shared::order::MAX_FINGERPRINTS * 12;
    let mut scene = Scene::start(Plan::default()).await?;
    for round in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        let before = ledger::delivered_tokens(&scene.stack.broker_proxy).len();
        // The broker delivers messages, ingest commits them, and the acknowledgements of ingest are lost.
        scene.stack.broker_proxy.mute();
        let open = eventually("enough messages are to be delivered again", async || {
            let open = ledger::delivered_tokens(&scene.stack.broker_proxy).len() - before;
            ensure!(open >= 200, "{open} messages");
            Ok(open)
        })
        .await?;
        ensure!(open < FEW, "{open} messages to be delivered again");
        if round % 2 == 1 {
            // The messages are delivered again to a process that did not commit them.
            scene.stack.ingests[0].process.kill().await?;
            scene.stack.ingests[0].process.restart()?;
        }
        scene.stack.broker_proxy.heal();
        scene.stack.broker_proxy.reset();
    }
    let verdict = scene.finish("acknowledgements lost").await?;
    ensure!(verdict.late == 0, "committed out of order: {verdict}");
    Ok(())
}

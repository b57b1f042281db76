//! The load and its ledger without any fault: what the other tests stand on.

use std::time::Duration;

use anyhow::Result;
use tests::stack::Plan;

use super::load::Scene;

#[tokio::test]
async fn without_a_fault_everything_is_there_once() -> Result<()> {
    let scene = Scene::start(Plan::default().ingests(2).gateways(2)).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let verdict = scene.finish("no fault").await?;
    assert!(verdict.changes > 0, "no alarm changed: {verdict:?}");
    Ok(())
}

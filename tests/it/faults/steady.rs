//! The load and the checks of its ledger without any fault: the other fault tests rely on them.

use anyhow::{Result, ensure};
use tests::eventually::eventually;
use tests::stack::Plan;

use super::load::Scene;

#[tokio::test]
async fn without_a_fault_everything_is_there_once() -> Result<()> {
    let scene = Scene::start(Plan::default().ingests(2).gateways(2)).await?;
    eventually("the load has sent enough", async || {
        ensure!(scene.load.acknowledged() > 180, "not yet");
        Ok(())
    })
    .await?;
    let verdict = scene.finish("no fault").await?;
    assert!(verdict.changes > 0, "no alarm changed: {verdict:?}");
    Ok(())
}

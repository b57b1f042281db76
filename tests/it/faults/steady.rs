//! The load and its ledger without any fault: what the other tests stand on.

use std::time::Duration;

use anyhow::Result;
use tests::ledger::Load;
use tests::seed::Seed;
use tests::stack::{Plan, Service};

use super::load;

#[tokio::test]
async fn without_a_fault_everything_is_there_once() -> Result<()> {
    let mut seed = Seed::of_this_test();
    let stack = Plan::default().ingests(2).gateways(2).start().await?;
    let ports: Vec<u16> = stack.gateways.iter().map(Service::port).collect();
    let serials = Load::serials(load::DEVICES);
    let clients = load::clients(&ports, &serials).await?;
    let running = load::start(&stack, &mut seed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ledger = running.stop().await?;
    let verdict = ledger.judge(&stack, &clients, None).await?;
    assert!(verdict.changes > 0, "no alarm changed: {verdict:?}");
    load::tell("no fault, two of each", &verdict);
    stack.pass()
}

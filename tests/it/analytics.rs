//! `/api/analytics/connections`: any gateway tells what all of them report.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};

#[tokio::test]
async fn any_gateway_tells_who_watches_how_many_at_all_of_them() -> Result<()> {
    let mut stack = Plan::default()
        .gateways(2)
        .gateway("--report-interval=1s --replica-name=here")
        .start()
        .await?;
    let ports = [stack.gateways[0].port(), stack.gateways[1].port()];
    let first = Browser::connect(ports[0], Transport::WebSocket).await?;
    let polling = Browser::connect(ports[1], Transport::Polling).await?;
    let other = Browser::connect(ports[1], Transport::WebSocket).await?;
    for browser in [&first, &polling, &other] {
        browser.subscribe("OTSM-0001").await?;
    }
    other.subscribe("OTSM-0002").await?;

    for gateway in &stack.gateways {
        eventually("both gateways are in the sums", async || {
            let told = gateway.get("/api/analytics/connections").await?;
            let told = told.expect(200)?;
            ensure!(told["connections"] == 3, "{told}");
            ensure!(told["subscriptions"] == 4, "{told}");
            ensure!(told["devices_watched"] == 2, "{told}");
            ensure!(told["more"] == false, "{told}");
            let replicas = told["replicas"].as_array().map_or(0, Vec::len);
            ensure!(replicas == 2, "{told}");
            let polling = sum(&told, "polling");
            ensure!((polling, sum(&told, "websocket")) == (1, 2), "{told}");
            let most = &told["devices"][0];
            ensure!(most["device_id"] == "OTSM-0001", "{told}");
            ensure!(most["watchers"] == 3, "{told}");
            let split = most["replicas"].as_object();
            let mut split: Vec<_> = split
                .into_iter()
                .flatten()
                .map(|(_, n)| n.as_u64())
                .collect();
            split.sort_unstable();
            ensure!(split == [Some(1), Some(2)], "{told}");
            Ok(())
        })
        .await?;
    }

    // One that dies is forgotten after three intervals.
    other.disconnect().await?;
    polling.disconnect().await?;
    stack.gateways[1].process.kill().await?;
    eventually("the dead one is forgotten", async || {
        let told = stack.get("/api/analytics/connections").await?.expect(200)?;
        let replicas = told["replicas"].as_array().map_or(0, Vec::len);
        ensure!(replicas == 1 && told["connections"] == 1, "{told}");
        ensure!(told["devices_watched"] == 1, "{told}");
        Ok(())
    })
    .await?;
    stack.gateways.pop();
    stack.pass()
}

#[tokio::test]
async fn a_gateway_that_stops_withdraws_its_report_at_once() -> Result<()> {
    // Of an interval that no test waits for three times.
    let plan = Plan::default().gateways(2);
    let mut stack = plan.gateway("--report-interval=10m").start().await?;
    let replicas = async |stack: &Stack, wanted: usize| {
        eventually(&format!("{wanted} report"), async || {
            let told = stack.get("/api/analytics/connections").await?.expect(200)?;
            let replicas = told["replicas"].as_array().map_or(0, Vec::len);
            ensure!(replicas == wanted, "{told}");
            Ok(())
        })
        .await
    };
    replicas(&stack, 2).await?;
    let mut gone = stack.gateways.pop().context("two gateways")?;
    let status = gone.process.terminate().await?;
    ensure!(status.success(), "{status}");
    replicas(&stack, 1).await?;
    stack.pass()
}

fn sum(told: &Value, field: &str) -> u64 {
    let replicas = told["replicas"].as_array().into_iter().flatten();
    replicas.filter_map(|replica| replica[field].as_u64()).sum()
}

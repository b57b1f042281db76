//! `/api/analytics/connections`: every gateway returns the connections of all gateways.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};

#[tokio::test]
async fn every_gateway_returns_the_watchers_at_all_gateways() -> Result<()> {
    let mut stack = Plan::default()
        .gateways(2)
        .gateway_flags("--report-interval=1s --replica-name=here")
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
        eventually("both gateways are counted", async || {
            let report = gateway.get("/api/analytics/connections").await?;
            let report = report.expect(200)?;
            ensure!(report["connections"] == 3, "{report}");
            ensure!(report["subscriptions"] == 4, "{report}");
            ensure!(report["devices_watched"] == 2, "{report}");
            ensure!(report["more"] == false, "{report}");
            let replicas = report["replicas"].as_array().map_or(0, Vec::len);
            ensure!(replicas == 2, "{report}");
            let polling = sum(&report, "polling");
            ensure!((polling, sum(&report, "websocket")) == (1, 2), "{report}");
            let most = &report["devices"][0];
            ensure!(most["device_id"] == "OTSM-0001", "{report}");
            ensure!(most["watchers"] == 3, "{report}");
            let split = most["replicas"].as_object();
            let mut split: Vec<_> = split
                .into_iter()
                .flatten()
                .map(|(_, n)| n.as_u64())
                .collect();
            split.sort_unstable();
            ensure!(split == [Some(1), Some(2)], "{report}");
            Ok(())
        })
        .await?;
    }

    // The report of a gateway that dies is dropped after three intervals.
    other.disconnect().await?;
    polling.disconnect().await?;
    stack.gateways[1].process.kill().await?;
    eventually("the report of the dead gateway is dropped", async || {
        let report = stack.get("/api/analytics/connections").await?.expect(200)?;
        let replicas = report["replicas"].as_array().map_or(0, Vec::len);
        ensure!(replicas == 1 && report["connections"] == 1, "{report}");
        ensure!(report["devices_watched"] == 1, "{report}");
        Ok(())
    })
    .await?;
    stack.gateways.pop();
    stack.pass()
}

#[tokio::test]
async fn a_gateway_that_stops_withdraws_its_report_at_once() -> Result<()> {
    // An interval so long that no report is dropped by its age.
    let plan = Plan::default().gateways(2);
    let mut stack = plan.gateway_flags("--report-interval=10m").start().await?;
    let replicas = async |stack: &Stack, wanted: usize| {
        eventually(&format!("{wanted} gateways report"), async || {
            let report = stack.get("/api/analytics/connections").await?.expect(200)?;
            let replicas = report["replicas"].as_array().map_or(0, Vec::len);
            ensure!(replicas == wanted, "{report}");
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

fn sum(report: &Value, field: &str) -> u64 {
    let replicas = report["replicas"].as_array().into_iter().flatten();
    replicas.filter_map(|replica| replica[field].as_u64()).sum()
}

//! The plan of the demo, and the simulated detectors on it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::clock::SystemClock;
use tests::http;
use tests::repository;
use tests::scenario::{Detector, PayloadFormat, Scenario, Setting};
use tests::stack::Plan;

#[tokio::test]
async fn the_simulated_detectors_are_on_the_plan_of_the_demo() -> Result<()> {
    let folder = repository::root().join("deploy/site-plans");
    let flag = format!("--site-plans={}", folder.display());
    let stack = Plan::default().gateway_flags(&flag).start().await?;
    let list = stack.get("/api/site-plans").await?.expect(200)?;
    let plan = &list["plans"][0];
    let url = plan["url"].as_str().context("a path")?;
    let port = stack.gateways[0].port();
    let image = http::send(port, "GET", url, &[], b"").await?;
    assert_eq!(image.status, 200);
    assert_eq!(image.header("content-type"), "image/svg+xml");

    let now = SystemClock::local();
    let setting = Setting {
        started: now,
        cycle: Duration::from_mins(1),
        silence: Duration::from_mins(4),
        utc_offset_seconds: 19_800,
        seed: 1,
    };
    let detectors = Detector::fleet(
        12,
        "OTSM-",
        &[Scenario::Steady],
        &[PayloadFormat::New, PayloadFormat::Old],
        setting,
    );
    for detector in detectors {
        let payload = detector.payload(0, now).context("a payload")?;
        let payload: Value = serde_json::from_slice(&payload)?;
        let text = |key: &str| {
            payload[key]
                .as_str()
                .or(payload["Parameters"][key].as_str())
        };
        for (key, from, to) in [("lat", "south", "north"), ("long", "west", "east")] {
            let degrees: f64 = text(key).context("a coordinate")?.parse()?;
            let edge = |name: &str| plan[name].as_f64().context("an edge");
            ensure!(
                (edge(from)?..edge(to)?).contains(&degrees),
                "{payload} in {plan}"
            );
        }
    }
    stack.pass()
}

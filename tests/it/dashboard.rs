//! The dashboard in Chromium, against one running system.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tests::device::TOPIC;
use tests::report;
use tests::repository;
use tests::screens::Screens;
use tests::stack::{Plan, Stack};
use tests::tokens::{Signed, TokenIssuer};

#[tokio::test]
async fn people_see_the_site_and_work_its_alarms() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let folder = repository::dashboard()?;
    let flags = issuer.flags().join(" ");
    let dashboard = format!("--dashboard-dir={}", folder.display());
    let plans = repository::root().join("deploy/site-plans");
    let plans = format!("--site-plans={}", plans.display());
    // However slow the machine is, no detector becomes silent during the test, and a token that ends soon does not end before it is replaced.
    let plan = Plan::default()
        .ingest_flags("--offline-after=1h")
        .gateway_flags("--token-notice=10m")
        .gateway_flags(&flags)
        .gateway_flags(&dashboard)
        .gateway_flags(&plans)
        .gateway_flags("--allow-anonymous=none");
    let mut stack = plan.start().await?;
    let pictures = repository::target().join("dashboard-pictures");
    let url = format!("http://127.0.0.1:{}", stack.gateways[0].port());
    let mut screens = Screens::open(&url, &pictures)?;
    while let Some(request) = screens.next().await? {
        let answer = act(&mut stack, &issuer, &request)
            .await
            .with_context(|| request.to_string())?;
        screens.answer(&answer).await?;
    }
    stack.pass()
}

/// Does what the script asks for.
async fn act(stack: &mut Stack, issuer: &TokenIssuer, request: &Value) -> Result<Value> {
    let text = |key: &str| request[key].as_str().with_context(|| format!("no {key}"));
    match text("do")? {
        "token" => {
            let token = issuer.token(Signed::EdDsa, request["claims"].clone())?;
            return Ok(json!({ "token": token }));
        }
        "reading" => {
            let device = stack.device(text("device")?);
            let mut payload = device.old(request["value"].clone());
            for (key, value) in request["root"].as_object().into_iter().flatten() {
                payload = payload.with(key, value.clone());
            }
            for (key, value) in request["parameters"].as_object().into_iter().flatten() {
                payload = payload.with_parameter(key, value.clone());
            }
            device.publish(&payload).await?;
        }
        "message" => {
            let payload = match &request["bytes"] {
                Value::Null => text("text")?.as_bytes().to_vec(),
                bytes => serde_json::from_value(bytes.clone())?,
            };
            stack.publisher().publish(TOPIC, payload).await?;
        }
        "kill gateway" => {
            stack.gateways[0].process.kill().await?;
        }
        "start gateway" => {
            stack.gateways[0].process.restart()?;
            stack.gateways[0].ready().await?;
        }
        "cut Redis" => stack.redis_proxy.cut(),
        "heal Redis" => stack.redis_proxy.heal(),
        "report" => report::line(text("line")?),
        other => bail!("nobody can {other}"),
    }
    Ok(json!({}))
}

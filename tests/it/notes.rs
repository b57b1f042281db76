//! What a person writes beside an acknowledgement reaches everybody who sees the alarm, and stays in the log.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::only_alert;
use tests::eventually::eventually;
use tests::http;
use tests::stack::Plan;
use tests::tokens::{Signed, TokenIssuer};

const SERIAL: &str = "OTSM-0001";

#[tokio::test]
async fn a_note_is_sent_to_all_and_stays_in_the_log_and_in_the_audit_trail() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let flags = format!("{} --allow-anonymous=read", issuer.flags().join(" "));
    let stack = Plan::default().gateway_flags(&flags).start().await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let device = stack.device(SERIAL);
    device.send(600).await?;
    let raised = browser
        .event_after(0, "device:alerts:changed", SERIAL)
        .await?;
    let id = only_alert(&raised)?["id"]
        .as_str()
        .context("an id")?
        .to_owned();

    let port = stack.gateways[0].port();
    let token = issuer.token(Signed::Es256, json!({"verbs": ["read", "ack", "admin"]}))?;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let path = format!("/devices/{SERIAL}/subtronics/alerts/{id}/acknowledge");
    let acknowledge = async |note: &str| {
        let body = json!({ "note": note }).to_string();
        http::send(port, "POST", &path, &headers, body.as_bytes()).await
    };
    acknowledge(&"x".repeat(281)).await?.expect(400)?;
    let from = browser.seen_count();
    acknowledge(" Pump 3 is leaking,\nAnn looks at it ")
        .await?
        .expect(200)?;
    let note = json!("Pump 3 is leaking, Ann looks at it");
    let told = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(only_alert(&told)?["acknowledged_note"], note, "{told}");
    assert_eq!(stack.alerts(SERIAL).await?[0]["acknowledged_note"], note);
    let open = stack.get("/api/alarms/open").await?.expect(200)?;
    assert_eq!(open["alarms"][0]["acknowledged_note"], note, "{open}");

    // It goes with the level that it was about.
    let from = browser.seen_count();
    device.send(1200).await?;
    let escalated = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    let alert = only_alert(&escalated)?;
    assert!(alert.get("acknowledged_note").is_none(), "{alert}");
    let log = stack.get("/alarm-logs").await?.expect(200)?;
    let [newest, oldest] = [&log["logs"][0], &log["logs"][1]];
    assert!(newest.get("acknowledged_note").is_none(), "{log}");
    assert_eq!(oldest["acknowledged_note"], note, "{log}");
    eventually("the audit trail has the note", async || {
        let trail = http::send(port, "GET", "/api/audit", &headers, b"").await?;
        let trail = trail.expect(200)?;
        let entries = trail["entries"].as_array().context("entries")?;
        let is_it = |entry: &&Value| entry["action"] == "acknowledged";
        let entry = entries.iter().find(is_it).context("no entry yet")?;
        ensure!(
            entry["note"] == note && entry["detail"] == json!(id),
            "{entry}"
        );
        Ok(())
    })
    .await?;
    stack.pass()
}

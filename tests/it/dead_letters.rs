//! Whoever reads every device sees the messages that could never be processed, and why.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::device::TOPIC;
use tests::eventually::eventually;
use tests::http;
use tests::stack::Plan;
use tests::tokens::{Signed, TokenIssuer};

#[tokio::test]
async fn an_unreadable_message_is_shown_with_its_reason_to_whoever_reads_every_device() -> Result<()>
{
    let issuer = TokenIssuer::new()?;
    let flags = format!("{} --allow-anonymous=none", issuer.flags().join(" "));
    let stack = Plan::default().gateway_flags(&flags).start().await?;
    let cut_off = "{\"OTSM-2 Serial Number\": \"OTSM-0114\", \"Sensor Rea\u{1b}[2J";
    stack.publisher().publish(TOPIC, cut_off).await?;
    stack
        .publisher()
        .publish(TOPIC, r#"{"Sensor Reading": 5}"#)
        .await?;
    let ask = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let port = stack.gateways[0].port();
        http::send(port, "GET", "/api/dead-letters", &headers, b"").await
    };
    let reader = issuer.token(Signed::Es256, json!({"verbs": ["read"]}))?;
    let answer = eventually("both letters are shown", async || {
        let answer = ask(&reader).await?.expect(200)?;
        ensure!(answer["count"] == 2, "{answer}");
        Ok(answer)
    })
    .await?;
    let [newest, oldest] = [&answer["entries"][0], &answer["entries"][1]];
    assert_eq!(newest["reason"], "missing_serial", "{answer}");
    assert_eq!(oldest["reason"], "not_json", "{answer}");
    assert_eq!(oldest["topic"], TOPIC, "{answer}");
    let payload = oldest["payload"].as_str().context("a text")?;
    assert_eq!(payload, cut_off.replace('\u{1b}', r"\u001b"));

    let limited = json!({"verbs": ["read"], "devices": ["OTSM-0114"]});
    let limited = issuer.token(Signed::Es256, limited)?;
    let administrator = issuer.token(Signed::Es256, json!({"verbs": ["admin"]}))?;
    for token in [limited, administrator] {
        ask(&token).await?.expect(403)?;
    }
    let alone = http::send(
        stack.gateways[0].port(),
        "GET",
        "/api/dead-letters",
        &[],
        b"",
    );
    alone.await?.expect(401)?;
    stack.pass()
}

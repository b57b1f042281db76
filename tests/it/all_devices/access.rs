//! Lists have what the client may read.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::http;
use tests::stack::Plan;
use tests::tokens::{Signed, TokenIssuer};

use super::{alarms, row};

/// A token for some devices: no row, no alarm and no count of any other one.
#[tokio::test]
async fn nothing_of_a_device_reaches_whoever_may_not_read_it() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let flags = format!("{} --allow-anonymous=none", issuer.flags().join(" "));
    let stack = Plan::default()
        .gateway_flags(&flags)
        .operator_port()
        .start()
        .await?;
    let (ours, other) = (stack.device("OTSM-0114"), stack.device("OTSM-0200"));
    let open = async |claims: Value| {
        let token = issuer.token(Signed::Es256, claims)?;
        let options = json!({"transports": ["websocket"], "auth": {"token": token}});
        Browser::open(stack.gateways[0].port(), options).await
    };
    let all = open(json!({})).await?;
    let some = open(json!({"devices": ["OTSM-01*"], "verbs": ["read"], "sub": "some"})).await?;
    let none = open(json!({"verbs": ["admin"]})).await?;
    for event in ["subscribe:fleet", "subscribe:alarms"] {
        let answer = none.ask(event, json!({})).await?;
        ensure!(
            answer
                == json!({"ok": false, "error": {"code": "forbidden", "message": "not allowed"}}),
            "{answer}"
        );
        for bad in [
            json!(7),
            json!({"filter": {"prefix": "x".repeat(65)}}),
            json!({"filter": {"status": "red", "severity": "red"}}),
        ] {
            let answer = some.ask(event, bad).await?;
            ensure!(answer["error"]["code"] == "invalid", "{answer}");
        }
    }
    for browser in [&all, &some] {
        browser
            .ask("subscribe:fleet", json!({"interval": 250}))
            .await?;
        browser.ask("subscribe:alarms", json!({})).await?;
    }
    for value in [300, 10, 600] {
        for device in [&ours, &other] {
            device.send(value).await?;
        }
    }
    // Whoever sees everything shows when both have arrived.
    for device in ["OTSM-0114", "OTSM-0200"] {
        row(&all, device, |row| row["level"] == "A2").await?;
    }
    alarms(
        &all,
        &[
            ("OTSM-0114", "unacknowledged"),
            ("OTSM-0200", "unacknowledged"),
        ],
    )
    .await?;
    row(&some, "OTSM-0114", |row| row["level"] == "A2").await?;
    alarms(&some, &[("OTSM-0114", "unacknowledged")]).await?;
    for seen in some.seen() {
        ensure!(!seen.body.to_string().contains("OTSM-0200"), "{seen:?}");
    }
    let token = issuer.token(
        Signed::Es256,
        json!({"devices": ["OTSM-01*"], "verbs": ["read"]}),
    )?;
    let headers = [("authorization", format!("Bearer {token}"))];
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let port = stack.gateways[0].port();
    let list = http::send(port, "GET", "/api/alarms/open", &headers, b"")
        .await?
        .expect(200)?;
    ensure!(
        list["total"] == 1 && !list.to_string().contains("OTSM-0200"),
        "{list}"
    );

    // A token that allows more sends everything anew; one that allows less ends the connection.
    let wider = issuer.token(Signed::Es256, json!({"verbs": ["read"], "sub": "some"}))?;
    some.ask("auth:refresh", json!({"token": wider})).await?;
    row(&some, "OTSM-0200", |row| row["level"] == "A2").await?;
    alarms(
        &some,
        &[
            ("OTSM-0114", "unacknowledged"),
            ("OTSM-0200", "unacknowledged"),
        ],
    )
    .await?;
    let narrow = issuer.token(
        Signed::Es256,
        json!({"devices": ["OTSM-02*"], "verbs": ["read"], "sub": "some"}),
    )?;
    some.emit("auth:refresh", json!({"token": narrow})).await?;
    some.wait_for("the end of the connection", |seen| {
        seen.what == "disconnect"
    })
    .await?;
    stack.pass()
}

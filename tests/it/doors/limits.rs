//! What the clients of one subject may take, from however many addresses.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::browser::Transport;
use tests::eventually::eventually;
use tests::http;
use tests::report;
use tests::tokens::{Signed, TokenIssuer};

use super::{OURS, TRANSPORTS, connected, joined, open, start};

#[tokio::test]
async fn one_subject_has_no_more_connections_than_allowed() -> Result<()> {
    const MAX: usize = 3;
    let issuer = TokenIssuer::new()?;
    for dry_run in [false, true] {
        let mut flags = format!("--allow-anonymous=none --max-connections-per-subject={MAX}");
        if dry_run {
            flags += " --limits-dry-run=max-connections-per-subject";
        }
        let stack = start(&issuer, &flags).await?;
        // Two tokens of one subject.
        let tokens = [1, 2].map(|number| {
            let changes = json!({"sub": "many", "jti": number.to_string()});
            issuer.token(Signed::EdDsa, changes)
        });
        let [first, second] = tokens;
        let (first, second) = (first?, second?);
        let good = issuer.token(Signed::EdDsa, json!({"sub": "good"}))?;
        let mut clients = Vec::new();
        for transport in TRANSPORTS {
            clients.push(connected(&stack, transport, &first).await?);
        }
        for transport in TRANSPORTS {
            let beyond = open(&stack, transport, Some(&second)).await?;
            let answer = beyond.wait_for("the answer to joining", joined).await?;
            if dry_run {
                ensure!(answer.what == "connect", "{answer:?}");
            } else {
                ensure!(answer.name == "too many connections", "{answer:?}");
            }
        }
        let others = connected(&stack, Transport::WebSocket, &good).await?;
        ensure!(others.subscribe(OURS).await?["ok"] == true);
        let action = if dry_run { "dry_run" } else { "refused" };
        let counted = format!(
            r#"gateway_limited_total{{action="{action}",limit="max_connections_per_subject"}}"#
        );
        // A refused client of the library does not try again by itself.
        let counted = stack.gateways[0].metric(&counted).await?;
        ensure!(counted > 2.5, "{counted}");
        report::line(&format!(
            "{MAX} connections per subject allowed: {counted} of {} beyond them {action}",
            TRANSPORTS.len()
        ));
        // A place that is free again can be taken.
        drop(clients);
        eventually("a place is free", async || {
            let again = open(&stack, Transport::WebSocket, Some(&second)).await?;
            let answer = again.wait_for("the answer to joining", joined).await?;
            ensure!(answer.what == "connect", "{answer:?}");
            Ok(())
        })
        .await?;
        stack.pass()?;
    }
    Ok(())
}

#[tokio::test]
async fn one_subject_asks_no_more_of_rest_than_allowed_from_any_address() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    // A burst of 100.
    let flags = "--allow-anonymous=none --trusted-proxies=127.0.0.1 --request-rate=10";
    let stack = start(&issuer, flags).await?;
    let bad = issuer.token(Signed::EdDsa, json!({"sub": "bad"}))?;
    let good = issuer.token(Signed::EdDsa, json!({"sub": "good"}))?;
    let port = stack.gateways[0].port();
    let ask = async |token: &str, address: String| {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-forwarded-for", address.as_str()),
        ];
        http::send(port, "GET", "/api/devices", &headers, b"").await
    };
    let mut answered = 0;
    let refused = loop {
        ensure!(answered < 10_000, "nothing was refused");
        let address = format!("192.0.{}.{}", answered / 250, answered % 250);
        let answer = ask(&bad, address).await?;
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
    };
    ensure!(refused.status == 429, "{refused:?}");
    ensure!(!refused.header("retry-after").is_empty(), "{refused:?}");
    report::line(&format!(
        "lists of one subject from ever new addresses, 10 per second allowed: {answered} answered, then {}",
        refused.status
    ));
    ask(&good, "198.51.100.1".to_owned()).await?.expect(200)?;
    stack.pass()
}

//! What the clients of one subject may take, from however many addresses.

use std::cell::Cell;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::eventually::eventually;
use tests::http::{self, Response};
use tests::report;
use tests::stack::Stack;
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

/// Joins as a client of this address, and returns it with the answer.
async fn join(
    stack: &Stack,
    transport: Transport,
    token: &str,
    address: &str,
) -> Result<(Browser, BrowserEvent)> {
    let options = json!({
        "transports": transport.names(),
        "extraHeaders": {"x-forwarded-for": address},
        "auth": {"token": token},
    });
    let browser = Browser::open(stack.gateways[0].port(), options).await?;
    let answer = browser.wait_for("the answer to joining", joined).await?;
    Ok((browser, answer))
}

/// Checks how many tokens were counted: so many were refused over REST.
async fn check_counts(stack: &Stack, refused: u32, dry_run: bool) -> Result<()> {
    let counted = async |action: &str| {
        let limit = "wrong_signature_rate";
        let series = format!(r#"gateway_limited_total{{action="{action}",limit="{limit}"}}"#);
        stack.gateways[0].metric(&series).await
    };
    let (of_refused, of_dry_run) = (counted("refused").await?, counted("dry_run").await?);
    if dry_run {
        ensure!(
            refused == 0 && of_refused < 0.5 && of_dry_run > 0.5,
            "{refused}"
        );
    } else {
        // Those over Socket.IO, too.
        ensure!(
            of_refused > f64::from(refused) + 0.5 && of_dry_run < 0.5,
            "{refused}"
        );
    }
    report::line(&format!(
        "tokens of a stranger from one address, one per second allowed, dry run {dry_run}: {of_refused} refused without a check, \
         {of_dry_run} would have been"
    ));
    Ok(())
}

#[tokio::test]
async fn an_address_that_shows_tokens_of_a_stranger_is_refused_without_a_check() -> Result<()> {
    const BAD: &str = "192.0.2.9";
    const GOOD: &str = "198.51.100.1";
    let (issuer, stranger) = (TokenIssuer::new()?, TokenIssuer::new()?);
    for dry_run in [false, true] {
        // A burst of 10.
        let mut flags =
            "--allow-anonymous=none --trusted-proxies=127.0.0.1 --wrong-signature-rate=1"
                .to_owned();
        if dry_run {
            flags += " --limits-dry-run=wrong-signature-rate";
        }
        let stack = start(&issuer, &flags).await?;
        let port = stack.gateways[0].port();
        let token = |id: &str| issuer.token(Signed::EdDsa, json!({"jti": id}));
        let ask = async |token: &str, address: &str| {
            let authorization = format!("Bearer {token}");
            let headers = [
                ("authorization", authorization.as_str()),
                ("x-forwarded-for", address),
            ];
            http::send(port, "GET", "/config", &headers, b"").await
        };
        let foreign = stranger.token(Signed::EdDsa, json!({}))?;
        let is_limited = |answer: &Response| answer.status == 429;
        // A colleague at the same address.
        let known = token("known")?;
        ask(&known, BAD).await?.expect(200)?;
        let (colleague, answer) = join(&stack, Transport::WebSocket, &known, BAD).await?;
        ensure!(answer.what == "connect", "{answer:?}");

        let refused = Cell::new(0);
        let show_foreign = async || {
            for _ in 0..20 {
                let answer = ask(&foreign, BAD).await?;
                if is_limited(&answer) {
                    let wait: u64 = answer.header("retry-after").parse()?;
                    ensure!(
                        wait >= 1 && answer.json()?["error_code"] == "limited",
                        "{answer:?}"
                    );
                    refused.set(refused.get() + 1);
                } else {
                    ensure!(answer.status == 401, "{answer:?}");
                }
            }
            anyhow::Ok(())
        };
        for transport in TRANSPORTS {
            let expected = if dry_run {
                "invalid token"
            } else {
                "Too many tokens with a wrong signature, try again later"
            };
            // A second later there is room for one more, and a slow client may need that long.
            eventually("the answer to a token of a stranger", async || {
                show_foreign().await?;
                let (_, answer) = join(&stack, transport, &foreign, BAD).await?;
                ensure!(answer.name == expected, "{transport:?}: {answer:?}");
                Ok(())
            })
            .await?;
            // Whoever was there before does not notice, and nobody at another address.
            for (token, address) in [(&known, BAD), (&token("other")?, GOOD)] {
                let (_, answer) = join(&stack, transport, token, address).await?;
                ensure!(answer.what == "connect", "{transport:?}: {answer:?}");
                ask(token, address).await?.expect(200)?;
            }
            // A token that is new here must wait.
            let mut tries = 0;
            eventually("the answer to a new token", async || {
                show_foreign().await?;
                tries += 1;
                let new = token(&format!("{transport:?} {tries}"))?;
                let answer = ask(&new, BAD).await?;
                ensure!(is_limited(&answer) != dry_run, "{answer:?}");
                Ok(())
            })
            .await?;
            // Not so for whoever is connected.
            let renewed = json!({"token": token(&format!("renewed {transport:?}"))?});
            let answer = colleague.ask("auth:refresh", renewed).await?;
            ensure!(answer["ok"] == true, "{answer}");
        }
        check_counts(&stack, refused.get(), dry_run).await?;
        stack.pass()?;
    }
    Ok(())
}

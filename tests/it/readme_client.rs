//! The client in `gateway/README.md` behaves as the text around it describes.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use test_support::eventually::{LATE, eventually};
use test_support::server_process::kept_environment;
use test_support::tokens::{Signed, TokenIssuer};
use tests::stack::{Plan, Stack};
use tests::tcp_proxy::TcpProxy;
use tests::{http, repository};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const SERIAL: &str = "OTSM-0001";

#[test]
fn the_readme_has_the_tested_client() -> Result<()> {
    let read = |path: &str| std::fs::read_to_string(repository::root().join(path));
    let (readme, client) = (read("gateway/README.md")?, read("tests/js/follow.mjs")?);
    ensure!(
        readme.contains(&format!("```js\n{client}```\n")),
        "gateway/README.md must contain the text of tests/js/follow.mjs"
    );
    Ok(())
}

/// The lines that the client prints.
struct Shown(Lines<BufReader<ChildStdout>>);

impl Shown {
    /// Waits for the next event and returns its `seq name`.
    async fn next(&mut self) -> Result<String> {
        let line = timeout(LATE, self.0.next_line()).await;
        let line = line.context("an event in time")??;
        let line = line.context("the client ended")?;
        let words: Vec<&str> = line.split(' ').collect();
        ensure!(words.len() > 2 && words[0] == SERIAL, "{line}");
        Ok(format!("{} {}", words[1], words[2]))
    }
}

fn start(url: &str, token: Option<&str>) -> Result<Child> {
    let mut client = Command::new("node");
    client
        .arg(repository::script("follow.mjs")?)
        .args([url, SERIAL])
        .env_clear()
        .envs(kept_environment())
        .envs(token.map(|token| ("TOKEN", token)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    client.spawn().context("`node` is missing: install Node 20")
}

#[tokio::test]
async fn it_ends_and_says_why_if_its_token_is_refused() -> Result<()> {
    let (issuer, stranger) = (TokenIssuer::new()?, TokenIssuer::new()?);
    let stack = start_stack(&issuer).await?;
    let url = format!("http://127.0.0.1:{}", stack.gateways[0].port());
    let forged = stranger.token(Signed::Es256, json!({}))?;
    for (token, reason) in [
        (None, "token required\n"),
        (Some(forged.as_str()), "invalid token\n"),
    ] {
        let client = start(&url, token)?.wait_with_output();
        let output = timeout(LATE, client).await.context("it ends")??;
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr)?),
            (Some(1), reason.to_owned())
        );
        assert!(output.stdout.is_empty());
    }
    stack.pass()
}

/// Starts a stack that admits nobody without a token.
async fn start_stack(issuer: &TokenIssuer) -> Result<Stack> {
    let flags = format!("{} --allow-anonymous=none", issuer.flags().join(" "));
    let plan = Plan::default().every_raise_is_an_alarm();
    plan.gateway_flags(&flags).start().await
}

#[tokio::test]
async fn it_shows_every_event_once_in_order_across_lost_connections() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start_stack(&issuer).await?;
    let token = issuer.token(Signed::Es256, json!({}))?;
    let device = stack.device(SERIAL);
    device.send(1).await?;
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let path = format!("/devices/{SERIAL}/subtronics/telemetry/latest");
    eventually("the device is known", async || {
        let port = stack.gateways[0].port();
        http::send(port, "GET", &path, &headers, b"")
            .await?
            .expect(200)
    })
    .await?;
    let proxy = TcpProxy::start(stack.gateways[0].port()).await?;
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let mut client = start(&url, Some(&token))?;
    let output = client.stdout.take().context("stdout of the client")?;
    let mut shown = Shown(BufReader::new(output).lines());
    assert_eq!(shown.next().await?, "1 device:data");

    // Every second reading raises an alarm, the next one clears it.
    for round in 0..6 {
        let (raised, cleared) = (2 * round + 2, 2 * round + 3);
        device.send(300).await?;
        device.send(1).await?;
        // At another time in each round: while the events are on their way, between them, or after them.
        let lost_after = round;
        for (number, expected) in [
            format!("{raised} device:data"),
            format!("{raised} device:alerts"),
            format!("{raised} device:alerts:changed"),
            format!("{cleared} device:data"),
            format!("{cleared} device:alerts:changed"),
        ]
        .into_iter()
        .enumerate()
        {
            if number == lost_after {
                proxy.reset();
            }
            assert_eq!(shown.next().await?, expected, "round {round}");
        }
    }
    stack.pass()
}

//! The client in `gateway/README.md` behaves as the text around it describes.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use test_support::eventually::LATE;
use test_support::server_process::kept_environment;
use tests::repository;
use tests::stack::Plan;
use tests::tcp_proxy::TcpProxy;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
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

#[tokio::test]
async fn it_shows_every_event_once_in_order_across_lost_connections() -> Result<()> {
    let plan = Plan::default().every_raise_is_an_alarm();
    let stack = plan.start().await?;
    let device = stack.device(SERIAL);
    device.send(1).await?;
    stack.shows(SERIAL, 1).await?;
    let proxy = TcpProxy::start(stack.gateways[0].port()).await?;
    let mut client = Command::new("node")
        .arg(repository::script("follow.mjs")?)
        .arg(format!("http://127.0.0.1:{}", proxy.port()))
        .arg(SERIAL)
        .env_clear()
        .envs(kept_environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("`node` is missing: install Node 20")?;
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

//! A client that is not the official one: python-socketio, over every transport.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use test_support::eventually::LATE;
use test_support::server_process::kept_environment;
use tests::manifests::tool;
use tests::repository;
use tests::stack::{Plan, Stack};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const SERIAL: &str = "OTSM-0001";

#[tokio::test]
async fn it_receives_everything_by_websocket_alone() -> Result<()> {
    follows_a_device(&["websocket"], "websocket").await
}

#[tokio::test]
async fn it_receives_everything_by_polling_alone() -> Result<()> {
    follows_a_device(&["polling"], "polling").await
}

#[tokio::test]
async fn it_receives_everything_when_it_begins_with_polling() -> Result<()> {
    follows_a_device(&[], "websocket").await
}

/// `transport`: the one that the client must have in the end.
async fn follows_a_device(transports: &[&str], transport: &str) -> Result<()> {
    // So often that several pings come in a short test.
    let plan = Plan::default().gateway_flags("--ping-interval=1s");
    let mut stack = plan.every_raise_is_an_alarm().start().await?;
    let device = stack.device(SERIAL);
    device.send(1).await?;
    stack.shows(SERIAL, 1).await?;
    let mut client = PythonClient::start(&stack, transports)?;
    client
        .shows(&["connected", "subscribed true", "device:data 1"])
        .await?;
    client.shows(&[&format!("transport {transport}")]).await?;
    for round in 1..=3 {
        device.send(300).await?;
        device.send(1).await?;
        let (raised, cleared) = (2 * round, 2 * round + 1);
        for event in [
            format!("device:data {raised}"),
            format!("device:alerts {raised}"),
            format!("device:alerts:changed {raised}"),
            format!("device:data {cleared}"),
            format!("device:alerts:changed {cleared}"),
        ] {
            client.shows(&[&event]).await?;
        }
        client.shows(&["ping"]).await?;
    }
    // The end, as it tells it: the server has closed the session.
    stack.gateways[0].process.terminate().await?;
    client.is_disconnected().await?;
    Ok(())
}

/// The running client and what it prints.
struct PythonClient {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Lines that no step has waited for yet.
    unused: Vec<String>,
}

impl PythonClient {
    fn start(stack: &Stack, transports: &[&str]) -> Result<Self> {
        let mut child = Command::new(tool("python")?)
            .arg(repository::root().join("tests/python/follow.py"))
            .arg(format!("http://127.0.0.1:{}", stack.gateways[0].port()))
            .arg(SERIAL)
            .args(transports)
            .env_clear()
            .envs(kept_environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the client")?;
        let output = child.stdout.take().context("stdout of the client")?;
        Ok(Self {
            _child: child,
            lines: BufReader::new(output).lines(),
            unused: Vec::new(),
        })
    }

    async fn next(&mut self) -> Result<String> {
        let line = timeout(LATE, self.lines.next_line()).await;
        let line = line.with_context(|| format!("a line in time, after {:?}", self.unused))??;
        line.with_context(|| format!("the client ended after {:?}", self.unused))
    }

    /// Waits for these lines, in any order: the client handles each event in a thread of its own.
    async fn shows(&mut self, expected: &[&str]) -> Result<()> {
        for line in expected {
            while !self.unused.iter().any(|unused| unused == line) {
                let next = self.next().await?;
                self.unused.push(next);
            }
            let index = self.unused.iter().position(|unused| unused == line);
            index.map(|index| self.unused.remove(index));
        }
        Ok(())
    }

    /// Waits until it has seen the end. Every event before it must have been waited for.
    async fn is_disconnected(&mut self) -> Result<()> {
        while !self
            .unused
            .iter()
            .any(|line| line.starts_with("disconnected "))
        {
            let next = self.next().await?;
            self.unused.push(next);
        }
        let repeated = self.unused.iter().find(|line| line.starts_with("device:"));
        ensure!(repeated.is_none(), "an event came again: {repeated:?}");
        Ok(())
    }
}

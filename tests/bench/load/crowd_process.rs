//! Clients in a process of their own. One process may not open enough connections for the largest crowds.
//!
//! The benchmark starts itself with `--crowd` and the settings of the clients. Then each side writes lines of JSON: the process that
//! its clients are ready, the benchmark when to measure and how many messages there were, the process what its clients received.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::clock::Clock;
use super::crowd::{Crowd, Transport, Wish};
use super::schedule::Schedule;
use super::tally::Sums;

/// The clients of one process. Each watches one device.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Clients {
    pub(crate) port: u16,
    /// Number of the first client among those of all processes. It watches the device with this number.
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) devices: u64,
}

/// When messages are due, and which of them count.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) schedule: Schedule,
    pub(crate) from_us: u64,
    pub(crate) until_us: u64,
}

/// What the clients of one process received.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) sums: Sums,
    pub(crate) closed: u64,
    /// Counts of the classes of the histogram of latencies, and the longest one.
    pub(crate) latency: (Vec<u64>, u64),
}

/// The first line of the process.
const READY: &str = "ready";

/// A running process, as the benchmark sees it.
pub(crate) struct CrowdProcess {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl CrowdProcess {
    /// Starts it. Its clients begin to connect.
    pub(crate) fn start(clients: &Clients) -> Result<Self> {
        let program = std::env::current_exe().context("this program")?;
        let mut child = Command::new(program)
            .arg(format!("--crowd={}", serde_json::to_string(clients)?))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting clients")?;
        let input = child.stdin.take().context("its input")?;
        let output = child.stdout.take().context("its output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    /// Waits until all subscriptions are answered.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let line: String = self.answer().await?;
        ensure!(line == READY, "unexpected: {line}");
        Ok(())
    }

    /// Says what is published, and which messages count.
    pub(crate) async fn measure(&mut self, measured: &Measured) -> Result<()> {
        self.command(measured).await
    }

    /// Returns what its clients received of the messages below `end`.
    pub(crate) async fn finish(mut self, end: u64) -> Result<Received> {
        self.command(&end).await?;
        let received = self.answer().await?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "clients: {status}");
        Ok(received)
    }

    async fn command(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        Ok(self.input.write_all(&line).await?)
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.output.next_line().await?;
        parse(&line.context("clients ended")?)
    }
}

/// What the process does. `clients`: the value of `--crowd`.
pub(crate) async fn run(clients: &str) -> Result<()> {
    let clients: Clients = serde_json::from_str(clients)?;
    let wishes = (clients.first..clients.first + clients.count).map(|client| Wish {
        port: clients.port,
        transport: Transport::WebSocket,
        devices: vec![client % clients.devices],
        is_stalled: false,
    });
    let mut crowd = Crowd::new(Clock::start());
    crowd.connect(wishes.collect()).await?;
    answer(READY)?;
    let measured: Measured = next_command().await?;
    crowd.measure_between(measured.schedule, measured.from_us, measured.until_us)?;
    let end: u64 = next_command().await?;
    let seen = Arc::clone(&crowd.seen);
    let sums = crowd.finish(end).await?;
    answer(&Received {
        sums,
        closed: seen.closed.load(Ordering::Relaxed),
        latency: seen.latency().counts(),
    })
}

/// Waits for a line of the benchmark. A thread waits, as the clients need the runtime.
async fn next_command<T: DeserializeOwned>() -> Result<T> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    parse(&line.context("the benchmark ended")??)
}

/// Writes a line for the benchmark.
fn answer<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    let mut output = std::io::stdout();
    serde_json::to_writer(&output, value)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).with_context(|| format!("unexpected: {line}"))
}

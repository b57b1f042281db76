//! Many browsers: official JavaScript clients in one Node process, told what to do together.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::eventually::{LATE, eventually};
use crate::repository;
use crate::server_process::kept_environment;

/// Where the crowd stands.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counts {
    /// Clients connected.
    pub connected: usize,
    /// Clients of whose subscriptions all are answered.
    pub answered: usize,
    /// Readings that were left out, as the readings told.
    pub skipped: u64,
    /// Clients for which some were.
    pub skipping: usize,
    /// Positions that went back within a connection.
    pub backwards: u64,
    /// Connections made.
    pub connections: usize,
    /// Readings that came, snapshots and stale ones aside.
    pub readings: u64,
    /// Subscriptions that were not recovered.
    pub fresh: u64,
}

/// What clients saw of one device, and how many saw exactly that.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Sequence {
    pub clients: usize,
    /// `<change> <alert id>`, in the order of arrival.
    pub changes: Vec<String>,
}

/// A running crowd, gone with the value.
#[derive(Debug)]
pub struct Crowd {
    size: usize,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    // Killed with the crowd.
    _child: Child,
}

impl Crowd {
    /// Lets one client per list connect to the port and subscribe to the devices of its list, and waits until everybody
    /// was answered.
    pub async fn open(port: u16, clients: &[Vec<String>]) -> Result<Self> {
        let mut child = Command::new("node")
            .arg(repository::script("crowd.mjs")?)
            .env_clear()
            .envs(kept_environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("`node` is missing: install Node 20")?;
        let orders = child.stdin.take().context("stdin of the crowd")?;
        let output = child.stdout.take().context("stdout of the crowd")?;
        let mut crowd = Self {
            size: clients.len(),
            orders,
            answers: BufReader::new(output).lines(),
            _child: child,
        };
        let order = json!({
            "do": "open",
            "url": format!("http://127.0.0.1:{port}"),
            // As far apart as the library's own default, and twice as fast.
            "options": {"reconnectionDelay": 500, "reconnectionDelayMax": 2000, "timeout": 20000},
            "clients": clients,
        });
        crowd.ask::<Value>(&order).await?;
        crowd.all_answered().await?;
        Ok(crowd)
    }

    /// Waits until every client is connected and all its subscriptions are answered.
    pub async fn all_answered(&mut self) -> Result<Counts> {
        let size = self.size;
        eventually("everybody is answered", async || {
            let counts = self.counts().await?;
            ensure!(counts.answered == size, "{counts:?}");
            Ok(counts)
        })
        .await
    }

    /// Lets everybody stop reading from the socket.
    pub async fn stall(&mut self) -> Result<()> {
        self.ask::<Value>(&json!({"do": "stall"})).await.map(drop)
    }

    /// Lets everybody read on.
    pub async fn resume(&mut self) -> Result<()> {
        self.ask::<Value>(&json!({"do": "resume"})).await.map(drop)
    }

    /// Lets everybody disconnect.
    pub async fn leave(&mut self) -> Result<()> {
        self.ask::<Value>(&json!({"do": "leave"})).await.map(drop)
    }

    /// Lets everybody come back, and waits until all are answered.
    pub async fn come_back(&mut self) -> Result<()> {
        self.ask::<Value>(&json!({"do": "come"})).await?;
        self.all_answered().await.map(drop)
    }

    /// Where everybody stands.
    pub async fn counts(&mut self) -> Result<Counts> {
        self.ask(&json!({"do": "counts"})).await
    }

    /// Every `reconnectInMs` that a gateway announced since this was last called: in how many milliseconds it would close
    /// the client.
    pub async fn closings(&mut self) -> Result<Vec<u64>> {
        self.ask(&json!({"do": "closings"})).await
    }

    /// The alarm changes that were seen, per device.
    pub async fn changes(&mut self) -> Result<BTreeMap<String, Vec<Sequence>>> {
        self.ask(&json!({"do": "changes"})).await
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&mut self, order: &Value) -> Result<T> {
        self.orders
            .write_all(format!("{order}\n").as_bytes())
            .await
            .context("ordering the crowd")?;
        let answer = timeout(LATE, self.answers.next_line())
            .await
            .with_context(|| format!("the crowd did not answer {}", order["do"]))??
            .context("the crowd's process ended")?;
        serde_json::from_str(&answer).with_context(|| format!("no such answer: {answer}"))
    }
}

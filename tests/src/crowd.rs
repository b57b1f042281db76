//! Many browsers: official JavaScript clients in one Node process, which all do the same at once.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::eventually::{LATE, eventually};
use crate::node_script::NodeScript;

/// The state of all clients of a crowd together.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counts {
    /// Connected clients.
    pub connected: usize,
    /// Clients whose subscriptions are all answered.
    pub answered: usize,
    /// Readings that the gateway left out: the sum of the field `skipped`.
    pub skipped: u64,
    /// Clients for which the gateway left out readings.
    pub skipping: usize,
    /// Positions that were lower than the one before on the same connection.
    pub backwards: u64,
    /// Connections made.
    pub connections: usize,
    /// Readings received, without snapshots and stale ones.
    pub readings: u64,
    /// Subscriptions that were not recovered.
    pub fresh: u64,
}

/// A sequence of alarm changes of one device, and how many clients received exactly that.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Sequence {
    pub clients: usize,
    /// `<change> <alert id>`, in the order of arrival.
    pub changes: Vec<String>,
}

/// A running crowd. Its process is killed on drop.
#[derive(Debug)]
pub struct Crowd {
    size: usize,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Crowd {
    /// Connects one client per list. Each subscribes to the devices of its list. Waits until every subscription is answered.
    pub async fn open(port: u16, clients: &[Vec<String>]) -> Result<Self> {
        let NodeScript {
            child,
            commands,
            output,
        } = NodeScript::start("crowd.mjs")?;
        let mut crowd = Self {
            size: clients.len(),
            commands,
            answers: BufReader::new(output).lines(),
            _child: child,
        };
        let command = json!({
            "do": "open",
            "url": format!("http://127.0.0.1:{port}"),
            // Half of the default delays of socket.io-client.
            "options": {"reconnectionDelay": 500, "reconnectionDelayMax": 2000, "timeout": 20000},
            "clients": clients,
        });
        crowd.ask::<Value>(&command).await?;
        crowd.wait_until_answered().await?;
        Ok(crowd)
    }

    /// Waits until every client is connected and all its subscriptions are answered.
    pub async fn wait_until_answered(&mut self) -> Result<Counts> {
        let size = self.size;
        eventually("every client is answered", async || {
            let counts = self.counts().await?;
            ensure!(counts.answered == size, "{counts:?}");
            Ok(counts)
        })
        .await
    }

    /// Makes all clients stop reading from their sockets.
    pub async fn stall(&mut self) -> Result<()> {
        self.ask::<Value>(&json!({"do": "stall"})).await.map(drop)
    }

    /// Makes all clients read again.
    pub async fn resume(&mut self) -> Result<()> {
        self.ask::<Value>(&json!({"do": "resume"})).await.map(drop)
    }

    /// Disconnects all clients.
    pub async fn disconnect(&mut self) -> Result<()> {
        self.ask::<Value>(&json!({"do": "disconnect"}))
            .await
            .map(drop)
    }

    /// Connects all clients again, and waits until every subscription is answered.
    pub async fn reconnect(&mut self) -> Result<()> {
        self.ask::<Value>(&json!({"do": "reconnect"})).await?;
        self.wait_until_answered().await.map(drop)
    }

    /// Returns the state of all clients together.
    pub async fn counts(&mut self) -> Result<Counts> {
        self.ask(&json!({"do": "counts"})).await
    }

    /// Returns every `reconnectInMs` that a gateway has announced since the last call: the milliseconds until it closes the
    /// client.
    pub async fn closings(&mut self) -> Result<Vec<u64>> {
        self.ask(&json!({"do": "closings"})).await
    }

    /// Returns the alarm changes that the clients received, per device.
    pub async fn changes(&mut self) -> Result<BTreeMap<String, Vec<Sequence>>> {
        self.ask(&json!({"do": "changes"})).await
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&mut self, command: &Value) -> Result<T> {
        self.commands
            .write_all(format!("{command}\n").as_bytes())
            .await
            .context("sending a command to the crowd")?;
        let answer = timeout(LATE, self.answers.next_line())
            .await
            .with_context(|| format!("the crowd did not answer {}", command["do"]))??
            .context("the crowd's process ended")?;
        serde_json::from_str(&answer).with_context(|| format!("an unexpected answer: {answer}"))
    }
}

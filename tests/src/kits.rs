//! Clients made of the kit in `gateway/dashboard/src/client`, many in one Node process: `gateway/dashboard/test/kits.mjs`.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::node_script::NodeScript;
use crate::repository;

/// The running clients. They end with this.
#[derive(Debug)]
pub struct Kits {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

/// How a client is doing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KitCounts {
    /// The address to which it connects.
    pub url: String,
    /// What it says of its connection: see `linkState.ts`.
    pub phase: String,
    /// How often it lost its connection.
    pub disconnects: usize,
    /// The server has told it that a part of the data path does not work.
    pub is_degraded: bool,
}

impl Kits {
    /// Starts the process, without a client.
    pub fn start() -> Result<Self> {
        let folder = repository::root().join("gateway/dashboard");
        ensure!(
            folder.join("node_modules/vite").is_dir(),
            "the packages of the dashboard are not installed: run `tests/run`"
        );
        let script = NodeScript::start_file(&folder.join("test/kits.mjs"), &[])?;
        Ok(Self {
            commands: script.commands,
            answers: BufReader::new(script.output).lines(),
            _child: script.child,
        })
    }

    /// Sends a command and returns its answer.
    pub async fn ask(&mut self, command: &Value) -> Result<Value> {
        let line = format!("{command}\n");
        let sent = self.commands.write_all(line.as_bytes()).await;
        sent.context("sending a command to the clients")?;
        let answer = self.answers.next_line().await?;
        let answer = answer.with_context(|| format!("the clients ended at {command}"))?;
        serde_json::from_str(&answer).context(answer)
    }

    /// Returns how each client is doing.
    pub async fn counts(&mut self) -> Result<Vec<KitCounts>> {
        let counts = self.ask(&json!({"do": "counts"})).await?;
        Ok(serde_json::from_value(counts)?)
    }

    /// Lets each client give its connection up after at most so many events, again and again; 0: no longer.
    pub async fn drop_connections(&mut self, within: usize) -> Result<()> {
        self.ask(&json!({"do": "drop", "within": within})).await?;
        Ok(())
    }
}

//! Runs `gateway/dashboard/test/browser/main.mjs`, which drives the dashboard in Chromium. What happens outside of the browser it asks for:
//! readings, tokens, and faults of the services.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::eventually::LATE;
use crate::node_script::NodeScript;
use crate::repository;

/// The browser of Debian.
pub const CHROMIUM: &str = "/usr/bin/chromium";

/// The running script. It is ended with this.
#[derive(Debug)]
pub struct Screens {
    answers: ChildStdin,
    requests: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Screens {
    /// Opens the dashboard at this address. Pictures of its screens go into `pictures`.
    ///
    /// # Errors
    /// Something is not installed.
    pub fn open(url: &str, pictures: &Path) -> Result<Self> {
        let folder = repository::root().join("gateway/dashboard");
        ensure!(
            Path::new(CHROMIUM).exists() && folder.join("node_modules/playwright-core").is_dir(),
            "Chromium or playwright-core is not installed: run `tests/run`"
        );
        let pictures = pictures.to_str().context("the folder of the pictures")?;
        let script = folder.join("test/browser/main.mjs");
        let late = LATE.as_millis().to_string();
        let script = NodeScript::start_file(&script, &[url, pictures, CHROMIUM, &late])?;
        Ok(Self {
            answers: script.commands,
            requests: BufReader::new(script.output).lines(),
            child: script.child,
        })
    }

    /// Returns what the script asks for next; `None` at its end.
    ///
    /// # Errors
    /// Something that was expected on a screen did not happen.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        let Some(line) = self.requests.next_line().await? else {
            let status = self.child.wait().await?;
            ensure!(status.success(), "the script failed: {status}");
            return Ok(None);
        };
        let request = serde_json::from_str(&line).with_context(|| line.clone())?;
        Ok(Some(request))
    }

    /// Answers the last request.
    ///
    /// # Errors
    /// The script has ended.
    pub async fn answer(&mut self, body: &Value) -> Result<()> {
        let line = format!("{body}\n");
        let sent = self.answers.write_all(line.as_bytes()).await;
        sent.context("answering the script")
    }
}

//! Starts scripts that take commands and give answers.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::repository;
use crate::server_process::kept_environment;

/// A running script. It is killed with `child`.
pub(crate) struct NodeScript {
    pub(crate) child: Child,
    /// Its standard input, for commands.
    pub(crate) commands: ChildStdin,
    /// Its standard output, with the answers.
    pub(crate) output: ChildStdout,
}

impl NodeScript {
    /// Starts a script of `tests/js`.
    pub(crate) fn start(name: &str) -> Result<Self> {
        Self::start_file(&repository::script(name)?, &[])
    }

    /// Starts any script.
    pub(crate) fn start_file(path: &Path, arguments: &[&str]) -> Result<Self> {
        let name = path.display();
        let mut child = Command::new("node")
            .arg(path)
            .args(arguments)
            .env_clear()
            .envs(kept_environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("`node` is missing: install Node 20")?;
        let commands = child.stdin.take();
        let output = child.stdout.take();
        Ok(Self {
            commands: commands.with_context(|| format!("stdin of {name}"))?,
            output: output.with_context(|| format!("stdout of {name}"))?,
            child,
        })
    }
}

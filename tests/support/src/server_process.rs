//! A child process of a test. Its output goes to a file, and it ends with the test at the latest.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::eventually::eventually;

/// A running server and how it was started.
#[derive(Debug)]
pub struct ServerProcess {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    child: Child,
    // Set when the test ended it. Otherwise its end is a failure.
    expected_end: bool,
}

impl ServerProcess {
    /// Starts it with these arguments. Its environment is `PATH` and `HOME` only.
    pub fn start<A: Into<OsString>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        folder: &Path,
    ) -> Result<Self> {
        Self::start_with(name, program, arguments, &[], folder)
    }

    /// Starts it with these arguments and additional environment variables.
    pub fn start_with<A: Into<OsString>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        variables: &[(String, String)],
        folder: &Path,
    ) -> Result<Self> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let child = spawn(name, program, &arguments, variables, folder)?;
        Ok(Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments,
            variables: variables.to_owned(),
            folder: folder.to_owned(),
            child,
            expected_end: false,
        })
    }

    /// Its name in the output of the test.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns everything the process has printed so far, over all its starts.
    pub fn output(&self) -> String {
        let bytes = fs::read(output_file(&self.folder, &self.name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the resident memory of the process, in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("reading `{path}`"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|kib| kib.parse().ok())
            .with_context(|| format!("no VmRSS in `{path}`"))
    }

    /// Returns the processor time that the process has used, with that of its ended threads.
    pub fn cpu_time(&self) -> Result<Duration> {
        /// Linux shows times in hundredths of a second to programs, whatever the kernel counts in.
        const TICK: Duration = Duration::from_millis(10);
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).with_context(|| format!("reading `{path}`"))?;
        // The name of the program is in parentheses and may have blanks. User and system time are the 14th and 15th field.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
        let fields = fields.with_context(|| format!("no fields in `{path}`"))?;
        let times = fields.split(' ').skip(11).take(2);
        let ticks: u32 = times
            .map(|time| Ok(time.parse::<u32>()?))
            .sum::<Result<u32>>()?;
        Ok(TICK * ticks)
    }

    /// Fails if it ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        match self
            .child
            .try_wait()
            .context("asking for a child's state")?
        {
            Some(status) if !self.expected_end => bail!("{} ended by itself: {status}", self.name),
            _ => Ok(()),
        }
    }

    /// Sends SIGTERM and waits for its end.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// Sends SIGKILL and waits for its end.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.wait().await
    }

    /// Sends a signal that may end it.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.expected_end = true;
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("signalling {}", self.name))
    }

    /// Sends SIGUSR1: Mosquitto then writes its memory to its persistence file.
    pub fn send_usr1(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::USR1)
            .with_context(|| format!("sending SIGUSR1 to {}", self.name))
    }

    /// Sends SIGSTOP: the process stops as on a machine that is overloaded or asleep.
    pub fn pause(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::STOP)
            .with_context(|| format!("pausing {}", self.name))
    }

    /// Sends SIGCONT: a paused process continues.
    pub fn resume(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::CONT)
            .with_context(|| format!("resuming {}", self.name))
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        self.expected_end = true;
        let name = self.name.clone();
        eventually(&format!("{name} ends"), async || {
            self.child.try_wait()?.context("still running")
        })
        .await
    }

    /// Starts it again with the same arguments. It must have ended.
    pub fn restart(&mut self) -> Result<()> {
        self.child = spawn(
            &self.name,
            &self.program,
            &self.arguments,
            &self.variables,
            &self.folder,
        )?;
        self.expected_end = false;
        Ok(())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(
    name: &str,
    program: &Path,
    arguments: &[OsString],
    variables: &[(String, String)],
    folder: &Path,
) -> Result<Child> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(output_file(folder, name))
        .with_context(|| format!("opening the output file of {name}"))?;
    let errors = output.try_clone().context("duplicating a file handle")?;
    Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(kept_environment())
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("`{}` is missing: run `tests/run`", program.display()))
}

/// Returns the part of our environment that a child process gets. Settings are passed as flags.
pub fn kept_environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME")
}

fn output_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

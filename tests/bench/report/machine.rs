//! Where the figures are from.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use serde::Serialize;
use shared::clock::SystemClock;

/// A description of this machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// Processes that wanted to run, on average over the last minute, before and after.
    pub(crate) load: Vec<f64>,
}

impl Machine {
    pub(crate) fn read() -> Result<Self> {
        let processors = read("/proc/cpuinfo")?;
        let model = processors
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(": "));
        let (_, model) = model.unwrap_or(("", "unknown"));
        let mut date = SystemClock::local().to_iso();
        date.truncate("2026-11-27".len());
        Ok(Self {
            date,
            cores: thread::available_parallelism()?.get(),
            processor: model.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: vec![load()?],
        })
    }

    /// Adds how busy it is now.
    pub(crate) fn add_load(&mut self) -> Result<()> {
        self.load.push(load()?);
        Ok(())
    }
}

fn load() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    let first = text.split(' ').next().context("an empty load")?;
    Ok(first.parse()?)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading `{path}`"))
}

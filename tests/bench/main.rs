//! Measures how fast the system is, beside what a user would take instead. Nothing here passes or fails: the figures of a machine
//! say something only beside others of the same run. `tests/bench/run` builds everything and starts this program.
//!
//! [`scenarios`] start one of the [`systems`] after the other, put a [`load`] on it, and write what processes used and clients
//! received into the [`report`].

mod flood;
mod kernel;
mod load;
mod neighbours;
mod report;
mod scenarios;
mod systems;

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use report::machine::Machine;
use report::row::Row;
use report::{plot, table};
use scenarios::Scenario;
use systems::{OURS, System};

/// Measures the built services with a real Redis and Mosquitto, beside other servers
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Config {
    /// What to measure [default: everything]
    benchmarks: Vec<String>,

    /// Also measure `ingest` and `gateway` of this folder. May be given several times
    #[arg(long, value_name = "DIR")]
    binaries: Vec<PathBuf>,

    /// Measure only servers whose name contains this. May be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Measure everything so often, in turns. The table has the repetition in the middle
    #[arg(long, default_value = "1")]
    repeat: NonZeroUsize,

    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw how the cost of ours grows with clients and devices as SVG. Needs `growth`
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Run the floor at this port: the benchmark starts itself with it
    #[arg(long, hide = true, requires = "broker")]
    floor: Option<u16>,

    /// Be clients of a server: the benchmark starts itself with it
    #[arg(long, hide = true)]
    crowd: Option<String>,

    /// The broker of the floor
    #[arg(long, hide = true)]
    broker: Option<u16>,
}

/// The name of a benchmark that has a table of its own.
const NEIGHBOURS: &str = "neighbours";

fn main() -> Result<()> {
    let config = Config::parse();
    if let Some((port, broker)) = config.floor.zip(config.broker) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        return runtime.block_on(systems::floor::run(port, broker));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let Some(clients) = &config.crowd {
        return runtime.block_on(load::crowd_process::run(clients));
    }
    runtime.block_on(run(&config))
}

async fn run(config: &Config) -> Result<()> {
    let is_wanted = |name: &str| {
        config.benchmarks.is_empty() || config.benchmarks.iter().any(|wanted| wanted == name)
    };
    let scenarios: Vec<Scenario> = Scenario::value_variants()
        .iter()
        .copied()
        .filter(|scenario| {
            let is_named = !config.benchmarks.is_empty();
            is_wanted(&scenario.name()) && (is_named || !scenario.takes_long())
        })
        .collect();
    let known = |name: &String| name == NEIGHBOURS || Scenario::from_str(name, false).is_ok();
    if let Some(unknown) = config.benchmarks.iter().find(|name| !known(name)) {
        let names: Vec<String> = Scenario::value_variants()
            .iter()
            .map(|one| one.name())
            .collect();
        anyhow::bail!("`{unknown}` is none of {NEIGHBOURS}, {}", names.join(", "));
    }
    measure(config, &scenarios).await?;
    if is_wanted(NEIGHBOURS) {
        neighbours::run().await?;
    }
    Ok(())
}

/// Everything that goes into the file.
#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    repetitions: usize,
    rows: &'a [Row],
}

async fn measure(config: &Config, scenarios: &[Scenario]) -> Result<()> {
    if scenarios.is_empty() {
        return Ok(());
    }
    let mut machine = Machine::read()?;
    let systems: Vec<System> = System::all(&config.binaries)?
        .into_iter()
        .filter(|system| {
            let matches = |part: &String| system.name.contains(part.as_str());
            config.only.is_empty() || config.only.iter().any(matches)
        })
        .collect();
    let mut rows = Vec::new();
    for scenario in scenarios {
        let mut measured: Vec<Row> = Vec::new();
        for repetition in 1..=config.repeat.get() {
            for system in systems.iter().filter(|system| scenario.includes(system)) {
                let name = scenario.name();
                progress(&format!("{name}, {}, {repetition}", system.name));
                match scenario.run(system).await {
                    Ok(rows) => measured.extend(rows),
                    // The others are measured all the same.
                    Err(err) => progress(&format!("{name}, {}: {err:?}", system.name)),
                }
            }
        }
        rows.extend(in_the_middle(measured));
    }
    machine.add_load()?;
    print(&format!(
        "{}: {} cores, {}, Linux {}; load {:?}; {} repetitions\n",
        machine.date, machine.cores, machine.processor, machine.kernel, machine.load, config.repeat
    ));
    print(&table::render(&rows));
    if let Some(path) = &config.json {
        let report = Report {
            machine: &machine,
            repetitions: config.repeat.get(),
            rows: &rows,
        };
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(path, text).with_context(|| format!("writing `{}`", path.display()))?;
    }
    if let Some(path) = &config.plot {
        let picture = plot::growth(&rows, OURS).context("--plot needs the rows of `growth`")?;
        fs::write(path, picture).with_context(|| format!("writing `{}`", path.display()))?;
    }
    Ok(())
}

/// Of each row the repetition in the middle, in the order in which they were first measured.
fn in_the_middle(mut measured: Vec<Row>) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some(first) = measured.first() {
        let (scenario, system) = (first.scenario.clone(), first.system.clone());
        let (same, others) = measured
            .into_iter()
            .partition(|row| row.scenario == scenario && row.system == system);
        rows.extend(Row::middle(same));
        measured = others;
    }
    rows
}

/// Prints one line.
fn print(line: &str) {
    // Nothing else can be done if the terminal is gone.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Says what is being measured, beside the output.
fn progress(line: &str) {
    // Nothing else can be done if the terminal is gone.
    writeln!(std::io::stderr(), "{line}").ok();
}

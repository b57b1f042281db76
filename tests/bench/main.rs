//! Measures how fast the system is. Nothing here passes or fails: the figures of a machine say something only beside others of the
//! same run. `tests/bench/run` builds everything and starts this program.

mod flood;
mod neighbours;

use std::io::Write;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// Measures the built services with a real Redis, Mosquitto and Socket.IO client
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Config {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    benchmarks: Vec<Benchmark>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Benchmark {
    /// Alarms of quiet detectors while another detector sends as much as it can
    Neighbours,
}

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::parse();
    let benchmarks = if config.benchmarks.is_empty() {
        Benchmark::value_variants()
    } else {
        &config.benchmarks
    };
    for benchmark in benchmarks {
        match benchmark {
            Benchmark::Neighbours => neighbours::run().await?,
        }
    }
    Ok(())
}

/// Prints one line.
fn print(line: &str) {
    // Nothing else can be done if the terminal is gone.
    writeln!(std::io::stdout(), "{line}").ok();
}

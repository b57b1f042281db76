//! Faults, hostile clients and a babbling device at once, at random, for as long as wanted: `tests/run --soak`.
//!
//! The system runs in rounds. In each, a new neighbour reports, is watched, and is judged at the end of the round; then its
//! detectors are retired. The processes stay, so that their memory shows what grows.

mod attacks;
mod faults;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::neighbour::{self, Figures, Neighbour};
use tests::report;
use tests::seed::{self, Seed};
use tests::stack::Stack;
use tokio::time::{Instant, sleep};

use attacks::{Attackers, Counts};
use faults::Fault;

use super::floods::plan;
use super::watchers::populate;

/// How long a round of the soak takes. REST shows 1000 samples of a device, of which one sends 5 per second.
const ROUND: Duration = Duration::from_mins(1);
/// The time without a fault before each one.
const CALM: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(4);
/// How much the memory of a service may grow from the first round to the last: far less than a leak would be in an hour.
const MAX_GROWTH_KIB: u64 = 128 << 10;

/// The sums over all rounds.
#[derive(Default)]
struct Total {
    figures: Figures,
    faults: BTreeMap<Fault, usize>,
    attacks: Counts,
    /// The memory of each process after each round, in KiB.
    memory: BTreeMap<String, Vec<u64>>,
}

#[tokio::test]
async fn faults_hostile_clients_and_a_babbling_device_at_once() -> Result<()> {
    let mut seed = Seed::from_environment();
    let soak = seed::mixed_time();
    // A Redis that is killed must have everything it answered.
    let plan = plan().operator_port().gateways(2);
    let plan = plan.redis_flags("--appendfsync always");
    // A silent broker is noticed soon, and what waits for clients that do not read is bounded soon.
    let plan = plan.ingest_flags("--mqtt-keep-alive=5s");
    let plan = plan.gateway_flags("--answer-bytes=4194304 --linger-max=50");
    let mut stack = plan.start().await?;
    let quiet = populate(&stack, 200).await?;
    let mut total = Total::default();
    let started = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || started.elapsed() < soak {
        rounds += 1;
        let length = if soak.is_zero() { None } else { Some(ROUND) };
        let mut struck = Vec::new();
        round(
            &mut stack,
            rounds,
            length,
            &quiet,
            &mut seed,
            &mut struck,
            &mut total,
        )
        .await
        .with_context(|| format!("round {rounds}, faults {struck:?}"))?;
        if !soak.is_zero() {
            let minutes = started.elapsed().as_secs() / 60;
            report::line(&format!(
                "mixed, round {rounds}, {minutes} min: {struck:?}; memory in KiB: {}",
                total.memory_line(|all| all.last().copied().unwrap_or_default())
            ));
        }
    }
    total.report(rounds, started.elapsed());
    total.grows_little()?;
    stack.pass()
}

/// Runs for this long, or without a length until `FAULT_ROUNDS` faults happened.
async fn round(
    stack: &mut Stack,
    number: usize,
    length: Option<Duration>,
    quiet: &[String],
    seed: &mut Seed,
    struck: &mut Vec<Fault>,
    total: &mut Total,
) -> Result<()> {
    let serials: Vec<String> = (1..=neighbour::DEVICES)
        .map(|device| format!("OTSM-{number}-{device}"))
        .collect();
    let neighbour = Neighbour::start_with(stack, &serials, seed).await?;
    let attackers = Attackers::start(stack, quiet, &mut seed.fork());
    let started = Instant::now();
    loop {
        let is_over = match length {
            Some(length) => started.elapsed() > length,
            None => struck.len() >= seed.rounds(),
        };
        if is_over {
            break;
        }
        sleep(seed.duration(CALM)).await;
        let fault = Fault::random(seed);
        struck.push(fault);
        *total.faults.entry(fault).or_default() += 1;
        fault.strike(stack, &neighbour, seed).await?;
    }
    for (name, count) in attackers.end().await? {
        *total.attacks.entry(name).or_default() += count;
    }
    total.figures.append(neighbour.end(stack).await?);
    for serial in serials.iter().map(String::as_str).chain(["OTSM-MARKER"]) {
        stack.retire(serial, "").await?.expect(200)?;
    }
    total.measure(stack)
}

impl Total {
    fn measure(&mut self, stack: &Stack) -> Result<()> {
        let services = stack.ingests.iter().chain(&stack.gateways);
        let services = services.map(|service| &service.process);
        for process in services.chain([&stack.redis.process, &stack.broker.process]) {
            let of_process = self.memory.entry(process.name().to_owned()).or_default();
            of_process.push(process.resident_kib()?);
        }
        Ok(())
    }

    fn memory_line(&self, pick: impl Fn(&[u64]) -> u64) -> String {
        let of_each = self.memory.iter();
        let of_each = of_each.map(|(name, all)| format!("{name} {}", pick(all)));
        of_each.collect::<Vec<_>>().join(", ")
    }

    fn report(&self, rounds: usize, took: Duration) {
        let mut text = format!(
            "mixed, {rounds} rounds, {} s: {}",
            took.as_secs(),
            self.figures
        );
        let is_restart = |fault: &Fault| fault.is_restart();
        let restarts: usize = self
            .faults
            .iter()
            .filter(|(fault, _)| is_restart(fault))
            .map(|(_, count)| count)
            .sum();
        // Writing to a text cannot fail.
        write!(
            text,
            "\n  faults: {:?}, {restarts} restarts; attacks: {:?}\n  memory in KiB after the first round: {}; at most: {}; \
             after the last: {}",
            self.faults,
            self.attacks,
            self.memory_line(|all| all.first().copied().unwrap_or_default()),
            self.memory_line(|all| all.iter().max().copied().unwrap_or_default()),
            self.memory_line(|all| all.last().copied().unwrap_or_default()),
        )
        .ok();
        report::line(&text);
    }

    fn grows_little(&self) -> Result<()> {
        for (name, all) in &self.memory {
            let first = all.first().copied().unwrap_or_default();
            let last = all.last().copied().unwrap_or_default();
            let is_service = name.starts_with("ingest") || name.starts_with("gateway");
            ensure!(
                !is_service || last <= first + MAX_GROWTH_KIB,
                "{name} grew from {first} to {last} KiB: {all:?}"
            );
        }
        Ok(())
    }
}

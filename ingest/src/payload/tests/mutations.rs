//! Mutates the payloads of the corpus, and checks what must hold for any bytes.
//!
//! Unlike libFuzzer (`tests/fuzz`) it knows what a payload consists of, and keeps an input for further mutations if its result is of a
//! new kind. Every run is determined by its seed. `tests/run --fuzz MINUTES` takes one seed after the other.

pub(crate) mod mutation;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use self::mutation::mutated;
use super::corpus::files;
use super::fuzz::{check, signature};
use super::*;

/// Number of inputs, unless `FUZZ_INPUTS` is set.
const DEFAULT_INPUTS: u64 = 20_000;

/// Maximum number of inputs that are kept for further mutations.
const MAX_SEEDS: usize = 2_000;

fn variable(name: &str) -> Option<u64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has no Config; tests/run sets these variables"
    )]
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// Returns what is wrong with the result for these bytes. A panic is a fault, too.
fn fault(bytes: &[u8]) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| check(bytes))) {
        Ok(result) => result.err(),
        Err(_) => Some("the parser panics".to_owned()),
    }
}

/// Removes bytes for as long as the fault stays.
fn shrunk(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut length = bytes.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at < bytes.len() {
            let mut shorter = bytes.clone();
            shorter.drain(at..(at + length).min(bytes.len()));
            if fault(&shorter).is_some() {
                bytes = shorter;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    bytes
}

#[test]
fn mutated_payloads_are_clean_or_marked_or_refused() {
    let seed = variable("FUZZ_SEED").unwrap_or(1);
    let inputs = variable("FUZZ_INPUTS").unwrap_or(DEFAULT_INPUTS);
    println!("to repeat: FUZZ_SEED={seed} FUZZ_INPUTS={inputs} tests/run mutated_payloads");
    let mut rng = Rng::with_seed(seed);
    let mut seeds: Vec<Vec<u8>> = [NEWEST, OLD, MIXED]
        .map(|example| example.trim_end().as_bytes().to_vec())
        .into();
    for kind in [
        "strict",
        "framing",
        "uncertain",
        "unreadable",
        "refused",
        "several",
    ] {
        seeds.extend(files(kind).into_iter().map(|(_, bytes)| bytes));
    }
    let mut known: HashSet<_> = seeds.iter().map(|bytes| signature(bytes)).collect();
    for input in 0..inputs {
        let bytes = mutated(&seeds, &mut rng);
        if let Some(fault) = fault(&bytes) {
            let smallest = shrunk(bytes);
            panic!(
                "input {input} of seed {seed}: {fault}\nthe smallest such input, {}:\n{}",
                fault_of(&smallest),
                smallest.escape_ascii()
            );
        }
        if seeds.len() < MAX_SEEDS && known.insert(signature(&bytes)) {
            seeds.push(bytes);
        }
    }
    println!("{inputs} inputs, {} kinds of results", known.len());
}

fn fault_of(bytes: &[u8]) -> String {
    fault(bytes).unwrap_or_default()
}

//! The fuzzer: libFuzzer with every target of the workspace. `tests/fuzz/run` builds and starts it.
//!
//! One program for all targets, because most of its time is the linker's. `FUZZ_TARGET` names the one that runs; without it, their
//! names are printed.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let targets = [
        gateway::fuzz_targets::TARGETS,
        ingest::fuzz_targets::TARGETS,
        shared::fuzz_targets::TARGETS,
    ];
    let targets = targets.concat();
    let Ok(wanted) = std::env::var("FUZZ_TARGET") else {
        for (name, _) in targets {
            println!("{name}");
        }
        std::process::exit(0);
    };
    let found = targets.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("no target {wanted}")).1
});

fuzz_target!(init: { LazyLock::force(&TARGET); }, |bytes: &[u8]| (*TARGET)(bytes));

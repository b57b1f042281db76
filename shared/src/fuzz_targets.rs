//! What reads bytes that others have written: one function for each such door. It panics if something does not hold that must hold
//! for any bytes.
//!
//! No part of the product: compiled for unit tests, which replay the corpus, and with `--cfg fuzzing`, with which `tests/fuzz/run`
//! builds.

/// Name of a target, which is that of the folder of its corpus in `tests/fuzz/corpus`, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    ("redis_push", crate::resp::fuzz::check),
    ("rollup_block", crate::store::fuzz::rollup_block),
    ("stored_event", crate::store::fuzz::event),
    ("stored_state", crate::store::fuzz::state),
];

#[cfg(test)]
mod tests;

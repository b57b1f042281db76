//! What reads bytes that others have written: one function for each such door. It panics if something does not hold that must hold
//! for any bytes.
//!
//! No part of the product: compiled for unit tests, which replay the corpus, and with `--cfg fuzzing`, with which `tests/fuzz/run`
//! builds.

/// Name of a target, which is that of the folder of its corpus in `tests/fuzz/corpus`, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    ("head", crate::listener::fuzz::head),
    ("key_set", crate::access::fuzz::key_set),
    ("packet", crate::socket::fuzz_packet),
    ("proxy_header", crate::listener::fuzz::proxy_header),
    ("query", crate::rest::fuzz_query),
    ("token", crate::access::fuzz::token),
    ("websocket", crate::websocket::fuzz_frames),
];

#[cfg(test)]
mod tests;

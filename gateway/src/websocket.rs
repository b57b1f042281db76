//! One WebSocket: its frames, and both directions of its connection. It knows nothing of clients and devices.

pub(crate) mod accept;
mod decoder;
pub(crate) mod deflate;
pub(crate) mod frame;
pub(crate) mod reader;
pub(crate) mod writer;

#[cfg(any(test, fuzzing))]
pub(crate) use decoder::fuzz::check as fuzz_frames;

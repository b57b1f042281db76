//! Every fault at a random moment under load, and nothing lost, doubled, invented or out of order.
//!
//! Moments come from `FAULT_SEED`; `tests/run --soak` runs them with many.

mod load;

mod kill;

mod broker;

mod away;

mod redis;

mod disconnects;

mod silence;

mod steady;

//! Every fault at random moments under load: nothing is lost, doubled, invented or out of order.
//!
//! `FAULT_SEED` determines the moments. `tests/run --soak` runs the tests with many seeds.

mod load;

mod kill;

mod broker;

mod away;

mod redis;

mod disconnects;

mod silence;

mod steady;

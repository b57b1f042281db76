//! Every fault at random times under load: nothing is lost, doubled, invented or out of order.
//!
//! `FAULT_SEED` determines the times. `tests/run --soak` runs the tests with many seeds.

mod load;

mod kill;

mod broker;

mod outages;

mod redis;

mod refusal;

mod disconnects;

mod silence;

mod steady;

//! What both services must agree on: the contract, the alarm rules, the commit, the start-up. Nothing else.
//!
//! ```text
//! Reading ─┐
//! timer ───┼─▶ decide ─▶ Decision ─▶ store (one script) ─▶ state, streams, log, index, publish
//! ack ─────┘     ▲                        │
//!                └── conflict: again ◀────┘        (the loop is `apply`)
//! ```
//!
//! Read in the order of the modules below. Everything up to [`keys`] is pure: no I/O, time is a parameter.

// The vocabulary.
pub mod clock;
pub mod decimal;
pub mod device;
pub mod position;

// What is known and decided.
pub mod alarm;
pub mod decide;
pub mod event;
pub mod keys;
pub mod order;
pub mod reading;
pub mod rules;
pub mod state;

// The store.
pub mod apply;
pub mod redis;
pub mod redis_watch;
pub mod store;

// The start-up.
pub mod alarm_log_lines;
pub mod args;
pub mod backoff;
pub mod check_config;
pub mod error_chain;
pub mod lifecycle;
pub mod metrics;
pub mod process;
pub mod rate_limit;
pub mod secret;
pub mod telemetry;
pub mod trace;

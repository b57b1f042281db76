//! Code that both services share: the alarm rules, the commit to Redis, and starting and stopping a process.
//!
//! ```text
//! message ─────────┐
//! deadline ────────┼─▶ decide ─▶ Decision ─▶ store (one script) ─▶ state, streams, log, indexes, publish
//! acknowledgement ─┘     ▲                        │
//!                        └─ conflict: try again ◀─┘        (`apply` is this loop)
//! ```
//!
//! The modules are listed in reading order. Everything up to [`keys`] is pure: no I/O, and time is a parameter.

// The vocabulary.
pub mod clock;
pub mod decimal;
pub mod visible_text;
pub mod device;
pub mod position;
pub mod forward;

// The state of a device, and the decisions about it.
pub mod reading;
pub mod alarm;
pub mod alarm_log;
pub mod state;
pub mod order;
pub mod settings;
pub mod listening;
pub mod rules;
pub mod decide;
pub mod profile;
pub mod event;
mod packing;
pub mod sample;
pub mod rollup;
pub mod device_status;
pub mod keys;
pub mod memory_need;

// Connections to servers.
pub mod tls;

// Redis.
pub mod resp;
pub mod redis;
pub mod store;
pub mod apply;
pub mod redis_watch;

// The process: settings, start and stop.
pub mod args;
pub mod secret;
pub mod check_config;
pub mod process;
pub mod lifecycle;
pub mod backoff;

// Logs, metrics and traces.
pub mod error_chain;
pub mod rate_limit;
pub mod alarm_log_lines;
pub mod metrics;
pub mod trace;
pub mod telemetry;

#[cfg(any(test, fuzzing))]
pub mod fuzz_targets;

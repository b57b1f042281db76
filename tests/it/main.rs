//! The system tests, in one binary so that they compile once.
//!
//! Every test starts its own servers and the real binaries. `tests/run` runs all tests, `tests/run NAME` those whose name
//! contains NAME.

mod live_path;

mod doors;
mod sign_in;

mod alarms;
mod notes;
mod site_plans;
mod locations;

mod all_devices;

mod recovery;

mod changed_fields;

mod conformance;

mod contract;

mod python_client;
mod readme_client;

mod dashboard;
mod kit;

mod burst;

mod replicas;

mod offline;

mod bad_input;

mod dead_letters;

mod bounds;

mod hostile;

mod rest;

mod retire;

mod replaced_system_defects;

mod faults;

mod shutdown;

mod rolling;
mod rollups;

mod upgrade;

#[cfg(feature = "upgrade")]
mod side_by_side;

mod slow_clients;

mod metrics;

mod analytics;

mod traces;
mod unanswered;

mod broker_link;

mod logs;

mod late;

mod scenarios;

mod recording;

mod full;
mod limits;
mod answers;
mod hosts;
mod origins;
mod tls;

mod cli;

mod commands;

mod observability;

mod manifests;

mod containers;

mod proxy;

mod restore;

mod tidy;

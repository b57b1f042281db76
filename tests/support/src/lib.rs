//! What unit tests and system tests share: waiting for a state, free ports, servers for one test, and a sample reading.
//!
//! It knows no type of the other crates, so that `shared` and the services can use it in their own unit tests.

pub mod eventually;

pub mod ports;

pub mod server_process;

pub mod server;

pub mod sample;

//! Code that unit tests and system tests share: waiting for a state, free ports, servers for one test, frames of WebSocket
//! connections, tokens, a sample reading, the schemas of what clients get, and the corpus of the fuzzer.
//!
//! This crate depends on no other crate of the workspace. So `shared` and the services can use it in their own unit tests.

pub mod certificates;
pub mod corpus;
pub mod eventually;
pub mod frames;
pub mod ports;
pub mod sample;
pub mod schemas;
pub mod server;
pub mod server_process;
pub mod tokens;

//! The harness of the system tests: real servers, real binaries, a fake detector and the official browser client.
//!
//! Read in this order. A test asks for a [`stack::Stack`]: its own redis-server and mosquitto in a temporary folder, and
//! the binaries `ingest` and `gateway`, each as a [`server_process::ServerProcess`] on a port of [`ports`]. It sends
//! readings as a [`device::Device`], looks at them as a [`browser::Browser`] or over [`http`], breaks connections with a
//! [`tcp_proxy::TcpProxy`], and waits with [`eventually`] for states, never for time.
//!
//! A fault test lets a [`ledger::Load`] run meanwhile and has the ledger judge what became of it. Its moments come from a
//! [`seed::Seed`], its figures go to the [`report`].
//! Many clients at once are a [`crowd::Crowd`], behind a [`balancer::Balancer`] where there are several gateways; what
//! they watch are [`episodes`].
//!
//! What is deployed is read with [`manifests`] and run by [`containers`].
//!
//! The simulator shares [`scenario`] with nobody else: it belongs to `deploy/demo`.

pub use test_support::{eventually, ports, server, server_process};

pub mod stack;

pub mod upgrade;

mod excerpt;

pub mod device;

pub mod browser;

pub mod http;

pub mod tcp_proxy;

pub mod repository;

pub mod seed;

pub mod ledger;

pub mod crowd;

pub mod balancer;

pub mod documented;

pub mod episodes;

pub mod report;

pub mod manifests;

pub mod containers;

pub mod scenario;

pub mod collector;

//! The harness of the system tests: real servers, real binaries, a fake detector and the official browser client.
//!
//! Read in this order. A test starts a [`stack::Stack`]: its own redis-server and mosquitto in a temporary folder, and
//! the binaries `ingest` and `gateway`, each as a [`server_process::ServerProcess`] on a port of [`ports`]. It sends
//! readings as a [`device::Device`], receives them as a [`browser::Browser`], which compares everything with what is [`described`], over [`http`] or a [`websocket`], breaks connections with a
//! [`tcp_proxy::TcpProxy`], encrypts them with a [`tls::TlsSetup`], and waits with [`eventually`] until a state is reached. It never sleeps.
//!
//! During its faults, a fault test runs a [`ledger::Load`]. Afterwards the ledger checks that nothing was lost or
//! duplicated. A [`seed::Seed`] chooses when the faults happen, and the measured times go to the [`report`].
//! A [`crowd::Crowd`] is many clients at once, behind a [`balancer::Balancer`] if there are several gateways. They watch
//! the devices of [`episodes`]. A [`neighbour::Neighbour`] is what must miss nothing beside an attack; its times are
//! [`latencies`].
//!
//! [`manifests`] renders the Kubernetes manifests, and [`containers`] runs them. [`documented_metrics`] reads the metrics
//! that the documents describe, [`collector`] receives the telemetry of the services, [`key_server`] publishes keys of tokens, a
//! [`visitor::Visitor`] signs in at an [`identity_provider`], and [`upgrade`] compares two releases.
//!
//! Only the simulator of `deploy/demo` uses [`scenario`] and [`tls_tunnel`].

pub use test_support::{eventually, ports, schemas, server, server_process, tokens};

pub mod stack;

pub mod upgrade;

mod excerpt;

pub mod device;

pub mod browser;

pub mod described;

pub mod all_devices;

mod node_script;

pub mod screens;

pub mod kits;

pub mod http;

pub mod websocket;

pub mod tcp_proxy;

pub mod tls;

pub mod repository;

pub mod seed;

pub mod ledger;

pub mod crowd;

pub mod balancer;

pub mod documented_metrics;

pub mod episodes;

pub mod report;

pub mod latencies;

pub mod neighbour;

pub mod manifests;

pub mod containers;

pub mod import_graph;

pub mod scenario;

pub mod tls_tunnel;

pub mod collector;

pub mod key_server;

pub mod identity_provider;

pub mod visitor;

//! The load: readings that are published at given times, and many clients that watch them. It runs in the process of the benchmark,
//! or in others of its program, so that it is not part of what is measured of the servers.

pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod crowd;
pub(crate) mod crowd_process;
pub(crate) mod followers;
pub(crate) mod histogram;
pub(crate) mod mqtt;
pub(crate) mod packets;
pub(crate) mod polling;
pub(crate) mod publisher;
pub(crate) mod readings;
pub(crate) mod schedule;
pub(crate) mod tally;
pub(crate) mod websocket;

//! What is measured. Each scenario measures one system at a time and returns its rows.

pub(crate) mod fleet;
pub(crate) mod flood;
pub(crate) mod growth;
pub(crate) mod idle;
pub(crate) mod measure;
pub(crate) mod memory;
pub(crate) mod screen;
pub(crate) mod size;
pub(crate) mod watched;

use anyhow::Result;
use clap::ValueEnum;

use crate::report::row::Row;
use crate::systems::{Kind, System};

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 1000 clients that all watch the same five devices at 10/s
    Fan,
    /// The same clients, but they begin with long polling
    FanUpgraded,
    /// 5000 connected clients without events: resident memory for each
    Idle,
    /// The same clients, but they begin with long polling
    IdleUpgraded,
    /// 8000 messages/s of 1003 devices, each watched by one client
    Pipeline,
    /// 4001 devices, as fast as ingest acknowledges, without a broker
    Flood,
    /// 1000 messages/s of 101 devices, 100 clients with one device each
    Latency,
    /// 500 clients with 40 of 203 devices each, 500 messages/s
    Dash,
    /// 5000 clients that connect at once and subscribe behind the connect answer
    Storm,
    /// 500 clients with 10 of 101 devices each: at 100 and 1000 messages/s, and with every fifth client stalled
    Stalled,
    /// 4001 devices at 1 Hz, four gateways without clients
    Unwatched,
    /// 2003 devices at 1 Hz: nobody, one and twenty clients follow the rows of all devices
    Fleet,
    /// Redis memory per device with full streams, without history
    Memory,
    /// The dashboard in Chromium with 2003 devices at 1 Hz for five minutes. Takes long: only if it is named
    Screen,
    /// 60 000 clients of four gateways, 5003 devices, 1000 messages/s. Takes long: only if it is named
    Size,
    /// 1 to 10 007 clients and 211 to 100 003 devices at the same 2000 messages/s. Takes long: only if it is named
    Growth,
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is only measured if it is named.
    pub(crate) fn takes_long(self) -> bool {
        matches!(self, Self::Screen | Self::Size | Self::Growth)
    }

    /// Whether this system can be measured in it.
    pub(crate) fn includes(self, system: &System) -> bool {
        match self {
            Self::Fan | Self::Idle | Self::Pipeline | Self::Latency | Self::Dash | Self::Storm => {
                true
            }
            // The official clients of the others are measured with websockets only.
            Self::FanUpgraded | Self::IdleUpgraded => {
                system.is_ours() || matches!(system.kind, Kind::Floor | Kind::SocketIo)
            }
            Self::Stalled => system.is_ours() || system.kind == Kind::SocketIo,
            Self::Flood | Self::Fleet | Self::Memory | Self::Screen | Self::Size | Self::Growth => {
                system.is_ours()
            }
            Self::Unwatched => system.is_ours() || system.kind == Kind::Scaled,
        }
    }

    /// Measures one system.
    pub(crate) async fn run(self, system: &System) -> Result<Vec<Row>> {
        match self {
            Self::Fan
            | Self::FanUpgraded
            | Self::Pipeline
            | Self::Latency
            | Self::Dash
            | Self::Stalled
            | Self::Unwatched => watched::run(self, system).await,
            Self::Idle | Self::IdleUpgraded | Self::Storm => idle::run(self, system).await,
            Self::Flood => flood::run(system).await,
            Self::Fleet => fleet::run(system).await,
            Self::Memory => memory::run(system).await,
            Self::Screen => screen::run(system).await,
            Self::Size => size::run(system).await,
            Self::Growth => growth::run(system).await,
        }
    }
}

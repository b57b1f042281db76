//! The process.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use gateway::config::Config;
use gateway::listener;
use shared::lifecycle::Lifecycle;

fn main() -> ExitCode {
    let config = Config::try_from_args(std::env::args_os());
    shared::process::run("gateway", config, |config| &config.telemetry, serve)
}

async fn serve(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let address = SocketAddr::new(config.listen_address, config.http_port);
    let listener =
        listener::bind(address).with_context(|| format!("cannot listen on `{address}`"))?;
    gateway::serve(listener, config, lifecycle).await
}

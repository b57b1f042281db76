//! The `gateway` program: reads the configuration, opens the port and serves.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use gateway::config::{self, Config};
use gateway::{listener, token_command};
use shared::lifecycle::Lifecycle;
use shared::{check_config, process};

fn main() -> ExitCode {
    let args: Vec<OsString> = process::with_help_flag(std::env::args_os().collect());
    if let Some(args) = process::strip_command(check_config::NAME, &args) {
        return check_config::run(args, config::connect);
    }
    if let Some(args) = process::strip_command(token_command::NAME, &args) {
        return token_command::run(args);
    }
    let config = Config::try_from_args(args);
    process::run("gateway", config, |config| &config.telemetry, serve)
}

async fn serve(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let address = SocketAddr::new(config.listen_address, config.http_port);
    let listener =
        listener::bind(address).with_context(|| format!("cannot listen on `{address}`"))?;
    gateway::serve(listener, config, lifecycle).await
}

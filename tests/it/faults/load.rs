//! The load all these tests run under.

use std::time::Duration;

use anyhow::Result;
use tests::browser::{Browser, Transport};
use tests::ledger::{Load, Verdict};
use tests::report;
use tests::seed::Seed;
use tests::stack::Stack;

pub(super) const DEVICES: usize = 12;
pub(super) const PERIOD: Duration = Duration::from_millis(200);

/// Clients at these ports, one by WebSocket and one by polling each, following every device from its first reading on.
pub(super) async fn clients(ports: &[u16], serials: &[String]) -> Result<Vec<Browser>> {
    let mut clients = Vec::new();
    for port in ports {
        for transport in [Transport::WebSocket, Transport::Polling] {
            let client = Browser::connect(*port, transport).await?;
            for serial in serials {
                client.follow(serial).await?;
            }
            clients.push(client);
        }
    }
    Ok(clients)
}

/// The usual load on a stack whose clients follow it.
pub(super) fn start(stack: &Stack, seed: &mut Seed) -> Load {
    Load::start(stack, &Load::serials(DEVICES), PERIOD, seed)
}

pub(super) fn tell(what: &str, verdict: &Verdict) {
    report::line(&format!("{what}: {verdict:?}"));
}
